"""What the mesh's core wants done: plain data, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from grav_actors.mesh.frames import Answer, Request, Stream


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to an endpoint and shake hands; then call `greeted`, or `dial_failed`, with this link's number."""

    link: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class Open:
    """Begin to hand over what comes on this link."""

    link: int


@dataclass(frozen=True, slots=True)
class Close:
    """End this link; nothing more is to come from it."""

    link: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to these prefixes and to no others, the last of them (a barrier) last."""

    link: int
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Send to all peers that have subscribed to a prefix of `topic`.

    Attributes:
        links: Those who need it; others that get it too drop it.
    """

    topic: bytes
    frame: Stream
    body: bytes
    links: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request; its answer comes by `receive`, or never."""

    link: int
    frame: Request
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send the answer to the request that came with this ticket."""

    link: int
    ticket: int
    frame: Answer
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Publish a peer's run on the local bus."""

    peer: str
    incarnation: bytes
    type: str
    count: int
    meta: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class DeliverTunnelled:
    """Publish one message on the local bus that came through a tunnel."""

    peer: str
    meta: bytes
    body: bytes
    redelivered: bool


@dataclass(frozen=True, slots=True)
class PeerChanged:
    """A peer's state is another one.

    Attributes:
        state: `joining`, `up`, `suspect`, `down` or `withdrawn`.
    """

    peer: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GapFound:
    """Messages of a peer will never come: so many, or -1 when nobody can know how many."""

    peer: str
    incarnation: bytes
    count: int


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Messages of a peer are larger than the bus of this node takes, and are not delivered."""

    peer: str
    count: int


@dataclass(frozen=True, slots=True)
class InterestAgreed:
    """All peers that are up send what this node wants since `version`."""

    version: int


@dataclass(frozen=True, slots=True)
class DialRefused:
    """A peer, or this node, has refused the link.

    Attributes:
        code: `self`, `version`, `belongs_to`, `uuid`, `withdrawn` or `full`; what is dialled twice is no refusal.
    """

    endpoint: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class TunnelEnded:
    """A tunnel's message is published at `peer`; or nobody took it, then that is "".

    Attributes:
        key: What `tunnel` returned.
    """

    key: int
    peer: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Every peer that could be reached has acknowledged that this node leaves."""


@dataclass(frozen=True, slots=True)
class ActorsChanged:
    """Which actors peers have: tell the bus.

    Attributes:
        begun: `(name, uuid of the peer)`.
        ended: `(name, reason, error)`; of these first.
    """

    begun: tuple[tuple[str, str], ...]
    ended: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class WantedChanged:
    """What the groups of peers want is different: ask the bus for it."""


@dataclass(frozen=True, slots=True)
class Post:
    """Send a run on the local bus.

    Attributes:
        dest: As in SEND of `docs/protocol.md`.
        questions: Their uuids, one for each message; none if it is no question.
        peer: Who has sent it.
    """

    kind: int
    type: str
    dest: Any
    count: int
    body: bytes
    questions: tuple[bytes, ...] = ()
    peer: str = ""


@dataclass(frozen=True, slots=True)
class PostError:
    """Answer a question of a local pod with an error."""

    question: bytes
    asker: bytes
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Take back questions that were posted for a peer."""

    questions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell the bus that messages of a run are finished: what was to be said about them is said.

    Attributes:
        token: Of the run, as it was given.
        index: Of the message; None for all of them.
    """

    token: Any
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the bus that a run cannot be carried, and why: it ends in the dead letters."""

    token: Any
    text: str


Effect: TypeAlias = (
    Dial
    | Open
    | Close
    | Subscribe
    | Publish
    | Ask
    | Reply
    | Deliver
    | DeliverTunnelled
    | PeerChanged
    | GapFound
    | TooLarge
    | InterestAgreed
    | DialRefused
    | TunnelEnded
    | Withdrawn
    | ActorsChanged
    | WantedChanged
    | Post
    | PostError
    | TakeBack
    | Finish
    | Refuse
)
