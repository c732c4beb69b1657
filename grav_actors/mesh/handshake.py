"""Who may become a peer: what two nodes check when they meet. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from grav_actors.ids import id_bytes
from grav_actors.mesh.frames import INCARNATION_BYTES
from grav_actors.transports.base import HANDSHAKE_VERSION, Handshake, HandshakeAck

MAX_NAME = 64
"""Characters of a node's name."""
MAX_TEXT = 255
"""Characters of `belongs_to`, of an interest and of an endpoint."""
MAX_ENTRIES = 64
"""Interests, and endpoints, of one node."""

SELF = "self"
VERSION = "version"
MALFORMED = "malformed"
BELONGS_TO = "belongs_to"
UUID = "uuid"
WITHDRAWN = "withdrawn"
DUPLICATE = "duplicate"
FULL = "full"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node says about itself.

    Attributes:
        uuid: As text; new at each start of the node.
        incarnation: 8 random bytes, new for each life of its hub.
        belongs_to: Its group of nodes; `*` fits every group.
        interests: Capabilities that it offers to tunnels.
        endpoints: Where it can be dialled.
        max_message: Bytes of one message's data that its bus takes; 0: it does not say.
    """

    uuid: str
    incarnation: bytes
    name: str = ""
    belongs_to: str = "*"
    interests: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    max_message: int = 0

    def handshake(self) -> Handshake:
        """Return the introduction of this node."""
        return Handshake(
            uuid=self.uuid,
            belongs_to=self.belongs_to,
            interests=self.interests,
            incarnation=self.incarnation.hex(),
            name=self.name,
            endpoints=self.endpoints,
            max_message=self.max_message,
        )

    def accept(self) -> HandshakeAck:
        """Return the answer to a peer that is welcome."""
        return HandshakeAck(
            accept=True,
            uuid=self.uuid,
            belongs_to=self.belongs_to,
            interests=self.interests,
            incarnation=self.incarnation.hex(),
            name=self.name,
            endpoints=self.endpoints,
            max_message=self.max_message,
        )

    def refuse(self, refusal: Refusal) -> HandshakeAck:
        """Return the answer to a peer that is not."""
        return HandshakeAck(
            accept=False,
            uuid=self.uuid,
            belongs_to=self.belongs_to,
            incarnation=self.incarnation.hex(),
            name=self.name,
            code=refusal.code,
            reason=refusal.reason,
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a link is not made: `code` for programs, `reason` for people."""

    code: str
    reason: str


def check_fit(me: Identity, other: Handshake | HandshakeAck, expected: str = "") -> Refusal | None:
    """Tell why two nodes cannot be peers; the same on both sides. None when they can.

    Args:
        expected: Uuid that a discovery or the user said; "" for any.
    """
    if other.version != HANDSHAKE_VERSION:
        return Refusal(
            VERSION, f"the peer speaks version {other.version} of the handshake, this node {HANDSHAKE_VERSION}"
        )
    malformed = _malformed(other)
    if malformed:
        return Refusal(MALFORMED, malformed)
    if other.uuid == me.uuid:
        return Refusal(SELF, "the peer is this node itself")
    if expected and other.uuid != expected:
        return Refusal(UUID, f"node {expected} was expected there, but {other.uuid} answers")
    if "*" not in (me.belongs_to, other.belongs_to) and me.belongs_to != other.belongs_to:
        return Refusal(
            BELONGS_TO,
            f"node {other.uuid} belongs to {other.belongs_to!r}, node {me.uuid} to {me.belongs_to!r}: only nodes of"
            " one group are peers, or one must say '*'",
        )
    return None


def _malformed(other: Handshake | HandshakeAck) -> str:
    try:
        id_bytes(other.uuid)
        incarnation = bytes.fromhex(other.incarnation)
    except ValueError:
        return f"uuid {other.uuid!r:.60} or incarnation {other.incarnation!r:.60} is none"
    if len(incarnation) != INCARNATION_BYTES:
        return f"incarnation of {len(incarnation)} bytes, must be {INCARNATION_BYTES}"
    if len(other.name) > MAX_NAME or len(other.belongs_to) > MAX_TEXT:
        return f"a name of {len(other.name)} characters, or a group of {len(other.belongs_to)}"
    for entries in (other.interests, other.endpoints):
        if len(entries) > MAX_ENTRIES or any(len(entry) > MAX_TEXT for entry in entries):
            return f"{len(entries)} interests or endpoints, or one that is too long"
    return ""


def stands(me: str, other: str, *, is_dialled: bool) -> bool:
    """Tell which of two links that two nodes made at the same time stands: the one that the lower uuid dialled."""
    return is_dialled == (me < other)
