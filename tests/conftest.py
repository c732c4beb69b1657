"""For all tests: the leak guard, hypothesis settings, and a way to install a third party's plug-in."""
# ruff: noqa: PTH115, PTH208  (os is several times faster than pathlib, and the guard runs around every test)

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# Time limits of single examples fail on busy machines; pytest-timeout limits whole tests.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# The leak guard: after each test no thread, no process and no socket or pipe that was not there before it.
# What fixtures of a wider scope hold is there before; they are looked at after the last test.

PATIENCE = 3.0
"""Seconds that something may take to go away after its test."""

IGNORED_THREADS = (
    "pydevd.",  # a debugger's
    "pytest_timeout",  # the time limit, where it is kept by a thread
)
"""Beginnings of names of threads that belong to tools."""

GUARDED_FILES = ("socket:", "pipe:", "anon_inode:[eventfd]", "anon_inode:[eventpoll]")
"""Kinds of open files that count; a ZeroMQ context holds the last two. pytest itself opens regular ones."""

# Inherited by every process that a test starts: so those are found too whose parent has died before them.
MARK = f"LEAK_GUARD_OF={os.getpid()}"
os.environ["LEAK_GUARD_OF"] = str(os.getpid())

Key = tuple[str, object]

reported: set[Key] = set()
"""Leaks that have failed a test; the look after the last one does not repeat them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What this process owns, and which processes there are."""

    threads: set[threading.Thread]
    native_threads: set[str]
    files: set[tuple[str, str]]
    processes: set[str]

    @classmethod
    def take(cls) -> "Snapshot":
        files: set[tuple[str, str]] = set()
        for number in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{number}")
            except FileNotFoundError:  # that of the listing itself
                continue
            # Standard streams are swapped by pytest, for files of its own.
            if int(number) > 2 and target.startswith(GUARDED_FILES):
                files.add((number, target))
        return cls(
            threads=set(threading.enumerate()),
            native_threads=set(os.listdir("/proc/self/task")),
            files=files,
            processes=set(os.listdir("/proc")),
        )


def find_leaks(before: Snapshot) -> dict[Key, str]:
    """Return what is new since `before`, each with its description."""
    now = Snapshot.take()
    leaks: dict[Key, str] = {}
    for thread in now.threads - before.threads:
        if not thread.name.startswith(IGNORED_THREADS):
            leaks["thread", thread] = f"{thread.name!r}, {'daemon' if thread.daemon else 'not a daemon'}"
    if native := now.native_threads - before.native_threads:
        for tid in native - {str(thread.native_id) for thread in now.threads}:
            leaks["native thread", tid] = f"{tid} ({thread_name(tid)}), as of a ZeroMQ context"
    for number, target in now.files - before.files:
        leaks["open file", (number, target)] = f"{number}: {target}"
    if processes := now.processes - before.processes:
        for pid, command in own_processes({int(name) for name in processes if name.isdecimal()}).items():
            leaks["process", pid] = f"{pid}: {command}"
    return {key: text for key, text in leaks.items() if key not in reported}


def own_processes(candidates: set[int]) -> dict[int, str]:
    """Return those that descend from this process, and their command lines."""
    ours: dict[int, str] = {}
    parents: dict[int, tuple[int, str]] = {}
    for pid in candidates:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name, _, fields = stat.partition("(")[2].rpartition(") ")
            state, parent = fields.split()[:2]
            parents[pid] = int(parent), command.strip() or f"{name}{' (zombie)' if state == 'Z' else ''}"
            if MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                ours[pid] = parents[pid][1]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone meanwhile, or another user's
    # By ancestors too: the environment of a forked child is that with which pytest itself was started.
    for pid in parents:
        ancestor = pid
        while ancestor in parents:
            ancestor = parents[ancestor][0]
            if ancestor == os.getpid() or ancestor in ours:
                ours[pid] = parents[pid][1]
                break
    return ours


def thread_name(tid: str) -> str:
    try:
        return Path(f"/proc/self/task/{tid}/comm").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


def check_leaks(before: Snapshot, *, where: str) -> None:
    """Fail, with the name of each leak, when something new outlives PATIENCE; leaked processes are killed."""
    __tracebackhide__ = True
    if not find_leaks(before):
        return
    gc.collect()  # what only a reference cycle keeps open is not leaked
    deadline = time.monotonic() + PATIENCE
    pause = 0.001
    while leaks := find_leaks(before):
        if time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    else:
        return
    reported.update(leaks)
    # Left alone they would disturb the tests that follow, and outlive the run.
    for kind, pid in leaks:
        if kind == "process" and isinstance(pid, int):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    lines = sorted(f"{kind} {text}" for (kind, _), text in leaks.items())
    pytest.fail("\n  ".join([f"left behind by {where}:", *lines]), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def no_leaks_of_session() -> Iterator[None]:
    """Look after the fixtures of modules and the session."""
    before = Snapshot.take()
    yield
    check_leaks(before, where="a fixture of a module or the session")


@pytest.fixture(autouse=True)
def no_leaks(no_leaks_of_session: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, process, socket or pipe behind."""
    before = Snapshot.take()
    yield
    check_leaks(before, where=request.node.nodeid)


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return `install(group, name, target, source="")`, which makes a package of a third party importable.

    `target` is its entry point, `module:Class`; `source` the text of that module.
    """
    modules: set[str] = set()

    def install(group: str, name: str, target: str, source: str = "", *, package: str = "third-party") -> None:
        site = tmp_path / package
        metadata = site / f"{package.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
        module = target.partition(":")[0]
        modules.add(module)
        if source:
            (site / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(site)

    yield install
    for module in modules:
        sys.modules.pop(module, None)
