"""What one child says: its pipes are read, cut into lines and reports, and handed to callbacks.

All of it runs in the watcher's thread.
"""

import fcntl
import logging
import os
import struct
import termios
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.pipes import MAX_REPORT, READ_SIZE, FrameBuffer, LineBuffer, StderrTee

DRAIN_LIMIT = 0.5
"""Seconds after the end of a child for which a pipe is read that some other process holds open."""

Stream = Literal["stdout", "stderr"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What is called for each child, in the watcher's thread. An exception is logged, and that is all."""

    on_exit: Callable[[ChildProcess], object]
    on_output: Callable[[ChildProcess, Stream, str], object]
    on_report: Callable[[ChildProcess, dict[str, Any]], object]


def guarded(function: Callable[..., object], *args: object) -> None:
    """Call a function that is not ours."""
    try:
        function(*args)
    except Exception:
        _log.exception("a callback of the process host failed")


class Pipe(ABC):
    """The parent's end of one pipe. Reads 64 KiB at a time: a child that floods it is held up by it."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.is_open = True
        self._owed = 0

    def read(self) -> bool:
        """Read once and deliver. Return false at the end of the stream."""
        try:
            chunk = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            self._owed = 0
            return True
        except OSError:
            return False
        self._owed -= len(chunk)
        return bool(chunk) and self.consume(chunk)

    def writer_ended(self) -> None:
        """Note what is in the pipe now: that much is the child's own and is read in any case."""
        if self.is_open:
            with suppress(OSError):
                (self._owed,) = struct.unpack("i", fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0"))

    def is_drained(self) -> bool:
        """Whether all that the child itself has written was read."""
        return not self.is_open or self._owed <= 0

    def close(self) -> None:
        """Deliver what is left and close."""
        if self.is_open:
            self.is_open = False
            os.close(self.fd)
            self.finish()

    @abstractmethod
    def consume(self, chunk: bytes) -> bool:
        """Take what was read; return false if the stream makes no sense any more."""

    @abstractmethod
    def finish(self) -> None:
        """Take note of the end of the stream."""


class OutputPipe(Pipe):
    """Standard output or error."""

    def __init__(self, fd: int, deliver: Callable[[list[str]], None]) -> None:
        super().__init__(fd)
        self._lines = LineBuffer()
        self._deliver = deliver

    def consume(self, chunk: bytes) -> bool:
        """Deliver the lines that are complete."""
        self._deliver(self._lines.feed(chunk))
        return True

    def finish(self) -> None:
        """Deliver the last line, if it had no end."""
        self._deliver(self._lines.end())


class ReportPipe(Pipe):
    """Reports."""

    def __init__(self, fd: int, deliver: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(fd)
        self._frames = FrameBuffer(MAX_REPORT)
        self._deliver = deliver

    def consume(self, chunk: bytes) -> bool:
        """Deliver the reports that are complete."""
        try:
            reports = self._frames.feed(chunk)
        except ValueError as error:
            _log.warning("reports of a child are not read any more: %s", error)
            return False
        for report in reports:
            if isinstance(report, dict):
                self._deliver(report)
            else:
                _log.warning("a child reported %.100r; a map was expected", report)
        return True

    def finish(self) -> None:
        """Drop a report that was cut short."""


class OrdersPipe:
    """What is still to be written to a child that takes orders; nobody waits for it to read."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.is_open = True
        self._waiting: deque[memoryview] = deque()

    @property
    def wants_write(self) -> bool:
        """Whether something waits for room in the pipe."""
        return self.is_open and bool(self._waiting)

    def add(self, frame: bytes) -> None:
        """Write a frame behind those that wait."""
        if self.is_open:
            self._waiting.append(memoryview(frame))
            self.flush()

    def flush(self) -> bool:
        """Write what fits; return whether nothing is left to write."""
        while self._waiting:
            frame = self._waiting[0]
            try:
                written = os.write(self.fd, frame)
            except BlockingIOError:
                return False
            except OSError:  # it has ended, or has closed its end
                self._waiting.clear()
                return True
            if written < len(frame):
                self._waiting[0] = frame[written:]
            else:
                self._waiting.popleft()
        return True

    def close(self) -> None:
        """Close the pipe; what waits is dropped."""
        if self.is_open:
            self.is_open = False
            self._waiting.clear()
            os.close(self.fd)


class Watch:
    """One child and its pipes, from its start until all it has said is delivered."""

    def __init__(
        self,
        child: ChildProcess,
        callbacks: Callbacks,
        tee: StderrTee | None,
        *,
        stdout: int | None,
        stderr: int,
        report: int,
        slate: int,
        slate_size: int,
        orders: int | None,
    ) -> None:
        self.child = child
        self.deadline: float | None = None
        self._callbacks = callbacks
        self._tee = tee
        self._slate = slate
        self._slate_size = slate_size
        self.orders = OrdersPipe(orders) if orders is not None else None
        child.show_slate(slate, slate_size)
        self.pipes: list[Pipe] = [OutputPipe(stderr, self._stderr), ReportPipe(report, self._report)]
        if stdout is not None:
            self.pipes.append(OutputPipe(stdout, self._stdout))

    def exited(self, code: int, now: float) -> None:
        """Take the exit code; from now on the pipes are only drained."""
        for pipe in self.pipes:
            pipe.writer_ended()
        self.deadline = now + DRAIN_LIMIT
        self.child.record_exit(code, os.pread(self._slate, self._slate_size, 0))

    def is_over(self, now: float) -> bool:
        """Whether the child has ended and its pipes have, or have had their time."""
        if self.deadline is None:
            return False
        if now < self.deadline:
            return not any(pipe.is_open for pipe in self.pipes)
        return all(pipe.is_drained() for pipe in self.pipes)

    def finish(self) -> None:
        """Say that the child has ended; its pipes are closed."""
        self.child.record_end()
        guarded(self._callbacks.on_exit, self.child)
        self.child.record_close()
        os.close(self._slate)

    def _stdout(self, lines: list[str]) -> None:
        for line in lines:
            guarded(self._callbacks.on_output, self.child, "stdout", line)

    def _stderr(self, lines: list[str]) -> None:
        if lines and self._tee is not None:
            self._tee.write(lines)
        for line in lines:
            self.child.record_stderr(line)
            guarded(self._callbacks.on_output, self.child, "stderr", line)

    def _report(self, report: dict[str, Any]) -> None:
        guarded(self._callbacks.on_report, self.child, report)
