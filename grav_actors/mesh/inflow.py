"""What comes from one incarnation of a peer: each message once, in order, or in an announced gap. Pure."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from operator import attrgetter

from grav_actors.mesh.frames import Repaired

HELD_BYTES = 64 * 1024 * 1024
"""Bytes of runs that wait behind a gap; what comes on top is let go, and fetched when its turn comes."""
HELD_OVERHEAD = 256
"""Bytes that a held run counts for beside its body."""
GAP_PATIENCE = 5.0
"""Seconds of a working link without progress after which a gap is announced instead of repaired."""
REPAIR_PATIENCE = 0.5
"""Seconds after which an unanswered repair is asked for again."""
MAX_HOLES = 64
"""Ranges that one repair asks for."""

UNKNOWN_COUNT = -1
"""Count of a gap of which nobody can know how many messages it has."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A run as it came, on this node's own track."""

    tseq: int
    type: str
    count: int
    meta: bytes
    body: bytes

    @property
    def end(self) -> int:
        """Number of its last message."""
        return self.tseq + self.count - 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that will never come; UNKNOWN_COUNT when nobody can know how many."""

    count: int


class Inflow:
    """The order of what comes on one track.

    Attributes:
        track: The track on which the peer numbers what it sends here; 0 while that is not known.
        got: Everything up to this number was delivered or announced as a gap.
        last: The highest number that is known to be sent.
        out: What is to be delivered and announced, in order; the owner takes it out.
        duplicates: Messages that came once more.
        refetched: Messages that were let go for want of room, and are fetched later.
    """

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._limit = limit
        self._held: list[Arrival] = []
        self._held_bytes = 0
        self._stalled = 0.0
        self._asked_at: float | None = None
        self.track = 0
        self.got = 0
        self.last = 0
        self.out: list[Arrival | Gap] = []
        self.duplicates = 0
        self.refetched = 0
        self._told = (0, 0)  # track, and what was said of it

    # Input

    def enter(self, track: int, sent: int) -> bool:
        """Note the track and how far it has come; false when that is the news of an earlier track.

        A peer that has forgotten this node numbers on a new track. What was sent between the two nobody knows.
        """
        if track < self.track:
            return False
        if track > self.track:
            if self.track:
                self.end(knows_all=False)
            self.track, self.got, self.last = track, 0, 0
            self._asked_at = None
        self.last = max(self.last, sent)
        return True

    def receive(self, track: int, arrival: Arrival) -> None:
        """Take a run: deliver it, hold it behind a gap, or drop it as known."""
        if not self.enter(track, arrival.end):
            self.duplicates += arrival.count
            return
        if arrival.tseq == self.got + 1:
            self._advance(arrival)
            if self._held:
                self._drain()
        elif arrival.tseq <= self.got:
            self.duplicates += arrival.count
        else:
            self._hold(arrival)

    def repaired(self, answer: Repaired, body: bytes) -> None:
        """Take the answer to a repair: what is still there, and up to where nothing is."""
        if answer.track != self.track:
            return
        before = self.got
        if answer.floor > self.got + 1:
            self._abandon(min(answer.floor - 1, self.last))
        offset = 0
        for tseq, type_, count, size, meta in answer.runs:
            self.receive(answer.track, Arrival(tseq, type_, count, meta, body[offset : offset + size]))
            offset += size
        if self.got > before:
            self._asked_at = None  # else it is no use to ask again at once

    def pass_time(self, seconds: float, *, is_up: bool) -> None:
        """Let time pass; only that of a working link counts against a gap."""
        if not self.is_whole() and is_up:
            self._stalled += seconds
            if self._stalled >= GAP_PATIENCE:
                self._abandon(self._hole_end())

    def acknowledged(self, *, is_held_back: bool) -> int:
        """Return how far to tell the peer that all has come: not further than before while that is held back."""
        if not is_held_back or self._told[0] != self.track:
            self._told = (self.track, self.got)
        return self._told[1]

    def end(self, *, knows_all: bool) -> None:
        """Close: nothing more will come. What is held is delivered, what is missing announced.

        Args:
            knows_all: False when the peer may have sent what this node has never heard of: then one gap of
                unknown count stands for that too, at the end.
        """
        self._abandon(self.last)
        if not knows_all:
            self.out.append(Gap(UNKNOWN_COUNT))

    # Questions

    def is_whole(self) -> bool:
        """Tell whether everything that is known to be sent has come."""
        return self.got >= self.last

    def repair(self, now: float) -> tuple[tuple[int, int], ...]:
        """Return the ranges to ask for now, at most 64; none when that is not due."""
        if self.is_whole() or (self._asked_at is not None and now - self._asked_at < REPAIR_PATIENCE):
            return ()
        self._asked_at = now
        holes: list[tuple[int, int]] = []
        following = self.got + 1
        for arrival in self._held:
            if arrival.tseq > following:
                holes.append((following, arrival.tseq - 1))
                if len(holes) == MAX_HOLES:
                    return tuple(holes)
            following = arrival.end + 1
        if following <= self.last:
            holes.append((following, self.last))
        return tuple(holes)

    def forget_repair(self) -> None:
        """Ask again at once: the answer was lost with its link."""
        self._asked_at = None

    def _hole_end(self) -> int:
        """Return the last number that is missing in one piece from the first on."""
        return self._held[0].tseq - 1 if self._held else self.last

    # Moving on

    def _advance(self, arrival: Arrival) -> None:
        self.out.append(arrival)
        self.got = arrival.end
        self._stalled = 0.0

    def _drain(self) -> None:
        taken = 0
        for arrival in self._held:
            if arrival.tseq > self.got + 1:
                break
            taken += 1
            self._held_bytes -= len(arrival.body) + HELD_OVERHEAD
            if arrival.tseq == self.got + 1:
                self._advance(arrival)
            else:
                self.duplicates += arrival.count
        del self._held[:taken]

    def _hold(self, arrival: Arrival) -> None:
        size = len(arrival.body) + HELD_OVERHEAD
        if self._held_bytes + size > self._limit:
            self.refetched += arrival.count
            return
        if not self._held or arrival.tseq > self._held[-1].end:
            self._held.append(arrival)
        elif any(held.tseq == arrival.tseq for held in self._held):
            self.duplicates += arrival.count
            return
        else:
            insort(self._held, arrival, key=attrgetter("tseq"))
        self._held_bytes += size

    def _abandon(self, until: int) -> None:
        """Announce what is missing up to a number, and deliver what is held before and right behind it."""
        while self.got < until:
            end = min(self._hole_end(), until)
            self.out.append(Gap(end - self.got))
            self.got = end
            self._stalled = 0.0
            self._drain()
        self._drain()

    def __repr__(self) -> str:
        return f"<Inflow track {self.track}, got {self.got} of {self.last}, {len(self._held)} held>"
