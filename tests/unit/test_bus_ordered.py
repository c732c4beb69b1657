"""The set of the deciders keeps its order."""

from __future__ import annotations

from grav_actors.bus.ordered import OrderedSet


def test_items_come_in_the_order_in_which_they_were_put_in() -> None:
    items: OrderedSet[str] = OrderedSet()
    for item in ("mailbox", "actor", "group", "mailbox"):
        items.add(item)
    items.discard("actor")
    items.discard("nobody")
    assert list(items) == ["mailbox", "group"]
    assert "group" in items
    items.clear()
    assert not items
