"""Peers as users see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grav_actors.mesh.core import MeshCore
    from grav_actors.mesh.peers import Peer as KnownPeer


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as it was when it was asked for.

    Attributes:
        uuid: New at each start of that node.
        name: What it calls itself; need not be unique.
        endpoint: Where it can be dialled; "" when it does not say.
        state: `joining`, `up`, `suspect`, `down` or `withdrawn`.
        belongs_to: Its group of nodes.
        interests: Capabilities that it offers to tunnels.
        rtt: Seconds there and back; None before it is known.
        last_seen: Seconds since anything came from it.
        version: Version of the handshake that it speaks.
        lag_in: Messages that it is known to have sent to this node, and that have not come in order yet.
        lag_out: Messages for it that it has not acknowledged; it does so each second.
        drift: Seconds by which its clock is ahead of this node's, about; None before it is known.
    """

    uuid: str
    name: str
    endpoint: str
    state: str
    belongs_to: str
    interests: tuple[str, ...]
    rtt: float | None
    last_seen: float
    version: int = 0
    lag_in: int = 0
    lag_out: int = 0
    drift: float | None = None


def look_at(core: MeshCore, peer: KnownPeer, now: float) -> Peer:
    """Return a peer as it is now."""
    lag_in, lag_out = core.lag(peer)
    return Peer(
        peer.uuid,
        peer.name,
        peer.endpoints[0] if peer.endpoints else "",
        peer.state.value,
        peer.belongs_to,
        peer.interests,
        peer.vitals.rtt,
        max(0.0, now - peer.vitals.heard_at),
        peer.version,
        lag_in,
        lag_out,
        peer.vitals.drift(),
    )
