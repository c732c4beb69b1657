"""What a node decides about beacons: when to send its own, and which of those it hears are worth a dial.

Pure: time and randomness come in. A beacon is a hint that anybody on the network can forge, so all that is
remembered is bounded, by the endpoint that is to be dialled and not by the uuid that is claimed for it, and
every source address has a rate of its own: a host that floods delays the discovery of nodes on itself alone.
"""

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from grav_actors.discovery.beacon_frame import BeaconFrame, Kind

QUICK: Final = (0.0, 0.1, 0.3, 0.7)
"""Seconds after the start, or after a change of interfaces, at which a beacon is sent."""

BRISK_UNTIL: Final = 10.0
"""Seconds after that until which one is sent each second."""

SLOW: Final = 5.0
"""Seconds between two beacons from then on, more or less `JITTER` of it."""

JITTER: Final = 0.2

ANSWER_WITHIN: Final = 0.05
"""Seconds after which the beacon of an unknown node has been answered."""

MOST_ENDPOINTS: Final = 1024
"""Endpoints that are remembered."""

MOST_OF_ADDRESS: Final = 128
"""Endpoints that are remembered of one source address."""

FORGOTTEN_AFTER: Final = 30.0
"""Seconds of silence after which an endpoint is as good as new."""

REPEAT_AFTER: Final = 1.0
"""Seconds after which an endpoint that is still heard is reported again."""

STEADY_AFTER: Final = 0.25
"""Seconds between two beacons of an endpoint that make it steady: a flood of inventions does not repeat itself."""

_EVICTION_TRIES: Final = 16


class Hint(NamedTuple):
    """Where a node may be.

    Attributes:
        uuid: In text form; "" when several nodes claim the endpoint.
    """

    endpoint: str
    uuid: str


class Bucket:
    """A token bucket: so many at once, so many a second."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst, self._rate = burst, rate
        self._tokens, self._at = burst, now

    def has(self, now: float) -> bool:
        """Tell whether there is a token."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens >= 1

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        if not self.has(now):
            return False
        self._tokens -= 1
        return True


class Schedule:
    """When to send a beacon: quick, brisk, slow, and in answer to who is new.

    Args:
        random: Returns numbers from 0 to 1.
    """

    def __init__(self, now: float, random: Callable[[], float]) -> None:
        self._random = random
        self._answers = Bucket(5, 2, now)
        self._answer_at = math.inf
        self._begin = now
        self._count = 0
        self._next = now

    @property
    def due(self) -> float:
        """When the next one is to be sent."""
        return min(self._next, self._answer_at)

    def hurry(self, now: float) -> None:
        """Begin anew: the network has changed."""
        self._begin, self._count, self._next = now, 0, now

    def answer(self, now: float) -> None:
        """Send one soon, for somebody who is new; under a flood of such, at most two a second more than usual."""
        if self._answer_at == math.inf and self._answers.take(now):
            # Not at once: several nodes have heard the same beacon, and several beacons need one answer.
            self._answer_at = now + ANSWER_WITHIN * self._random()

    def advance(self, now: float) -> bool:
        """Tell whether to send one now."""
        if now < self.due:
            return False
        self._answer_at = math.inf
        if now >= self._next:
            self._count += 1
            self._next = max(self._following(now), now + 0.01)
        return True

    def _following(self, now: float) -> float:
        if self._count < len(QUICK):
            return self._begin + QUICK[self._count]
        if now + 1.0 <= self._begin + BRISK_UNTIL:
            return now + 1.0
        return now + SLOW * (1 + JITTER * (2 * self._random() - 1))


@dataclass(slots=True)
class _Endpoint:
    uuid: bytes
    first: float
    heard: float
    changes: Bucket
    report_from: float
    is_steady: bool = False
    is_contested: bool = False


@dataclass(slots=True)
class _Source:
    """A source address: what is remembered of it, and how much it may make this node do."""

    fresh: Bucket
    steady: Bucket
    endpoints: dict[str, _Endpoint] = field(default_factory=dict)


class Neighbours:
    """The endpoints that are heard of, and which to report.

    Args:
        own: This node's uuid, 16 bytes.
        random: Returns numbers from 0 to 1.
    """

    def __init__(self, own: bytes, now: float, random: Callable[[], float]) -> None:
        self._own = own
        self._random = random
        self._sources: dict[str, _Source] = {}
        self._size = 0
        self._fresh = Bucket(512, 64, now)
        self._steady = Bucket(512, 256, now)
        self._swept = now

    def __len__(self) -> int:
        return self._size

    def heard(self, frame: BeaconFrame, address: str, now: float) -> tuple[bool, Hint | None]:
        """Take in a beacon.

        Args:
            frame: What it says.
            address: Where it came from; an IPv6 address with its interface, as in `fe80::1%eth0`.
            now: Seconds on the driver's clock.

        Returns:
            Whether it is news, so that its sender should hear of this node soon; and what to report, if
            anything.
        """
        self._sweep(now)
        if frame.uuid == self._own:
            return False, None
        endpoint = frame.endpoint(address)
        source = self._sources.get(address)
        known = source.endpoints.get(endpoint) if source is not None else None
        if frame.kind is Kind.BYE:
            # Only that a later beacon is news again. Whether its node is gone, the hub knows better.
            if known is not None and known.uuid == frame.uuid:
                self._forget(address, endpoint)
            return False, None
        if known is None or now - known.heard > FORGOTTEN_AFTER:
            if known is not None:
                self._forget(address, endpoint)
            known = self._admit(address, endpoint, frame.uuid, now)
            if known is None:
                return False, None
            is_news = True
        else:
            is_news = self._renew(known, frame.uuid, now)
        return is_news, self._report(address, endpoint, known, now)

    def _renew(self, known: _Endpoint, node: bytes, now: float) -> bool:
        known.heard = now
        if now - known.first >= STEADY_AFTER:
            known.is_steady = True
        if known.uuid == node:
            if known.is_contested:
                known.is_contested = not known.changes.has(now)
            return False
        known.uuid = node
        # A node that has started again has a new uuid; one that changes it all the time is several, or a liar.
        known.is_contested = not known.changes.take(now)
        if not known.is_contested:
            known.report_from = now
        return True

    def _report(self, address: str, endpoint: str, known: _Endpoint, now: float) -> Hint | None:
        if now < known.report_from:
            return None
        source = self._sources[address]
        # By IPv6 only those that are not to be had by IPv4, which shows by the second beacon.
        if ":" in address and (not known.is_steady or self._has_ipv4(known.uuid)):
            return None
        own, all_ = (source.steady, self._steady) if known.is_steady else (source.fresh, self._fresh)
        if not (own.has(now) and all_.take(now)):
            return None  # it is heard again
        own.take(now)
        known.report_from = now + REPEAT_AFTER
        return Hint(endpoint, "" if known.is_contested else str(uuid.UUID(bytes=known.uuid)))

    def _has_ipv4(self, node: bytes) -> bool:
        return any(
            known.uuid == node
            for address, source in self._sources.items()
            if ":" not in address
            for known in source.endpoints.values()
        )

    def _admit(self, address: str, endpoint: str, node: bytes, now: float) -> _Endpoint | None:
        """Remember an endpoint; of too many, one that was heard only once makes room, chosen at random."""
        source = self._sources.get(address)
        if source is not None and len(source.endpoints) >= MOST_OF_ADDRESS:
            if not self._evict_from(address):
                return None
        elif self._size >= MOST_ENDPOINTS and not self._evict_oldest():
            return None
        source = self._sources.get(address)
        if source is None:
            source = self._sources[address] = _Source(Bucket(64, 8, now), Bucket(64, 32, now))
        known = _Endpoint(node, now, now, Bucket(3, 0.1, now), now)
        source.endpoints[endpoint] = known
        self._size += 1
        return known

    def _evict_oldest(self) -> bool:
        """Make room at the address that has been there longest; those with steady endpoints alone go to the end."""
        for _ in range(_EVICTION_TRIES):
            address = next(iter(self._sources))
            if self._evict_from(address):
                return True
            self._sources[address] = self._sources.pop(address)
        return False

    def _evict_from(self, address: str) -> bool:
        passing = [name for name, known in self._sources[address].endpoints.items() if not known.is_steady]
        if not passing:
            return False
        self._forget(address, passing[int(self._random() * len(passing)) % len(passing)])
        return True

    def _forget(self, address: str, endpoint: str) -> None:
        source = self._sources[address]
        del source.endpoints[endpoint]
        self._size -= 1
        if not source.endpoints:
            del self._sources[address]

    def _sweep(self, now: float) -> None:
        if now - self._swept < FORGOTTEN_AFTER:
            return
        self._swept = now
        silent = [
            (address, endpoint)
            for address, source in self._sources.items()
            for endpoint, known in source.endpoints.items()
            if now - known.heard > FORGOTTEN_AFTER
        ]
        for address, endpoint in silent:
            self._forget(address, endpoint)
