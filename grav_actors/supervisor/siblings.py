"""The children of one supervisor in the order of their start, and the pools that some of them are instances of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

from grav_actors.supervisor.place import Place, Rules


class Siblings:
    """Who there is, in which order, under which names.

    Attributes:
        places: The children in the order of their start, by name.
        pools: The pools, each with the rules of a further instance; one may have no instance.
    """

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.pools: dict[str, Rules] = {}

    def taken_names(self) -> set[str]:
        """Return the names that no new child may have: those of children and of their pools."""
        return self.places.keys() | self.pools.keys()

    def is_taken(self, name: str) -> bool:
        """Return whether a name is that of a child or pool."""
        return name in self.places or name in self.pools

    def named(self, name: str) -> list[Place]:
        """Return the child of a name, or the instances of the pool of that name; raise KeyError if there is neither."""
        found = [place for place in self.places.values() if name in (place.name, place.rules.pool)]
        if not found and name not in self.pools:
            raise KeyError(name)
        return found

    def instances(self, pool: str) -> list[Place]:
        """Return the instances of a pool by their numbers, without those that are to be forgotten."""
        found = [place for place in self.places.values() if place.rules.pool == pool and not place.is_surplus]
        return sorted(found, key=lambda place: instance_number(place.name))

    def behind(self, place: Place, *, and_before: bool) -> list[Place]:
        """Return the others that are not down: all of them, or those behind a place."""
        everyone = list(self.places.values())
        if not and_before:
            everyone = everyone[everyone.index(place) :]
        return [other for other in everyone if other is not place and not other.is_down]

    def in_order(self, places: Iterable[Place]) -> list[Place]:
        """Return places in the order of their start."""
        places = list(places)
        if len(places) > 1:
            order = {name: number for number, name in enumerate(self.places)}
            places.sort(key=lambda place: order[place.name])
        return places

    def add(self, children: Iterable[Rules]) -> tuple[Place, ...]:
        """Put new children at the end, and their pools; return their places."""
        added = tuple(Place(rules) for rules in children)
        for place in added:
            if place.rules.pool:
                self.pools.setdefault(place.rules.pool, place.rules)
        self.places.update((place.name, place) for place in added)
        return added

    def add_instances(self, pool: str, count: int) -> list[Place]:
        """Put so many instances behind the others of a pool, with the lowest numbers that are free."""
        free = (name for number in itertools.count(1) if (name := f"{pool}-{number}") not in self.places)
        added = [Place(replace(self.pools[pool], name=name)) for name in itertools.islice(free, count)]
        places = list(self.places.values())
        end = max((number for number, place in enumerate(places, 1) if place.rules.pool == pool), default=len(places))
        places[end:end] = added
        self.places = {place.name: place for place in places}
        return added

    def forget(self, place: Place) -> None:
        """Give up a place and its name, and a pool that is not lasting with its last instance."""
        del self.places[place.name]
        pool = place.rules.pool
        if not place.rules.is_lasting and all(other.rules.pool != pool for other in self.places.values()):
            self.pools.pop(pool, None)


def instance_number(name: str) -> int:
    """Return the number at the end of the name of an instance."""
    return int(name.rpartition("-")[2])
