"""The dead letters: messages that nobody handled, with the reason."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterator
from dataclasses import dataclass

from grav_actors.bus.run import Delivery, Run
from grav_actors.codec import record_ids, slice_body
from grav_actors.errors import MessageDecodeError
from grav_actors.ids import id_text

SHELF_MESSAGES = 1000
SHELF_BYTES = 16 * 1024 * 1024

REASONS = (
    "max_deliver", "crashed", "rejected", "overflow", "pod_lost", "no_responders", "expired", "pod_unhealthy",
    "stopping",
)  # fmt: skip


@dataclass(slots=True)
class DeadLetter:
    """A delivery that ended here.

    Attributes:
        reason: One of `REASONS`.
        target: Name of the receiver, or its uuid text when it has none; of a group's mailbox the group.
        attempts: Failures charged to it.
        error: What the last handler raised, or "".
        group: The group through which it came, or "".
        buried_at: Time of the bus, in seconds.
        number: Of its first message among all dead letters of this bus, from 1; the shelf gives it.
    """

    delivery: Delivery
    reason: str
    target: str
    attempts: int
    error: str
    group: str = ""
    buried_at: float = 0.0
    number: int = 0

    @property
    def uuid(self) -> str:
        """Uuid text of its only message; "" if that is garbled. For letters of `Shelf.singles`."""
        return _uuid(self.delivery.run)


class Shelf:
    """The last 1,000 dead letters, at most 16 MiB; the oldest go first and stay counted.

    It holds deliveries as they came, so that a flood costs little; whoever looks at it has them cut into single
    messages.

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
        """Keep a dead letter, and number it."""
        count = letter.delivery.count
        letter.number = self.counts.total() + 1
        self.counts[letter.reason] += count
        if letter.delivery.count * 2 <= letter.delivery.run.count:
            # Else a few messages would keep the whole run in memory, and fill the shelf with it.
            letter.delivery = _cut(letter.delivery)
        self._letters.append(letter)
        self._messages += count
        self._bytes += letter.delivery.run.size
        while self._letters and (self._messages > SHELF_MESSAGES or self._bytes > SHELF_BYTES):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        letter = self._letters[0]
        delivery = letter.delivery
        excess = self._messages - SHELF_MESSAGES
        if 0 < excess < delivery.count:
            delivery.lo += excess
            letter.number += excess
        else:
            excess = delivery.count
            self._letters.popleft()
            self._bytes -= delivery.run.size
        self._messages -= excess
        self.dropped += excess

    def letters(self) -> list[DeadLetter]:
        """Return what is kept, oldest first."""
        return list(self._letters)

    def singles(self) -> list[DeadLetter]:
        """Return what is kept, oldest first, after cutting it into letters of one message each.

        What cannot be cut, as it is not what its header said, leaves the shelf and counts as dropped.
        """
        if any(letter.delivery.run.count > 1 for letter in self._letters):
            letters = deque(single for letter in self._letters for single in _singles(letter))
            self.dropped += self._messages - len(letters)
            self._keep(letters)
        return list(self._letters)

    def remove(self, numbers: Container[int]) -> None:
        """Forget single letters by their numbers."""
        self._keep(deque(letter for letter in self._letters if letter.number not in numbers))

    def _keep(self, letters: deque[DeadLetter]) -> None:
        self._letters = letters
        self._messages = sum(letter.delivery.count for letter in letters)
        self._bytes = sum(letter.delivery.run.size for letter in letters)


def _cut(delivery: Delivery) -> Delivery:
    """Return a delivery of the same messages in a run of their own; the same one if they cannot be cut out."""
    run = delivery.run
    try:
        body = slice_body(bytes(run.body), run.offsets(), delivery.lo, delivery.hi)
    except MessageDecodeError:
        return delivery
    own = Run(run.sender, run.seq + delivery.lo, run.kind, run.type, delivery.count, body, len(body), run.dest)
    cut = Delivery(own, 0, delivery.count, delivery.flags, delivery.attempt)
    cut.group = delivery.group
    return cut


def _singles(letter: DeadLetter) -> Iterator[DeadLetter]:
    delivery = letter.delivery
    if delivery.run.count == 1:
        yield letter
        return
    try:
        delivery.run.offsets()
    except MessageDecodeError:
        return
    for index in range(delivery.lo, delivery.hi):
        yield DeadLetter(
            _cut(delivery.piece(index, index + 1)), letter.reason, letter.target, letter.attempts, letter.error,
            letter.group, letter.buried_at, letter.number + index - delivery.lo,
        )  # fmt: skip


def _uuid(run: Run) -> str:
    try:
        return id_text(record_ids(bytes(run.body), 1)[0])
    except MessageDecodeError:
        return ""
