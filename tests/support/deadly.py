"""Actors whose processes die in their handlers, and actors beside them."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from typing import Any

from grav_actors import Actor, Crash, Message, on_type

LIMIT = 30.0


def die(how: str) -> None:
    """End this process at once."""
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "os_exit":
        os._exit(3)
    elif how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        raise Crash(how)


class Loader(Actor):
    """Handles loads, each told as `[name, load, redelivered, attempt]`; a load that is a text kills it that way."""

    @on_type("load")
    def load(self, msg: Message) -> Any:
        if isinstance(msg.data, str):
            die(msg.data)
        self.publish("loaded", [self.name, msg.data, msg.redelivered, msg.attempt])


class AsyncLoader(Loader):
    """The same with a coroutine."""

    @on_type("load")
    async def load(self, msg: Message) -> None:
        super().load(msg)


class Pool(Actor):
    """Handles several at a time: a load `wait` waits at the gate, another text dies when that has come to it."""

    concurrency = 3

    @on_type("load")
    def load(self, msg: Message) -> Any:
        if msg.data == "wait":
            self.ask("gate", "gate.wait", timeout=LIMIT)
        elif isinstance(msg.data, str):
            self.ask("gate", "gate.arrived", msg.attempt, timeout=LIMIT)
            die(msg.data)
        self.publish("loaded", [self.name, msg.data, msg.redelivered, msg.attempt])


class Tasks(Pool):
    """The same with coroutines."""

    @on_type("load")
    async def load(self, msg: Message) -> None:
        if msg.data == "wait":
            await self.ask_async("gate", "gate.wait", timeout=LIMIT)
        elif isinstance(msg.data, str):
            await self.ask_async("gate", "gate.arrived", msg.attempt, timeout=LIMIT)
            die(msg.data)
        self.publish("loaded", [self.name, msg.data, msg.redelivered, msg.attempt])


class Crew(Loader):
    """The same in a group."""

    group = "crew"


class Postponer(Actor):
    """Leaves a message open, and dies in another."""

    @on_type("keep")
    def keep(self, msg: Message) -> None:
        self.publish("kept", [msg.redelivered, msg.attempt])
        self.defer_reply(msg)

    @on_type("die")
    def die(self, msg: Message) -> Any:
        if msg.attempt == 1:
            die(msg.data)
        self.publish("survived", msg.attempt)


class BadStart(Actor):
    """Crashes in its first load, and starts again as the gate is opened: `fail`, or else well."""

    def on_restart(self, cause: str) -> None:
        if self.ask("gate", "gate.wait", timeout=LIMIT) == "fail":
            raise ValueError("not ready")

    @on_type("load")
    def load(self, msg: Message) -> Any:
        if msg.data == "crash" and msg.attempt == 1:
            die("crash")
        self.publish("loaded", [self.name, msg.data, msg.redelivered, msg.attempt])


class Counter(Actor):
    """Tells each number as `[name, number, redelivered, attempt]`; an empty message kills its process."""

    @on_type("number")
    def number(self, msg: Message) -> None:
        self.publish("counted", [self.name, msg.data, msg.redelivered, msg.attempt])

    @on_type("end")
    def end(self, msg: Message) -> None:
        if not msg.redelivered:
            die(msg.data)


class CountingCrew(Counter):
    """The same in a group."""

    group = "counting"


class KeptByThread(Actor):
    """Has a thread that waits for ever, and that an interpreter waits for before it ends."""

    def on_start(self) -> None:
        threading.Thread(target=threading.Event().wait, daemon=False).start()
        self.publish("hook", "start")

    @on_type("end")
    def end(self, msg: Message) -> None:
        if not msg.redelivered:
            raise Crash("told to")


class Narrow(Actor):
    """Takes few messages, and counts them."""

    mailbox_limit = 100
    stuck_after = 1.0

    def on_start(self) -> None:
        self.handled = 0

    @on_type("number", "wait")
    def handle(self, msg: Message) -> None:
        self.handled += 1

    @on_type("handled")
    def tell_handled(self, msg: Message) -> int:
        return self.handled


class Hangs(Narrow):
    """The same, and waits at the gate with its first message."""

    @on_type("number", "wait")
    def handle(self, msg: Message) -> None:
        if not self.handled:
            self.ask("gate", "gate.wait", timeout=LIMIT)
        self.handled += 1
