"""The replay ring: the last published messages, for pods that come later."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grav_actors.bus.run import Run

RING_BYTES = 64 * 1024 * 1024


class ReplayRing:
    """The last `limit` messages, at most 64 MiB; the oldest go first.

    It holds runs. Where its edge falls within a run, it remembers how many messages of it are too old.
    """

    __slots__ = ("_bytes", "_messages", "_runs", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._runs: deque[tuple[Run, int]] = deque()
        self._messages = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._messages

    def push(self, run: Run) -> None:
        """Add a published run."""
        if self.limit == 0:
            return
        runs = self._runs
        runs.append((run, 0))
        self._messages += run.count
        self._bytes += run.size
        while self._messages > self.limit or self._bytes > RING_BYTES:
            oldest, skipped = runs[0]
            left = oldest.count - skipped
            excess = self._messages - self.limit
            if excess < left and self._bytes <= RING_BYTES:
                runs[0] = (oldest, skipped + excess)
                self._messages = self.limit
            else:
                runs.popleft()
                self._messages -= left
                self._bytes -= oldest.size

    def __iter__(self) -> Iterator[tuple[Run, int]]:
        """Yield each run with the index of its first message that is still held, oldest first."""
        return iter(self._runs)
