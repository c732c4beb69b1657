"""Print what memory bus and sender need under floods, and what a flood does to its neighbours.

$ python -m benchmarks.memory [--seconds S] [--messages N] [--visits N] [--only NAME]...

`stopped`: a flood against a process that is stopped. `hung`: one delivery hangs while a flood goes elsewhere, to one
receiver and to several.
`growth`: so many messages through one bus. `visits`: so many pods that connect, publish one message and leave.
`neighbour`: beside a flood another pod sends 1,000 messages a second. Exit code 1: a message was lost, or memory
is over what is configured.
"""

import argparse
import collections.abc
import contextlib
import os
import pathlib
import signal
import sys
import threading
import typing

from benchmarks.worker import Worker

MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
ENOUGH = 3600.0
BASE = 64 * MIB
"""Bytes that an idle process may need, with room for what allocators keep."""
MAILBOX = 2 * 64 * MIB
"""A full mailbox, and its records as objects of their own or in the pipes of ZeroMQ."""


FAN_OUT = 8
"""Receivers of the flood beside a hung delivery: most of the work is theirs, and the bus can show what it delivers."""


class Gauge:
    """Watches the memory of processes while something is done."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self.first = {name: resident(pid) for name, pid in pids.items()}
        self.highest = dict(self.first)
        self.last = dict(self.first)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> typing.Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            self._look()

    def _look(self) -> None:
        for name, pid in self._pids.items():
            self.last[name] = resident(pid)
            self.highest[name] = max(self.highest[name], self.last[name])

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {self.first[name] / MIB:.0f} MiB before, {self.highest[name] / MIB:.0f} highest, "
            f"{self.last[name] / MIB:.0f} after"
            for name in self._pids
        )


def resident(pid: int) -> int:
    """Return the bytes of a process that lie in memory."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE


class Scene:
    """A bus and its workers, which end with it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._bus = self.add("bus")
        report = self._bus.ready()
        self._endpoint, self.bus_pid = report["endpoint"], report["pid"]

    def add(self, role: str, **settings: typing.Any) -> Worker:
        """Start a worker."""
        if role == "bus":
            return self._stack.enter_context(Worker("load", role))
        made = self._stack.enter_context(Worker("load", role, endpoint=self._endpoint, **settings))
        made.ready()
        return made

    def stats(self) -> dict[str, typing.Any]:
        """Return the counters of the bus; once."""
        self._bus.go()
        return self._bus.read(60.0)


def done(made: Worker) -> dict[str, typing.Any]:
    """Let a worker go and return its report."""
    made.go()
    return made.read(ENOUGH)


Problems = list[str]


def stopped(scene: Scene, options: argparse.Namespace) -> Problems:
    """Flood a stopped process, with small and with large messages."""
    problems: Problems = []
    for size in (100, 64 * 1024):
        receiver = scene.add("listener", type=f"load.{size}")
        sender = scene.add("flooder", type=f"load.{size}", size=size, seconds=options.seconds, messages=0, first="none")
        os.kill(receiver.pid, signal.SIGSTOP)
        try:
            with Gauge(bus=scene.bus_pid, sender=sender.pid) as gauge:
                report = done(sender)
        finally:
            os.kill(receiver.pid, signal.SIGCONT)
        print(f"stopped, {size} B: {report['messages']:,} sent; {gauge}; sender keeps {report['kept_bytes']:,} bytes")
        if gauge.highest["bus"] > BASE + MAILBOX or gauge.highest["sender"] > BASE + MAILBOX:
            problems.append(f"stopped, {size} B: over {(BASE + MAILBOX) // MIB} MiB")
        # What was held goes to the dead letters while the next round begins.
        receiver.stop()
    return problems


def hung(scene: Scene, options: argparse.Namespace) -> Problems:
    """Send one message whose handler hangs, and then as many as possible elsewhere: to one pod, and to several."""
    problems: Problems = []
    scene.add("listener", type="load.hung", hangs=True)
    for receivers in (1, FAN_OUT):
        name = f"load.to{receivers}"
        quick = [scene.add("listener", type=name) for _ in range(receivers)]
        flood = {"type": name, "size": 100, "seconds": options.seconds, "messages": 0}
        sender = scene.add("flooder", **flood, first="load.hung", is_handled=True)
        pids = {f"receiver {number}": made.pid for number, made in enumerate(quick[:2], 1)}
        with Gauge(bus=scene.bus_pid, sender=sender.pid, **pids) as gauge:
            report = done(sender)
        rate = report["messages"] * receivers / report["seconds"]
        print(
            f"hung, 1 to {receivers} elsewhere: {rate:,.0f} deliveries/s; {gauge}; "
            f"sender keeps {report['kept_messages']:,} messages"
        )
        counts = [done(made)["messages"] for made in quick]
        if any(count != report["messages"] for count in counts):
            problems.append(f"hung, 1 to {receivers}: {min(counts)} of {report['messages']} messages came")
        if any(size > BASE + 32 * MIB for size in gauge.highest.values()):
            problems.append(f"hung, 1 to {receivers}: memory grows with what goes elsewhere")
        for made in (*quick, sender):
            made.stop()
    return problems


def growth(scene: Scene, options: argparse.Namespace) -> Problems:
    """Send many messages, and look whether the second half needs more than the first."""
    receiver = scene.add("listener", type="load.data")
    half = options.messages // 2
    highest: list[dict[str, int]] = []
    for part in ("first", "second"):
        sender = scene.add("flooder", type="load.data", size=100, seconds=0, messages=half)
        with Gauge(bus=scene.bus_pid, receiver=receiver.pid) as gauge:
            report = done(sender)
        highest.append(gauge.last)
        print(f"growth, {part} {report['messages']:,}: {report['messages'] / report['seconds']:,.0f}/s; {gauge}")
    grown = {name: highest[1][name] - highest[0][name] for name in highest[0]}
    print("growth: " + ", ".join(f"{name} {size / MIB:+.1f} MiB" for name, size in grown.items()))
    return [f"growth: {name} has grown" for name, size in grown.items() if size > 8 * MIB]


def visits(scene: Scene, options: argparse.Namespace) -> Problems:
    """Have many pods connect, publish one message and leave."""
    receiver = scene.add("listener", type="load.visit")
    done(scene.add("visitor", type="load.visit", times=options.visits // 10))
    with Gauge(bus=scene.bus_pid, receiver=receiver.pid) as gauge:
        done(scene.add("visitor", type="load.visit", times=options.visits))
    print(f"visits, {options.visits:,} after {options.visits // 10:,}: {gauge}")
    problems = [f"visits: {n} has grown" for n in gauge.first if gauge.last[n] - gauge.first[n] > 8 * MIB]
    received = done(receiver)["messages"]
    expected = options.visits + options.visits // 10
    return problems if received == expected else [*problems, f"visits: {received} of {expected} messages came"]


def neighbour(scene: Scene, options: argparse.Namespace) -> Problems:
    """Send 1,000 messages a second alone, then beside a flood."""
    problems: Problems = []
    flooded = scene.add("listener", type="load.flood")
    for where in ("alone", "beside a flood"):
        receiver = scene.add("listener", type="load.beat", is_timed=True)
        beat = scene.add("metronome", type="load.beat", rate=1000, seconds=options.seconds)
        flood = scene.add("flooder", type="load.flood", size=100, seconds=options.seconds + 1, messages=0)
        beat.go()
        if where != "alone":
            flood.go()
        sent = beat.read(ENOUGH)["messages"]
        if where != "alone":
            flood.read(ENOUGH)
        report = done(receiver)
        print(f"neighbour, {where}: {sent:,} sent, p50 {report['p50']:.0f} us, p99 {report['p99']:.0f} us")
        if report["messages"] != sent:
            problems.append(f"neighbour, {where}: {report['messages']} of {sent} messages came")
        receiver.stop()
    done(flooded)
    return problems


SCENES: dict[str, collections.abc.Callable[[Scene, argparse.Namespace], Problems]] = {
    "stopped": stopped,
    "hung": hung,
    "growth": growth,
    "visits": visits,
    "neighbour": neighbour,
}


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description="Memory and neighbours under load."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a flood (default: 10)")
    parser.add_argument("--messages", type=int, default=10_000_000, help="messages of `growth` (default: 10,000,000)")
    parser.add_argument("--visits", type=int, default=100_000, help="pods of `visits` (default: 100,000)")
    parser.add_argument("--only", action="append", default=[], choices=list(SCENES), help="only this; may be repeated")
    options = parser.parse_args()
    problems: Problems = []
    for name in options.only or SCENES:
        with contextlib.ExitStack() as stack:
            problems += SCENES[name](Scene(stack), options)
        sys.stdout.flush()
    for problem in problems:
        print(f"FAILED: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
