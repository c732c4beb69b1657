"""Which endpoints to dial, and when: hints are many and may be wrong, so dials are few. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_HINTS = 1024
"""Endpoints that are remembered; past it the oldest hint of a discovery goes."""
MAX_DIALS = 32
"""Dials under way at one time."""
FIRST_DELAY = 0.1
"""Seconds until an endpoint is dialled again after a failure; doubles with each."""
MAX_DELAY = 2.0
JITTER = 0.2
FORGET_AFTER = 8
"""Failures in a row after which a hint is dropped, until a discovery gives it again."""
REFUSED_DELAY = 30.0
"""Seconds until an endpoint is dialled again whose node does not fit."""


@dataclass(slots=True)
class Hint:
    """An endpoint, and what is known about it.

    Attributes:
        uuid: Whom a discovery says to be there; "" when it does not know.
        leads_to: Uuid of who answered there last; "" for nobody yet.
        is_lasting: The user named it: it is never forgotten.
        link: Number of the dial under way; 0 for none.
        failures: In a row.
        next_at: When it may be dialled.
    """

    endpoint: str
    uuid: str = ""
    leads_to: str = ""
    is_lasting: bool = False
    link: int = 0
    failures: int = 0
    next_at: float = 0.0


class Dialler:
    """The endpoints that may lead to peers.

    Args:
        rng: Gives a number from 0 up to 1, to spread the dials of many nodes.
    """

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._hints: dict[str, Hint] = {}

    def __len__(self) -> int:
        return len(self._hints)

    def add(self, endpoint: str, uuid: str, now: float, *, is_lasting: bool = False) -> Hint | None:
        """Take a hint; None when there is no room for it."""
        hint = self._hints.get(endpoint)
        if hint is None:
            if len(self._hints) >= MAX_HINTS and not self._make_room():
                return None
            hint = self._hints[endpoint] = Hint(endpoint, uuid, next_at=now)
        elif uuid and uuid != hint.uuid:
            # A node that came back with a new uuid on its old address; a flood of uuids speeds nothing up.
            hint.uuid = uuid
            hint.next_at = min(hint.next_at, now + MAX_DELAY)
        hint.is_lasting |= is_lasting
        return hint

    def suggest(self, endpoint: str, uuid: str, now: float) -> None:
        """Take a hint, unless the endpoint is known: a peer that is there says nothing about who comes next."""
        if endpoint not in self._hints:
            self.add(endpoint, uuid, now)

    def _make_room(self) -> bool:
        for endpoint, hint in self._hints.items():
            if not hint.is_lasting and not hint.link:
                del self._hints[endpoint]
                return True
        return False

    def due(self, now: float, is_wanted: Callable[[Hint], bool]) -> list[Hint]:
        """Return what to dial now; the caller gives each its link."""
        free = MAX_DIALS - sum(1 for hint in self._hints.values() if hint.link)
        found: list[Hint] = []
        for hint in self._hints.values():
            if free <= 0:
                break
            if not hint.link and hint.next_at <= now and is_wanted(hint):
                found.append(hint)
                free -= 1
        return found

    def by_link(self, link: int) -> Hint | None:
        """Return the hint whose dial this is."""
        return next((hint for hint in self._hints.values() if hint.link == link), None)

    def failed(self, hint: Hint, now: float) -> None:
        """Note that nobody answered, or that the link of who answered has ended."""
        hint.link = 0
        hint.failures += 1
        if hint.failures >= FORGET_AFTER and not hint.is_lasting:
            self._hints.pop(hint.endpoint, None)
            return
        delay = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(hint.failures - 1, 10))
        hint.next_at = now + delay * (1 + JITTER * (2 * self._rng() - 1))

    def refused(self, hint: Hint, now: float) -> None:
        """Note that whoever is there does not fit; only what the user named is tried again."""
        hint.link = 0
        if not hint.is_lasting:
            self._hints.pop(hint.endpoint, None)
        hint.next_at = now + REFUSED_DELAY

    def reached(self, hint: Hint, uuid: str, now: float) -> None:
        """Note who answered."""
        hint.link = 0
        hint.leads_to = uuid
        hint.failures = 0
        hint.next_at = now + FIRST_DELAY * (1 + self._rng())

    def unanswered(self) -> list[Hint]:
        """Return the hints that were followed in vain, since somebody answered there last."""
        return [hint for hint in self._hints.values() if hint.failures]

    def forget(self, endpoint: str) -> None:
        """Drop an endpoint, as of this node itself."""
        self._hints.pop(endpoint, None)
