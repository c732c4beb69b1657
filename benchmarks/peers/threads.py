"""One thread to another within a process: `queue.Queue` with a thread behind it, and a Pykka actor."""
# What is optional may be missing when types are checked:
# pyright: basic, reportMissingImports=false

import queue
import threading
import time
import typing

from benchmarks import worker
from benchmarks.workload import (
    DATA,
    END,
    PAYLOAD,
    QUESTION,
    WARM_UP,
    WINDOW,
    Load,
    Pace,
    Received,
    Sent,
    asked,
    is_enough,
    to_json,
)


class Counter:
    """Counts messages until the end marker."""

    def __init__(self) -> None:
        self.messages = self.size = 0
        self.finished = 0.0
        self.is_done = threading.Event()

    def take(self, message: tuple[str, int, typing.Any]) -> None:
        """Take one message."""
        if message[0] == END:
            self.finished = time.monotonic()
            self.is_done.set()
            return
        self.messages += 1
        self.size += len(message[2])


def _serve(inbox: "queue.Queue[tuple[str, int, typing.Any]]", counter: Counter) -> None:
    while True:
        counter.take(inbox.get())


def throughput(settings: dict[str, typing.Any]) -> None:
    """Send from the main thread to one that counts."""
    counter = Counter()
    send: typing.Any
    if settings["kind"] == "queue":
        inbox: queue.Queue[tuple[str, int, typing.Any]] = queue.Queue(WINDOW)
        threading.Thread(target=_serve, args=(inbox, counter), daemon=True).start()
        send = inbox.put
    else:
        import pykka

        class Receiver(pykka.ThreadingActor):
            def on_receive(self, message: tuple[str, int, typing.Any]) -> None:
                counter.take(message)

        send = Receiver.start().tell
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    data = b"x" * settings["size"]
    sent = 0
    pace = Pace(Load(**settings["load"]), settings["size"])
    while batch := pace.next_batch(sent):
        for number in range(sent, sent + batch):
            send((DATA, number, data))
        sent += batch
    send((END, sent, None))
    counter.is_done.wait()
    received = Received(counter.messages, counter.size, counter.finished)
    worker.announce({"sent": to_json(Sent(sent, pace.started)), "received": [to_json(received)]})
    worker.stay()


def ask(settings: dict[str, typing.Any]) -> None:
    """Ask a Pykka actor, one question at a time."""
    import pykka

    class Answerer(pykka.ThreadingActor):
        def on_receive(self, message: tuple[str, int, bytes]) -> bytes:
            return message[2]

    ref = Answerer.start()
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    load = Load(**settings["load"])
    clock = time.perf_counter_ns
    times: list[int] = []
    started = time.monotonic()
    while not is_enough(load, len(times) - WARM_UP, started):
        asked_at = clock()
        if ref.ask((QUESTION, len(times), PAYLOAD)) != PAYLOAD:
            raise RuntimeError("the answer is not what was asked")
        times.append(clock() - asked_at)
        if len(times) == WARM_UP:
            started = time.monotonic()
    worker.announce(to_json(asked(times[WARM_UP:], time.monotonic() - started)))
    worker.stay()


if __name__ == "__main__":
    worker.main({"throughput": throughput, "ask": ask})
