"""Everything there is to measure, with the targets."""

import collections.abc

from benchmarks import asking, footprint, mesh, recovery, startup, throughput
from benchmarks.measure import NOT_THERE, Measure, Values
from benchmarks.report import Limit, Series, Target
from benchmarks.sides import BASELINE, OURS, Side
from benchmarks.throughput import MIB, Delivery, Scene
from benchmarks.workload import SIZE, Load

FANOUT = 10
OUTSTANDING = 64
IDLE = 1000
FRAMEWORKS = ["nats", "thespian", "xoscar", "osbrain"]

Run = collections.abc.Callable[[Side, Load], tuple[Values, str]]


def _throughput(scene: Scene, *, with_cost: bool = False) -> Run:
    def run(side: Side, load: Load) -> tuple[Values, str]:
        return _judged(throughput.measure(side, load, scene), with_cost=with_cost)

    return run


def _judged(delivery: Delivery, *, with_cost: bool = False) -> tuple[Values, str]:
    costs: Values = [delivery.bus_cost, delivery.cost] if with_cost else []
    if delivery.problem:
        return [None, *(None for _ in costs)], f"VOID: {delivery.problem}"
    text = f"{delivery.rate:,.0f}/s, {delivery.messages:,} messages, none lost"
    return [delivery.rate, *(NOT_THERE if cost is None else cost for cost in costs)], text


def _beside_idle(side: Side, load: Load) -> tuple[Values, str]:
    return _throughput(Scene(idle=IDLE if side.name == OURS else 0))(side, load)


def _threads(side: Side, load: Load) -> tuple[Values, str]:
    if side.name == OURS:
        side = Side(side.name, side.title, side.module, is_whole=True)
    return _throughput(Scene())(side, load)


def _link(scene: str) -> Run:
    def run(side: Side, load: Load) -> tuple[Values, str]:
        return _judged(mesh.measure(scene if side.name == OURS else "bus", load).delivery)

    return run


def _asking(outstanding: int) -> Run:
    def run(side: Side, load: Load) -> tuple[Values, str]:
        report = asking.measure(side, load, outstanding)
        rate = report.questions / report.elapsed
        text = f"{rate:,.0f}/s, p50 {report.p50:.0f} us, p99 {report.p99:.0f} us, p99.9 {report.p999:.0f} us"
        times: Values = [report.p50, report.p99, report.p999]
        return (times if outstanding == 1 else [rate, *times]), text

    return run


def _recovery(side: Side, load: Load) -> tuple[Values, str]:
    rounds = min(recovery.ROUNDS, max(3, int(load.seconds * 25)))
    worst = [max(measure(rounds)) * 1000 for measure, _ in recovery.MEASURES.values()]
    return [*worst], f"worst of {rounds}: {', '.join(f'{one:.0f} ms' for one in worst)}"


def measures() -> list[Measure]:
    """Return everything there is to measure."""
    return [
        Measure(
            "throughput",
            [OURS, BASELINE, "pushpull", "queue", "pipe", *FRAMEWORKS],
            [
                Series("process to process, 100 B", "messages/s", [Target(BASELINE, 10)]),
                Series("bus, processor a message", "ns"),
                Series("all processes, processor a message", "ns"),
            ],
            _throughput(Scene(), with_cost=True),
        ),
        Measure(
            "fanout",
            [OURS, BASELINE, "nats"],
            [Series(f"1 to {FANOUT} processes, 100 B", "deliveries/s", [Target(BASELINE, 10)])],
            _throughput(Scene(receivers=FANOUT)),
        ),
        Measure(
            "ask",
            [OURS, BASELINE, "raw", "queue", "pipe", *FRAMEWORKS],
            [
                Series("ask, one at a time, p50", "us", [Target("raw", 1.6, at_most=True)]),
                Series("ask, one at a time, p99", "us"),
                Series("ask, one at a time, p99.9", "us"),
            ],
            _asking(1),
        ),
        Measure(
            f"ask{OUTSTANDING}",
            [OURS, BASELINE, "raw", "queue", "pipe", "nats", "xoscar"],
            [
                Series(f"ask, {OUTSTANDING} outstanding", "answers/s", [Target(BASELINE, 4)]),
                Series(f"ask, {OUTSTANDING} outstanding, p50", "us"),
                Series(f"ask, {OUTSTANDING} outstanding, p99", "us"),
                Series(f"ask, {OUTSTANDING} outstanding, p99.9", "us"),
            ],
            _asking(OUTSTANDING),
        ),
        Measure(
            "large",
            [OURS, BASELINE, "pushpull", "queue", "pipe", "nats"],
            [Series("process to process, 1 MiB", "messages/s", [Target("pushpull", 0.5), Target(BASELINE, 1)])],
            _throughput(Scene(size=MIB)),
        ),
        Measure(
            "threads",
            [OURS, "threadqueue", "pykka"],
            [Series(f"thread to thread in one process, {SIZE} B", "messages/s")],
            _threads,
        ),
        Measure(
            "idle",
            [OURS, "alone"],
            [Series(f"process to process beside {IDLE:,} idle pods", "messages/s", [Target("alone", 0.9)])],
            _beside_idle,
        ),
        Measure(
            "mesh",
            [OURS, "onebus"],
            [Series("node to node, one link, 100 B", "messages/s", [Target("onebus", 0.5)])],
            _link("link"),
        ),
        Measure(
            "curve",
            [OURS, "onebus"],
            [Series("node to node, one link with CURVE, 100 B", "messages/s", [Target("onebus", 0.5)])],
            _link("link with keys"),
        ),
        Measure(
            "spawn",
            [OURS, "process"],
            [
                Series("process actor, spawned and ready", "ms", [Limit(25)]),
                Series("thread actor, spawned and ready", "ms", [Limit(2)]),
            ],
            startup.measure_actors,
        ),
        Measure(
            "startup",
            [OURS, "python"],
            [
                Series("Grav() to first message handled", "ms", [Limit(250)]),
                Series("import of the package", "ms"),
                Series("grav-actors --help", "ms", [Limit(150)]),
            ],
            startup.measure,
        ),
        Measure(
            "memory",
            [OURS],
            [
                Series("idle bus, unique", "MB", [Limit(30)]),
                Series("process actor, unique", "MB", [Limit(10)]),
                Series("bus, growth by the second half of many messages", "MB", [Limit(1)]),
            ],
            footprint.measure,
            most_pairs=1,
        ),
        Measure(
            "recovery",
            [OURS],
            [
                Series("actor killed to handling again, the worst", "ms", [Limit(500, of_worst=True)]),
                Series(f"bus killed to {recovery.PODS} pods back, the worst", "ms", [Limit(2000, of_worst=True)]),
            ],
            _recovery,
            most_pairs=1,
        ),
    ]
