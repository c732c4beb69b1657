"""Where the time of a message, or of a question, goes: by process, by thread, and by line.

$ python -m benchmarks.profiling [throughput | ask | ask64 | large] [--seconds S] [--lines N]

The kernel tells how long each thread ran, ZeroMQ's own threads too. Lines are told by samples of py-spy, where that is
installed, of threads that hold the interpreter's lock; its looks cost something, so they are of a second run.
"""

import argparse
import collections
import contextlib
import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks.asking import FINISH_LIMIT
from benchmarks.catalogue import OUTSTANDING
from benchmarks.sides import OURS, SIDES
from benchmarks.throughput import MIB, start_bus
from benchmarks.worker import Worker
from benchmarks.workload import SIZE, Load

SAMPLES = 500
"""Looks a second."""

SCENES = {
    "throughput": ("sender", "receiver", {"size": SIZE}),
    "large": ("sender", "receiver", {"size": MIB}),
    "ask": ("asker", "answerer", {"outstanding": 1}),
    f"ask{OUTSTANDING}": ("asker", "answerer", {"outstanding": OUTSTANDING}),
}
"""By name: who begins, who receives, and what both are told."""

Times = dict[str, float]
"""Nanoseconds that a thread ran, by its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """One run.

    Attributes:
        messages: Messages sent, or questions answered.
        times: By process.
        lines: By process: samples by line, of the innermost function; empty without py-spy.
    """

    messages: int
    elapsed: float
    times: dict[str, Times]
    lines: dict[str, collections.Counter[str]]


def thread_times(pid: int) -> Times:
    """Return how long each thread of a process ran."""
    found: collections.Counter[str] = collections.Counter()
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text(encoding="utf-8").strip()
        name = "main" if task.name == str(pid) else f"{name} {task.name}" if name.startswith("python") else name
        found[name] += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return dict(found)


def run(scene: str, seconds: float, *, is_sampled: bool) -> Profile:
    """Run a scene once."""
    first, second, told = SCENES[scene]
    side = SIDES[OURS]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bus, endpoint = start_bus(side, stack)
        assert bus is not None
        load = dataclasses.asdict(Load(seconds))
        receiver = stack.enter_context(Worker(side.module, second, endpoint=endpoint, load=load, **told))
        receiver.ready()
        receiver.go()
        sender = stack.enter_context(Worker(side.module, first, endpoint=endpoint, load=load, receivers=1, **told))
        sender.ready()
        pids = {first: sender.pid, "bus": bus, second: receiver.pid}
        before = {name: thread_times(pid) for name, pid in pids.items()}
        started = time.monotonic()
        sender.go()
        spies = {name: _spy(pid, folder / name, seconds * 0.8) for name, pid in pids.items()} if is_sampled else {}
        report = sender.read(seconds + FINISH_LIMIT)
        elapsed = time.monotonic() - started
        for spy in spies.values():
            spy.wait()
        times = {
            name: {thread: spent - before[name].get(thread, 0) for thread, spent in thread_times(pid).items()}
            for name, pid in pids.items()
        }
        lines = {name: _read_samples(folder / name) for name in spies}
    return Profile(report.get("messages") or report["questions"], elapsed, times, lines)


def _spy(pid: int, out: pathlib.Path, seconds: float) -> "subprocess.Popen[bytes]":
    how = [
        "--gil",
        "--rate",
        str(SAMPLES),
        "--duration",
        str(max(1, round(seconds))),
        "--format",
        "raw",
        "--output",
        str(out),
    ]
    command = [str(pathlib.Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid), *how]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _read_samples(path: pathlib.Path) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        stack, _, count = line.rpartition(" ")
        found[stack.rpartition(";")[2]] += int(count)
    return found


def show(profile: Profile, lines: int) -> None:
    """Print a profile."""
    print(f"{profile.messages:,} in {profile.elapsed:.1f} s: {profile.elapsed / profile.messages * 1e6:.2f} us each")
    for process, threads in profile.times.items():
        total = sum(threads.values()) / profile.messages / 1000
        parts = sorted(threads.items(), key=lambda item: -item[1])
        text = ", ".join(f"{name} {spent / profile.messages / 1000:.2f}" for name, spent in parts if spent)
        print(f"{process}: {total:.2f} us of processor each ({text})")
        samples = profile.lines.get(process, collections.Counter[str]())
        for line, count in samples.most_common(lines):
            print(f"    {count / samples.total():6.1%}  {line}")


def main() -> int:
    """Profile what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description="Where the time goes.")
    parser.add_argument("scene", nargs="*", choices=[*SCENES, []], help="which; all without")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run (default: 3)")
    parser.add_argument("--lines", type=int, default=12, help="lines shown of each process (default: 12)")
    options = parser.parse_args()
    has_spy = _has_spy()
    for scene in options.scene or SCENES:
        print(f"== {scene}")
        show(run(scene, options.seconds, is_sampled=False), 0)
        if has_spy:
            print("-- sampled")
            show(run(scene, options.seconds, is_sampled=True), options.lines)
    if not has_spy:
        print("py-spy is not installed: `pip install py-spy` adds lines")
    return 0


def _has_spy() -> bool:
    return pathlib.Path(sys.executable).with_name("py-spy").exists()


if __name__ == "__main__":
    sys.exit(main())
