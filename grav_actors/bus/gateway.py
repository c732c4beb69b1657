"""The gateway: the pod that stands for other nodes, and what the bus and it tell each other.

The bus tells it what the pods here want and which actors there are; it tells the bus which actors other nodes have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from grav_actors.bus.receiver import Receiver
from grav_actors.protocol import (
    GATEWAY_NAME,
    MAX_GATEWAY_ERROR,
    MAX_GATEWAY_ITEMS,
    STAGE_BEGIN,
    STAGE_CHANGE,
    STAGE_END,
)

Local = tuple[int, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]
"""`(stage, ((pattern, wanted), ...), ((group, pattern, wanted), ...), ((name, reason or None, error), ...))`."""


def is_gateway(receiver: Receiver) -> bool:
    """Return whether a pod is the one that stands for other nodes."""
    return receiver.name == GATEWAY_NAME


def travels(name: str) -> bool:
    """Return whether other nodes may know an actor's name: the framework's own stay at home."""
    return not name.startswith("grav.")


class LocalNews:
    """What the gateway is told: counted as pods come, change and go, and told when a drain ends.

    There is none on a bus without a gateway, which so costs nothing.
    """

    def __init__(self) -> None:
        self._wants: Counter[str] = Counter()
        self._groups: Counter[tuple[str, str]] = Counter()
        self._names: dict[str, None] = {}
        self._changed_wants: dict[str, None] = {}
        self._changed_groups: dict[tuple[str, str], None] = {}
        self._changed_names: dict[str, tuple[str | None, str]] = {}
        self._told_wants: set[str] = set()
        self._told_groups: set[tuple[str, str]] = set()
        self._is_whole = True

    @property
    def has_news(self) -> bool:
        """Whether there is anything that was not told."""
        return bool(self._is_whole or self._changed_wants or self._changed_groups or self._changed_names)

    def enter(self, receiver: Receiver) -> None:
        """Count what a pod wants."""
        self._count(receiver, 1)

    def leave(self, receiver: Receiver) -> None:
        """Count no longer what a pod wants."""
        self._count(receiver, -1)

    def _count(self, receiver: Receiver, step: int) -> None:
        if is_gateway(receiver):
            return
        group = receiver.settings.group
        for pattern in receiver.filters.wanted_patterns():
            if group:
                key = (group, pattern)
                self._groups[key] += step
                if not self._groups[key]:
                    del self._groups[key]
                self._changed_groups[key] = None
            else:
                self._wants[pattern] += step
                if not self._wants[pattern]:
                    del self._wants[pattern]
                self._changed_wants[pattern] = None

    def began(self, name: str) -> None:
        """Note that a name is there."""
        if name and travels(name) and name not in self._names:
            self._names[name] = None
            self._changed_names[name] = (None, "")

    def ended(self, name: str, reason: str, error: str) -> None:
        """Note that a name is gone for good."""
        if name in self._names:
            del self._names[name]
            self._changed_names[name] = (reason, error[:MAX_GATEWAY_ERROR])

    def take(self) -> Iterator[Local]:
        """Yield what is to be told, in parts; it counts as told from now on."""
        is_whole, self._is_whole = self._is_whole, False
        wants = [(each, each in self._wants) for each in self._changed_wants]
        groups = [(*each, each in self._groups) for each in self._changed_groups]
        wants = [entry for entry in wants if entry[1] != (entry[0] in self._told_wants)]
        groups = [entry for entry in groups if entry[2] != (entry[:2] in self._told_groups)]
        names = [(name, *end) for name, end in self._changed_names.items()]
        self._changed_wants.clear()
        self._changed_groups.clear()
        self._changed_names.clear()
        for pattern, is_wanted in wants:
            (self._told_wants.add if is_wanted else self._told_wants.discard)(pattern)
        for group, pattern, is_wanted in groups:
            (self._told_groups.add if is_wanted else self._told_groups.discard)((group, pattern))
        last = max(len(wants), len(groups), len(names), is_whole)
        for first in range(0, last, MAX_GATEWAY_ITEMS):
            part = slice(first, first + MAX_GATEWAY_ITEMS)
            stage = STAGE_CHANGE
            if is_whole:
                stage |= (STAGE_BEGIN if first == 0 else 0) | (STAGE_END if first + MAX_GATEWAY_ITEMS >= last else 0)
            yield stage, tuple(wants[part]), tuple(groups[part]), tuple(names[part])


class RemoteNames:
    """The actors of other nodes, as the gateway tells.

    Attributes:
        is_known: The gateway has told all of them; before that any name may be one.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, bytes] = {}
        self._stale: dict[str, None] = {}
        self.is_known = False

    def __len__(self) -> int:
        return len(self._nodes)

    def node_of(self, name: str) -> bytes | None:
        """Return the node that has the actor."""
        return self._nodes.get(name)

    def may_have(self, name: str) -> bool:
        """Return whether a message for this name is to be given to the gateway."""
        return name in self._nodes or (not self.is_known and travels(name))

    def begin(self) -> None:
        """Note that all names follow."""
        self._stale = dict.fromkeys(self._nodes)

    def add(self, name: str, node: bytes) -> bytes | None:
        """Enter a name; return the node that had it before, if that was another."""
        self._stale.pop(name, None)
        before = self._nodes.get(name)
        self._nodes[name] = node
        return before if before != node else None

    def remove(self, name: str) -> bytes | None:
        """Strike a name; return the node that had it."""
        self._stale.pop(name, None)
        return self._nodes.pop(name, None)

    def end(self) -> list[tuple[str, bytes]]:
        """Note that these were all; return those that did not come again, which are struck."""
        stale = [(name, self._nodes.pop(name)) for name in self._stale]
        self._stale.clear()
        self.is_known = True
        return stale

    def clear(self) -> list[tuple[str, bytes]]:
        """Strike all names: the gateway is gone. Return them."""
        gone = list(self._nodes.items())
        self._nodes.clear()
        self._stale.clear()
        self.is_known = False
        return gone


def local_news(receivers: Iterable[Receiver]) -> LocalNews:
    """Return the news for a gateway that knows nothing yet."""
    news = LocalNews()
    for receiver in receivers:
        news.enter(receiver)
        if receiver.settings.actor:
            news.began(receiver.name)
            news.began(receiver.settings.service)
    return news
