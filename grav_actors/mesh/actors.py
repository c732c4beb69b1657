"""Which actors and groups the nodes of a mesh have: what this one tells, and what it was told. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from grav_actors.mesh.effects import ActorsChanged, Effect
from grav_actors.mesh.relay_frames import MAX_NEWS_ITEMS, Groups, Names, News
from grav_actors.pattern import matches
from grav_actors.protocol import MAX_REMOTE_NAMES, STAGE_BEGIN, STAGE_CHANGE, STAGE_END

MAX_NAMES = 16_384
"""Names of one node that travel; further ones are known on that node alone."""
MAX_GROUPS = 4096
"""Wants of groups of one node that travel."""
CACHED_TYPES = 4096
"""Types whose groups are remembered; at the limit the memory starts anew."""
LOST = "lost"
"""Reason of an end: the node cannot be reached, or has left."""


class OwnActors:
    """What this node tells its peers.

    Attributes:
        hidden: Names and wants that do not travel, as there are too many.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._groups: dict[tuple[str, str], None] = {}
        self.hidden = 0

    def change(self, groups: Groups, names: Names) -> Iterator[News]:
        """Note what has changed on the bus; yield what is to be told."""
        told_groups: list[tuple[str, str, bool]] = []
        told_names: list[tuple[str, str | None, str]] = []
        for group, pattern, is_wanted in groups:
            if is_wanted and (group, pattern) not in self._groups and len(self._groups) >= MAX_GROUPS:
                self.hidden += 1
            elif is_wanted != ((group, pattern) in self._groups):
                told_groups.append((group, pattern, is_wanted))
                if is_wanted:
                    self._groups[group, pattern] = None
                else:
                    del self._groups[group, pattern]
        for name, reason, error in names:
            if reason is None and name not in self._names and len(self._names) >= MAX_NAMES:
                self.hidden += 1
            elif (reason is None) != (name in self._names):
                told_names.append((name, reason, error))
                if reason is None:
                    self._names[name] = None
                else:
                    del self._names[name]
        yield from _parts(told_groups, told_names)

    def replace(self, groups: Groups, names: Names) -> Iterator[News]:
        """Note all that there is; yield what differs from what was told."""
        gone_groups = tuple((*key, False) for key in self._groups if (*key, True) not in {*groups})
        here = {name for name, _, _ in names}
        gone_names = tuple((name, LOST, "") for name in self._names if name not in here)
        yield from self.change((*gone_groups, *groups), (*gone_names, *names))

    def all(self) -> Iterator[News]:
        """Yield everything, for a peer that knows nothing yet."""
        groups = [(*key, True) for key in self._groups]
        names: list[tuple[str, str | None, str]] = [(name, None, "") for name in self._names]
        parts = list(_parts(groups, names)) or [News(STAGE_CHANGE, (), ())]
        for index, part in enumerate(parts):
            begin = STAGE_BEGIN if index == 0 else STAGE_CHANGE
            end = STAGE_END if index == len(parts) - 1 else STAGE_CHANGE
            yield News(begin | end, part.groups, part.names)


def _parts(groups: list[tuple[str, str, bool]], names: list[tuple[str, str | None, str]]) -> Iterator[News]:
    for first in range(0, max(len(groups), len(names)), MAX_NEWS_ITEMS):
        part = slice(first, first + MAX_NEWS_ITEMS)
        yield News(STAGE_CHANGE, tuple(groups[part]), tuple(names[part]))


@dataclass(slots=True)
class PeerActors:
    """What a peer has told.

    Attributes:
        is_whole: It has told all at least once.
        is_here: The peer can be reached: its actors are known on the bus.
    """

    label: str
    names: dict[str, None] = field(default_factory=dict[str, None])
    groups: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])
    stale: set[str] = field(default_factory=set[str])
    stale_groups: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    is_whole: bool = False
    is_here: bool = False


class Actors:
    """What the peers have told, and which of them has a name.

    Of several that have it, the one that had it first goes first, until it is gone.

    Args:
        out: Where effects go.
    """

    def __init__(self, out: list[Effect]) -> None:
        self._out = out
        self._peers: dict[str, PeerActors] = {}
        self._holders: dict[str, dict[str, None]] = {}
        self._by_type: dict[str, tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = {}
        self._turn: dict[str, int] = {}

    # Questions

    def holder(self, name: str) -> str | None:
        """Return the uuid of the peer that has an actor of that name and can be reached."""
        holders = self._holders.get(name)
        return next(iter(holders)) if holders else None

    def names_of(self, uuid: str) -> list[str]:
        """Return the names that a peer has told."""
        peer = self._peers.get(uuid)
        return list(peer.names) if peer is not None else []

    def is_whole(self, uuid: str) -> bool:
        """Return whether a peer has told all that it has."""
        peer = self._peers.get(uuid)
        return peer is not None and peer.is_whole

    def group_patterns(self) -> set[str]:
        """Return what the groups of all peers want."""
        return {pattern for peer in self._peers.values() for _, pattern in peer.groups}

    def choose(self, message_type: str, served: tuple[str, ...]) -> dict[str, str]:
        """Return for each group that is to have a message of this type on a peer: which peer, in turn.

        One that can be reached goes before one that is awaited; among those that are awaited the first one stays.

        Args:
            served: Groups that have it on this node.
        """
        chosen: dict[str, str] = {}
        for group, here, away in self._groups_for(message_type):
            if group in served:
                continue
            if here:
                turn = self._turn[group] = self._turn.get(group, -1) + 1
                chosen[group] = here[turn % len(here)]
            else:
                chosen[group] = away[0]
        return chosen

    def _groups_for(self, message_type: str) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
        found = self._by_type.get(message_type)
        if found is None:
            if len(self._by_type) >= CACHED_TYPES:
                self._by_type.clear()
            members: dict[str, dict[str, None]] = {}
            for uuid, peer in self._peers.items():
                for group, pattern in peer.groups:
                    if matches(pattern, message_type):
                        members.setdefault(group, {})[uuid] = None
            found = self._by_type[message_type] = tuple(
                (
                    group,
                    tuple(uuid for uuid in uuids if self._peers[uuid].is_here),
                    tuple(uuid for uuid in uuids if not self._peers[uuid].is_here),
                )
                for group, uuids in members.items()
            )
        return found

    # What comes

    def told(self, uuid: str, label: str, news: News) -> bool:
        """Take a peer's news; return whether what its groups want is different now."""
        peer = self._peers.setdefault(uuid, PeerActors(label))
        has_groups = bool(news.groups)
        begun: list[str] = []
        ended: list[tuple[str, str, str]] = []
        if news.stage & STAGE_BEGIN:
            peer.stale, peer.stale_groups = set(peer.names), set(peer.groups)
        for group, pattern, is_wanted in news.groups:
            peer.stale_groups.discard((group, pattern))
            if not is_wanted:
                peer.groups.pop((group, pattern), None)
            elif len(peer.groups) < MAX_GROUPS:
                peer.groups[group, pattern] = None
        for name, reason, error in news.names:
            peer.stale.discard(name)
            if reason is not None:
                ended.append((name, reason, error))
            elif len(peer.names) < MAX_NAMES:
                peer.names[name] = None
                begun.append(name)
        if news.stage & STAGE_END:
            ended += [(name, LOST, "") for name in sorted(peer.stale)]
            has_groups = has_groups or bool(peer.stale_groups)
            for key in peer.stale_groups:
                peer.groups.pop(key, None)
            peer.stale, peer.stale_groups = set(), set()
            peer.is_whole = True
        for name, _, _ in ended:
            peer.names.pop(name, None)
        if peer.is_here:
            self._change(uuid, begun, ended)
        if has_groups:
            self._by_type.clear()
        return has_groups

    def present(self, uuid: str, label: str, *, is_here: bool, why: str = "") -> None:
        """Note that a peer can be reached from now on, or no longer."""
        peer = self._peers.setdefault(uuid, PeerActors(label))
        if peer.is_here == is_here:
            return
        peer.is_here = is_here
        self._by_type.clear()
        if is_here:
            self._change(uuid, list(peer.names), [])
        else:
            text = f"node {peer.label or uuid} is gone: {why}" if why else f"node {peer.label or uuid} is gone"
            self._change(uuid, [], [(name, LOST, text) for name in peer.names])

    def forget(self, uuid: str) -> None:
        """Forget a peer that has left, or is another incarnation."""
        self.present(uuid, "", is_here=False)
        del self._peers[uuid]
        self._by_type.clear()

    def _change(self, uuid: str, begun: list[str], ended: list[tuple[str, str, str]]) -> None:
        told_begun: list[tuple[str, str]] = []
        told_ended: list[tuple[str, str, str]] = []
        for name, reason, error in ended:
            holders = self._holders.get(name)
            if holders is None or uuid not in holders:
                continue
            was_first = next(iter(holders)) == uuid
            del holders[uuid]
            if not holders:
                del self._holders[name]
            if was_first:
                told_ended.append((name, reason, error))
                if holders:
                    told_begun.append((name, next(iter(holders))))
        for name in begun:
            holders = self._holders.get(name)
            if holders is None:
                if len(self._holders) >= MAX_REMOTE_NAMES:
                    continue
                holders = self._holders[name] = {}
                told_begun.append((name, uuid))
            holders[uuid] = None
        if told_begun or told_ended:
            self._out.append(ActorsChanged(tuple(told_begun), tuple(told_ended)))
