"""The rounds of one supervisor: which places something is being done with, together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from grav_actors.supervisor.place import Place, Round
from grav_actors.supervisor.siblings import Siblings


class Rounds:
    """The rounds that are not finished; no two of them share a place."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings
        self._rounds: dict[Round, None] = {}

    def __iter__(self) -> Iterator[Round]:
        return iter(list(self._rounds))

    def __contains__(self, work: Round | None) -> bool:
        return work in self._rounds

    def deadlines(self) -> list[float]:
        """Return when rounds are due that nothing else moves, in monotonic seconds."""
        return [work.due for work in self._rounds if all(place.life is None for place in work.places)]

    def join(self, places: Iterable[Place], due: float) -> Round:
        """Make one round of places and of all the rounds that they are part of; the longest wait holds."""
        members = dict.fromkeys(places)
        for old in {place.round: None for place in members if place.round is not None}:
            members.update(dict.fromkeys(old.places))
            due = max(due, old.due)
            del self._rounds[old]
        work = Round(self._siblings.in_order(members), due)
        for place in work.places:
            place.round = work
        if work.places:
            self._rounds[work] = None
        return work

    def take_out(self, place: Place) -> Round | None:
        """Nothing more is to be done with a place; return the round that it was part of."""
        work, place.round = place.round, None
        if work is not None:
            work.places.remove(place)
            if not work.places:
                del self._rounds[work]
        return work
