"""What two ZeroMQ transports say to each other: shapes, limits, bytes.

Requests and answers are ZeroMQ's REQ/REP messages (RFC 28), `[id, "", envelope, header, body]`; what is published is
`[topic, header, body]`. An envelope is `"GZ" version kind token`, and the token names the link at its receiver.
`docs/mesh.md` is the specification.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final, TypeVar

import msgpack

from grav_actors.errors import ProtocolError
from grav_actors.transports.base import Handshake, HandshakeAck

T = TypeVar("T", Handshake, HandshakeAck)

TOKEN_BYTES: Final = 16
MAX_INTRODUCTION: Final = 64 * 1024
"""Bytes of an introduction or its answer."""
SUBSCRIBED_TOPIC: Final = b"\xff"
"""Begins the prefix by which a publisher learns that a link's subscriptions count. Behind every topic of the mesh:
ZeroMQ repeats the subscriptions of a connection that is made anew in this order."""
_MAGIC: Final = b"GZ\x01"
_TYPES: Final[dict[str, type]] = {
    "accept": bool, "version": int, "max_message": int, "interests": tuple, "endpoints": tuple,
}  # fmt: skip
"""Of the fields of a handshake that are no text."""
_NUMBER_BYTES: Final = 8
_STRICT: dict[str, Any] = {
    "raw": False, "use_list": False, "strict_map_key": True, "max_str_len": MAX_INTRODUCTION, "max_bin_len": 256,
    "max_array_len": 256, "max_map_len": 32, "max_ext_len": 0,
}  # fmt: skip


class Kind(IntEnum):
    """What a request or an answer is."""

    INTRODUCE = 1
    """A node introduces itself; the token is the dialler's."""
    CONFIRM = 2
    """Is this introduction yours? Asked where the dialler listens, before it is accepted."""
    MESSAGE = 3
    """A user's message."""
    WITHDRAW = 4
    """The node leaves."""
    ASK = 5
    """A question of the mesh."""
    STILL = 6
    """Do you still have this link? Asked when a connection was made anew."""
    BYE = 7
    """The link has ended; not answered."""

    INTRODUCED = 17
    """The answer to an introduction, a refusal too."""
    DONE = 18
    """Confirmed; or the message or withdrawal has been handed over; or the link is there."""
    ANSWER = 19
    """The answer to a question of the mesh."""
    GONE = 20
    """There is no such link."""
    FAILED = 21
    """An introduction came to nothing; the header says why."""


REQUESTS: Final = frozenset({Kind.CONFIRM, Kind.MESSAGE, Kind.WITHDRAW, Kind.ASK, Kind.STILL, Kind.BYE})
"""What is for a link that there is."""


def envelope(kind: Kind, token: bytes) -> bytes:
    """Return the frame that says what follows, and for which link."""
    return b"%b%c%b" % (_MAGIC, kind, token)


def open_envelope(raw: bytes) -> tuple[Kind, bytes]:
    """Return kind and token.

    Raises:
        ProtocolError: It is no envelope of this version.
    """
    if len(raw) != len(_MAGIC) + 1 + TOKEN_BYTES or not raw.startswith(_MAGIC):
        raise ProtocolError(f"expected an envelope, saw {raw[:40]!r}")
    try:
        return Kind(raw[len(_MAGIC)]), raw[len(_MAGIC) + 1 :]
    except ValueError as exc:
        raise ProtocolError(f"an envelope of kind {raw[len(_MAGIC)]}") from exc


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a dialling transport says.

    Attributes:
        handshake: Of its node.
        host: The address it listens on; "" when that is the one from which it dials.
        request_port, stream_port: Where it answers requests, and where it publishes.
        max_frame: Bytes of the largest frame that it takes.
    """

    handshake: Handshake
    host: str
    request_port: int
    stream_port: int
    max_frame: int

    def pack(self) -> bytes:
        """Return its bytes."""
        return _pack((_plain(self.handshake), self.host, self.request_port, self.stream_port, self.max_frame))

    @classmethod
    def unpack(cls, raw: bytes) -> Introduction:
        """Return what was packed.

        Raises:
            ProtocolError: It is none.
        """
        shake, host, request_port, stream_port, max_frame = _unpack(raw, dict, str, int, int, int)
        handshake = _rebuild(Handshake, shake)
        return cls(handshake, host, _port(request_port), _port(stream_port), max_frame)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The answer of the transport that was dialled.

    Attributes:
        ack: Of its node; may be a refusal.
        token: Names the link at this side.
        stream_port: Where it publishes, on the host that was dialled.
        max_frame: Bytes of the largest frame that it takes.
    """

    ack: HandshakeAck
    token: bytes
    stream_port: int
    max_frame: int

    def pack(self) -> bytes:
        """Return its bytes."""
        return _pack((_plain(self.ack), self.token, self.stream_port, self.max_frame))

    @classmethod
    def unpack(cls, raw: bytes) -> Acceptance:
        """Return what was packed.

        Raises:
            ProtocolError: It is none.
        """
        shake, token, stream_port, max_frame = _unpack(raw, dict, bytes, int, int)
        ack = _rebuild(HandshakeAck, shake)
        if len(token) != TOKEN_BYTES:
            raise ProtocolError(f"a token of {len(token)} bytes, must be {TOKEN_BYTES}")
        return cls(ack, token, _port(stream_port), max_frame)


def pack_withdrawal(uuid: str, reason: str) -> bytes:
    """Return the header of a withdrawal."""
    return _pack((uuid, reason))


def unpack_withdrawal(raw: bytes) -> tuple[str, str]:
    """Return uuid and reason.

    Raises:
        ProtocolError: It is no withdrawal.
    """
    uuid, reason = _unpack(raw, str, str)
    return uuid, reason


def subscribed_prefix(token: bytes, number: int, last: bytes) -> bytes:
    """Return what a link subscribes to last: whoever sees it knows whose subscriptions count, up to which.

    Args:
        token: Names the link at the publisher.
        number: New for each.
        last: The last of the prefixes that were asked for.
    """
    return SUBSCRIBED_TOPIC + token + number.to_bytes(_NUMBER_BYTES, "big") + last


def read_subscribed_prefix(prefix: bytes) -> tuple[bytes, bytes] | None:
    """Return the token and the last prefix asked for; None when it is another subscription."""
    head = 1 + TOKEN_BYTES + _NUMBER_BYTES
    if len(prefix) < head or prefix[:1] != SUBSCRIBED_TOPIC:
        return None
    return prefix[1 : 1 + TOKEN_BYTES], prefix[head:]


def _pack(content: Any) -> bytes:
    return msgpack.packb(content)  # type: ignore[no-any-return, unused-ignore]


def _plain(content: Any) -> dict[str, Any]:
    return {field.name: getattr(content, field.name) for field in fields(content)}


def _rebuild(kind: type[T], content: dict[str, Any]) -> T:
    """Return a handshake or its answer; names that this version does not know are left out."""
    known = {field.name: field.type for field in fields(kind)}
    values = {name: value for name, value in content.items() if name in known}
    for name, value in values.items():
        expected = _TYPES.get(name, str)
        entries: tuple[Any, ...] = value if type(value) is tuple else ()
        if type(value) is not expected or any(type(entry) is not str for entry in entries):
            raise ProtocolError(f"{kind.__name__}: {name} is {value!r:.60}, must be {expected.__name__}")
    try:
        return kind(**values)
    except TypeError as exc:
        raise ProtocolError(f"{kind.__name__}: {exc}") from exc


def _unpack(raw: bytes, *shape: type) -> tuple[Any, ...]:
    if len(raw) > MAX_INTRODUCTION:
        raise ProtocolError(f"a header of {len(raw)} bytes, allowed are {MAX_INTRODUCTION}")
    try:
        content = msgpack.unpackb(raw, **_STRICT)
    except Exception as exc:  # msgpack raises ValueError, its own errors, RecursionError and UnicodeDecodeError
        raise ProtocolError(f"no MessagePack within the limits: {exc}") from exc
    if type(content) is not tuple or len(content) < len(shape):
        raise ProtocolError(f"expected an array of {len(shape)}, saw {content!r:.60}")
    for value, kind in zip(content, shape, strict=False):  # a later version may say more
        if type(value) is not kind:
            raise ProtocolError(f"expected {kind.__name__}, saw {value!r:.60}")
    return content[: len(shape)]


def _port(port: int) -> int:
    if not 1 <= port <= 65_535:
        raise ProtocolError(f"port {port}, must be 1 to 65535")
    return port
