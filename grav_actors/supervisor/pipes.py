"""What travels through the pipes between a parent and its children: frames, lines of text, payloads.

Nothing here waits or starts a thread; `StderrTee` alone may hold its caller up, for a tenth of a second.
"""

import os
import select
import struct
import sys
import tempfile
from typing import Any

import msgpack

MAX_LINE = 64 * 1024
"""Bytes of one line of output that are kept; what is longer is cut, and says so."""

MAX_REPORT = 1024 * 1024
"""Bytes of one report."""

MAX_ORDER = 64 * 1024 * 1024
"""Bytes of one order to a child."""

READ_SIZE = 64 * 1024

_LENGTH = struct.Struct(">I")


def encode_frame(content: object, limit: int) -> bytes:
    """Return `content` as MessagePack behind its length in four bytes.

    Raises:
        TypeError: MessagePack cannot carry the content.
        ValueError: It is longer than `limit`, nested too deep, or an int too large.
    """
    try:
        # Paths and environments may hold bytes that are no UTF-8; Python carries them as surrogates.
        body: bytes = msgpack.Packer(unicode_errors="surrogateescape").pack(content)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    if len(body) > limit:
        raise ValueError(f"a frame of {len(body)} bytes; at most {limit} are allowed")
    return _LENGTH.pack(len(body)) + body


class FrameBuffer:
    """Cut a stream of bytes into the frames that `encode_frame` made.

    Holds at most one unfinished frame of `limit` bytes and what was fed last.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> list[Any]:
        """Take bytes, return the frames that are complete.

        Raises:
            ValueError: The bytes are no frames, or one is above the limit; the stream cannot be read further.
        """
        pending = self._pending
        pending += chunk
        frames: list[Any] = []
        start = 0
        while len(pending) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(pending, start)
            if length > self._limit:
                raise ValueError(f"a frame of {length} bytes; at most {self._limit} are allowed")
            end = start + _LENGTH.size + length
            if len(pending) < end:
                break
            body = bytes(pending[start + _LENGTH.size : end])
            frames.append(msgpack.unpackb(body, unicode_errors="surrogateescape"))
            start = end
        del pending[:start]
        return frames


class LineBuffer:
    """Cut a stream of bytes into lines of text.

    A line ends at a line feed or with the stream. At most `MAX_LINE` bytes of it are kept; the line then ends
    with the number of bytes that are missing. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._missing = 0

    def feed(self, chunk: bytes) -> list[str]:
        """Take bytes, return the lines that are complete, without their ends."""
        *whole, rest = chunk.split(b"\n")
        lines = [self._complete(piece) for piece in whole]
        self._add(rest)
        return lines

    def end(self) -> list[str]:
        """Return the last line if it had no end, and forget it."""
        return [self._complete(b"")] if self._head else []

    def _complete(self, piece: bytes) -> str:
        self._add(piece)
        text = self._head.decode("utf-8", "replace")
        if self._missing:
            text += f" [cut: {self._missing} more bytes]"
        else:
            text = text.removesuffix("\r")
        self._head.clear()
        self._missing = 0
        return text

    def _add(self, piece: bytes) -> None:
        room = MAX_LINE - len(self._head)
        self._head += piece[:room]
        self._missing += max(0, len(piece) - room)


class StderrTee:
    """Write lines to this process's own standard error without being held up by it.

    A terminal that is paused or a pipe that nobody reads would otherwise stop whoever watches the children.
    After a tenth of a second the rest is dropped; the number of bytes is written once there is room again.
    """

    PATIENCE = 0.1

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            # Without a standard error since its start, this process has some other file under the number.
            fd = -1 if sys.__stderr__ is None else 2
        self._fd = fd
        self.dropped = 0

    def write(self, lines: list[str]) -> None:
        """Write each line and a line feed. Never raises."""
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        if self.dropped:
            note = f"[{self.dropped} bytes of stderr were dropped: nobody was reading]\n".encode()
            # No patience twice: as long as nobody reads, each line would cost a tenth of a second.
            if self._put(note, 0.0):
                self.dropped += len(data)
                return
            self.dropped = 0
        self.dropped += self._put(data, self.PATIENCE)

    def _put(self, data: bytes, patience: float) -> int:
        """Return how many bytes could not be written."""
        rest = memoryview(data)
        try:
            # "Writable" promises room for PIPE_BUF bytes; one more may block.
            while rest and select.select([], [self._fd], [], patience)[1]:
                rest = rest[os.write(self._fd, rest[: select.PIPE_BUF]) :]
        except (OSError, ValueError):  # closed, or its reader is gone
            pass
        return len(rest)


def slate_file(size: int) -> int:
    """Return a descriptor of memory that two processes can share: so many zeros, at least one.

    Raises:
        OSError: No descriptor or no memory is left.
    """
    fd = _anonymous_file("grav-actors-slate")
    try:
        os.ftruncate(fd, max(size, 1))
    except OSError:
        os.close(fd)
        raise
    return fd


def payload_file(payload: bytes) -> int:
    """Return a descriptor from which the payload can be read, all of it, without the writer's help.

    A pipe would hold the writer up until the child has read, an anonymous file does not.

    Raises:
        OSError: No descriptor or no memory is left.
    """
    fd = _anonymous_file("grav-actors-payload")
    try:
        rest = memoryview(payload)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def _anonymous_file(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
