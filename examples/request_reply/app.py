"""A shop: `Stock` answers what there is, `Till` asks it before it sells."""

import typing

from grav_actors import Actor, HandlerError, Message, on_type


class Stock(Actor):
    """Counts the goods. What a handler returns is the answer; what it raises reaches the asker."""

    def __init__(self, goods: dict[str, int] | None = None) -> None:
        self.goods = dict(goods or {})

    @on_type("stock.count")
    def count(self, msg: Message) -> int:
        """Answer how many there are of an article."""
        return self.goods[msg.data["article"]]

    @on_type("stock.take")
    def take(self, msg: Message) -> int:
        """Take some away and answer how many are left."""
        article, wanted = msg.data["article"], msg.data["pieces"]
        if wanted > self.goods[article]:
            raise ValueError(f"{self.goods[article]} {article} left, {wanted} wanted")
        self.goods[article] -= wanted
        return self.goods[article]


class Till(Actor):
    """Sells. It asks another actor in the middle of its own handler, without blocking its other customers."""

    concurrency = 8

    @on_type("till.sell")
    async def sell(self, msg: Message) -> dict[str, typing.Any]:
        """Answer whether the sale was made, and what is left."""
        try:
            left = await self.ask_async("stock", "stock.take", msg.data, timeout=2.0)
        except HandlerError as error:
            self.log.info("no sale: %s", error)
            return {"sold": False}
        return {"sold": True, "left": left}
