"""The journal of a project's node: what its actors wrote, what the node logged, what happened to the actors.

Two files in the run folder, `journal` and the one before it, `journal.1`; each is begun anew when it would have more
than `LIMIT` bytes. They stay when the node ends, however it ends, and the next `up` goes on with them. Each entry is a
line of four fields with tabs between them: seconds since 1970, who, stream, text. Streams are `stdout`, `stderr`, `log`
(of the node) and `event` (a line of its own for each line of a crash report).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

JOURNAL = "journal"
OLD_JOURNAL = "journal.1"
LIMIT = 4 * 1024 * 1024
"""Bytes of one of the two files."""
READ_SIZE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
        time: Seconds since 1970.
        name: The actor, or `grav` for the node.
    """

    time: float
    name: str
    stream: str
    text: str


class Journal:
    """Writes entries; any thread may. Each is in the file when `write` returns.

    Args:
        folder: The run folder.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._path = folder / JOURNAL
        self._old_path = folder / OLD_JOURNAL
        self._limit = limit
        self._lock = threading.Lock()
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self.lost = 0

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)

    def write(self, name: str, stream: str, text: str) -> None:
        """Add the lines of a text. What cannot be written (no room is left, say) is counted in `lost`."""
        now = time.time()
        lines = "".join(f"{now:.6f}\t{name}\t{stream}\t{line}\n" for line in text.split("\n"))
        data = lines.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._fd < 0:
                return
            try:
                if self._size + len(data) > self._limit and self._size:
                    self._begin_anew()
                # Whole or not at all, as far as the system lets it: nobody else writes here.
                self._size += os.write(self._fd, data)
            except OSError:
                self.lost += 1

    def _begin_anew(self) -> None:
        self._path.replace(self._old_path)
        os.close(self._fd)
        self._fd = -1
        self._fd = self._open()
        self._size = 0

    def close(self) -> None:
        """Write nothing more. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class Reader:
    """Reads the journal of a run folder from its beginning, and what is added later."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._fd = -1
        self._rest = b""
        self._older: Path | None = folder / OLD_JOURNAL

    def entries(self) -> Iterator[Entry]:
        """Yield what has not been read yet."""
        while True:
            if self._fd < 0:
                try:
                    self._fd = _open_to_read(self._path)
                except FileNotFoundError:
                    return
            yield from self._read_older()
            yield from self._read_to_end()
            if not self._was_replaced():
                return
            yield from self._read_to_end()  # what was written before it was replaced
            self.close()

    def _read_older(self) -> Iterator[Entry]:
        """Read the file before the one that is open now, once."""
        path, self._older = self._older, None
        if path is None:
            return
        with suppress(FileNotFoundError), open(_open_to_read(path), "rb") as file:
            if os.fstat(file.fileno()).st_ino != os.fstat(self._fd).st_ino:  # else it has become the older one just now
                yield from self._parse(file.read() + b"\n")
                self._rest = b""

    def _read_to_end(self) -> Iterator[Entry]:
        while chunk := os.read(self._fd, READ_SIZE):
            yield from self._parse(self._rest + chunk)

    def _parse(self, data: bytes) -> Iterator[Entry]:
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            entry = parse_entry(line)
            if entry is not None:
                yield entry

    def _was_replaced(self) -> bool:
        """Return whether another file has the name now."""
        try:
            return self._path.stat().st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file; what is read next begins with the present one."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._rest = -1, b""


def _open_to_read(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def parse_entry(line: bytes) -> Entry | None:
    """Return the entry that a line holds; None if it is none, as when a disk was full in the middle of it."""
    when, *fields = line.decode("utf-8", "replace").split("\t", 3)
    if len(fields) != 3:
        return None
    try:
        return Entry(float(when), *fields)
    except ValueError:
        return None
