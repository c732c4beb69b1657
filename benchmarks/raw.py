"""The raw echo: DEALER, ROUTER, DEALER and nothing else.

No codec, no types, no ids: the floor for an ask.

Frames to the router: `[destination, data]`; from it: `[source, data]`.
"""

import time
import typing

import zmq

from benchmarks import worker
from benchmarks.baseline import make_socket
from benchmarks.workload import PAYLOAD, WARM_UP, Load, asked, is_enough, to_json

ANSWERER = b"answerer"
ASKER = b"asker"
MORE = int(zmq.SNDMORE)


def bus(settings: dict[str, typing.Any]) -> None:
    """Route until the parent ends."""
    router = make_socket(zmq.Context(), zmq.ROUTER)
    endpoint = f"ipc://{settings['folder']}/raw"
    router.bind(endpoint)
    worker.end_with_parent()
    worker.announce({"endpoint": endpoint})
    receive, send = router.recv, router.send
    while True:
        source, destination, data = receive(), receive(), receive()
        send(destination, MORE)
        send(source, MORE)
        send(data)


def connect(settings: dict[str, typing.Any], name: bytes) -> "zmq.Socket[bytes]":
    """Connect under a name; back when the router has seen it, by a message to oneself."""
    dealer = make_socket(zmq.Context(), zmq.DEALER)
    dealer.setsockopt(zmq.IDENTITY, name)
    dealer.connect(settings["endpoint"])
    dealer.send_multipart([name, b""])
    dealer.recv_multipart()
    return dealer


def answerer(settings: dict[str, typing.Any]) -> None:
    """Send everything back."""
    dealer = connect(settings, ANSWERER)
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    receive, send = dealer.recv, dealer.send
    while True:
        source, data = receive(), receive()
        send(source, MORE)
        send(data)


def asker(settings: dict[str, typing.Any]) -> None:
    """Keep `outstanding` questions open; answers come in the order of the questions."""
    dealer = connect(settings, ASKER)
    outstanding: int = settings["outstanding"]
    load = Load(**settings["load"])
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    receive, send, clock = dealer.recv, dealer.send, time.perf_counter_ns
    asked_at: list[int] = []
    times: list[int] = []
    for _ in range(outstanding):
        asked_at.append(clock())
        send(ANSWERER, MORE)
        send(PAYLOAD)
    started = time.monotonic()
    while True:
        receive()
        data = receive()
        if data != PAYLOAD:
            raise RuntimeError("the answer is not what was asked")
        times.append(clock() - asked_at[len(times)])
        if len(times) == WARM_UP:
            started = time.monotonic()
        if is_enough(load, len(times) - WARM_UP, started):
            break
        asked_at.append(clock())
        send(ANSWERER, MORE)
        send(PAYLOAD)
    worker.announce(to_json(asked(times[WARM_UP:], time.monotonic() - started)))
    worker.stay()


if __name__ == "__main__":
    worker.main({"bus": bus, "answerer": answerer, "asker": asker})
