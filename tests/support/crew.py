"""Supervisors and their children, as processes can import them. They publish what happens to them as `crew`."""

from __future__ import annotations

import os
import signal
import sys
import threading
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
        if how in SIGNALS:
            signal.raise_signal(SIGNALS[how])  # in this thread: else the handler may return before
        elif how == "os_exit":
            os._exit(3)
        elif how == "exit":
            sys.exit(3)
        elif how == "crash":
            raise Crash("told to")
        elif how == "stop":
            self.stop()
        elif how == "hang":
            self.tell_crew("hang")
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


class NeverStarts(Hand):
    """Its start does not come to an end."""

    def on_start(self) -> None:
        threading.Event().wait(60)


class Recruiter(Hand):
    """Starts another one."""

    @on_type("recruit")
    def recruit(self, msg: Message) -> str:
        return self.spawn(Hand, name="recruited", kind=msg.data).name


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
