"""Supervisors and their children, as processes can import them. They publish what happens to them as `crew`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from grav_actors import Actor, Backoff, Child, Crash, Message, Supervisor, on_type

SIGNALS = {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "term": signal.SIGTERM}


class Hand(Actor):
    """Tells of its hooks, and ends as it is told. What it was told is not done again by the next incarnation."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def tell_crew(self, event: str, text: Any = "") -> None:
        """Publish what happens."""
        self.publish("crew", [self.name, event, text])
        if event == self.fails:
            raise ValueError(f"no {event}")

    def on_start(self) -> None:
        self.tell_crew("start")

    def on_restart(self, cause: str) -> None:
        self.tell_crew("restart", cause)

    def on_stop(self, reason: str) -> None:
        self.tell_crew("stop", reason)

    @on_type("pid")
    def pid(self, msg: Message) -> int:
        return os.getpid()

    @on_type("echo")
    def echo(self, msg: Message) -> Any:
        self.tell_crew("echo", msg.data)
        return msg.data

    @on_type("attempt")
    def attempt(self, msg: Message) -> None:
        self.tell_crew("attempt", [msg.attempt, msg.redelivered])
        if not msg.redelivered:
            threading.Event().wait(msg.data)

    @on_type("poison")
    def poison(self, msg: Message) -> None:
        os.kill(os.getpid(), SIGNALS[msg.data])

    @on_type("end")
    def end(self, msg: Message) -> None:
        if msg.redelivered:
            return
        how = msg.data
        if how == "segv":  # as a fault: it is this thread that does not go on
            signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
        elif how in SIGNALS:
            os.kill(os.getpid(), SIGNALS[how])
        elif how == "os_exit":
            os._exit(3)
        elif how == "exit":
            sys.exit(3)
        elif how == "crash":
            raise Crash("told to")
        elif how == "stop":
            self.stop()
        elif how == "hang":
            self.publish("crew", [self.name, "hang", ""])
            threading.Event().wait(60)


class Watchman(Supervisor):
    """Tells of its own hooks."""

    def on_start(self) -> None:
        self.publish("crew", [self.name, "start", ""])

    def on_restart(self, cause: str) -> None:
        self.publish("crew", [self.name, "restart", cause])

    def on_stop(self, reason: str) -> None:
        self.publish("crew", [self.name, "stop", reason])

    @on_type("pid")
    def pid(self, msg: Message) -> int:
        return os.getpid()

    @on_type("end")
    def end(self, msg: Message) -> None:
        if not msg.redelivered:
            Hand.end(self, msg)  # type: ignore[arg-type]


def hands(kind: str = "process") -> list[Child]:
    """Return three children."""
    return [Child(Hand, name=name, kind=kind) for name in "abc"]


class Refused(Exception):
    """What ends a `Faulty` actor when a handler raises it."""


class Faulty(Hand):
    """Raises once in a hook, in its second life, or at the end of each; it counts its lives in a file.

    Args:
        where: `constructor`, `on_start`, `on_restart`, `on_stop`, or "" for none.
    """

    crash_on = (Refused,)

    def __init__(self, where: str, lives: str) -> None:
        super().__init__()
        self.where = where
        with Path(lives).open("a+", encoding="utf-8") as file:
            file.write("life\n")
            file.seek(0)
            self.life = len(file.readlines())
        self.fail_in("constructor")

    def fail_in(self, hook: str) -> None:
        """Raise if that is the hook, and this the life."""
        if self.where == hook and self.life == 2:
            raise ValueError(f"no {hook}")

    def on_start(self) -> None:
        self.fail_in("on_start")

    def on_restart(self, cause: str) -> None:
        self.fail_in("on_restart")

    def on_stop(self, reason: str) -> None:
        if self.where == "on_stop":
            raise ValueError("no on_stop")

    @on_type("refuse")
    def refuse(self, msg: Message) -> None:
        if not msg.redelivered:
            raise Refused("told to")


class NeverStarts(Hand):
    """Its start does not come to an end."""

    def on_start(self) -> None:
        threading.Event().wait(60)


class Recruiter(Hand):
    """Starts another one."""

    @on_type("recruit")
    def recruit(self, msg: Message) -> str:
        return self.spawn(Hand, name="recruited", kind=msg.data).name


class Talker(Hand):
    """Prints and logs."""

    def on_start(self) -> None:
        sys.stdout.write("started\n")

    def on_stop(self, reason: str) -> None:
        sys.stdout.write("no end")

    @on_type("say")
    def say(self, msg: Message) -> None:
        sys.stdout.write(f"{msg.data}\n")
        self.log.warning("careful")


class AsyncTalker(Talker):
    """The same in a loop."""

    @on_type("say")
    async def say(self, msg: Message) -> None:  # type: ignore[override]
        super().say(msg)


class TalkerInPool(Talker):
    """The same in several threads."""

    concurrency = 3


class SeveralHands(Hand):
    """Handles several messages at a time."""

    concurrency = 3


class Alone(Watchman):
    strategy = "one_for_one"
    children = hands()


class Together(Watchman):
    strategy = "one_for_all"
    children = hands()


class Rest(Watchman):
    strategy = "rest_for_one"
    children = hands()


class Mixed(Watchman):
    """A supervisor with children of each kind, and another one in its host."""

    children = (
        Child(Hand, name="process", kind="process"),
        Child(Hand, name="thread", kind="thread"),
        Child(Together, name="inner", kind="thread"),
    )


class AloneInThreads(Watchman):
    strategy = "one_for_one"
    children = hands("thread")


class TogetherInThreads(Watchman):
    strategy = "one_for_all"
    children = hands("thread")


class RestInThreads(Watchman):
    strategy = "rest_for_one"
    children = hands("thread")


class Strict(Watchman):
    """Gives up at the second failure."""

    max_restarts = 1
    backoff = Backoff(first=0)
    children = (Child(Hand, name="a", kind="thread"), Child(Hand, name="b", kind="thread"))


class Deep(Watchman):
    """Has one below it that gives up at the second failure."""

    max_restarts = 1
    backoff = Backoff(first=0)
    children = (Child(Strict, name="strict"),)


class Unlucky(Watchman):
    """Has a child that does not start."""

    children = (Child(Hand, name="a", kind="thread"), Child(Hand, name="b", kwargs={"fails": "start"}, kind="thread"))


class Job(Watchman):
    """Ends with its work."""

    children = (
        Child(Hand, name="a", kind="thread"),
        Child(Hand, name="work", kind="thread", restart="transient", significant=True),
    )


class Fragile(Hand):
    """Crashes as soon as it runs."""

    def on_start(self) -> None:
        self.after(0, "end", "crash")


class Storm(Watchman):
    """Gives up at once."""

    max_restarts = 1
    backoff = Backoff(first=0)
    children = (Child(Hand, name="a"), Child(Fragile))
