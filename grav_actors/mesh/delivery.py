"""Runs between nodes: numbered and kept here, put in order and repaired there. Pure."""

from __future__ import annotations

from collections.abc import Callable

from grav_actors.mesh.effects import Ask, Deliver, GapFound, Publish, Reply
from grav_actors.mesh.frames import Beat, Pulse, Repair, Repaired, Run
from grav_actors.mesh.inflow import Arrival, Gap
from grav_actors.mesh.outflow import Entry, Track
from grav_actors.mesh.peers import Peer
from grav_actors.mesh.relay_frames import AGAIN_TYPE, NEWS_TYPE, TOO_LARGE_TYPE, is_too_large
from grav_actors.mesh.state import MeshState
from grav_actors.mesh.topics import BEAT_TOPIC, directed_topic, type_topic

OWN_TYPES = (NEWS_TYPE, AGAIN_TYPE, TOO_LARGE_TYPE)
"""Types of runs that are for the mesh itself."""
ACK_BYTES = 1024 * 1024
"""Bytes from peers after which a beat acknowledges them before its time; a part of what a peer may be ahead."""
ACK_RUN_BYTES = 4096
"""Bytes that a run counts for at least."""


class Delivery:
    """What goes to the peers' buses, and what comes from them.

    Args:
        on_own: Told of a run that is for the mesh itself.
    """

    def __init__(self, state: MeshState, on_own: Callable[[Peer, Arrival], None]) -> None:
        self._state = state
        self.on_own = on_own
        self._unacknowledged = 0

    # Out

    def publish(self, type: str, count: int, meta: bytes, body: bytes) -> int:
        """Send a run to all peers that want its type; return how many these are."""
        topic = type_topic(type)
        wanting = self._state.outflow.wanted_by(topic)
        if count > 1:
            tracks = wanting
        else:
            tracks = tuple(track for track in wanting if not is_too_large(len(body), track.max_message))
            for track in wanting:
                if track not in tracks:
                    self._stand_in(track)
        if tracks:
            self._send(topic, tracks, Entry(type, count, meta, body, len(body)))
        return len(wanting)

    def _stand_in(self, track: Track) -> None:
        """Tell a peer, in its place among the others, of a message that is larger than it takes."""
        self._send(directed_topic(track.incarnation), (track,), Entry(TOO_LARGE_TYPE, 1, b"", b"", 0))

    def direct(self, peer: Peer, type: str, count: int, meta: bytes, body: bytes) -> bool:
        """Send a run to one peer, whatever it wants; false before it has ever said what."""
        track = self._state.outflow.track(peer.incarnation)
        if track is None:
            return False
        if count == 1 and is_too_large(len(body), track.max_message):
            self._stand_in(track)
        else:
            self._send(directed_topic(peer.incarnation), (track,), Entry(type, count, meta, body, len(body)))
        return True

    def _send(self, topic: bytes, tracks: tuple[Track, ...], entry: Entry) -> None:
        state = self._state
        body = entry.body
        numbers = state.outflow.put(tracks, entry)
        state.counts.published += entry.count
        reached = {track.incarnation for track in tracks}
        links = tuple(peer.link for peer in state.peers.values() if peer.link and peer.incarnation in reached)
        if links:
            frame = Run(state.me.incarnation, numbers, entry.type, entry.count, entry.meta)
            state.out.append(Publish(topic, frame, body, links))

    def beat(self, now: float) -> None:
        """Send a beat to all peers that have a link."""
        state = self._state
        self._unacknowledged = 0
        number = state.beat_sent(now)
        linked = [peer for peer in state.peers.values() if peer.link]
        if not linked:
            return
        pulses: list[Pulse] = []
        for peer in linked:
            track = state.outflow.track(peer.incarnation)
            vitals, inflow = peer.vitals, peer.inflow
            pulses.append(
                Pulse(
                    peer.incarnation,
                    track.number if track is not None else 0,
                    track.sent if track is not None else 0,
                    inflow.track,
                    inflow.acknowledged(is_held_back=state.is_full),
                    vitals.beat,
                    vitals.held(now),
                )
            )
        frame = Beat(state.me.incarnation, number, tuple(pulses))
        state.out.append(Publish(BEAT_TOPIC, frame, b"", tuple(peer.link for peer in linked)))

    def repair(self, peer: Peer, frame: Repair, ticket: int) -> None:
        """Answer a request for what a peer has missed."""
        state = self._state
        track = state.outflow.track(peer.incarnation)
        if track is None or track.number != frame.track:
            return  # the peer learns of its new track by the next beat
        answer, body = state.outflow.repair(track, state.me.incarnation, frame.holes)
        state.out.append(Reply(peer.link, ticket, answer, body))

    # In

    def ran(self, peer: Peer, frame: Run, body: bytes, now: float) -> None:
        """Take a run from the stream."""
        me = self._state.me.incarnation
        for incarnation, track, tseq in frame.tracks:
            if incarnation == me:
                peer.inflow.receive(track, Arrival(tseq, frame.type, frame.count, frame.meta, body))
                self._unacknowledged += max(len(body), ACK_RUN_BYTES)
                if self._unacknowledged >= ACK_BYTES:
                    self._state.beat_soon(now)
                self.settle(peer, now)
                return
        self._state.counts.unwanted += frame.count

    def pulsed(self, peer: Peer, pulse: Pulse, now: float) -> None:
        """Take what a beat says about both directions of the link."""
        state = self._state
        track = state.outflow.track(peer.incarnation)
        if track is not None and track.number == pulse.from_track:
            state.outflow.acknowledge(track, pulse.got)
        if pulse.track:
            peer.inflow.enter(pulse.track, pulse.sent)
            self.settle(peer, now)

    def repaired(self, peer: Peer, frame: Repaired, body: bytes, now: float) -> None:
        """Take the answer to a repair."""
        peer.inflow.repaired(frame, body)
        self.settle(peer, now)

    def settle(self, peer: Peer, now: float) -> None:
        """Hand on what is in order, and ask for what is missing."""
        inflow = peer.inflow
        if inflow.out:
            self.hand_on(peer)
        if peer.link and (holes := inflow.repair(now)):
            me = self._state.me.incarnation
            self._state.out.append(Ask(peer.link, Repair(me, peer.incarnation, inflow.track, holes)))

    def hand_on(self, peer: Peer) -> None:
        """Deliver and announce what the inflow has put in order."""
        state = self._state
        items, peer.inflow.out = peer.inflow.out, []
        for item in items:
            if isinstance(item, Gap):
                state.counts.lost += max(0, item.count)
                peer.is_stale = True
                state.out.append(GapFound(peer.uuid, peer.incarnation, item.count))
            elif item.type in OWN_TYPES:
                self.on_own(peer, item)
            else:
                state.counts.delivered += item.count
                state.out.append(Deliver(peer.uuid, peer.incarnation, item.type, item.count, item.meta, item.body))
