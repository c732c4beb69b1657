"""How long it takes to start: an actor, a node until its first message is handled, the command line.

Beside them what plain Python needs: an interpreter that does nothing, and a process of `multiprocessing` that says
that it is there.
"""

import statistics
import subprocess
import sys
import time

from benchmarks import spawn
from benchmarks.measure import NOT_THERE, Values
from benchmarks.sides import OURS, Side
from benchmarks.worker import ROOT
from benchmarks.workload import Load

ROUNDS = 5
"""Starts of each run, of which the middle one counts."""
PROCESSES, THREADS = 8, 40
"""Actors spawned in each run."""


def measure(side: Side, load: Load) -> tuple[Values, str]:
    """Return milliseconds: a first message handled, the import of the package, `--help`; several times each."""
    if side.name != OURS:
        bare = statistics.median(_bare() for _ in range(ROUNDS))
        return [NOT_THERE, NOT_THERE, bare], f"{bare:.0f} ms"
    package, first = (figure.median for figure in spawn.measure_node(ROUNDS))
    (help_text,) = (figure.median for figure in spawn.measure_help(ROUNDS))
    return [
        first,
        package,
        help_text,
    ], f"first message {first:.0f} ms, import {package:.0f} ms, help {help_text:.0f} ms"


def _bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], cwd=ROOT, check=True)
    return (time.perf_counter() - started) * 1000


def measure_actors(side: Side, load: Load) -> tuple[Values, str]:
    """Return milliseconds until an actor is ready: in a process, in a thread; the first of a node apart."""
    if side.name != OURS:
        plain = statistics.median(_plain_processes())
        return [plain, NOT_THERE], f"{plain:.1f} ms"
    process = spawn.measure_spawn("process", PROCESSES)[1].median
    thread = spawn.measure_spawn("thread", THREADS)[1].median
    return [process, thread], f"process {process:.1f} ms, thread {thread:.2f} ms"


def _plain_processes() -> list[float]:
    program = [sys.executable, "-m", "benchmarks.peers.processes"]
    done = subprocess.run(program, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return [float(line) for line in done.stdout.split()]
