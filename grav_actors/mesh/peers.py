"""The peers of a node, and its links to them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from grav_actors.mesh.frames import Interest
from grav_actors.mesh.inflow import Inflow
from grav_actors.mesh.liveness import Vitals
from grav_actors.mesh.tunnels import Arrived

MAX_PEERS = 1024
"""Peers that are admitted; those that are down count too, until they are forgotten."""


class PeerState(Enum):
    """Where a peer stands; `docs/mesh.md` has the answer to every event in every state."""

    JOINING = "joining"
    """A handshake was accepted; not everything is proven yet."""
    UP = "up"
    """Frames pass in both directions, and both know what the other wants."""
    SUSPECT = "suspect"
    """Silent for 3 s in one direction."""
    DOWN = "down"
    """Silent for 10 s, or its link has ended. What it wants is kept for its return."""
    WITHDRAWN = "withdrawn"
    """It has left by its own will."""


@dataclass(slots=True)
class Link:
    """A connection, from its handshake to its end.

    Attributes:
        is_dialled: This node dialled it.
        endpoint: What was dialled; "" when the peer did.
        uuid: Of the peer; "" before the handshake.
        can_replace: A newer link to the same peer may take its place at any time.
    """

    number: int
    is_dialled: bool
    endpoint: str = ""
    uuid: str = ""
    can_replace: bool = False


@dataclass(slots=True)
class Asked:
    """An interest that was sent and not answered yet.

    Attributes:
        local_version: Version of what this node wants that it stands for.
        at: When it was sent last.
    """

    frame: Interest
    local_version: int
    at: float


@dataclass(slots=True)
class Leaving:
    """A peer's wish to leave, not granted before everything it sent has come."""

    ticket: int
    track: int
    sent: int


@dataclass(slots=True)
class Peer:
    """One incarnation of another node.

    Attributes:
        link: Number of its link; 0 for none.
        replaced: Links in whose place that one came; closed when it is proven.
        attached_at: When that link became its link.
        tried_at: When a link to it was last made; going back to an earlier one is no new attempt.
        asked: What this node wants, as long as the peer has not answered.
        agreed: Local version up to which the peer knows what this node wants; -1 for nothing.
        is_answered: On this link the peer has answered what this node wants.
        is_heard: On this link this node has answered what the peer wants.
        their_version: Version of what the peer wants.
        pending: What the peer wants, as long as its barrier was not seen; with its ticket.
        leaving: The peer wants to leave.
        is_told: The peer has acknowledged that this node leaves.
        told_at: When it was last told.
        subscribed: What the peer numbers for this node, by its last answer.
        arrived: The tunnels that came from it.
        ahead_since, ahead_acked: Since when this node is too far ahead of it, and what it has acknowledged since.
        is_acquainted: It has told which actors it has.
        is_stale: Something was lost, perhaps of that: it is to tell it again.
        asked_again_at: When it was last asked to, or was not to; None before the first look.
        version: Of its handshake.
        max_message: Bytes of one message's data that its bus takes; 0 when it does not say.
    """

    uuid: str
    incarnation: bytes
    name: str
    belongs_to: str
    interests: tuple[str, ...]
    endpoints: tuple[str, ...]
    vitals: Vitals
    inflow: Inflow
    state: PeerState = PeerState.JOINING
    since: float = 0.0
    link: int = 0
    attached_at: float = 0.0
    tried_at: float = 0.0
    asked: Asked | None = None
    agreed: int = -1
    is_answered: bool = False
    is_heard: bool = False
    their_version: int = 0
    pending: tuple[Interest, int] | None = None
    leaving: Leaving | None = None
    is_told: bool = False
    told_at: float = float("-inf")
    subscribed: tuple[bytes, ...] = ()
    ahead_since: float | None = None
    ahead_acked: int = 0
    replaced: list[int] = field(default_factory=list[int])
    arrived: Arrived = field(default_factory=Arrived)
    is_acquainted: bool = False
    is_stale: bool = False
    asked_again_at: float | None = None
    version: int = 0
    max_message: int = 0

    @property
    def is_present(self) -> bool:
        """Whether it is up, or was a moment ago."""
        return self.state in (PeerState.UP, PeerState.SUSPECT)

    def has_beat(self) -> bool:
        """Tell whether a beat of it came by its present link."""
        return self.vitals.beat > 0 and self.vitals.beat_at >= self.attached_at

    def has_echo(self) -> bool:
        """Tell whether it has heard a beat of this node by its present link."""
        return self.vitals.rtt is not None and self.vitals.echoed_at >= self.attached_at

    def is_proven(self) -> bool:
        """Tell whether on its present link everything has passed in both directions."""
        has_passed = self.is_answered and self.is_heard and self.has_beat() and self.has_echo()
        return self.link != 0 and has_passed and self.is_acquainted
