"""The parent's handle of one child process."""

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import Protocol

from grav_actors.errors import ReentrantWaitError, WrongProcessError
from grav_actors.supervisor.pipes import MAX_ORDER, encode_frame

TAIL_LINES = 20
TAIL_CHARACTERS = 500


class Overseer(Protocol):
    """What a handle needs of the thread that watches its process."""

    def is_current_thread(self) -> bool:
        """Whether the caller is that thread."""
        ...

    def send_signal(self, child: "ChildProcess", number: int) -> None:
        """Have the fork server send a signal to the child, if it is not reaped."""
        ...

    def give_order(self, child: "ChildProcess", frame: bytes) -> None:
        """Have a frame written to the child, if it takes orders and has not ended."""
        ...


class ChildProcess:
    """A process that a `ProcessHost` has started. All methods may be called from any thread.

    A signal never reaches another process that happens to have got the same number: it goes through a
    descriptor of the process or, where there is none, through the fork server, which knows its children.

    Attributes:
        name: As given to `spawn`.
        pid: Number of the process.
    """

    def __init__(self, name: str, pid: int, pidfd: int | None, overseer: Overseer) -> None:
        self.name = name
        self.pid = pid
        self._overseer = overseer
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._pidfd = pidfd
        self._exitcode: int | None = None
        self._slate = b""
        self._slate_fd: int | None = None
        self._slate_size = 0
        self._memory_fd: int | None = None
        self._done = threading.Event()
        self._tail: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ChildProcess {self.name} pid={self.pid} {self.describe_exit()}>"

    @property
    def exitcode(self) -> int | None:
        """None while the process lives; negative: the number of the signal that ended it."""
        return self._exitcode

    @property
    def stderr_tail(self) -> list[str]:
        """The last 20 lines of its standard error, each cut at 500 characters."""
        return list(self._tail)

    @property
    def slate(self) -> bytes:
        """What stands on its slate, or stood there when it ended."""
        with self._lock:
            if self._slate_fd is not None:
                return os.pread(self._slate_fd, self._slate_size, 0)
            return self._slate

    def slate_part(self, offset: int, size: int) -> bytes:
        """Return a part of what stands on its slate, or stood there; what is behind its end is left out."""
        with self._lock:
            if self._slate_fd is not None:
                return os.pread(self._slate_fd, min(size, max(0, self._slate_size - offset)), offset)
            return self._slate[offset : offset + size]

    def clear_slate_part(self, offset: int, size: int) -> None:
        """Write zeros to a part of its slate, as long as the process lives; the slate does not grow by it."""
        with self._lock:
            if self._slate_fd is not None:
                size = min(size, self._slate_size - offset)
                if size > 0:
                    os.pwrite(self._slate_fd, bytes(size), offset)

    def kept_part(self, offset: int, size: int) -> bytes:
        """Return a part of the memory behind its slate; none any more once `on_exit` has returned."""
        with self._lock:
            if self._memory_fd is None:
                return b""
            return os.pread(self._memory_fd, size, self._slate_size + offset)

    def clear_kept_part(self, offset: int, size: int) -> None:
        """Write zeros to a part of the memory behind its slate, as long as the process lives."""
        with self._lock:
            if self._slate_fd is not None:
                os.pwrite(self._slate_fd, bytes(size), self._slate_size + offset)

    def is_alive(self) -> bool:
        """Whether the process is not known to have ended."""
        return self._exitcode is None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the process has ended and all it has said is delivered; `on_exit` follows.

        Returns:
            Whether that is so, or false when `timeout` seconds have passed.

        Raises:
            ReentrantWaitError: In a callback of the host, which would wait for itself.
            WrongProcessError: After a fork.
        """
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout is {timeout}; it must not be negative")
        self._check_process()
        if not self._done.is_set() and self._overseer.is_current_thread():
            raise ReentrantWaitError("wait() in a callback of the process host waits for itself; use on_exit")
        return self._done.wait(timeout)

    def terminate(self) -> None:
        """Send SIGTERM; nothing happens if the process has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; nothing happens if the process has ended."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to this process, not to those that it has started; nothing if it has ended.

        Raises:
            PermissionError: The process has become another user's.
            ValueError: There is no such signal.
            WrongProcessError: After a fork.
        """
        if number not in signal.valid_signals():
            raise ValueError(f"{number} is no signal of this system")
        self._check_process()
        with self._lock:
            if self._exitcode is not None:
                return
            if self._pidfd is not None and sys.platform == "linux":
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)
                return
        self._overseer.send_signal(self, number)

    def give_order(self, order: object) -> None:
        """Have an order written to a child that takes them; nothing happens if it has ended. Does not wait.

        Args:
            order: What MessagePack can carry.

        Raises:
            TypeError: It cannot.
            ValueError: The order is longer than `MAX_ORDER`.
            WrongProcessError: After a fork.
        """
        frame = encode_frame(order, MAX_ORDER)
        self._check_process()
        self._overseer.give_order(self, frame)

    def describe_exit(self) -> str:
        """Return `running`, `exit code 3` or `signal SIGKILL (9)`."""
        if self._exitcode is None:
            return "running"
        if self._exitcode >= 0:
            return f"exit code {self._exitcode}"
        try:
            return f"signal {signal.Signals(-self._exitcode).name} ({-self._exitcode})"
        except ValueError:
            return f"signal {-self._exitcode}"

    def show_slate(self, descriptor: int, size: int) -> None:
        """Have its slate read from here until it has ended. Called by the overseer, which owns the descriptor.

        Args:
            size: Bytes of the slate; what is behind is read by `kept_part`, until `record_close`.
        """
        self._slate_fd = self._memory_fd = descriptor
        self._slate_size = size

    def record_stderr(self, line: str) -> None:
        """Keep a line for the tail. Called by the overseer."""
        self._tail = (*self._tail, line[:TAIL_CHARACTERS])[-TAIL_LINES:]

    def record_exit(self, code: int, slate: bytes = b"") -> None:
        """Take the exit code and the slate; the process is no more. Called by the overseer."""
        with self._lock:
            self._slate = slate
            self._slate_fd = None
            self._exitcode = code
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None

    def record_close(self) -> None:
        """Read nothing of its memory any more. Called by the overseer, which closes the descriptor then."""
        with self._lock:
            self._slate_fd = self._memory_fd = None

    def record_end(self) -> None:
        """Let those that wait go on: all output is delivered. Called by the overseer."""
        self._done.set()

    def collect_orphan(self, timeout: float) -> int:
        """Wait until the process is gone, without its fork server, and return an exit code for it.

        Called by the overseer, after it has killed the process. Normally init collects such a process, and
        nobody else learns how it ended; a parent that is init itself, as in a container, collects it here.
        """
        code = -int(signal.SIGKILL)
        if self._pidfd is not None and sys.platform == "linux":
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            poller.poll(timeout * 1000)
            with suppress(OSError):
                end = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
                if end is not None:
                    code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        return code

    def _check_process(self) -> None:
        if os.getpid() != self._owner:
            raise WrongProcessError(
                f"process {os.getpid()} was forked from {self._owner}, whose child {self.name} is; "
                "only that one can wait for it or signal it"
            )
