"""`multiprocessing.Queue` and `multiprocessing.Pipe` between a process and its child.

They carry Python objects, pickled; each message is the tuple of a type, a number and the data, as the baseline's.
"""

import dataclasses
import multiprocessing
import os
import threading
import time
import typing
from collections.abc import Callable

from benchmarks import worker
from benchmarks.workload import (
    DATA,
    END,
    PAYLOAD,
    QUESTION,
    WARM_UP,
    Load,
    Pace,
    Received,
    Sent,
    asked,
    is_enough,
    to_json,
    window,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """One way from one process to another."""

    send: Callable[[typing.Any], None]
    receive: Callable[[], typing.Any]


def make(kind: str, size: int) -> Channel:
    """Make a channel that holds no more than a window; its sender then waits."""
    if kind == "queue":
        queue: multiprocessing.Queue[typing.Any] = multiprocessing.Queue(window(size))
        return Channel(queue.put, queue.get)
    reader, writer = multiprocessing.Pipe(duplex=False)
    return Channel(writer.send, reader.recv)


def start(target: Callable[..., None], *arguments: object) -> None:
    """Run a function in a child, which ends with the worker."""
    # Not by the standard input, as the worker does: they would take each other's lines.
    lifeline, held = os.pipe()

    def run() -> None:
        os.close(held)
        threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
        target(*arguments)

    multiprocessing.get_context("fork").Process(target=run, daemon=True).start()
    os.close(lifeline)


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(0)


def _receive(channel: Channel, back: Channel) -> None:
    receive = channel.receive
    messages = size = 0
    while True:
        kind, _, data = receive()
        if kind == END:
            break
        messages += 1
        size += len(data)
    back.send(to_json(Received(messages, size, time.monotonic())))
    worker.stay()


def throughput(settings: dict[str, typing.Any]) -> None:
    """Send to a child that counts."""
    size: int = settings["size"]
    channel, back = make(settings["kind"], size), make("pipe", size)
    start(_receive, channel, back)
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    data = b"x" * size
    send = channel.send
    sent = 0
    pace = Pace(Load(**settings["load"]), size)
    while batch := pace.next_batch(sent):
        for number in range(sent, sent + batch):
            send((DATA, number, data))
        sent += batch
    send((END, sent, None))
    worker.announce({"sent": to_json(Sent(sent, pace.started)), "received": [back.receive()]})
    worker.stay()


def _answer(questions: Channel, answers: Channel) -> None:
    while True:
        answers.send(questions.receive())


def ask(settings: dict[str, typing.Any]) -> None:
    """Keep `outstanding` questions open to a child that sends each back; answers come in their order."""
    questions, answers = make(settings["kind"], len(PAYLOAD)), make(settings["kind"], len(PAYLOAD))
    start(_answer, questions, answers)
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    load = Load(**settings["load"])
    clock = time.perf_counter_ns
    asked_at: list[int] = []
    times: list[int] = []
    for number in range(settings["outstanding"]):
        asked_at.append(clock())
        questions.send((QUESTION, number, PAYLOAD))
    started = time.monotonic()
    while True:
        _, number, data = answers.receive()
        if data != PAYLOAD:
            raise RuntimeError("the answer is not what was asked")
        times.append(clock() - asked_at[number])
        if len(times) == WARM_UP:
            started = time.monotonic()
        if is_enough(load, len(times) - WARM_UP, started):
            break
        asked_at.append(clock())
        questions.send((QUESTION, len(asked_at) - 1, PAYLOAD))
    worker.announce(to_json(asked(times[WARM_UP:], time.monotonic() - started)))
    worker.stay()


if __name__ == "__main__":
    worker.main({"throughput": throughput, "ask": ask})
