"""A network in memory that delays, loses, doubles and cuts, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is.

    Attributes:
        delay: Seconds that a frame takes, at least and at most.
        loss, twice: Chance of a frame to be lost, and to come twice.
        is_ordered: Frames of one direction never overtake each other.
    """

    delay: tuple[float, float] = (0.001, 0.005)
    loss: float = 0.0
    twice: float = 0.0
    is_ordered: bool = True


@dataclass(slots=True)
class Network:
    """Time, and what travels.

    Attributes:
        cuts: Directions that are cut: pairs of hosts.
        faults: When a pair of hosts last suffered something that may cost it its link.
    """

    rng: random.Random
    weather: Weather = field(default_factory=Weather)
    now: float = 0.0
    cuts: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    faults: dict[frozenset[str], float] = field(default_factory=dict[frozenset[str], float])
    _queue: list[tuple[float, int, Callable[[], None]]] = field(
        default_factory=list[tuple[float, int, Callable[[], None]]]
    )
    _count: int = 0
    _latest: dict[object, float] = field(default_factory=dict[object, float])

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now + seconds, action)

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = until

    def cut(self, source: str, target: str) -> None:
        self.cuts.add((source, target))
        self.suffer(source, target)

    def heal(self) -> None:
        for source, target in self.cuts:
            self.suffer(source, target)
        self.cuts.clear()

    def suffer(self, one: str, other: str) -> None:
        self.faults[frozenset((one, other))] = self.now

    def suffered(self, one: str, other: str, within: float) -> bool:
        if (one, other) in self.cuts or (other, one) in self.cuts:
            return True
        return self.now - self.faults.get(frozenset((one, other)), float("-inf")) <= within

    def send(self, source: str, target: str, channel: object, arrive: Callable[[], None]) -> None:
        """Carry a frame, or not."""
        if (source, target) in self.cuts:
            return
        weather = self.weather
        copies = 2 if self.rng.random() < weather.twice else 1
        for _ in range(copies):
            if self.rng.random() < weather.loss:
                continue
            when = self.now + self.rng.uniform(*weather.delay)
            if weather.is_ordered:
                when = self._latest[channel] = max(when, self._latest.get(channel, 0.0))
            self.at(when, lambda: None if (source, target) in self.cuts else arrive())

    def send_surely(self, source: str, target: str, arrive: Callable[[], None], *, tries: int = 400) -> None:
        """Carry something that the socket library repeats by itself until it arrives."""
        if (source, target) in self.cuts:
            if tries:
                self.after(0.25, lambda: self.send_surely(source, target, arrive, tries=tries - 1))
            return
        self.after(self.rng.uniform(*self.weather.delay), arrive)
