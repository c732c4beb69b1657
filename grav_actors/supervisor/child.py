"""What a new process does between the fork and the end: becomes its own, runs its entry, ends.

All of it runs in the child, in its main thread. An entry is a function

    entry(payload: bytes, report: Callable[[dict[str, Any]], None], slate: mmap.mmap) -> None

`report` writes one map of plain MessagePack values to the parent. It may be called from any thread; it waits
while the parent is slow to read, and does nothing once the parent is gone, or in a process that was forked
from this one. It raises TypeError or ValueError for what MessagePack cannot carry or is above `MAX_REPORT`.
`slate` is memory, zeros at first, that the parent reads when this process has ended, however it has.
One that takes orders has a fourth argument: the descriptor of a pipe on which they come, in frames of pipes.py.
"""

import atexit
import ctypes
import faulthandler
import functools
import gc
import importlib
import operator
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from mmap import mmap
from typing import Any, NoReturn

from grav_actors.supervisor.pipes import MAX_REPORT, encode_frame

Report = Callable[[dict[str, Any]], None]
Entry = Callable[..., object]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_FD_CEILING = 65536  # where closing all descriptors means trying each one


@dataclass(frozen=True, slots=True)
class Job:
    """What one child shall run, and the descriptors that are its own."""

    parent: int
    payload_fd: int
    stdout_fd: int
    stderr_fd: int
    report_fd: int
    slate_fd: int
    orders_fd: int | None
    name: str
    entry: str
    path: list[str]
    cwd: str | None
    environment: dict[str, str]


@functools.cache
def _prctl() -> Callable[[int, Any], int] | None:
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None, use_errno=True)
        return lambda option, value: int(library.prctl(option, value, 0, 0, 0))
    except (OSError, AttributeError):
        return None


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, and end at once if it has already ended.

    It is the thread that made this process whose end counts. Does nothing where the kernel cannot do it.
    """
    prctl = _prctl()
    if prctl is None:
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run(job: Job) -> NoReturn:
    """Run a job in this freshly forked process, whose signals are blocked, and end the process."""
    code = 1
    try:
        report = _settle(job)
        with os.fdopen(job.payload_fd, "rb") as file:
            payload = file.read()
        with os.fdopen(job.slate_fd, "r+b") as file:
            slate = mmap(file.fileno(), 0)
        _load(job.entry)(payload, report, slate, *_orders(job))
        code = 0
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code)


def _orders(job: Job) -> tuple[int, ...]:
    return () if job.orders_fd is None else (job.orders_fd,)


def _settle(job: Job) -> Report:
    """Give up all that belongs to the server, take what is this child's own."""
    with suppress(OSError):  # the server does it too; whoever is first
        os.setpgid(0, 0)
    _reset_signals()
    die_with(job.parent)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(job.stdout_fd, 1)
    os.dup2(job.stderr_fd, 2)
    _close_all_but(job.payload_fd, job.report_fd, job.slate_fd, *_orders(job))
    _open_streams()
    if prctl := _prctl():
        prctl(_PR_SET_NAME, ctypes.c_char_p(f"actor:{job.name}".encode()[:15]))
    if dict(os.environ) != job.environment:
        os.environ.clear()
        os.environ.update(job.environment)
    if job.cwd is not None:
        try:
            os.chdir(job.cwd)
        except OSError as error:
            sys.stderr.write(f"working directory of the parent: {error}\n")
    sys.path[:] = job.path
    sys.argv[:] = [job.name]
    importlib.invalidate_caches()  # folders may have come into being since the server looked
    gc.enable()
    return _reporter(job.report_fd)


def _reset_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        wanted: Any = signal.SIG_DFL
        if number == signal.SIGINT:
            wanted = signal.default_int_handler
        elif number in (signal.SIGPIPE, signal.SIGXFSZ):
            wanted = signal.SIG_IGN  # as in any Python process
        elif number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup: meant for everything below
        if signal.getsignal(number) != wanted:
            signal.signal(number, wanted)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close_all_but(*own: int) -> None:
    start = 3
    for fd in sorted(own):
        os.closerange(start, fd)
        start = fd + 1
    try:
        limit = os.sysconf("SC_OPEN_MAX")
    except (ValueError, OSError):
        limit = _FD_CEILING
    # Linux closes a range in one step; elsewhere a high limit would mean a million calls.
    os.closerange(start, limit if sys.platform == "linux" and limit > 0 else _FD_CEILING)


def _open_streams() -> None:
    # The server's stream objects never own their descriptors, so that forgetting them closes nothing.
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _text_stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(2)  # type: ignore[misc]
    # The thread that has met the fault is what matters: all of them are more than the tail of a crash report.
    faulthandler.enable(2, all_threads=False)


def _text_stream(fd: int) -> TextIOWrapper:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _reporter(fd: int) -> Report:
    owner = os.getpid()
    lock = threading.Lock()

    def report(content: dict[str, Any]) -> None:
        frame = memoryview(encode_frame(content, MAX_REPORT))
        if os.getpid() != owner:
            return
        with lock, suppress(OSError):
            while frame:
                frame = frame[os.write(fd, frame) :]

    return report


def _load(entry: str) -> Entry:
    module, _, name = entry.partition(":")
    found: Entry = operator.attrgetter(name)(importlib.import_module(module))
    return found


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _end(code: int) -> NoReturn:
    """End as the interpreter would, up to the point where daemon threads could hold it up or crash."""
    try:
        _guarded(threading._shutdown)  # type: ignore[attr-defined]
        _guarded(atexit._run_exitfuncs)
        for stream in (sys.stdout, sys.stderr):
            _guarded(stream.flush)
    finally:
        os._exit(code)


def _guarded(step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException:
        with suppress(Exception):
            traceback.print_exc()
