"""Actors whose handlers hang, which processes can import too."""

from __future__ import annotations

import asyncio
import threading

from grav_actors import Actor, Message, on_type


class Hanging(Actor):
    """Hangs at the first attempt of what it is told to hang at."""

    @on_type("work")
    def work(self, msg: Message) -> None:
        if msg.data == "hang" and msg.attempt == 1:
            threading.Event().wait(60)
        self.publish("done", [msg.data, msg.attempt])


class HangingAsync(Hanging):
    """Its loop is blocked, as by a call that does not await."""

    @on_type("work")
    async def work(self, msg: Message) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().work(msg)


class HangingPool(Hanging):
    """Several handlers at a time."""

    concurrency = 3


class Overrunning(Actor):
    """Is at one message until the gate opens."""

    @on_type("work")
    def work(self, msg: Message) -> None:
        self.ask("gate", "gate.wait", timeout=60)
        self.publish("done", [msg.data, msg.attempt])
