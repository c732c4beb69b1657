"""The baseline: a Python bus that carries one message in each ZeroMQ message, as most of them do.

DEALER, ROUTER, DEALER; a bus process of its own; pyzmq's multipart helpers; MessagePack. It is written to be
fast within that: three frames, a reused packer, one dictionary look-up to route, no checks, no promises. A
sender has no more than a window under way, which its receivers acknowledge: so nothing is lost.

Frames to the bus: `[type or address, body]`; from the bus: `[sender's address, body]`. A body is
`[type, id, data]`. The address of a pod is what the ROUTER calls it, and begins with a zero byte.
"""

import time
import typing

import msgpack
import zmq

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
    ack_every,
    asked,
    is_enough,
    to_json,
    window,
)

ACK = "ack"
ANSWER = "answer"
SUBSCRIBE = b"subscribe"
SUBSCRIBED = "subscribed"


def make_socket(context: "zmq.Context[zmq.Socket[bytes]]", kind: int) -> "zmq.Socket[bytes]":
    """Make a socket that never drops for want of room: the window bounds what is under way."""
    made = context.socket(kind)
    made.setsockopt(zmq.SNDHWM, 0)
    made.setsockopt(zmq.RCVHWM, 0)
    made.setsockopt(zmq.LINGER, 0)
    return made


def bus(settings: dict[str, typing.Any]) -> None:
    """Route until the parent ends."""
    router = make_socket(zmq.Context(), zmq.ROUTER)
    endpoint = f"ipc://{settings['folder']}/bus"
    router.bind(endpoint)
    worker.end_with_parent()
    worker.announce({"endpoint": endpoint})
    subscribers: dict[bytes, list[bytes]] = {}
    subscribed: bytes = msgpack.packb([SUBSCRIBED, 0, None])  # pyright: ignore[reportAssignmentType]
    receive, send = router.recv_multipart, router.send_multipart
    while True:
        sender, target, body = receive()
        if target in subscribers:
            for receiver in subscribers[target]:
                send([receiver, sender, body])
        elif target == SUBSCRIBE:
            subscribers.setdefault(body, []).append(sender)
            send([sender, b"", subscribed])
        else:
            send([target, sender, body])


def connect(settings: dict[str, typing.Any], *types: str) -> "zmq.Socket[bytes]":
    """Connect to the bus and subscribe; back when the bus has confirmed."""
    dealer = make_socket(zmq.Context(), zmq.DEALER)
    dealer.connect(settings["endpoint"])
    for name in types:
        dealer.send_multipart([SUBSCRIBE, name.encode()])
        dealer.recv_multipart()
    return dealer


def receiver(settings: dict[str, typing.Any]) -> None:
    """Count messages until the end marker, and acknowledge them."""
    dealer = connect(settings, DATA, END)
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    messages = size = 0
    every = ack_every(settings["size"])
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb
    receive = dealer.recv_multipart
    while True:
        sender, body = receive()
        kind, _, data = unpack(body)
        if kind == END:
            break
        messages += 1
        size += len(data)
        if messages % every == 0:
            dealer.send_multipart([sender, pack([ACK, messages, None])])
    worker.announce(to_json(Received(messages, size, time.monotonic())))
    worker.stay()


def sender(settings: dict[str, typing.Any]) -> None:
    """Send, never more than a window ahead of the slowest receiver."""
    dealer = connect(settings)
    receivers: int = settings["receivers"]
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    topic = DATA.encode()
    pack, send = msgpack.Packer().pack, dealer.send_multipart
    acknowledged: dict[bytes, int] = {}
    slowest = sent = 0
    size: int = settings["size"]
    data, most = b"x" * size, window(size)
    pace = Pace(Load(**settings["load"]), size)
    while batch := pace.next_batch(sent):
        for number in range(sent, sent + batch):
            if number - slowest >= most:
                address, body = dealer.recv_multipart()
                acknowledged[address] = msgpack.unpackb(body)[1]
                while number - (slowest := _slowest(acknowledged, receivers)) >= most:
                    address, body = dealer.recv_multipart()
                    acknowledged[address] = msgpack.unpackb(body)[1]
            send([topic, pack([DATA, number, data])])
        sent += batch
    send([END.encode(), pack([END, sent, None])])
    worker.announce(to_json(Sent(sent, pace.started)))
    worker.stay()


def _slowest(acknowledged: dict[bytes, int], receivers: int) -> int:
    """Return how far the slowest receiver is; one that said nothing yet is at the beginning."""
    return min(acknowledged.values()) if len(acknowledged) == receivers else 0


def answerer(settings: dict[str, typing.Any]) -> None:
    """Answer each question with its own data."""
    dealer = connect(settings, QUESTION)
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb
    while True:
        address, body = dealer.recv_multipart()
        _, number, data = unpack(body)
        dealer.send_multipart([address, pack([ANSWER, number, data])])


def asker(settings: dict[str, typing.Any]) -> None:
    """Keep `outstanding` questions open; each answer is matched by its number and makes room for the next."""
    dealer = connect(settings)
    outstanding: int = settings["outstanding"]
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    topic = QUESTION.encode()
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb
    clock = time.perf_counter_ns
    asked_at: dict[int, int] = {}
    times: list[int] = []
    number = 0
    load = Load(**settings["load"])
    for _ in range(outstanding):
        asked_at[number] = clock()
        dealer.send_multipart([topic, pack([QUESTION, number, PAYLOAD])])
        number += 1
    started = time.monotonic()
    while True:
        _, body = dealer.recv_multipart()
        _, answered, data = unpack(body)
        if data != PAYLOAD:
            raise RuntimeError("the answer is not what was asked")
        times.append(clock() - asked_at.pop(answered))
        if len(times) == WARM_UP:
            started = time.monotonic()
        if is_enough(load, len(times) - WARM_UP, started):
            break
        asked_at[number] = clock()
        dealer.send_multipart([topic, pack([QUESTION, number, PAYLOAD])])
        number += 1
    worker.announce(to_json(asked(times[WARM_UP:], time.monotonic() - started)))
    worker.stay()


if __name__ == "__main__":
    worker.main({"bus": bus, "receiver": receiver, "sender": sender, "answerer": answerer, "asker": asker})
