"""Who wants to know when which actor is gone for good."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from grav_actors.bus.directory import Directory
from grav_actors.bus.receiver import Receiver
from grav_actors.protocol import WATCHES_LIMIT

ENDED_LIMIT = 4096
"""Names that have ended and whose reason is remembered for those who watch them later."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a name is gone.

    Attributes:
        reason: `stopped` (asked for, or with its node), `crashed` (its supervisor does not start it again, or
            nobody supervises it), `lost` (its process and whoever supervised it are gone) or `unknown` (nobody
            has the name, and this bus remembers no one who had).
        error: What it failed with, or "".
    """

    reason: str
    error: str = ""


UNKNOWN = Ended("unknown")

Notice = tuple[Receiver, int, Ended]
"""Who is to be told, the number of its watch, and why the name is gone."""


class Watches:
    """The watches of all pods, by name and by pod.

    A watch has a number that its pod has chosen, each higher than those before. It ends when it is told.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._by_name: dict[str, dict[Receiver, set[int]]] = {}
        self._by_receiver: dict[Receiver, dict[int, str]] = {}
        self._highest: dict[Receiver, int] = {}
        self._ended: dict[str, Ended] = {}

    def __len__(self) -> int:
        return sum(len(names) for names in self._by_receiver.values())

    def has_room(self, receiver: Receiver, begun: Collection[int], ended: Collection[int]) -> bool:
        """Return whether a pod may have these watches besides, when those have ended."""
        names = self._by_receiver.get(receiver, {})
        if len(names) + len(begun) <= WATCHES_LIMIT:
            return True
        return len(names.keys() - set(ended) | set(begun)) <= WATCHES_LIMIT

    def watch(self, receiver: Receiver, number: int, name: str) -> Ended | None:
        """Enter a watch, which a pod repeats whenever it joins.

        Returns:
            Why the name is gone, if that is already so: the watch is told and ended by that.
        """
        names = self._by_receiver.get(receiver, {})
        if number in names:
            return None
        is_repeated = number <= self._highest.get(receiver, 0)
        self._highest[receiver] = max(number, self._highest.get(receiver, 0))
        # A repeated one that is not here was told, and the news was lost with a connection: the name may have
        # been given to another meanwhile.
        key = None if is_repeated else self._key(name)
        if key is None:
            return self._ended.get(name, UNKNOWN)
        self._enter(receiver, number, key)
        return None

    def _key(self, name: str) -> str | None:
        """Return what a watch of this name is of: who has it now; None if nobody has it, here or on a peer."""
        if self._directory.has_name(name):
            return name
        if self._directory.stand_in(name) is None:
            return None
        node = self._directory.remote.node_of(name)
        return _remote_key(name, node) if node is not None else _remote_key(name, b"")

    def _enter(self, receiver: Receiver, number: int, key: str) -> None:
        self._by_receiver.setdefault(receiver, {})[number] = key
        self._by_name.setdefault(key, {}).setdefault(receiver, set()).add(number)

    def unwatch(self, receiver: Receiver, number: int) -> None:
        """End a watch untold. One that is not known is as good as ended."""
        name = self._by_receiver.get(receiver, {}).pop(number, None)
        if name is not None:
            self._drop(name, receiver, number)

    def forget(self, receiver: Receiver) -> None:
        """End all watches of a pod that is gone, or that is another incarnation from now on."""
        for number, name in self._by_receiver.pop(receiver, {}).items():
            self._drop(name, receiver, number)
        self._highest.pop(receiver, None)

    def _drop(self, name: str, receiver: Receiver, number: int) -> None:
        watchers = self._by_name[name]
        numbers = watchers[receiver]
        numbers.remove(number)
        if not numbers:
            del watchers[receiver]
        if not watchers:
            del self._by_name[name]

    def began(self, receiver: Receiver) -> None:
        """Note that an actor has joined: its names are not gone any more."""
        for name in (receiver.name, receiver.settings.service):
            self._ended.pop(name, None)

    def ended(self, receiver: Receiver, why: Ended) -> list[Notice]:
        """Note that an actor is gone for good, which the directory knows already; return whom to tell."""
        notices: list[Notice] = []
        if not receiver.settings.actor:
            return notices
        for name in (receiver.name, receiver.settings.service):
            if not name or self._directory.has_name(name):
                continue
            self._remember(name, why)
            notices += self._end(name, why)
        return notices

    def _remember(self, name: str, why: Ended) -> None:
        self._ended.pop(name, None)
        self._ended[name] = why
        if len(self._ended) > ENDED_LIMIT:
            del self._ended[next(iter(self._ended))]

    def _end(self, key: str, why: Ended) -> list[Notice]:
        notices: list[Notice] = []
        for watcher, numbers in self._by_name.pop(key, {}).items():
            for number in sorted(numbers):
                del self._by_receiver[watcher][number]
                notices.append((watcher, number, why))
        return notices

    # Of other nodes

    def remote_began(self, name: str) -> None:
        """Note that a node has an actor of that name."""
        self._ended.pop(name, None)

    def remote_ended(self, name: str, node: bytes, why: Ended) -> list[Notice]:
        """Note that an actor of a node is gone for good, or the node; return whom to tell."""
        if not self._directory.has_name(name):
            self._remember(name, why)
        return self._end(_remote_key(name, node), why)

    def remote_known(self) -> list[Notice]:
        """Decide about watches of names of which nobody could say before whether a node has them."""
        notices: list[Notice] = []
        for key in [key for key in self._by_name if key.endswith(_AWAITED)]:
            name = key.removesuffix(_AWAITED)
            now = self._key(name)
            if now is None:
                notices += self._end(key, self._ended.get(name, UNKNOWN))
                continue
            for watcher, numbers in self._by_name.pop(key).items():
                for number in numbers:
                    self._enter(watcher, number, now)
        return notices


_AWAITED = "\0"


def _remote_key(name: str, node: bytes) -> str:
    """Return what stands for the actor of one node; no actor here can be called so by an API of this package."""
    return f"{name}\0{node.hex()}"
