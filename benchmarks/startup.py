"""How long it takes to start: the commands, the package, a node until its first message is handled.

Each time is of a fresh process. `python -m benchmarks.startup node` is that process; it prints its own times.
"""

import json
import subprocess
import sys
import threading
import time

from benchmarks.measure import NOT_THERE, Values
from benchmarks.sides import OURS, Side
from benchmarks.worker import ROOT
from benchmarks.workload import Load

ROUNDS = 5
"""Starts of each run, of which the middle one counts."""


def measure(side: Side, load: Load) -> tuple[Values, str]:
    """Return milliseconds: a first message handled, the import of the package, `--help`; several times each."""
    if side.name != OURS:
        bare = _middle([_timed("-c", "pass") for _ in range(ROUNDS)])
        return [NOT_THERE, NOT_THERE, bare], f"{bare:.0f} ms"
    nodes = [_node() for _ in range(ROUNDS)]
    first = _middle([node["first"] for node in nodes])
    package = _middle([node["import"] for node in nodes])
    help_text = _middle([_timed("-m", "grav_actors", "--help") for _ in range(ROUNDS)])
    return [
        first,
        package,
        help_text,
    ], f"first message {first:.0f} ms, import {package:.0f} ms, help {help_text:.0f} ms"


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _timed(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def _node() -> dict[str, float]:
    done = subprocess.run([sys.executable, "-m", __name__, "node"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    times: dict[str, float] = json.loads(done.stdout)
    return times


def start_node() -> None:
    """Start a node, have a message handled, and print how long that and the import took, in milliseconds."""
    begin = time.perf_counter()
    from grav_actors import Grav  # noqa: PLC0415  (what is timed)

    imported = time.perf_counter()
    is_handled = threading.Event()
    with Grav() as grav:
        grav.connect().on_type("bench.first", lambda message: is_handled.set())
        grav.publish("bench.first")
        is_handled.wait()
        handled = time.perf_counter()
    print(json.dumps({"import": (imported - begin) * 1000, "first": (handled - imported) * 1000}))


if __name__ == "__main__":
    start_node()
