"""The dead letters: messages that nobody handled, with the reason."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grav_actors.bus.run import Delivery

SHELF_MESSAGES = 1000
SHELF_BYTES = 16 * 1024 * 1024

REASONS = (
    "max_deliver", "crashed", "rejected", "overflow", "pod_lost", "no_responders", "expired", "pod_unhealthy",
    "stopping",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that ended here.

    Attributes:
        reason: One of `REASONS`.
        target: Name of the receiver, or its uuid text when it has none.
        attempts: Failures charged to it.
        error: What the last handler raised, or "".
    """

    delivery: Delivery
    reason: str
    target: str
    attempts: int
    error: str


class Shelf:
    """The last 1,000 dead letters, at most 16 MiB; the oldest go first and stay counted.

    Attributes:
        counts: Messages that ever came here, by reason.
        dropped: Messages that had to leave for newer ones.
    """

    __slots__ = ("_bytes", "_letters", "_messages", "counts", "dropped")

    def __init__(self) -> None:
        self._letters: deque[DeadLetter] = deque()
        self._messages = 0
        self._bytes = 0
        self.counts: Counter[str] = Counter()
        self.dropped = 0

    def __len__(self) -> int:
        return self._messages

    def add(self, letter: DeadLetter) -> None:
        """Keep a dead letter."""
        count = letter.delivery.count
        self.counts[letter.reason] += count
        self._letters.append(letter)
        self._messages += count
        self._bytes += letter.delivery.run.size
        while self._letters and (self._messages > SHELF_MESSAGES or self._bytes > SHELF_BYTES):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        delivery = self._letters[0].delivery
        excess = self._messages - SHELF_MESSAGES
        if 0 < excess < delivery.count:
            delivery.lo += excess
        else:
            excess = delivery.count
            self._letters.popleft()
            self._bytes -= delivery.run.size
        self._messages -= excess
        self.dropped += excess

    def letters(self) -> list[DeadLetter]:
        """Return what is kept, oldest first."""
        return list(self._letters)
