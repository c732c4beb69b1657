"""The mesh without its sockets: events and the time come in, effects go out. `docs/mesh.md` specifies it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from grav_actors.errors import ProtocolError
from grav_actors.mesh.actors import Actors
from grav_actors.mesh.agreement import ASK_AGAIN, Agreement
from grav_actors.mesh.congestion import Congestion
from grav_actors.mesh.delivery import Delivery
from grav_actors.mesh.dialling import Dialler
from grav_actors.mesh.effects import (
    Ask,
    DeliverTunnelled,
    Effect,
    Reply,
    TooLarge,
    TunnelEnded,
    WantedChanged,
    Withdrawn,
)
from grav_actors.mesh.frames import (
    Beat,
    Frame,
    Interest,
    InterestDone,
    Leave,
    LeaveDone,
    Repair,
    Repaired,
    Run,
    Tunnel,
    TunnelDone,
)
from grav_actors.mesh.handshake import Identity, Refusal
from grav_actors.mesh.inflow import Arrival
from grav_actors.mesh.liveness import LATE
from grav_actors.mesh.membership import Membership
from grav_actors.mesh.outflow import RETRANSMIT_BYTES
from grav_actors.mesh.peers import Leaving, Peer, PeerState
from grav_actors.mesh.relay_frames import (
    AGAIN_TYPE,
    NEWS_TYPE,
    TOO_LARGE_TYPE,
    Groups,
    Names,
    News,
    decode_news,
    encode_news,
    is_too_large,
)
from grav_actors.mesh.state import BEAT_SPACING, Counts, MeshState
from grav_actors.mesh.topics import interest_prefixes, type_topic
from grav_actors.mesh.tunnels import Attempt, Tunnels
from grav_actors.protocol import STAGE_END
from grav_actors.transports.base import Handshake, HandshakeAck

TICK = 0.1
"""Seconds between the calls of `tick`, about."""
LEAVE_AGAIN = 0.5
"""Seconds after which an unanswered farewell is sent once more."""


class MeshCore:
    """Decides what every event of the mesh means.

    Not thread-safe. Nothing here blocks, reads a clock or raises for what a peer sent. Links are numbered by
    the core; an event of a link that it does not have (any more) is dropped.

    Args:
        rng: Gives a number from 0 up to 1, to spread dials.
        retransmit: Bytes of runs that are kept for repair.

    Attributes:
        out: What is to be done, in order; whoever drives the core takes it out after each call.
    """

    def __init__(self, me: Identity, rng: Callable[[], float], *, retransmit: int = RETRANSMIT_BYTES) -> None:
        self.me = me
        self._state = MeshState.make(me, retransmit)
        self._agreement = Agreement(self._state, self._introduce)
        self._delivery = Delivery(self._state, self._on_own)
        self._dialler = Dialler(rng)
        self._membership = Membership(self._state, self._agreement, self._delivery, self._dialler, self._peer_gone)
        self._congestion = Congestion(self._state)
        self._tunnels = Tunnels()
        self._ticked_at: float | None = None
        self._has_left = False

    @property
    def out(self) -> list[Effect]:
        """What is to be done."""
        return self._state.out

    @property
    def counts(self) -> Counts:
        """Counters, for people."""
        return self._state.counts

    def peers(self) -> list[Peer]:
        """Return all peers that are known, in the order in which they came."""
        return list(self._state.peers.values())

    def peer(self, uuid: str) -> Peer | None:
        """Return a peer by its uuid."""
        return self._state.peers.get(uuid)

    def lag(self, peer: Peer) -> tuple[int, int]:
        """Return how many messages of a peer are known to be on their way, and how many it has not acknowledged."""
        track = self._state.outflow.track(peer.incarnation)
        return peer.inflow.last - peer.inflow.got, track.sent - track.acked if track is not None else 0

    def unanswered(self) -> dict[str, int]:
        """Return the endpoints at which nobody answers, with the number of dials in a row.

        Without those of peers that are there by another way: by their own dial, or at another address.
        """
        present = [peer for peer in self._state.peers.values() if peer.is_present]
        uuids = {peer.uuid for peer in present}
        endpoints = {endpoint for peer in present for endpoint in peer.endpoints}
        return {
            hint.endpoint: hint.failures
            for hint in self._dialler.unanswered()
            if hint.endpoint not in endpoints and not uuids & {hint.uuid, hint.leads_to}
        }

    # Finding and linking

    def hint(self, endpoint: str, uuid: str, now: float, *, is_lasting: bool = False) -> None:
        """Take what a discovery (or, lasting, the user) says: a node may be there."""
        if uuid != self.me.uuid and endpoint not in self.me.endpoints:
            self._dialler.add(endpoint, uuid, now, is_lasting=is_lasting)
            self._membership.dial(now)

    def accept(self) -> int:
        """Return the number of a link that a peer has opened, before its handshake."""
        return self._state.new_link(is_dialled=False).number

    def introduced(self, link: int, handshake: Handshake, now: float, *, can_replace: bool = False) -> HandshakeAck:
        """Return the answer to the handshake of a peer that has dialled."""
        known = self._state.links.get(link)
        if known is None:
            return self.me.refuse(Refusal("closed", "the link was closed meanwhile"))
        known.can_replace = can_replace
        return self._membership.introduced(known, handshake, now)

    def greeted(self, link: int, answer: HandshakeAck, now: float, *, can_replace: bool = False) -> None:
        """Take the answer to the handshake of a `Dial`."""
        known = self._state.links.get(link)
        if known is not None:
            known.can_replace = can_replace
            self._membership.greeted(known, answer, now)

    def dial_failed(self, link: int, now: float) -> None:
        """Note that a `Dial` came to nothing."""
        known = self._state.links.get(link)
        if known is not None:
            self._membership.dial_failed(known, now)

    def link_down(self, link: int, reason: str, now: float) -> None:
        """Note that a link has ended by itself; also one whose peer never introduced itself."""
        known = self._state.links.get(link)
        if known is not None:
            self._membership.link_down(known, reason, now)

    # How fast

    def is_congested(self, now: float) -> bool:
        """Tell whether peers are so far behind that nothing more should be published for now."""
        return self._congestion.look(now)

    def hold_back(self, now: float, *, is_full: bool) -> None:
        """Acknowledge nothing to peers as long as what came from them waits for the local bus."""
        self._state.is_full = is_full
        if not is_full:
            self._state.beat_soon(now)

    # What this node wants and says

    def want(self, patterns: Iterable[str], now: float) -> int:
        """Say what the pods of this node want; `InterestAgreed` follows with the version that is returned."""
        return self._agreement.want(interest_prefixes(patterns), now)

    def wanted(self) -> tuple[bytes, ...]:
        """Return the prefixes of what all peers together want of this node."""
        return self._state.outflow.wanted()

    def wants(self, uuid: str, type: str) -> bool:
        """Return whether a peer has asked for what is published under this type, besides for its groups."""
        peer = self._state.peers.get(uuid)
        track = self._state.outflow.track(peer.incarnation) if peer is not None else None
        return track is not None and track.wants(type_topic(type))

    @property
    def actors(self) -> Actors:
        """The actors and groups of peers."""
        return self._state.actors

    @property
    def version(self) -> int:
        """Version of what this node wants; see `InterestAgreed`."""
        return self._agreement.version

    def publish(self, type: str, count: int, meta: bytes, body: bytes) -> int:
        """Send a run to all peers that want its type, also those that are down for now; return how many."""
        return 0 if self._has_left else self._delivery.publish(type, count, meta, body)

    def refuse_large(self, uuid: str, count: int) -> None:
        """Count, and have announced, messages of a peer that are larger than the bus of this node takes."""
        self._state.counts.too_large += count
        self._state.out.append(TooLarge(uuid, count))

    def refusal_of(self, uuid: str, count: int, body: bytes) -> str:
        """Return why a run for one peer is not carried, in words for people; "" unless it is larger than that takes."""
        peer = self._state.peers.get(uuid)
        if count > 1 or peer is None or not is_too_large(len(body), peer.max_message):
            return ""
        return f"it has {len(body)} bytes; node {peer.name or uuid} takes messages of at most {peer.max_message}"

    def direct(self, uuid: str, type: str, count: int, meta: bytes, body: bytes) -> bool:
        """Send a run to one peer; false when it is none, has left, or was never up."""
        peer = self._state.peers.get(uuid)
        if peer is None or peer.state is PeerState.WITHDRAWN or self._has_left:
            return False
        return self._delivery.direct(peer, type, count, meta, body)

    # Which actors there are

    def tell_actors(self, groups: Groups, names: Names, *, is_all: bool = False) -> None:
        """Note which actors and groups this node has, or what has changed of that; the peers are told."""
        own = self._state.own
        for news in own.replace(groups, names) if is_all else own.change(groups, names):
            for peer in self._state.peers.values():
                if peer.state is not PeerState.WITHDRAWN:
                    self._tell(peer, news)

    def marks(self) -> list[tuple[bytes, int, int]]:
        """Return what each peer that is up has yet to learn of this node: for `behind`."""
        marks: list[tuple[bytes, int, int]] = []
        for peer in self._state.peers.values():
            track = self._state.outflow.track(peer.incarnation)
            if peer.state is PeerState.UP and track is not None:
                marks.append((peer.incarnation, self._agreement.version, track.sent))
        return marks

    def behind(self, marks: list[tuple[bytes, int, int]]) -> list[Peer]:
        """Return the peers that are up and have not learned of this node what these marks say."""
        peers = {peer.incarnation: peer for peer in self._state.peers.values() if peer.state is PeerState.UP}
        found: list[Peer] = []
        for incarnation, version, sent in marks:
            peer, track = peers.get(incarnation), self._state.outflow.track(incarnation)
            if peer is not None and track is not None and (peer.agreed < version or track.acked < sent):
                found.append(peer)
        return found

    def _introduce(self, peer: Peer) -> None:
        """Tell a peer all that this node has."""
        for news in self._state.own.all():
            self._tell(peer, news)

    def _tell(self, peer: Peer, news: News) -> None:
        if not self._has_left:
            self._delivery.direct(peer, NEWS_TYPE, 1, b"", encode_news(news))

    def _on_own(self, peer: Peer, run: Arrival) -> None:
        """Take what a peer's mesh has said to this one's."""
        if run.type == AGAIN_TYPE:
            self._introduce(peer)
            return
        if run.type == TOO_LARGE_TYPE:
            self.refuse_large(peer.uuid, run.count)
            return
        try:
            news = decode_news(run.body)
        except ProtocolError:
            self._state.counts.garbled += run.count
            return
        if self._state.actors.told(peer.uuid, peer.name, news):
            self._state.out.append(WantedChanged())
        if news.stage & STAGE_END:
            peer.is_acquainted, peer.is_stale = True, False
        # Whoever waits for this to be known is told by the beat.
        self._state.beat_due = min(self._state.beat_due, self._state.beat_at + BEAT_SPACING)

    def _ask_again(self, peer: Peer, now: float) -> None:
        """Have a peer tell everything again, if something of it was lost or never came."""
        is_known = peer.is_acquainted and not peer.is_stale
        if is_known or peer.asked_again_at is None or self._has_left:
            peer.asked_again_at = now
        elif now - peer.asked_again_at >= ASK_AGAIN:
            peer.asked_again_at = now
            self._delivery.direct(peer, AGAIN_TYPE, 1, b"", b"")

    def tunnel(self, capability: str, meta: bytes, body: bytes, now: float, deadline: float) -> int:
        """Send one message to one peer that offers a capability; `TunnelEnded` follows, at the latest then.

        Returns:
            The key by which `TunnelEnded` names it; 0 when no peer offers the capability and takes so much.
        """
        candidates = self._candidates(capability, len(body))
        if not candidates:
            return 0
        attempt = self._tunnels.begin(capability, meta, body, deadline)
        self._try(attempt, now)
        return attempt.number

    def withdraw(self, now: float) -> None:
        """Leave the mesh: `Withdrawn` follows when every peer has acknowledged."""
        if not self._state.is_leaving:
            self._state.is_leaving = True
            self._say_goodbye(now)

    def unacknowledged(self) -> list[Peer]:
        """Return the peers that can be reached and have not acknowledged that this node leaves."""
        gone = (PeerState.DOWN, PeerState.WITHDRAWN)
        peers = self._state.peers.values()
        return [peer for peer in peers if peer.link and not peer.is_told and peer.state not in gone]

    # What comes

    def subscribed(self, barrier: bytes, now: float) -> None:
        """Note that a peer has subscribed to a barrier, and so to all that it asked for before."""
        self._agreement.seen(barrier, now)

    def receive(self, link: int, frame: Frame, body: bytes, now: float, ticket: int = 0) -> None:
        """Take a frame.

        Args:
            ticket: Of a request: names it in the `Reply`.
        """
        peer = self._state.peer_of(link)
        if (
            peer is None
            or frame.incarnation != peer.incarnation
            or not (isinstance(frame, (Run, Beat)) or frame.to == self.me.incarnation)
        ):
            self._state.counts.strays += 1
            return
        peer.vitals.hear(now)
        match frame:
            case Run():
                self._delivery.ran(peer, frame, body, now)
            case Beat():
                self._on_beat(peer, frame, now)
            case Interest():
                self._agreement.wanted(peer, frame, ticket, now)
            case InterestDone():
                self._agreement.answered(peer, frame, now)
                self._delivery.settle(peer, now)
            case Repair():
                self._delivery.repair(peer, frame, ticket)
            case Repaired():
                self._delivery.repaired(peer, frame, body, now)
            case Leave():
                peer.leaving = Leaving(ticket, frame.track, frame.sent)
                peer.inflow.enter(frame.track, frame.sent)
                self._delivery.settle(peer, now)
            case LeaveDone():
                peer.is_told = True
                self._check_withdrawn()
            case Tunnel():
                self._on_tunnel(peer, frame, body, ticket)
            case TunnelDone():
                self._on_tunnel_done(peer, frame)
        self._let_go(peer, now)
        self._membership.evaluate(peer, now)
        self._beat_if_due(now)

    def _on_beat(self, peer: Peer, frame: Beat, now: float) -> None:
        before = peer.has_beat(), peer.has_echo()
        peer.vitals.hear_beat(frame.number, now)
        for pulse in frame.pulses:
            if pulse.to == self.me.incarnation:
                peer.vitals.hear_echo(pulse, self._state.beats, now)
                self._delivery.pulsed(peer, pulse, now)
        if before != (peer.has_beat(), peer.has_echo()):
            self._state.beat_soon(now)  # the peer waits for the echo of its beat to come up

    # Leaving

    def _let_go(self, peer: Peer, now: float) -> None:
        leaving = peer.leaving
        if leaving is None or not peer.inflow.is_whole():
            return
        peer.leaving = None
        link = peer.link
        self._state.out.append(Reply(link, leaving.ticket, LeaveDone(self.me.incarnation, peer.incarnation)))
        self._membership.withdrawn(peer, now)
        self._check_withdrawn()

    def _say_goodbye(self, now: float) -> None:
        for peer in self.unacknowledged():
            if peer.link and now - peer.told_at >= LEAVE_AGAIN:
                peer.told_at = now
                track = self._state.outflow.track(peer.incarnation)
                number, sent = (track.number, track.sent) if track is not None else (0, 0)
                self._state.out.append(Ask(peer.link, Leave(self.me.incarnation, peer.incarnation, number, sent)))
        self._check_withdrawn()

    def _check_withdrawn(self) -> None:
        if self._state.is_leaving and not self._has_left and not self.unacknowledged():
            self._has_left = True
            self._state.out.append(Withdrawn())

    # Tunnels

    def _candidates(self, capability: str, size: int) -> list[str]:
        return sorted(
            peer.uuid
            for peer in self._state.peers.values()
            if peer.state is PeerState.UP
            and peer.leaving is None
            and capability in peer.interests
            and not is_too_large(size, peer.max_message)
        )

    def _try(self, attempt: Attempt, now: float) -> None:
        uuid = self._tunnels.choose(attempt, self._candidates(attempt.capability, len(attempt.body)), now)
        if uuid is None:
            return  # all were asked; whoever answers first, until the deadline
        peer = self._state.peers[uuid]
        is_repeated = len(attempt.tried) > 1
        frame = Tunnel(self.me.incarnation, peer.incarnation, attempt.number, is_repeated, attempt.meta)
        self._state.out.append(Ask(peer.link, frame, attempt.body))

    def _on_tunnel(self, peer: Peer, frame: Tunnel, body: bytes, ticket: int) -> None:
        if peer.arrived.is_new(frame.number):
            self._state.out.append(DeliverTunnelled(peer.uuid, frame.meta, body, frame.redelivered))
        done = TunnelDone(self.me.incarnation, peer.incarnation, frame.number)
        self._state.out.append(Reply(peer.link, ticket, done))

    def _on_tunnel_done(self, peer: Peer, frame: TunnelDone) -> None:
        if self._tunnels.acknowledged(frame.number) is not None:
            self._state.out.append(TunnelEnded(frame.number, peer.uuid))

    def _peer_gone(self, peer: Peer, now: float) -> None:
        for attempt in self._tunnels.waiting_for(peer.uuid):
            self._try(attempt, now)
        self._check_withdrawn()

    # Time

    def tick(self, now: float) -> None:
        """Let time pass: to be called every tenth of a second, about."""
        before = self._ticked_at if self._ticked_at is not None else now
        self._ticked_at = now
        passed = now - before
        lateness = passed - TICK
        if lateness > LATE:
            # This node was not listening: what it has not heard meanwhile says nothing about its peers.
            for peer in self._state.peers.values():
                peer.vitals.forgive(lateness, now)
        self._beat_if_due(now)
        for peer in list(self._state.peers.values()):
            self._membership.evaluate(peer, now)
            peer.inflow.pass_time(min(passed, 2 * TICK), is_up=peer.state is PeerState.UP)
            self._delivery.settle(peer, now)
            self._let_go(peer, now)
            self._ask_again(peer, now)
        self._agreement.retry(now)
        self._membership.forget_old(now)
        self._membership.dial(now)
        if self._state.is_leaving and not self._has_left:
            self._say_goodbye(now)
        for attempt in self._tunnels.impatient(now):
            self._try(attempt, now)
        for attempt in self._tunnels.expired(now):
            reason = f"none of {len(attempt.tried)} peers acknowledged"
            self._state.out.append(TunnelEnded(attempt.number, "", reason))

    def _beat_if_due(self, now: float) -> None:
        if now >= self._state.beat_due and not self._has_left:
            self._delivery.beat(now)
