"""Raw PUSH-PULL: one socket at each end, one frame for each message, nothing between. The floor for payloads.

The high water mark keeps no more under way than a window; what is over it blocks the sender.
"""

import time
import typing

import zmq

from benchmarks import worker
from benchmarks.workload import Load, Pace, Received, Sent, to_json, window

END = b"end"


def receiver(settings: dict[str, typing.Any]) -> None:
    """Count messages until the end marker."""
    pull = zmq.Context().socket(zmq.PULL)
    pull.setsockopt(zmq.RCVHWM, window(settings["size"]))
    pull.bind(settings["endpoint"])
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    receive = pull.recv
    messages = size = 0
    while (data := receive()) != END:
        messages += 1
        size += len(data)
    worker.announce(to_json(Received(messages, size, time.monotonic())))
    worker.stay()


def sender(settings: dict[str, typing.Any]) -> None:
    """Send as fast as the socket takes it."""
    push = zmq.Context().socket(zmq.PUSH)
    push.setsockopt(zmq.SNDHWM, window(settings["size"]))
    push.connect(settings["endpoint"])
    worker.announce({})
    worker.wait_for_go()
    worker.end_with_parent()
    send = push.send
    data = b"x" * settings["size"]
    sent = 0
    pace = Pace(Load(**settings["load"]), settings["size"])
    while batch := pace.next_batch(sent):
        for _ in range(batch):
            send(data)
        sent += batch
    send(END)
    worker.announce(to_json(Sent(sent, pace.started)))
    worker.stay()


if __name__ == "__main__":
    worker.main({"receiver": receiver, "sender": sender})
