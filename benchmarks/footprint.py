"""Memory of what idles: a bus, and an actor in a process of its own; and whether a bus grows with its messages.

What a process does not share counts (`Private_*` of smaps_rollup): pages that it shares with its fork server, or with
other programs through their libraries, are there once however many there are.
"""

import contextlib

from benchmarks.echo import Echo
from benchmarks.measure import Values
from benchmarks.memory import Gauge, Scene, done
from benchmarks.sides import Side
from benchmarks.spawn import unique_bytes
from benchmarks.workload import Load
from grav_actors import Grav

MEGABYTE = 1_000_000
ACTORS = 5
GROWTH_RATE = 5_000_000
"""Messages that are sent through the bus to see it grow, for each second of load: 10,000,000 with the default."""


def measure(side: Side, load: Load) -> tuple[Values, str]:
    """Return megabytes: an idle bus, one actor, and what the bus gained from the second half of many messages."""
    with Grav() as grav:
        bus = grav._bus
        assert bus is not None
        assert bus.pid is not None
        idle = unique_bytes(bus.pid) / MEGABYTE
        names = {grav.spawn(Echo, name=f"echo-{index}").name for index in range(ACTORS)}
        pids = [row["pid"] for row in grav._actors() if row["name"] in names]
        actor = sum(unique_bytes(pid) for pid in pids) / len(pids) / MEGABYTE
    messages = load.messages or int(load.seconds * GROWTH_RATE)
    grown = growth(messages) / MEGABYTE
    return [idle, actor, grown], f"bus {idle:.1f} MB, actor {actor:.1f} MB, {messages:,} messages: {grown:+.2f} MB"


def growth(messages: int) -> int:
    """Return how many bytes more the bus keeps after so many messages than after half of them."""
    with contextlib.ExitStack() as stack:
        scene = Scene(stack)
        scene.add("listener", type="load.data")
        kept: list[int] = []
        for _ in range(2):
            sender = scene.add("flooder", type="load.data", size=100, seconds=0, messages=messages // 2)
            with Gauge(bus=scene.bus_pid) as gauge:
                done(sender)
            sender.stop()
            kept.append(gauge.last["bus"])
    return kept[1] - kept[0]
