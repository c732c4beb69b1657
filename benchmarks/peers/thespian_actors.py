"""Thespian actors, each in a process of its own (`multiprocTCPBase`). What they send is pickled.

An actor's messages leave when its handler has returned; so a sender sends a batch for each acknowledgement, a window
ahead at most.
"""
# What is optional may be missing when types are checked:
# pyright: basic, reportMissingImports=false

import contextlib
import dataclasses
import os
import time
import typing

from thespian.actors import Actor, ActorExitRequest, ActorSystem

from benchmarks import worker
from benchmarks.workload import DATA, END, PAYLOAD, QUESTION, WARM_UP, Load, Pace, Received, Sent, asked, to_json
from benchmarks.workload import is_enough as is_asked_enough

LIMIT = 60.0
BATCH = 128
AHEAD = 4
"""Batches under way."""


class Receiver(Actor):
    """Counts; acknowledges each batch; tells whoever sent the end marker what came."""

    def __init__(self) -> None:
        self.messages = self.size = 0

    def receiveMessage(self, message: typing.Any, sender: typing.Any) -> None:  # noqa: N802
        """Take one message."""
        if isinstance(message, ActorExitRequest):
            return
        kind, _, data = message
        if kind == DATA:
            self.messages += 1
            self.size += len(data)
            if self.messages % BATCH == 0:
                self.send(sender, self.messages)
        else:
            self.send(sender, to_json(Received(self.messages, self.size, time.monotonic())))


class Sender(Actor):
    """Sends as long as it shall, and gives both reports to who has started it."""

    def receiveMessage(self, message: typing.Any, sender: typing.Any) -> None:  # noqa: N802
        """Begin, go on, or end."""
        if isinstance(message, ActorExitRequest):
            return
        if isinstance(message, tuple):
            self.target, load, size = message
            self.starter, self.data, self.sent, self.is_over = sender, b"x" * size, 0, False
            self.pace = Pace(Load(**load), size)
            for _ in range(AHEAD):
                self.send_batch()
        elif isinstance(message, int):
            self.send_batch()
        else:
            report = to_json(Sent(self.sent, self.pace.started))
            self.send(self.starter, {"sent": report, "received": [message]})

    def send_batch(self) -> None:
        """Send some more, or the end marker once."""
        if self.is_over:
            return
        if not self.pace.next_batch(self.sent):
            self.is_over = True
            self.send(self.target, (END, self.sent, None))
            return
        for number in range(self.sent, self.sent + BATCH):
            self.send(self.target, (DATA, number, self.data))
        self.sent += BATCH


class Answerer(Actor):
    """Answers each question with its own data."""

    def receiveMessage(self, message: typing.Any, sender: typing.Any) -> None:  # noqa: N802
        """Send it back."""
        if not isinstance(message, ActorExitRequest):
            self.send(sender, message)


class Asker(Actor):
    """Asks one question after the other, and gives its report to who has started it."""

    def receiveMessage(self, message: typing.Any, sender: typing.Any) -> None:  # noqa: N802
        """Begin, or take an answer."""
        if isinstance(message, ActorExitRequest):
            return
        if len(message) == 2:
            self.target, load = message
            self.starter, self.load, self.times, self.started = sender, Load(**load), [], time.monotonic()
        else:
            self.times.append(time.perf_counter_ns() - self.asked_at)
            if message[2] != PAYLOAD:
                raise RuntimeError("the answer is not what was asked")
            if len(self.times) == WARM_UP:
                self.started = time.monotonic()
            if is_asked_enough(self.load, len(self.times) - WARM_UP, self.started):
                self.send(self.starter, to_json(asked(self.times[WARM_UP:], time.monotonic() - self.started)))
                return
        self.asked_at: int = time.perf_counter_ns()
        self.send(self.target, (QUESTION, len(self.times), PAYLOAD))


@contextlib.contextmanager
def system() -> typing.Iterator[ActorSystem]:
    """Run a system of actors on a port of its own."""
    made = ActorSystem("multiprocTCPBase", {"Admin Port": 20000 + os.getpid() % 20000})
    try:
        yield made
    finally:
        made.shutdown()


def throughput(settings: dict[str, typing.Any]) -> None:
    """Let a sender send to a receiver."""
    with system() as actors:
        receiver, sender = actors.createActor(Receiver), actors.createActor(Sender)
        worker.announce({})
        worker.wait_for_go()
        load = dataclasses.asdict(Load(**settings["load"]))
        worker.announce(actors.ask(sender, (receiver, load, settings["size"]), LIMIT + load["seconds"]) or {})
        worker.wait_for_end()


def ask(settings: dict[str, typing.Any]) -> None:
    """Let an asker ask an answerer, one question at a time."""
    with system() as actors:
        answerer, asker = actors.createActor(Answerer), actors.createActor(Asker)
        worker.announce({})
        worker.wait_for_go()
        load = settings["load"]
        worker.announce(actors.ask(asker, (answerer, load), LIMIT + load["seconds"]) or {})
        worker.wait_for_end()


if __name__ == "__main__":
    # Their processes find the actors' classes by module, which here is called __main__.
    from benchmarks.peers import thespian_actors

    worker.main({"throughput": thespian_actors.throughput, "ask": thespian_actors.ask})
