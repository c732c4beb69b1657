"""Actors that keep their state, for tests."""

from __future__ import annotations

import os
from typing import Any

from grav_actors import Actor, Crash, Message, on_type


class Ledger(Actor):
    """Keeps the numbers that it was told, in order."""

    def __init__(self) -> None:
        self.order: list[str] = ["init"]

    def on_restart(self, cause: str) -> None:
        self.order.append("restart")

    def on_start(self) -> None:
        self.order.append("start")
        self.numbers: list[Any] = []

    def snapshot(self) -> Any:
        return self.numbers

    def restore(self, state: Any) -> None:
        self.order.append("restore")
        self.numbers = state

    @on_type("ledger.add")
    def add(self, msg: Message) -> int:
        self.numbers.append(msg.data)
        self.publish("ledger.added", msg.data)
        return len(self.numbers)

    @on_type("ledger.unsendable")
    def answer_a_set(self, msg: Message) -> Any:
        return {1, 2}

    @on_type("ledger.list")
    def show(self, msg: Message) -> Any:
        return [self.numbers, self.order, os.getpid()]

    @on_type("ledger.crash")
    def crash(self, msg: Message) -> None:
        self.numbers.append("crashed")  # goes with the life
        if msg.attempt == 1:
            raise Crash("on purpose")


class AsyncLedger(Ledger):
    """The same with coroutines."""

    async def snapshot(self) -> Any:
        return self.numbers

    async def restore(self, state: Any) -> None:  # type: ignore[override]
        Ledger.restore(self, state)

    @on_type("ledger.add")
    async def add(self, msg: Message) -> int:  # type: ignore[override]
        return Ledger.add(self, msg)


class Brittle(Ledger):
    """Has a state that cannot be kept once it was told to break."""

    @on_type("brittle.break", "brittle.break_later")
    def break_state(self, msg: Message) -> None:
        self.breaks_at = 1 if msg.type == "brittle.break" else 2

    def snapshot(self) -> Any:
        if hasattr(self, "breaks_at"):
            self.breaks_at -= 1
            if self.breaks_at <= 0:
                return {1, 2}
        return self.numbers


class Picky(Ledger):
    """Does not take its own state back."""

    def restore(self, state: Any) -> None:
        raise KeyError("no such thing")

    def snapshot(self) -> Any:
        return {}
