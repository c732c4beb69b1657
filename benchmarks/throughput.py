"""Messages in one direction: one sender, one or many receivers, each in a process of its own unless a side differs."""

import contextlib
import dataclasses
import pathlib
import tempfile
import typing

from benchmarks.sides import Side
from benchmarks.worker import Worker
from benchmarks.workload import SIZE, Load, Received, Sent

SETTLE_LIMIT = 60.0
"""Seconds that a receiver may need for what was still under way when the sender was through."""

MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """What is sent, and who is there besides.

    Attributes:
        receivers: Processes that count.
        size: Bytes of each message.
        idle: Pods that want something else; ours only.
        sender, receiver, crowd: What the workers of these roles are told besides; ours only.
    """

    receivers: int = 1
    size: int = SIZE
    idle: int = 0
    sender: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    receiver: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    crowd: dict[str, typing.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One run. `problem` says what is wrong with it; such a run is void, whatever its rate.

    Attributes:
        rate: Deliveries a second, as the receivers count them.
        bus_cost, cost: Nanoseconds of processor a message: of the bus, and of all processes together; None unknown.
    """

    messages: int
    rate: float
    problem: str = ""
    bus_cost: float | None = None
    cost: float | None = None


def measure(side: Side, load: Load, scene: Scene) -> Delivery:
    """Run one side once."""
    settings = {**side.settings, "size": scene.size, "load": dataclasses.asdict(load)}
    if side.is_whole:
        with Worker(side.module, "throughput", **settings) as whole:
            whole.ready()
            whole.go()
            report = whole.read(load.seconds + SETTLE_LIMIT)
        return judge(Sent(**report["sent"]), [Received(**one) for one in report["received"]], scene.size)
    with contextlib.ExitStack() as stack:
        bus, endpoint = start_bus(side, stack, scene.size)
        settings["endpoint"] = endpoint
        if scene.idle:
            stack.enter_context(Worker(side.module, "crowd", **settings, idle=scene.idle, **scene.crowd)).ready()
        counters = [
            stack.enter_context(Worker(side.module, "receiver", **settings, **scene.receiver))
            for _ in range(scene.receivers)
        ]
        announced = [counter.ready() for counter in counters]
        sender = stack.enter_context(
            Worker(side.module, "sender", **settings, receivers=scene.receivers, **scene.sender)
        )
        sender.ready()
        processes = [sender.pid, *(counter.pid for counter in counters), *([bus] if bus else [])]
        before = {pid: processor_time(pid) for pid in processes}
        for worker in (*counters, sender):
            worker.go()
        sent = Sent(**sender.read(load.seconds + SETTLE_LIMIT))
        received = [Received(**counter.read(SETTLE_LIMIT)) for counter in counters]
        spent = {pid: processor_time(pid) - before[pid] for pid in processes}
    copies = announced[0].get("pods", 1)
    delivery = judge(sent, received, scene.size, copies)
    bus_cost = spent[bus] / sent.messages if bus else None
    return dataclasses.replace(delivery, bus_cost=bus_cost, cost=sum(spent.values()) / sent.messages)


def start_bus(side: Side, stack: contextlib.ExitStack, size: int = SIZE) -> tuple[int | None, str]:
    """Start the process in the middle, if the side has one; return its process id and where to connect."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    if not side.has_bus:
        return None, f"ipc://{folder}/direct"
    bus = stack.enter_context(Worker(side.module, "bus", folder=folder, max_message=max(size, MIB)))
    report = bus.ready()
    return report.get("pid", bus.pid), report["endpoint"]


def processor_time(pid: int) -> int:
    """Return the nanoseconds of processor that the threads of a process have had; of those that live."""
    tasks = pathlib.Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks.iterdir())


def judge(sent: Sent, received: list[Received], size: int, copies: int = 1) -> Delivery:
    """Return the rate of a run, from the first send to the last delivery; lost or double ones void it.

    Args:
        copies: Pods of each receiver, each of which gets every message.
    """
    elapsed = max(report.finished for report in received) - sent.started
    rate = sum(report.messages for report in received) / elapsed
    problem = ""
    expected = sent.messages * copies
    for report in received:
        if report.messages != expected:
            problem = f"{sent.messages} sent, so {expected} expected, {report.messages} received"
        elif report.size != expected * size:
            problem = f"{expected * size} bytes expected, {report.size} received"
    return Delivery(sent.messages, rate, problem)
