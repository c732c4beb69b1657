"""Who is a peer, by which link, and in which state. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from grav_actors.mesh.agreement import Agreement
from grav_actors.mesh.delivery import Delivery
from grav_actors.mesh.dialling import Dialler, Hint
from grav_actors.mesh.effects import Dial, DialRefused, Open
from grav_actors.mesh.handshake import DUPLICATE, FULL, SELF, UUID, WITHDRAWN, Refusal, check_fit, stands
from grav_actors.mesh.inflow import Inflow
from grav_actors.mesh.liveness import DOWN_AFTER, SUSPECT_AFTER, Vitals
from grav_actors.mesh.peers import MAX_PEERS, Link, Peer, PeerState
from grav_actors.mesh.state import MeshState
from grav_actors.transports.base import Handshake, HandshakeAck

FORGET_AFTER = 600.0
"""Seconds after which a peer that is down or has withdrawn is forgotten, with all that was kept for it."""
MAX_POSITIONS = 4096
"""Forgotten incarnations whose positions are remembered, so that one which returns does not repeat itself."""
MAX_REPLACED = 4
"""Links of a peer that wait for its present one to be proven; past it the oldest is closed before."""


class Membership:
    """The peers and their links.

    Args:
        on_gone: Told when a peer is down, has left or is another incarnation from now on.
    """

    def __init__(
        self,
        state: MeshState,
        agreement: Agreement,
        delivery: Delivery,
        dialler: Dialler,
        on_gone: Callable[[Peer, float], None],
    ) -> None:
        self._state = state
        self._agreement = agreement
        self._delivery = delivery
        self._dialler = dialler
        self._on_gone = on_gone
        self._positions: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    # Handshakes

    def dial(self, now: float) -> None:
        """Dial what is due."""
        if self._state.is_leaving:
            return
        for hint in self._dialler.due(now, self._is_wanted):
            link = self._state.new_link(is_dialled=True, endpoint=hint.endpoint)
            hint.link = link.number
            self._state.out.append(Dial(link.number, hint.endpoint))

    def _is_wanted(self, hint: Hint) -> bool:
        peer = self._state.peers.get(hint.uuid or hint.leads_to)
        if peer is None:
            return True
        if peer.state is PeerState.WITHDRAWN:
            return not hint.uuid  # another node may be there by now
        return not peer.link or peer.state in (PeerState.DOWN, PeerState.SUSPECT)

    def introduced(self, link: Link, other: Handshake, now: float) -> HandshakeAck:
        """Answer the handshake of a node that has dialled this one."""
        me = self._state.me
        refusal = check_fit(me, other) or self._check_incoming(link, other)
        if refusal is not None:
            del self._state.links[link.number]  # closed by the driver, once the refusal is on its way
            return me.refuse(refusal)
        self._attach(link, other, now)
        return me.accept()

    def _check_incoming(self, link: Link, other: Handshake) -> Refusal | None:
        state = self._state
        if state.is_leaving:
            return Refusal(WITHDRAWN, f"node {state.me.uuid} leaves the mesh")
        peer = state.peers.get(other.uuid)
        if peer is None:
            return None if self._has_room() else Refusal(FULL, f"node {state.me.uuid} has {MAX_PEERS} peers already")
        if peer.incarnation.hex() != other.incarnation:
            if peer.link and peer.state is PeerState.UP:
                return Refusal(DUPLICATE, f"another life of node {other.uuid} is a peer, and answers")
            return None
        if peer.state is PeerState.WITHDRAWN:
            return Refusal(WITHDRAWN, f"node {other.uuid} has left the mesh; it comes back with a new start only")
        if self._keeps(peer, link):
            return Refusal(DUPLICATE, "the nodes are linked already")
        return None

    def _has_room(self) -> bool:
        peers = self._state.peers
        if len(peers) < MAX_PEERS:
            return True
        gone = [peer for peer in peers.values() if peer.state in (PeerState.DOWN, PeerState.WITHDRAWN)]
        if not gone:
            return False
        self._forget(min(gone, key=lambda peer: peer.since))
        return True

    def _keeps(self, peer: Peer, new: Link) -> bool:
        """Tell whether the link that a peer has goes before a new one."""
        old = self._state.links.get(peer.link)
        if old is None or old.can_replace or peer.state in (PeerState.DOWN, PeerState.SUSPECT):
            return False
        if old.is_dialled == new.is_dialled:
            return False  # whoever dials again knows best that the first one is gone
        return stands(self._state.me.uuid, peer.uuid, is_dialled=old.is_dialled)

    def greeted(self, link: Link, answer: HandshakeAck, now: float) -> None:
        """Take the answer to the handshake of a dial."""
        state = self._state
        hint = self._dialler.by_link(link.number)
        refusal = check_fit(state.me, answer, hint.uuid if hint is not None else "")
        if refusal is None and not answer.accept:
            refusal = Refusal(answer.code or "refused", answer.reason)
        if refusal is None and state.is_leaving:
            refusal = Refusal(WITHDRAWN, "this node leaves the mesh")
        if refusal is None and answer.uuid not in state.peers and not self._has_room():
            refusal = Refusal(FULL, f"this node has {MAX_PEERS} peers already")
        if refusal is not None:
            self._refused(link, hint, refusal, now)
            return
        if hint is not None:
            self._dialler.reached(hint, answer.uuid, now)
        peer = state.peers.get(answer.uuid)
        is_known = peer is not None and peer.incarnation.hex() == answer.incarnation
        if peer is not None and is_known and (peer.state is PeerState.WITHDRAWN or self._keeps(peer, link)):
            state.close(link.number)
            return
        self._attach(link, answer, now)

    def _refused(self, link: Link, hint: Hint | None, refusal: Refusal, now: float) -> None:
        self._state.close(link.number)
        if refusal.code == SELF:
            self._dialler.forget(link.endpoint)
        elif hint is not None and (refusal.code == DUPLICATE or (refusal.code == UUID and hint.is_lasting)):
            if refusal.code == UUID:
                hint.uuid = ""  # the user wants whoever is there; only the discovery was wrong
            self._dialler.failed(hint, now)
        elif hint is not None:
            self._dialler.refused(hint, now)
        if refusal.code != DUPLICATE:
            self._state.out.append(DialRefused(link.endpoint, refusal.code, refusal.reason))

    def dial_failed(self, link: Link, now: float) -> None:
        """Note that nobody answered a dial."""
        self._state.links.pop(link.number, None)
        hint = self._dialler.by_link(link.number)
        if hint is not None:
            self._dialler.failed(hint, now)

    def _attach(self, link: Link, other: Handshake | HandshakeAck, now: float) -> None:
        state = self._state
        incarnation = bytes.fromhex(other.incarnation)
        peer = state.peers.get(other.uuid)
        if peer is not None and peer.incarnation != incarnation:
            self._replace(peer, now)
            peer = None
        if peer is None:
            peer = Peer(other.uuid, incarnation, other.name, other.belongs_to, other.interests, other.endpoints,
                        Vitals(now), Inflow())  # fmt: skip
            peer.inflow.track, peer.inflow.got = self._positions.pop(incarnation, (0, 0))
            peer.inflow.last = peer.inflow.got
            peer.since, peer.version, peer.max_message = now, other.version, max(0, other.max_message)
            state.peers[other.uuid] = peer
        link.uuid = other.uuid
        old, peer.link = peer.link, link.number
        if old and link.is_dialled:
            state.close(old)
        elif old:
            # Its end must not reach the peer before the answer that tells of the new one: that would be a lost link.
            peer.replaced.append(old)
            if len(peer.replaced) > MAX_REPLACED:
                state.close(peer.replaced.pop(0))
        peer.attached_at = peer.tried_at = now
        peer.vitals.hear(now)
        peer.is_answered = peer.is_heard = False
        peer.pending = None
        peer.leaving = None  # its ticket belonged to the old link; the peer asks again
        peer.inflow.forget_repair()
        if link.is_dialled:
            peer.endpoints = tuple(dict.fromkeys((link.endpoint, *other.endpoints)))
        # A peer that dials this node may be found by it when it is lost, and the other way round.
        for endpoint in peer.endpoints:
            if endpoint not in state.me.endpoints:
                self._dialler.suggest(endpoint, other.uuid, now)
        state.out.append(Open(link.number))
        self._agreement.begin(peer, now)
        state.beat_soon(now)

    def _replace(self, peer: Peer, now: float) -> None:
        """End an incarnation because the next one of the same node is there."""
        peer.inflow.end(knows_all=peer.state in (PeerState.UP, PeerState.WITHDRAWN))
        self._delivery.hand_on(peer)
        self._state.change(peer, PeerState.DOWN, now, "the node's hub has started anew")
        self._drop(peer)
        self._on_gone(peer, now)

    # States

    def link_down(self, link: Link, reason: str, now: float) -> None:
        """Note that a link has ended by itself."""
        peer = self._state.peers.get(link.uuid)
        if peer is None or peer.link != link.number:
            self.dial_failed(link, now)  # perhaps its handshake was under way
            return
        del self._state.links[link.number]
        peer.link = 0
        if self._goes_back(peer, now):
            return
        # While joining another link may be on its way: nodes that dial each other make two and keep one.
        if peer.is_present:
            self._down(peer, now, reason or "the link has ended")

    def _goes_back(self, peer: Peer, now: float) -> bool:
        """Use the link again in whose place one had come that has ended unproven; return whether there is one.

        A handshake that the network brings twice makes two links, of which the other node knows one.
        """
        while peer.replaced:
            number = peer.replaced.pop()
            if number in self._state.links:
                peer.link, peer.attached_at = number, now
                peer.is_heard = peer.their_version > 0
                self._agreement.begin(peer, now)
                self._state.beat_soon(now)
                return True
        return False

    def evaluate(self, peer: Peer, now: float) -> None:
        """Put a peer into the state that its signs of life call for."""
        silence = peer.vitals.silence(now)
        if peer.replaced and peer.is_proven():
            self._close_replaced(peer)
        match peer.state:
            case PeerState.JOINING | PeerState.DOWN:
                if silence < SUSPECT_AFTER and peer.is_proven() and self._agreement.knows(peer):
                    self._state.change(peer, PeerState.UP, now)
                    self._agreement.settle()
                elif peer.state is PeerState.JOINING and now - max(peer.since, peer.tried_at) >= DOWN_AFTER:
                    self._down(peer, now, f"it did not come up within {DOWN_AFTER:g} s")
            case PeerState.UP | PeerState.SUSPECT:
                if silence >= DOWN_AFTER:
                    self._down(peer, now, f"silent for {silence:.1f} s")
                elif silence >= SUSPECT_AFTER:
                    self._state.change(peer, PeerState.SUSPECT, now, f"silent for {silence:.1f} s")
                elif peer.state is PeerState.SUSPECT:
                    self._state.change(peer, PeerState.UP, now)
            case PeerState.WITHDRAWN:
                pass

    def _down(self, peer: Peer, now: float, reason: str) -> None:
        # Its link stays, if it has not ended: it may heal by itself, and a new one may take its place.
        self._close_replaced(peer)
        self._state.change(peer, PeerState.DOWN, now, reason)
        self._agreement.settle()
        self._on_gone(peer, now)

    def withdrawn(self, peer: Peer, now: float) -> None:
        """Note that a peer has left, and everything it sent has come."""
        self._state.outflow.close(peer.incarnation)
        self._state.change(peer, PeerState.WITHDRAWN, now, "it has left the mesh")
        self._state.actors.forget(peer.uuid)
        self._agreement.settle()
        self._on_gone(peer, now)

    def forget_old(self, now: float) -> None:
        """Forget those who are gone for long."""
        for peer in list(self._state.peers.values()):
            is_gone = peer.state in (PeerState.DOWN, PeerState.WITHDRAWN)
            if is_gone and now - peer.since >= FORGET_AFTER:
                self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        peer.inflow.end(knows_all=True)
        self._delivery.hand_on(peer)
        self._positions[peer.incarnation] = (peer.inflow.track, peer.inflow.got)
        if len(self._positions) > MAX_POSITIONS:
            self._positions.popitem(last=False)
        self._drop(peer)

    def _close_replaced(self, peer: Peer) -> None:
        for number in peer.replaced:
            self._state.close(number)
        peer.replaced.clear()

    def _drop(self, peer: Peer) -> None:
        self._close_replaced(peer)
        if peer.link:
            self._state.close(peer.link)
        self._state.outflow.close(peer.incarnation)
        self._state.actors.forget(peer.uuid)
        del self._state.peers[peer.uuid]
