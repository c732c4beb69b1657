"""How quickly actors start, how many one process and one bus carry, and what each of them weighs.

$ python -m benchmarks.spawn [--rounds N] [--threads N] [--processes N] [--only NAME]... [--json FILE]

`process`, `thread`: until `spawn` has returned, one after another. `threads`, `processes`: a crowd of them on one
bus; each is told something and asked, all hear one published message, and all are stopped. `node`: a fresh program
until its first message was handled. `help`: the command line. Exit code 1: an actor did not start or did not answer.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

from benchmarks.crowd import Member
from benchmarks.report import describe_machine
from grav_actors import Grav, GravError

LIMIT = 120.0
"""Seconds after which what does not come counts as lost."""
MS = 1000.0
MIB = 1024.0 * 1024.0

PROGRAM = """
import threading, time
begin = time.perf_counter()
from grav_actors import Grav
imported = time.perf_counter()
handled = threading.Event()
grav = Grav()
grav.connect().on(lambda message: handled.set())
grav.publish("first.message")
handled.wait({limit})
print(imported - begin, time.perf_counter() - imported)
grav.stop()
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        target: What the median is to be at most; None if there is no such.
        values: What was measured, in `unit`.
    """

    name: str
    unit: str
    values: list[float]
    target: float | None = None

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool | None:
        """Whether the median is within the target."""
        return None if self.target is None else self.median <= self.target


def measure_spawn(kind: str, count: int) -> list[Figure]:
    """Spawn actors one after another on a fresh node: the first apart from the others."""
    times: list[float] = []
    with Grav() as grav:
        for number in range(count + 1):
            begin = time.perf_counter()
            grav.spawn(Member, name=f"member-{number}", kind=kind)
            times.append((time.perf_counter() - begin) * MS)
    return [
        Figure(f"{kind} actor, the first of a node", "ms", times[:1]),
        Figure(f"{kind} actor, spawned and ready", "ms", times[1:], {"process": 25.0, "thread": 2.0}[kind]),
    ]


def measure_crowd(kind: str, count: int) -> list[Figure]:
    """Have so many actors on one bus, use them all, and stop them."""
    here = threading.Semaphore(0)
    with Grav() as grav:
        before = unique_bytes(os.getpid())
        begin = time.perf_counter()
        crowd = [grav.spawn(Member, name=f"member-{number}", kind=kind) for number in range(count)]
        spawned = time.perf_counter() - begin
        if kind == "process":
            weights = [unique_bytes(row["pid"]) / MIB for row in grav._actors()]
        else:
            weights = [(unique_bytes(os.getpid()) - before) / count / MIB]
        grav.connect().on_type("crowd.here", lambda message: here.release())
        begin = time.perf_counter()
        for member in crowd:
            member.tell("crowd.tell")
        answers = [member.ask("crowd.ask", timeout=LIMIT) for member in crowd]
        asked = time.perf_counter() - begin
        if answers != [1] * count:
            raise GravError(f"{answers.count(1)} of {count} actors had what they were told")
        begin = time.perf_counter()
        grav.publish("crowd.call")
        for heard in range(count):
            if not here.acquire(timeout=LIMIT):
                raise GravError(f"{heard} of {count} actors heard what was published")
        called = time.perf_counter() - begin
        begin = time.perf_counter()
        grav.stop(timeout=LIMIT)
        stopped = time.perf_counter() - begin
    crowd_name = f"{count:,} {kind} actors"
    return [
        Figure(f"{crowd_name}, spawned one by one", "s", [spawned]),
        Figure(f"{crowd_name}, unique memory of one", "MiB", weights, 10.0 if kind == "process" else None),
        Figure(f"{crowd_name}, tell and ask each", "ms an actor", [asked * MS / count]),
        Figure(f"{crowd_name}, publish and all have answered", "ms", [called * MS]),
        Figure(f"{crowd_name}, stopped", "s", [stopped]),
    ]


def measure_node(rounds: int) -> list[Figure]:
    """Run a fresh program so often, until its first message was handled."""
    imports: list[float] = []
    firsts: list[float] = []
    for _ in range(rounds):
        program = [sys.executable, "-c", PROGRAM.format(limit=LIMIT)]
        run = subprocess.run(program, capture_output=True, text=True, check=True, timeout=LIMIT)
        imported, first = (float(word) * MS for word in run.stdout.split())
        imports.append(imported)
        firsts.append(first)
    return [
        Figure("from grav_actors import Grav", "ms", imports),
        Figure("Grav() to first message handled", "ms", firsts, 250.0),
    ]


def measure_help(rounds: int) -> list[Figure]:
    """Run `grav-actors --help` so often."""
    times: list[float] = []
    for _ in range(rounds):
        begin = time.perf_counter()
        command = [sys.executable, "-m", "grav_actors", "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
        times.append((time.perf_counter() - begin) * MS)
    return [Figure("grav-actors --help", "ms", times, 150.0)]


def unique_bytes(pid: int) -> int:
    """Return the bytes of a process that it shares with no other: private pages, clean and dirty."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def table(figures: collections.abc.Sequence[Figure]) -> str:
    """Return the figures as lines: median, lowest and highest, and the target."""
    rows = [["what", "unit", "median (lowest .. highest)", "target"]]
    for one in figures:
        spread = f" ({min(one.values):,.2f} .. {max(one.values):,.2f})" if len(one.values) > 1 else ""
        verdict = "" if one.target is None else f"<= {one.target:g}: {'met' if one.is_met else 'MISSED'}"
        rows.append([one.name, one.unit, f"{one.median:,.2f}{spread}", verdict])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def measures(options: argparse.Namespace) -> dict[str, collections.abc.Callable[[], list[Figure]]]:
    """Return everything there is to measure, by name."""
    return {
        "process": lambda: measure_spawn("process", options.rounds),
        "thread": lambda: measure_spawn("thread", 4 * options.rounds),
        "threads": lambda: measure_crowd("thread", options.threads),
        "processes": lambda: measure_crowd("process", options.processes),
        "node": lambda: measure_node(max(options.rounds // 5, 3)),
        "help": lambda: measure_help(max(options.rounds // 5, 3)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write the figures if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spawn", description="Time the start of actors.")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="process actors to spawn (default: 50)")
    parser.add_argument("--threads", type=int, default=2000, metavar="N", help="threads of the crowd (default: 2000)")
    parser.add_argument("--processes", type=int, default=100, metavar="N", help="its processes (default: 100)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this; may be repeated")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures to FILE too")
    options = parser.parse_args(arguments)
    chosen = measures(options)
    unknown = [name for name in options.only if name not in chosen]
    if unknown or min(options.rounds, options.threads, options.processes) < 1:
        parser.error(f"--only is one of {', '.join(chosen)}; numbers are at least 1")
    figures: list[Figure] = []
    is_good = True
    for name, measure in chosen.items():
        if options.only and name not in options.only:
            continue
        try:
            figures += measure()
        except (GravError, subprocess.SubprocessError) as error:
            is_good = False
            print(f"{name}: FAILED: {error}", file=sys.stderr)
    if figures:
        print(table(figures))
    print(f"load average: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    if options.json:
        rows = [{**dataclasses.asdict(one), "median": one.median, "met": one.is_met} for one in figures]
        content = {"machine": describe_machine(), "load": os.getloadavg(), "figures": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
