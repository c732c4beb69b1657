"""What happened in a simulated mesh, and what must be true of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Life: TypeAlias = bytes
"""Incarnation of a node's hub."""
DIRECTED = 1_000_000
"""The first number of what goes to one peer alone: messages of actors, and what the mesh itself says."""
Way: TypeAlias = tuple[Life, Life]
"""From whom, to whom."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An announced gap; -1 when its count is unknown."""

    count: int


@dataclass(slots=True)
class MeshHistory:
    """What each life owed to each other one, and what each got, in order.

    Attributes:
        owed: Numbers of the messages that a node published for a peer.
        got: Numbers of those that came, and announced gaps between them.
        alive: Lives that have not ended.
        withdrawn: Lives that ended by a withdrawal that all have acknowledged.
        wrong: What was seen to be wrong while it happened.
        states: Every change of a peer's state: when, at whom, of whom, which.
    """

    owed: dict[Way, list[int]] = field(default_factory=lambda: defaultdict(list))
    got: dict[Way, list[int | Lost]] = field(default_factory=lambda: defaultdict(list))
    alive: set[Life] = field(default_factory=set[Life])
    withdrawn: set[Life] = field(default_factory=set[Life])
    wrong: list[str] = field(default_factory=list[str])
    states: list[tuple[float, str, str, str]] = field(default_factory=list[tuple[float, str, str, str]])

    def violations(self) -> list[str]:
        """Return everything that must not be; for the end, when the network was whole for long enough."""
        found = list(self.wrong)
        for way in {*self.owed, *self.got}:
            found.extend(self._judge(way))
        return found

    def _judge(self, way: Way) -> Iterator[str]:
        owed, got = self.owed[way], self.got[way]
        name = f"{way[0].hex()[:4]} to {way[1].hex()[:4]}"
        places = {number: place for place, number in enumerate(owed)}
        position, gap, is_unknown = -1, 0, False
        for item in got:
            if isinstance(item, Lost):
                is_unknown = is_unknown or item.count < 0
                gap += max(0, item.count)
                continue
            place = places.get(item)
            if place is None:
                yield f"{name}: {item} came and was never owed"
                continue
            if place <= position:
                yield f"{name}: {item} came again, or behind a later one"
                continue
            if place - position - 1 != gap and not is_unknown:
                yield f"{name}: {place - position - 1} are missing before {item}, announced were {gap}"
            position, gap, is_unknown = place, 0, False
        missing = len(owed) - 1 - position
        both_live = way[0] in self.alive and way[1] in self.alive
        if (both_live or way[0] in self.withdrawn) and way[1] in self.alive and missing != gap and not is_unknown:
            yield f"{name}: {missing} of {len(owed)} are missing at the end, announced were {gap}"
        if not both_live and gap > missing and way[1] in self.alive:
            yield f"{name}: {gap} were announced as lost, but only {missing} were sent"

    def published(self, way: Way) -> list[int | Lost]:
        """Return what came that was published, and announced gaps."""
        return [item for item in self.got[way] if isinstance(item, Lost) or item < DIRECTED]

    def delivered(self) -> int:
        """Return how many messages came."""
        return sum(1 for items in self.got.values() for item in items if not isinstance(item, Lost))

    def lost(self) -> int:
        """Return how many messages lie in announced gaps of known count."""
        return sum(max(0, item.count) for items in self.got.values() for item in items if isinstance(item, Lost))

    def unknown(self) -> int:
        """Return how many gaps of unknown count were announced."""
        return sum(1 for items in self.got.values() for item in items if isinstance(item, Lost) and item.count < 0)
