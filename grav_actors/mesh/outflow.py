"""What this node sends: numbered on the track of each peer that wants it, and kept until all have it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from grav_actors.mesh.frames import MAX_ITEMS, Repaired, RepairedRun
from grav_actors.mesh.topics import without_covered

RETRANSMIT_BYTES = 64 * 1024 * 1024
"""Bytes of runs that are kept for repair; past it the oldest go."""
ENTRY_OVERHEAD = 256
"""Bytes that a kept run counts for beside its body."""
REPAIR_BYTES = 1024 * 1024
"""Bytes of bodies after which the answer to a repair is closed; one larger run travels alone."""
TOPIC_CACHE = 4096
"""Topics whose tracks are remembered; dropped as a whole when full."""


class Track:
    """The way to one peer: all messages that it wants, numbered without holes.

    Attributes:
        number: Tells the tracks of this incarnation apart; rises, and is never used twice.
        sent: Number of the last message.
        acked: The peer has everything up to this number.
        floor: The lowest number that can be repaired; `sent + 1` when there is nothing.
        prefixes: What the peer wants.
        max_message: Bytes of one message's data that it takes; 0 when it does not say.
        kept_bytes: Of the bodies that it has not acknowledged.
    """

    __slots__ = ("_kept", "acked", "floor", "incarnation", "kept_bytes", "max_message", "number", "prefixes",
                 "sent")  # fmt: skip

    def __init__(self, number: int, incarnation: bytes) -> None:
        self.number = number
        self.incarnation = incarnation
        self.sent = 0
        self.acked = 0
        self.floor = 1
        self.prefixes: tuple[bytes, ...] = ()
        self.max_message = 0
        self._kept: deque[tuple[int, Entry]] = deque()
        self.kept_bytes = 0

    @property
    def kept_runs(self) -> int:
        """Runs that the peer has not acknowledged."""
        return len(self._kept)

    def wants(self, topic: bytes) -> bool:
        """Tell whether the peer has asked for what is published under this topic."""
        return topic.startswith(self.prefixes)

    def append(self, entry: Entry) -> int:
        """Put a run on the track; return the number of its first message."""
        tseq = self.sent + 1
        self.sent += entry.count
        self._kept.append((tseq, entry))
        self.kept_bytes += entry.size
        entry.tracks.add(self)
        return tseq

    def acknowledge(self, got: int) -> list[Entry]:
        """Note that the peer has everything up to `got`; return the runs that it needs no longer."""
        self.acked = max(self.acked, min(got, self.sent))
        done: list[Entry] = []
        while self._kept and self._kept[0][0] + self._kept[0][1].count - 1 <= self.acked:
            tseq, entry = self._kept.popleft()
            self.floor = tseq + entry.count
            self.kept_bytes -= entry.size
            done.append(entry)
        return done

    def lose(self, entry: Entry) -> None:
        """Let go of the oldest run, which the peer does not have."""
        tseq, oldest = self._kept.popleft()
        assert oldest is entry, "runs leave in the order in which they came"
        self.floor = tseq + entry.count
        self.kept_bytes -= entry.size

    def abandon(self) -> list[Entry]:
        """Let go of everything: the peer is no more. Return the runs that it did not have."""
        entries = [entry for _, entry in self._kept]
        self._kept.clear()
        self.kept_bytes = 0
        return entries

    def find(self, holes: Iterable[tuple[int, int]]) -> list[tuple[int, Entry]]:
        """Return the kept runs in these ranges, at most what one answer takes."""
        found: list[tuple[int, Entry]] = []
        size = 0
        for first, last in holes:
            for tseq, entry in self._from(first):
                if tseq > last:
                    break
                if found and found[-1][0] >= tseq:
                    continue  # two holes in one run
                size += entry.size
                if (found and size > REPAIR_BYTES) or len(found) >= MAX_ITEMS:
                    return found
                found.append((tseq, entry))
        return found

    def _from(self, first: int) -> Iterable[tuple[int, Entry]]:
        low, high = 0, len(self._kept)
        while low < high:  # a deque is slow in its middle, but a search looks at few
            middle = (low + high) // 2
            tseq, entry = self._kept[middle]
            if tseq + entry.count - 1 < first:
                low = middle + 1
            else:
                high = middle
        for index in range(low, len(self._kept)):
            yield self._kept[index]

    def __repr__(self) -> str:
        return f"<Track {self.number} to {self.incarnation.hex()} {self.floor}..{self.sent}, acked {self.acked}>"


@dataclass(slots=True, eq=False)
class Entry:
    """A run that is kept for repair.

    Attributes:
        tracks: Tracks that have not acknowledged it.
        is_gone: All have, or it had to go.
    """

    type: str
    count: int
    meta: bytes
    body: bytes
    size: int
    tracks: set[Track] = field(default_factory=set[Track])
    is_gone: bool = False


class Outflow:
    """The tracks to all peers, and the runs that are kept for them.

    Attributes:
        size: Bytes kept, at most `limit` and one run.
        evicted: Messages that had to go before every peer had them.
    """

    def __init__(self, limit: int = RETRANSMIT_BYTES) -> None:
        self._limit = limit
        self._kept: deque[Entry] = deque()
        self._tracks: dict[bytes, Track] = {}
        self._next_track = 1
        self._by_topic: dict[bytes, tuple[Track, ...]] = {}
        self.size = 0
        self.evicted = 0

    @property
    def runs(self) -> int:
        """Runs kept; some of them may have been acknowledged by all."""
        return len(self._kept)

    def track(self, incarnation: bytes) -> Track | None:
        """Return the track to a peer, if it has one."""
        return self._tracks.get(incarnation)

    def open(self, incarnation: bytes, prefixes: tuple[bytes, ...], max_message: int = 0) -> Track:
        """Let a peer want these from now on; return its track, a new one if it had none."""
        track = self._tracks.get(incarnation)
        if track is None:
            track = self._tracks[incarnation] = Track(self._next_track, incarnation)
            self._next_track += 1
        track.prefixes, track.max_message = prefixes, max_message
        self._by_topic.clear()
        return track

    def close(self, incarnation: bytes) -> int:
        """Forget a peer; return how many messages it did not have, as far as is known."""
        track = self._tracks.pop(incarnation, None)
        if track is None:
            return 0
        self._by_topic.clear()
        self._release(track, track.abandon())
        return track.sent - track.acked

    def wanted_by(self, topic: bytes) -> tuple[Track, ...]:
        """Return the tracks of those who want what is published under a topic."""
        tracks = self._by_topic.get(topic)
        if tracks is None:
            if len(self._by_topic) >= TOPIC_CACHE:
                self._by_topic.clear()
            tracks = self._by_topic[topic] = tuple(track for track in self._tracks.values() if track.wants(topic))
        return tracks

    def wanted(self) -> tuple[bytes, ...]:
        """Return what all peers together want, none covered by another."""
        return without_covered(prefix for track in self._tracks.values() for prefix in track.prefixes)

    def put(self, tracks: Iterable[Track], entry: Entry) -> tuple[tuple[bytes, int, int], ...]:
        """Number a run on these tracks and keep it; return `(incarnation, track, tseq)` for each."""
        numbers = tuple((track.incarnation, track.number, track.append(entry)) for track in tracks)
        self._kept.append(entry)
        self.size += entry.size + ENTRY_OVERHEAD
        self._trim()
        return numbers

    def acknowledge(self, track: Track, got: int) -> None:
        """Note that a peer has everything up to `got`."""
        self._release(track, track.acknowledge(got))

    def _release(self, track: Track, entries: Iterable[Entry]) -> None:
        for entry in entries:
            entry.tracks.discard(track)
            if not entry.tracks:
                self._drop(entry)
        while self._kept and self._kept[0].is_gone:
            self._kept.popleft()

    def _drop(self, entry: Entry) -> None:
        entry.is_gone = True
        entry.body = b""
        self.size -= entry.size + ENTRY_OVERHEAD

    def _trim(self) -> None:
        # The newest stays: a single run over the limit must be repairable too.
        while self._kept and (self._kept[0].is_gone or (self.size > self._limit and len(self._kept) > 1)):
            entry = self._kept.popleft()
            if entry.is_gone:
                continue
            self.evicted += entry.count
            for track in entry.tracks:
                track.lose(entry)
            entry.tracks.clear()
            self._drop(entry)

    def repair(self, track: Track, me: bytes, holes: Iterable[tuple[int, int]]) -> tuple[Repaired, bytes]:
        """Return the answer to a repair, and its body."""
        runs: list[RepairedRun] = []
        bodies: list[bytes] = []
        for tseq, entry in track.find(holes):
            runs.append((tseq, entry.type, entry.count, len(entry.body), entry.meta))
            bodies.append(entry.body)
        return Repaired(me, track.incarnation, track.number, track.floor, tuple(runs)), b"".join(bodies)
