"""Sets of numbers as a floor and ranges above it. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

SENDERS = 8192
"""Senders whose deliveries a pod remembers; past it those not heard of for longest are forgotten."""
NOTED = 16
"""Deliveries that are noted before they are put in: many in one go take a fraction of the time."""
PRUNE_AT = 16
"""Ranges at which those below the floor are dropped for the first time."""


class Ranges:
    """Numbers that are in: all up to `floor`, and ranges that neither touch nor overlap."""

    __slots__ = ("_firsts", "_lasts", "_prune_at", "floor")

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._prune_at = PRUNE_AT

    def add(self, first: int, last: int) -> None:
        """Put numbers in; quick when they lie behind all others."""
        lasts = self._lasts
        if lasts:
            next_one = lasts[-1] + 1
            if first == next_one:
                lasts[-1] = last
                return
            if first < next_one:
                self._merge(first, last)
                return
        self._firsts.append(first)
        lasts.append(last)
        if len(lasts) >= self._prune_at:
            self._prune()

    def _merge(self, first: int, last: int) -> None:
        firsts, lasts = self._firsts, self._lasts
        low = bisect_right(lasts, first - 2)  # the first range that this one touches
        high = bisect_right(firsts, last + 1)
        if low < high:
            first, last = min(first, firsts[low]), max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]

    def raise_floor(self, floor: int) -> None:
        """Put in all numbers up to `floor`; a lower one changes nothing."""
        self.floor = max(self.floor, floor)

    def _prune(self) -> None:
        gone = bisect_right(self._lasts, self.floor)
        del self._firsts[:gone], self._lasts[:gone]
        self._prune_at = max(PRUNE_AT, 2 * len(self._lasts))

    def __contains__(self, number: int) -> bool:
        if number <= self.floor:
            return True
        index = bisect_right(self._firsts, number)
        return index > 0 and number <= self._lasts[index - 1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges above the floor."""
        self._prune()
        for first, last in zip(self._firsts, self._lasts, strict=True):
            yield max(first, self.floor + 1), last

    def __len__(self) -> int:
        """Return how many ranges are held."""
        return len(self._lasts)


class Memories:
    """What was delivered to a pod, by sender: so that a message which a new bus delivers again is known."""

    __slots__ = ("_by_sender", "_noted")

    def __init__(self) -> None:
        self._by_sender: dict[bytes, Ranges] = {}
        self._noted: list[tuple[bytes, int, int, int]] = []

    def __len__(self) -> int:
        self._gather()
        return len(self._by_sender)

    def note(self, sender: bytes, first: int, last: int, floor: int) -> None:
        """Put in what was delivered, and the floor of its sender, which is now the one last heard of."""
        self._noted.append((sender, first, last, floor))
        if len(self._noted) >= NOTED:
            self._gather()

    def _gather(self) -> None:
        noted = self._noted
        if not noted:
            return
        latest = noted[0][0]
        memory = self._of(latest)
        for sender, first, last, floor in noted:
            if sender != latest:
                latest = sender
                memory = self._of(sender)
            memory.floor = max(memory.floor, floor)
            memory.add(first, last)
        noted.clear()  # last: Ctrl-C before it forgets none, and to put one in again changes nothing

    def of(self, sender: bytes) -> Ranges:
        """Return the seqs of a sender, which is now the one last heard of."""
        self._gather()
        return self._of(sender)

    def _of(self, sender: bytes) -> Ranges:
        memories = self._by_sender
        memory = memories.pop(sender, None)
        if memory is None:
            memory = Ranges()
            if len(memories) >= SENDERS:
                for oldest in list(memories)[: SENDERS // 2]:
                    del memories[oldest]
        memories[sender] = memory
        return memory

    def claims(self, limit: int) -> tuple[tuple[bytes, tuple[tuple[int, int], ...]], ...]:
        """Return all of it, the senders last heard of first, at most `limit` ranges.

        With the floors: a sender may not have been told yet that what lies below is settled.
        """
        self._gather()
        claims: list[tuple[bytes, tuple[tuple[int, int], ...]]] = []
        for sender, memory in reversed(self._by_sender.items()):
            ranges = (((1, memory.floor),) if memory.floor else ()) + tuple(memory)
            ranges = ranges[:limit]
            if ranges:
                claims.append((sender, ranges))
                limit -= len(ranges)
        return tuple(claims)

    def is_settled(self, sender: bytes, seq: int) -> bool:
        """Return whether a message will not come again, as far as is known."""
        self._gather()
        memory = self._by_sender.get(sender)
        return memory is None or seq <= memory.floor
