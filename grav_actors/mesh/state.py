"""What the parts of the mesh's core share. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from grav_actors.mesh.actors import Actors, OwnActors
from grav_actors.mesh.effects import Close, Effect, PeerChanged
from grav_actors.mesh.handshake import Identity
from grav_actors.mesh.liveness import BEAT_INTERVAL, Beats
from grav_actors.mesh.outflow import RETRANSMIT_BYTES, Outflow
from grav_actors.mesh.peers import Link, Peer, PeerState

BEAT_SPACING = 0.02
"""Seconds between beats at least, when there is news that does not wait for the next second."""


@dataclass(slots=True)
class Counts:
    """What is worth to be looked at when something is slow or wrong.

    Attributes:
        strays: Frames of a link or an incarnation that is not (any more) a peer's, or for another node.
        unwanted: Runs that this node had not asked for.
        garbled: Runs of peers that were malformed.
        late: Answers that nobody waits for any more.
        lost: Messages of peers in announced gaps whose count is known.
        too_large: Messages of peers that are larger than the bus of this node takes.
    """

    strays: int = 0
    unwanted: int = 0
    garbled: int = 0
    late: int = 0
    lost: int = 0
    too_large: int = 0
    delivered: int = 0
    duplicates: int = 0
    published: int = 0


@dataclass(slots=True)
class MeshState:
    """The node, its peers and links, and what is to be done.

    Attributes:
        out: Effects, in order.
        is_leaving: The node withdraws: no new peers.
        is_full: Much of what came waits for the local bus: nothing more is acknowledged for now.
        own: The actors and groups of this node, `actors` those of its peers.
    """

    me: Identity
    out: list[Effect] = field(default_factory=list[Effect])
    peers: dict[str, Peer] = field(default_factory=dict[str, Peer])
    links: dict[int, Link] = field(default_factory=dict[int, Link])
    outflow: Outflow = field(default_factory=Outflow)
    beats: Beats = field(default_factory=Beats)
    counts: Counts = field(default_factory=Counts)
    own: OwnActors = field(default_factory=OwnActors)
    actors: Actors = field(init=False)
    is_leaving: bool = False
    is_full: bool = False
    beat_at: float = float("-inf")
    beat_due: float = 0.0
    _next_link: int = 1

    def __post_init__(self) -> None:
        self.actors = Actors(self.out)

    @classmethod
    def make(cls, me: Identity, retransmit: int = RETRANSMIT_BYTES) -> MeshState:
        """Return the state of a node without peers."""
        return cls(me, outflow=Outflow(retransmit))

    def new_link(self, *, is_dialled: bool, endpoint: str = "") -> Link:
        """Return a link whose handshake is to come."""
        link = Link(self._next_link, is_dialled, endpoint)
        self._next_link += 1
        self.links[link.number] = link
        return link

    def close(self, number: int) -> None:
        """End a link, if it has not ended."""
        if self.links.pop(number, None) is not None:
            self.out.append(Close(number))

    def peer_of(self, number: int) -> Peer | None:
        """Return the peer whose link this is now."""
        link = self.links.get(number)
        peer = self.peers.get(link.uuid) if link is not None else None
        return peer if peer is not None and peer.link == number else None

    def change(self, peer: Peer, state: PeerState, now: float, reason: str = "") -> None:
        """Put a peer into another state, and say so."""
        if peer.state is not state:
            peer.state, peer.since = state, now
            # First: who waits for the peer to be up may ask its actors then.
            self.actors.present(peer.uuid, peer.name, is_here=peer.is_present, why=reason)
            self.out.append(PeerChanged(peer.uuid, state.value, reason))

    def beat_soon(self, now: float) -> None:
        """Have a beat sent before its time: there is news."""
        self.beat_due = min(self.beat_due, max(now, self.beat_at + BEAT_SPACING))

    def beat_sent(self, now: float) -> int:
        """Return the number of a beat that is sent now; the next one is due a second later."""
        self.beat_at, self.beat_due = now, now + BEAT_INTERVAL
        return self.beats.next(now)
