"""Tunnels: one message to one of the peers that offer a capability, in turn, acknowledged. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

TRY_AFTER = 1.0
"""Seconds without an acknowledgement after which the next peer is tried."""
REMEMBERED = 4096
"""Tunnels of a peer whose numbers are remembered, so that a repeated frame is not published twice."""


@dataclass(slots=True)
class Attempt:
    """A tunnel that is not acknowledged yet.

    Attributes:
        tried: Uuids of the peers that were asked, in order.
        asked_at: When the last of them was.
        deadline: When nobody is waited for any more.
    """

    number: int
    capability: str
    meta: bytes
    body: bytes
    deadline: float
    tried: list[str] = field(default_factory=list[str])
    asked_at: float = float("-inf")


class Tunnels:
    """The tunnels that this node has begun, and whose turn it is for each capability."""

    def __init__(self) -> None:
        self._open: dict[int, Attempt] = {}
        self._next = 1
        self._turn: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, capability: str, meta: bytes, body: bytes, deadline: float) -> Attempt:
        """Return a new attempt, which has asked nobody yet."""
        attempt = Attempt(self._next, capability, meta, body, deadline)
        self._next += 1
        self._open[attempt.number] = attempt
        return attempt

    def choose(self, attempt: Attempt, candidates: Sequence[str], now: float) -> str | None:
        """Return the next peer to ask, and note it; None when all candidates were asked.

        Args:
            candidates: Uuids of the peers that offer the capability now, in a lasting order.
        """
        last = self._turn.get(attempt.capability, "")
        # In turn: those behind the one that was asked last, then from the beginning.
        for uuid in (*(each for each in candidates if each > last), *(each for each in candidates if each <= last)):
            if uuid not in attempt.tried:
                attempt.tried.append(uuid)
                attempt.asked_at = now
                self._turn[attempt.capability] = uuid
                return uuid
        return None

    def acknowledged(self, number: int) -> Attempt | None:
        """Return the attempt that is over by that; None when it was over already."""
        return self._open.pop(number, None)

    def impatient(self, now: float) -> list[Attempt]:
        """Return those that wait for longer than `TRY_AFTER`."""
        return [attempt for attempt in self._open.values() if now - attempt.asked_at >= TRY_AFTER]

    def expired(self, now: float) -> list[Attempt]:
        """Return those whose time is over, and forget them."""
        over = [attempt for attempt in self._open.values() if attempt.deadline <= now]
        for attempt in over:
            del self._open[attempt.number]
        return over

    def waiting_for(self, uuid: str) -> list[Attempt]:
        """Return those that wait for this peer; it is gone."""
        return [attempt for attempt in self._open.values() if attempt.tried and attempt.tried[-1] == uuid]


class Arrived:
    """The numbers of the tunnels that came from one incarnation."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[int, None] = {}

    def is_new(self, number: int) -> bool:
        """Note a number; false when it had come before."""
        if number in self._numbers:
            return False
        self._numbers[number] = None
        if len(self._numbers) > REMEMBERED:
            del self._numbers[next(iter(self._numbers))]
        return True
