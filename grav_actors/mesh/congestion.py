"""How far a node runs ahead of its peers: past that its own pods wait. Pure."""

from __future__ import annotations

from typing import Final

from grav_actors.mesh.peers import Peer, PeerState
from grav_actors.mesh.state import MeshState

WINDOW_BYTES: Final = 8 * 1024 * 1024
"""Bytes that a peer which is up may have not acknowledged."""
WINDOW_RUNS: Final = 2048
"""Runs of the same. What waits in sockets is counted in runs, and lost when there are too many."""
STALL: Final = 5.0
"""Seconds after which a peer that has acknowledged nothing more holds up nobody; see the overflow of a pod."""


class Congestion:
    """Tells whether peers that are up are behind."""

    def __init__(self, state: MeshState) -> None:
        self._state = state

    def look(self, now: float) -> bool:
        """Tell whether this node should publish no more for now."""
        outflow = self._state.outflow
        if outflow.size <= WINDOW_BYTES and outflow.runs <= WINDOW_RUNS:
            return False  # all peers together
        behind = [self._is_behind(peer, now) for peer in self._state.peers.values()]  # each is looked at, for its time
        return any(behind)

    def _is_behind(self, peer: Peer, now: float) -> bool:
        track = self._state.outflow.track(peer.incarnation)
        if (
            track is None
            or peer.state is not PeerState.UP
            or (track.kept_bytes <= WINDOW_BYTES and track.kept_runs <= WINDOW_RUNS)
        ):
            peer.ahead_since = None
            return False
        if peer.ahead_since is None or track.acked != peer.ahead_acked:
            peer.ahead_since, peer.ahead_acked = now, track.acked
        return now - peer.ahead_since < STALL
