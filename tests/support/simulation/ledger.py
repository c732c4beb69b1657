"""A history, sorted by what it is about: each message with what became of it, each account with what it wanted when."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from grav_actors.filters import FilterSet, FilterWire
from grav_actors.ids import id_bytes
from support.simulation.history import (
    Accepted,
    BusKilled,
    Dead,
    Delivered,
    Dropped,
    Ended,
    Entrusted,
    Event,
    Failed,
    FilterAsked,
    FilterConfirmed,
    Gap,
    Handled,
    Joined,
    Leaving,
    Lost,
    Quiet,
    Sent,
    Settled,
    Started,
    Struck,
    Taken,
)

Presence = Literal["away", "there", "left", "lost"]
"""Of an account: not joined yet; on the bus or awaited by it; gone, and what it held is only counted; gone, and
what it held is accounted for."""


KEPT = ("killed", "crashed", "unhealthy", "replaced")
"""Ends after which a supervised name stays, and what waits for it, until its supervisor says otherwise."""
COUNTED = ("", "unhealthy")
"""Ends after which what a pod held is counted, and no dead letter."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where an account stood from one event to the next that concerns it.

    Attributes:
        since: Index of the event.
        filters: Those that may be in force: the confirmed one, and those that were asked for since.
    """

    since: int
    presence: Presence
    pod: str
    group: str
    filters: tuple[FilterWire, ...]
    _types: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def wants(self, uuid: str, message_type: str, sender: str) -> bool:
        """Whether a message that is taken now certainly goes to this account, or may go to it as to its group."""
        if self.presence != "there" or self.pod == sender:
            return False
        allowed = self._types.get(message_type)
        if allowed is None:
            sets = [_filter_set(wire) for wire in self.filters]
            allowed = bool(sets) and all(filters.allows_type(message_type) for filters in sets)
            self._types[message_type] = allowed
        return allowed and all(not wire[3] or allows(wire, uuid, message_type) for wire in self.filters)


def allows(wire: FilterWire, uuid: str, message_type: str) -> bool:
    """Return whether a filter lets a message through."""
    filters = _filter_set(wire)
    return filters.allows_type(message_type) and (not filters.uuids or filters.allows_uuid(id_bytes(uuid)))


_filter_sets: dict[FilterWire, FilterSet] = {}


def _filter_set(wire: FilterWire) -> FilterSet:
    filters = _filter_sets.get(wire)
    if filters is None:
        if len(_filter_sets) > 1000:
            _filter_sets.clear()
        filters = _filter_sets[wire] = FilterSet.from_wire(wire)
    return filters


@dataclass(slots=True)
class Story:
    """What became of one message; numbers are indexes into the history, None or empty for what was not recorded."""

    index: int
    sent: Sent
    taken: list[int] = field(default_factory=list)
    accepted: int | None = None
    entrusted: int | None = None
    settled: int | None = None
    delivered: list[tuple[int, Delivered]] = field(default_factory=list)
    handled: list[tuple[int, Handled]] = field(default_factory=list)
    failed: list[tuple[int, Failed]] = field(default_factory=list)
    dead: list[tuple[int, Dead]] = field(default_factory=list)
    dropped: list[tuple[int, Dropped]] = field(default_factory=list)
    gaps: list[tuple[int, Gap]] = field(default_factory=list)


class Ledger:
    """A history and its indexes.

    Attributes:
        strangers: Events about messages that nobody had sent until then.
        kills: Indexes of the deaths of the bus.
        receivers: Whom messages were for, by uuid and index; see `conservation.receivers`.
    """

    def __init__(self, history: Sequence[Event]) -> None:
        self.history = history
        self.stories: dict[str, Story] = {}
        self.strangers: list[tuple[int, Event]] = []
        self.kills: list[int] = []
        self.started: dict[str, Started] = {}
        self.ended: dict[str, int] = {}
        self.members: dict[str, set[str]] = defaultdict(set)
        self.names: dict[str, set[str]] = defaultdict(set)
        self.is_quiet = False
        self.receivers: dict[tuple[str, int], list[str]] = {}
        self._claimants: dict[tuple[str, bool], set[str]] = {}
        for index, event in enumerate(history):
            self._note(index, event)

    def _note(self, index: int, event: Event) -> None:
        if isinstance(event, Sent):
            self.stories[event.uuid] = Story(index, event)
        elif (tell := _TELLS.get(type(event))) is not None:
            story = self.stories.get(event.uuid)  # type: ignore[attr-defined]
            if story is None:
                self.strangers.append((index, event))
            else:
                tell(story, index, event)
        elif isinstance(event, BusKilled):
            self.kills.append(index)
        elif isinstance(event, Started):
            self.started[event.pod] = event
            self.names[event.account].add(event.account)
            if event.service:
                self.names[event.service].add(event.account)
            if event.group:
                self.members[event.group].add(event.account)
        elif isinstance(event, Ended):
            self.ended.setdefault(event.pod, index)
        elif isinstance(event, Quiet):
            self.is_quiet = True

    def of(self, *kinds: type[Event]) -> Iterator[tuple[int, Any]]:
        """Yield the events of these very classes, each with its index, in order."""
        for index, event in enumerate(self.history):
            if type(event) in kinds:
                yield index, event

    def account(self, pod: str) -> str:
        """Return the account of a pod; of one that never started, its own name."""
        started = self.started.get(pod)
        return started.account if started is not None else pod

    def life(self, index: int) -> int:
        """Return in which life of the bus an event lies, counted from 0."""
        return bisect_right(self.kills, index)

    @cached_property
    def tells_all(self) -> bool:
        """Whether the bus itself has told what it took, and then what it gave up: only a simulated bus does."""
        return any(story.taken for story in self.stories.values())

    @cached_property
    def stands(self) -> dict[str, list[Stand]]:
        """Each account with its stands, in order."""
        builder = _Stands(self.started)
        for index, event in enumerate(self.history):
            builder.note(index, event)
        return builder.stands

    @cached_property
    def singles(self) -> list[str]:
        """Accounts that are not members of a group."""
        members = set().union(*self.members.values())
        return [account for account in self.stands if account not in members]

    @cached_property
    def by_pod(self) -> dict[str, list[tuple[int, Delivered | Handled | Failed]]]:
        """What the handlers of each pod did, in order."""
        done: dict[str, list[tuple[int, Delivered | Handled | Failed]]] = defaultdict(list)
        for index, event in self.of(Delivered, Handled, Failed):
            done[event.pod].append((index, event))
        return done

    def between(self, account: str, first: int, last: int) -> Iterator[Stand]:
        """Yield the stand of an account at one event, and all up to another."""
        stands = self.stands.get(account, [])
        for position in range(max(0, bisect_right(self._since.get(account, []), first) - 1), len(stands)):
            stand = stands[position]
            if stand.since > last:
                return
            yield stand

    @cached_property
    def _since(self) -> dict[str, list[int]]:
        return {account: [stand.since for stand in stands] for account, stands in self.stands.items()}

    def claimants(self, receiver: str, *, is_told: bool) -> set[str]:
        """Return the accounts with which a message for this receiver may end: itself, members, instances."""
        known = self._claimants.get((receiver, is_told))
        if known is None:
            known = {receiver, *self.members.get(receiver, ()), *(self.names.get(receiver, ()) if is_told else ())}
            self._claimants[receiver, is_told] = known
        return known


def _accept(story: Story, index: int, event: Event) -> None:
    story.accepted = index if story.accepted is None else story.accepted


def _entrust(story: Story, index: int, event: Event) -> None:
    story.entrusted = index if story.entrusted is None else story.entrusted


def _settle(story: Story, index: int, event: Event) -> None:
    story.settled = index if story.settled is None else story.settled


# Tables of functions: matching each event against one class after another took a tenth of the time of a seed.
_TELLS: dict[type[Event], Callable[[Story, int, Any], None]] = {
    Taken: lambda story, index, event: story.taken.append(index),
    Accepted: _accept,
    Entrusted: _entrust,
    Settled: _settle,
    Delivered: lambda story, index, event: story.delivered.append((index, event)),
    Handled: lambda story, index, event: story.handled.append((index, event)),
    Failed: lambda story, index, event: story.failed.append((index, event)),
    Dead: lambda story, index, event: story.dead.append((index, event)),
    Dropped: lambda story, index, event: story.dropped.append((index, event)),
    Gap: lambda story, index, event: story.gaps.append((index, event)),
}


_OF_PODS = frozenset((Started, Joined, FilterAsked, FilterConfirmed, Leaving, Ended, Lost, Struck))


class _Stands:
    """Follows what accounts want, event by event."""

    def __init__(self, started: dict[str, Started]) -> None:
        self.stands: dict[str, list[Stand]] = defaultdict(list)
        self._started = started
        self._asked: dict[str, dict[int, FilterWire]] = {}
        self._newest: dict[str, str] = {}

    def note(self, index: int, event: Event) -> None:
        if type(event) not in _OF_PODS:
            return
        match event:
            case Started():
                self._asked[event.pod] = {0: event.filters}
                self._newest[event.account] = event.pod
                stand = self._last(event.account)
                if stand is not None and stand.presence == "there":
                    # The incarnation before stands on the bus until this one has joined.
                    self._add(event.account, replace(stand, since=index, filters=(*stand.filters, event.filters)))
                else:
                    self._add(event.account, Stand(index, "away", event.pod, event.group, ()))
            case Joined():
                asked = self._asked.get(event.pod, {})
                started = self._started[event.pod]
                stand = Stand(index, "there", event.pod, started.group, tuple(asked.values()))
                self._add(started.account, stand)
            case FilterAsked() | FilterConfirmed():
                self._filter(index, event)
            case Leaving():
                self._gone(index, event.pod, event.reason)
            case Ended():
                if event.how != "left":  # it was gone when it began to leave
                    self._gone(index, event.pod, event.how)
            case Lost():
                self._gone(index, event.pod, "lost")
            case Struck():
                stand = self._last(event.account)
                if stand is not None:
                    self._add(event.account, replace(stand, since=index, presence="lost"))
            case _:
                pass

    def _filter(self, index: int, event: FilterAsked | FilterConfirmed) -> None:
        asked = self._asked.setdefault(event.pod, {})
        if isinstance(event, FilterAsked):
            asked[event.request] = event.filters
        else:
            for request in [request for request in asked if request < event.request]:
                del asked[request]
        account = self._started[event.pod].account
        stand = self._last(account)
        if stand is not None and stand.pod == event.pod and stand.presence == "there":
            self._add(account, replace(stand, since=index, filters=tuple(asked.values())))

    def _gone(self, index: int, pod: str, how: str) -> None:
        started = self._started.get(pod)
        stand = self._last(started.account) if started is not None else None
        if started is None or stand is None:
            return
        # One that the bus has given up, and that leaves before it learns of that, may join once more to do so.
        says_bye = stand.presence == "lost" and stand.pod == pod and how in COUNTED
        if stand.presence != "there" and not says_bye:
            return
        # The bus expects one pod of a name, which may be one between these that died before it heard of its WELCOME.
        is_between = how == "lost" and started.incarnation > self._started[stand.pod].incarnation
        if pod not in (stand.pod, self._newest[started.account]) and not is_between:
            return
        if started.supervised and how in KEPT:
            return
        presence: Presence = "left" if how in COUNTED else "lost"
        self._add(started.account, replace(stand, since=index, presence=presence))

    def _last(self, account: str) -> Stand | None:
        stands = self.stands[account]
        return stands[-1] if stands else None

    def _add(self, account: str, stand: Stand) -> None:
        self.stands[account].append(stand)
