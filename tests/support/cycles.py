"""Up and down again under load, many times over: what is left behind each time.

Ways to end a node take turns; the last, SIGKILL, leaves a run folder that the next `up` has to take over.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from grav_actors import Actor, Child, Grav, GravError, Message, Pod, Supervisor, on_type
from support.processes import await_ends
from support.programs import GRAV_ACTORS, Program

TESTS = Path(__file__).resolve().parents[1]
LIMIT = 120.0
"""Seconds that anything may take on a machine that is very busy."""
LEAST = 200
"""Messages that have been handled when the end begins; the load goes on."""
BURST, PAUSE = 5, 0.005
"""Messages that are sent at a time, and seconds between."""
WAYS = ("interrupt", "terminate", "down", "script", "kill")
GONE_LIMIT = 2.0
"""Seconds within which all processes of a node have to be gone after its end, on a machine that is not busy."""
SETTLE_LIMIT = 5.0
"""Seconds that threads of this process may take to end."""
LOADED = ("one", "two", "three", "deep", "deep-thread")
"""The actors that handle the load, in processes and threads, under the root and below."""
CONFIG = """
[actors.one]
class = "support.cycles:Worker"
[actors.two]
class = "support.cycles:Worker"
kind = "thread"
[actors.three]
class = "support.cycles:Worker"
kind = "thread"
[actors.crew]
class = "support.cycles:Crew"
"""
DOWN = (*GRAV_ACTORS, "down")
SIGNALS = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}
CODES = {"interrupt": 130, "terminate": 0, "down": 0, "kill": -signal.SIGKILL}


class Worker(Actor):
    """Handles the load."""

    @on_type("load")
    def load(self, msg: Message) -> None:
        self.publish("loaded", msg.data)


class Crew(Supervisor):
    """Has some of the workers below it."""

    children = (Child(Worker, name="deep"), Child(Worker, name="deep-thread", kind="thread"))


class Load:
    """Publishes without end, and counts what was handled."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._is_over = threading.Event()
        self._changed = threading.Condition()
        self._count = 0
        pod.on_type("loaded", self._note)
        self._thread = threading.Thread(target=self._publish, name="load")
        self._thread.start()

    def _note(self, message: Message) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def _publish(self) -> None:
        number = 0
        with suppress(GravError):  # the node has ended
            while not self._is_over.wait(PAUSE):
                for _ in range(BURST):
                    number += 1
                    self._pod.publish("load", number)

    def wait(self, count: int) -> None:
        """Wait until so many messages were handled."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._count >= count, LIMIT), f"{self._count} of {count} handled"

    def stop(self) -> None:
        """Have it publish no more."""
        self._is_over.set()

    def join(self) -> int:
        """Wait for its end, and return how many messages were handled."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "a sender waits for a node that has ended"
        return self._count


@dataclass(slots=True)
class Tally:
    """What has happened.

    Attributes:
        problems: What was left behind, each with the number of its cycle.
        handled: Messages of the load that actors have handled.
    """

    cycles: int = 0
    handled: int = 0
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.cycles} cycles, {self.handled} messages handled, the slowest end took {self.slowest:.2f} s: "
            f"{len(self.problems)} problems"
        )


class Cycles:
    """Runs cycles in a folder of its own, which has a project and is the place of all run folders.

    Args:
        folder: An empty folder with a short path, as sockets are made in it.
        patience: Seconds after the end of a node within which the last of its processes has to be gone.
    """

    def __init__(self, folder: Path, patience: float = GONE_LIMIT) -> None:
        self._patience = patience
        self._project = folder / "p"
        self._project.mkdir()
        (self._project / "grav.toml").write_text(CONFIG, encoding="utf-8")
        self._run_folder = folder / "run"
        self._run_folder.mkdir(mode=0o700)
        self._mark = f"GRAV_CYCLES={os.getpid()}-{time.monotonic_ns()}"
        self.tally = Tally()

    def run(self, times: int, on_cycle: Callable[[Tally], object] = lambda tally: None) -> Tally:
        """Go through so many cycles; `on_cycle` is told after each what has happened so far."""
        with self._environment():
            threads = threading.enumerate()
            self._cycle("interrupt")  # what this process needs for good it has after the first
            self.tally = Tally()
            threads += self._join_others(threads)
            descriptors = count_descriptors()
            files: set[str] | None = None
            for number in range(times):
                way = WAYS[number % len(WAYS)]
                self._cycle(way)
                self.tally.cycles += 1
                self._look(f"cycle {number + 1} ({way})", descriptors, threads)
                left = {path.name for path in self._run_folder.rglob("*") if not path.name.startswith("logbook")}
                if way != "kill":
                    if files is not None and left - files:
                        self._blame(f"cycle {number + 1} ({way})", f"files {sorted(left - files)}")
                    files = left if files is None else files
                    self._look_for_sockets(f"cycle {number + 1} ({way})")
                on_cycle(self.tally)
        return self.tally

    @contextmanager
    def _environment(self) -> Generator[None]:
        name, _, value = self._mark.partition("=")
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        wanted = {"XDG_RUNTIME_DIR": str(self._run_folder), "PYTHONPATH": path, name: value}
        before = {key: os.environ.get(key) for key in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for key, old in before.items():
                if old is None:
                    del os.environ[key]
                else:
                    os.environ[key] = old

    def _cycle(self, way: str) -> None:
        if way == "script":
            self._cycle_in_script()
            return
        program = Program(self._project, "up")
        try:
            endpoint = program.wait_line(r"\bready: .* bus ", LIMIT).rpartition(" ")[2].strip()
            client = Grav(bus=endpoint)
            load = Load(client.connect())
            try:
                load.wait(LEAST)
                begin = time.monotonic()
                if way == "down":
                    done = program.run(*DOWN)
                    assert done.returncode == 0, done
                else:
                    program.signal(SIGNALS[way])
                code = program.wait()
                self.tally.slowest = max(self.tally.slowest, time.monotonic() - begin)
                if code != CODES[way]:
                    self._blame(f"a node ended by {way}", f"exit code {code}:\n{program.output}")
            finally:
                load.stop()
                client.stop(0.1)
                self.tally.handled += load.join()
        finally:
            program.close()

    def _cycle_in_script(self) -> None:
        grav = Grav()
        load = Load(grav.connect())
        try:
            for kind in ("process", "thread"):
                grav.spawn(Worker, kind=kind)
            load.wait(LEAST)
        finally:
            begin = time.monotonic()
            grav.stop()
            self.tally.slowest = max(self.tally.slowest, time.monotonic() - begin)
            load.stop()
            self.tally.handled += load.join()

    def _look(self, where: str, descriptors: int, threads: list[threading.Thread]) -> None:
        deadline = time.monotonic() + self._patience
        while processes := marked_processes(self._mark):
            if not await_ends(processes, deadline):
                left = marked_processes(self._mark)
                self._blame(where, f"processes {list(left.values())}")
                break
        if left_behind := self._join_others(threads):
            self._blame(where, f"threads {left_behind}")
        gc.collect()  # of a socket that was closed the descriptor is, with the last that refers to it
        if (more := count_descriptors() - descriptors) > 0:
            self._blame(where, f"{more} descriptors")
        if zombies := zombies_of(os.getpid()):
            self._blame(where, f"zombies {zombies}")

    def _join_others(self, known: list[threading.Thread]) -> list[threading.Thread]:
        """Wait for all threads to end but those that are known; return those that have not."""
        deadline = time.monotonic() + SETTLE_LIMIT
        others = [thread for thread in threading.enumerate() if thread not in known]
        for thread in others:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread for thread in others if thread.is_alive()]

    def _look_for_sockets(self, where: str) -> None:
        if sockets := [str(path) for path in self._run_folder.rglob("*") if path.is_socket()]:
            self._blame(where, f"sockets {sockets}")

    def _blame(self, where: str, what: str) -> None:
        self.tally.problems.append(f"{where}: {what}")


def count_descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def marked_processes(mark: str) -> dict[int, str]:
    """Return the processes that were started with a setting in their environment, zombies not among them."""
    found: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    found[int(folder.name)] = f"{folder.name} {b' '.join(words).decode(errors='replace')[:80]}"
    return found


def zombies_of(parent: int) -> list[int]:
    """Return the children of a process that have ended and were not waited for."""
    zombies: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                state, of = (folder / "stat").read_text(encoding="utf-8").rpartition(") ")[2].split()[:2]
                if state == "Z" and int(of) == parent:
                    zombies.append(int(folder.name))
    return zombies
