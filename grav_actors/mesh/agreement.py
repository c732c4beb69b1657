"""Agreements on what is wanted: this node tells each peer, and each peer this node. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from grav_actors.mesh.effects import Ask, InterestAgreed, Reply, Subscribe
from grav_actors.mesh.frames import Interest, InterestDone
from grav_actors.mesh.peers import Asked, Peer, PeerState
from grav_actors.mesh.state import MeshState
from grav_actors.mesh.topics import BEAT_TOPIC, barrier_topic, directed_topic, without_covered

ASK_AGAIN = 1.0
"""Seconds after which an unanswered interest is sent once more."""
MAX_BARRIERS = 4096
"""Barriers that were seen and not asked about yet; past it the oldest go."""


class Agreement:
    """What this node wants of all peers, and what each of them wants.

    Args:
        on_track: Told when a peer has got a new track.

    Attributes:
        version: Of what this node wants; rises with each change.
        prefixes: What it wants.
    """

    def __init__(self, state: MeshState, on_track: Callable[[Peer], None]) -> None:
        self._state = state
        self._on_track = on_track
        self._next_version = 1
        self._barriers: OrderedDict[bytes, None] = OrderedDict()
        self._agreed = 0
        self.version = 0
        self.prefixes: tuple[bytes, ...] = ()

    # This node's half

    def want(self, prefixes: tuple[bytes, ...], now: float) -> int:
        """Change what this node wants; return the version that `InterestAgreed` will name."""
        if prefixes != self.prefixes:
            self.version += 1
            self.prefixes = prefixes
            for peer in self._state.peers.values():
                if peer.asked is None:
                    self.begin(peer, now)
        self.settle()
        return self.version

    def begin(self, peer: Peer, now: float) -> None:
        """Ask a peer for what this node wants now, behind a new barrier."""
        if not peer.link:
            return
        version = self._next_version
        self._next_version += 1
        # Both old and new until the peer has answered: what it numbers meanwhile by the old must come.
        old = peer.asked.frame.prefixes if peer.asked is not None else ()
        self._subscribe(peer, without_covered((*peer.subscribed, *old, *self.prefixes)), version)
        frame = Interest(
            self._state.me.incarnation,
            peer.incarnation,
            version,
            self.prefixes,
            barrier_topic(self._state.me.incarnation, version),
        )
        peer.asked = Asked(frame, self.version, now)
        self._state.out.append(Ask(peer.link, frame))

    def _subscribe(self, peer: Peer, prefixes: tuple[bytes, ...], version: int) -> None:
        me = self._state.me.incarnation
        always = (BEAT_TOPIC, directed_topic(me))
        self._state.out.append(Subscribe(peer.link, (*always, *prefixes, barrier_topic(me, version))))

    def answered(self, peer: Peer, answer: InterestDone, now: float) -> None:
        """Take a peer's answer."""
        asked = peer.asked
        if asked is None or answer.version != asked.frame.version:
            return  # of an earlier link; the present one has its own
        peer.asked = None
        peer.agreed = asked.local_version
        peer.subscribed = asked.frame.prefixes
        peer.is_answered = True
        peer.inflow.enter(answer.track, answer.sent)
        if peer.agreed < self.version:
            self.begin(peer, now)
        else:
            self._subscribe(peer, self.prefixes, answer.version)
        self._state.beat_soon(now)
        self.settle()

    def retry(self, now: float) -> None:
        """Send again what was not answered in time."""
        for peer in self._state.peers.values():
            if peer.link and peer.asked is not None and now - peer.asked.at >= ASK_AGAIN:
                peer.asked.at = now
                self._state.out.append(Ask(peer.link, peer.asked.frame))

    def knows(self, peer: Peer) -> bool:
        """Tell whether a peer knows all that was agreed with the others before."""
        return peer.agreed >= self._agreed

    def settle(self) -> None:
        """Say so when all peers that are up know what this node wants."""
        if self._agreed < self.version and all(
            peer.agreed >= self.version for peer in self._state.peers.values() if peer.state is PeerState.UP
        ):
            self._agreed = self.version
            self._state.out.append(InterestAgreed(self.version))

    # The peers' half

    def wanted(self, peer: Peer, frame: Interest, ticket: int, now: float) -> None:
        """Take what a peer wants: at once if its barrier was seen, else when it is."""
        if frame.version < peer.their_version:
            return  # a late one; the peer waits for the answer to a newer one
        if frame.version == peer.their_version or frame.barrier in self._barriers:
            self._barriers.pop(frame.barrier, None)
            self._apply(peer, frame, ticket, now)
        else:
            peer.pending = (frame, ticket)

    def seen(self, barrier: bytes, now: float) -> None:
        """Note that a barrier was subscribed to, and so everything before it."""
        for peer in self._state.peers.values():
            if peer.pending is not None and peer.pending[0].barrier == barrier:
                frame, ticket = peer.pending
                peer.pending = None
                self._apply(peer, frame, ticket, now)
                return
        self._barriers[barrier] = None
        if len(self._barriers) > MAX_BARRIERS:
            self._barriers.popitem(last=False)

    def _apply(self, peer: Peer, frame: Interest, ticket: int, now: float) -> None:
        is_new = self._state.outflow.track(peer.incarnation) is None
        track = self._state.outflow.open(peer.incarnation, frame.prefixes, peer.max_message)
        peer.their_version = frame.version
        peer.is_heard = True
        answer = InterestDone(self._state.me.incarnation, peer.incarnation, frame.version, track.number, track.sent)
        self._state.out.append(Reply(peer.link, ticket, answer))
        if is_new:
            self._on_track(peer)
        self._state.beat_soon(now)
