"""Process to process: one sender, one or many receivers, each in a process of its own."""

import contextlib
import dataclasses
import tempfile

from benchmarks.worker import Worker
from benchmarks.workload import PAYLOAD, Load, Received, Sent

SETTLE_LIMIT = 60.0
"""Seconds that a receiver may need for what was still under way when the sender was through."""


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One run. `problem` says what is wrong with it; such a run is void, whatever its rate."""

    messages: int
    rate: float
    problem: str = ""


def measure(side: str, load: Load, receivers: int) -> Delivery:
    """Run one side once and return its deliveries per second, as the receivers count them."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        bus = stack.enter_context(Worker(side, "bus", folder=folder))
        endpoint = bus.ready()["endpoint"]
        counters = [stack.enter_context(Worker(side, "receiver", endpoint=endpoint)) for _ in range(receivers)]
        sender = stack.enter_context(
            Worker(side, "sender", endpoint=endpoint, receivers=receivers, load=dataclasses.asdict(load))
        )
        for worker in (*counters, sender):
            worker.ready()
        for worker in (*counters, sender):
            worker.go()
        sent = Sent(**sender.read(load.seconds + SETTLE_LIMIT))
        received = [Received(**counter.read(SETTLE_LIMIT)) for counter in counters]
    return judge(sent, received)


def judge(sent: Sent, received: list[Received]) -> Delivery:
    """Return the rate of a run, from the first send to the last delivery; lost or double ones void it."""
    elapsed = max(report.finished for report in received) - sent.started
    rate = sum(report.messages for report in received) / elapsed
    problem = ""
    for report in received:
        if report.messages != sent.messages:
            problem = f"{sent.messages} sent, {report.messages} received"
        elif report.size != sent.messages * len(PAYLOAD):
            problem = f"{sent.messages * len(PAYLOAD)} bytes sent, {report.size} received"
    return Delivery(sent.messages, rate, problem)
