"""Actors that watch others, which processes can import too."""

from __future__ import annotations

from typing import Any

from grav_actors import Actor, Crash, Message, on_type
from support.actors import end


class Watcher(Actor):
    """Watches whom it is told to, and publishes the notices."""

    failures = 0

    @on_type("watch")
    def begin(self, msg: Message) -> None:
        self.watch(msg.data)

    @on_type("unwatch")
    def end(self, msg: Message) -> None:
        self.unwatch(msg.data)

    @on_type("grav.down")
    def down(self, msg: Message) -> Any:
        if self.failures:
            self.failures -= 1
            raise ValueError("not yet")
        self.publish("notice", [msg.data, msg.attempt])

    @on_type("crash")
    def crash(self, msg: Message) -> None:
        if msg.attempt == 1:
            raise Crash("told to")


class AsyncWatcher(Watcher):
    """The same in an event loop."""

    @on_type("grav.down")
    async def down(self, msg: Message) -> Any:
        super().down(msg)


class FailsFirst(Watcher):
    """Fails on its first notice."""

    failures = 1


class WatchesAtStart(Watcher):
    """Watches from the start of each incarnation."""

    def __init__(self, whom: str) -> None:
        self.whom = whom

    def on_start(self) -> None:
        self.watch(self.whom)


class Brief(Actor):
    """Ends once in the way it is told to."""

    @on_type("end")
    def end(self, msg: Message) -> None:
        if msg.attempt == 1:
            end(self, msg.data)


class Blind(Actor):
    """Watches without a handler for the notice."""

    @on_type("watch")
    def begin(self, msg: Message) -> Any:
        self.watch(msg.data)
