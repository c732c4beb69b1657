"""A set that is gone through in the order in which its items came."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class OrderedSet(dict[T, None]):
    """A set for deciders: the same input always gives the same output, where a `set` follows hashes and addresses."""

    __slots__ = ()

    def add(self, item: T) -> None:
        """Put an item in; one that is there keeps its place."""
        self[item] = None

    def discard(self, item: T) -> None:
        """Take an item out if it is there."""
        self.pop(item, None)
