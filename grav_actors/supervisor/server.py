"""The fork server as its parent sees it: a process, a channel, what was asked and who was started."""

import fcntl
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from grav_actors.supervisor.channel import Channel
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.pipes import payload_file, slate_file
from grav_actors.supervisor.watch import Watch

# The parent's sys.path comes as arguments: what it could import, this package included, the server can too.
_PROGRAM = """import sys; sys.path[:] = sys.argv[4:]
from grav_actors.supervisor.forkserver import main; main()"""


@dataclass(slots=True, eq=False)
class Order:
    """One child that somebody wants and waits for."""

    name: str
    request: dict[str, object]
    payload: bytes
    capture: bool
    slate_size: int
    kept_size: int
    takes_orders: bool
    answered: threading.Event = field(default_factory=threading.Event)
    child: ChildProcess | None = None
    error: str = ""
    lost: bool = False
    """The server ended before it answered: nothing runs, so the order may be given again."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fulfil(self, child: ChildProcess) -> None:
        """Hand over the child; kill it if nobody waits for it any more."""
        with self._lock:
            if not self.answered.is_set():
                self.child = child
                self.answered.set()
                return
        child.kill()

    def fail(self, reason: str, *, lost: bool = False) -> None:
        """Say that there will be no child, unless there is one."""
        with self._lock:
            if not self.answered.is_set():
                self.error, self.lost = reason, lost
                self.answered.set()

    def abandon(self) -> None:
        """Want no child any more: one that comes, or has come just now, is killed."""
        self.fail("not wanted any more")
        if self.child is not None:
            self.child.kill()


@dataclass(slots=True)
class Pending:
    """An order at the server, with the parent's ends of the pipes, and the slate."""

    order: Order
    stdout: int | None
    stderr: int
    report: int
    slate: int
    orders: int | None

    def close(self) -> None:
        """Close the pipes and the slate."""
        for fd in (self.stdout, self.stderr, self.report, self.slate, self.orders):
            if fd is not None:
                os.close(fd)


class Server:
    """A running fork server. Used by the watcher's thread, which also makes it.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self, preload: str) -> None:
        ours, theirs = socket.socketpair()
        # Above the standard streams, which the server's own replace.
        fd = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)
        theirs.close()
        arguments = [str(fd), str(os.getpid()), preload, *importable_path()]
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        try:
            self.process = subprocess.Popen(
                [sys.executable, *flags, "-c", _PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(fd,),
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(fd)
        self.channel = Channel(ours)
        self.pending: dict[int, Pending] = {}
        self.watches: dict[int, Watch] = {}
        self._last = 0

    def request(self, order: Order) -> None:
        """Send an order to the server.

        Raises:
            OSError: No descriptors or memory are left.
            ValueError, TypeError: The request cannot be encoded.
        """
        opened: list[int] = []
        try:
            payload = _kept(opened, payload_file(order.payload))
            stdout = None
            if order.capture:
                stdout, stdout_end = _pipe(opened)
            else:
                stdout_end = _kept(opened, _own_stdout())
            stderr, stderr_end = _pipe(opened)
            report, report_end = _pipe(opened)
            slate = _kept(opened, slate_file(order.slate_size + order.kept_size))
            slate_end = _kept(opened, os.dup(slate))
            self._last += 1
            ends = [payload, stdout_end, stderr_end, report_end, slate_end]
            orders = None
            if order.takes_orders:
                orders_end, orders = _pipe(opened)
                ends.append(orders_end)
            self.channel.send(["spawn", self._last, {**order.request, "takes_orders": order.takes_orders}], ends)
        except (OSError, ValueError, TypeError):
            for fd in opened:
                os.close(fd)
            raise
        self.pending[self._last] = Pending(order, stdout, stderr, report, slate, orders)

    def stop(self, timeout: float) -> int | None:
        """Close the channel and kill the process, if it runs. Return its exit code, None if it hangs."""
        self.channel.close()
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        for pending in self.pending.values():
            pending.close()
            pending.order.fail("the fork server has ended", lost=True)
        self.pending.clear()
        return self.process.returncode


def importable_path() -> list[str]:
    """Return sys.path without what is no text, which the import system ignores too."""
    entries: list[object] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]


def _kept(opened: list[int], fd: int) -> int:
    opened.append(fd)
    return fd


def _pipe(opened: list[int]) -> tuple[int, int]:
    ends = os.pipe()
    opened += ends
    return ends


def _own_stdout() -> int:
    # Without a standard output since its start, this process has some other file under the number.
    return os.open(os.devnull, os.O_WRONLY) if sys.__stdout__ is None else os.dup(1)
