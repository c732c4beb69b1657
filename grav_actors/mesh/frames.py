"""Frames between nodes: shapes, limits, bytes. `docs/mesh.md` is the specification.

A frame is a header, a MessagePack array that begins with the frame's kind and its sender, and a body, which
passes through untouched. What is malformed raises `ProtocolError` in `decode_frame` and nowhere else: whoever
has a decoded frame may rely on its types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import msgpack

from grav_actors.errors import ProtocolError

INCARNATION_BYTES: Final = 8
MAX_HEADER: Final = 256 * 1024
"""Bytes of a header."""
MAX_ITEMS: Final = 4096
"""Elements of any array within a header: tracks, prefixes, runs of a repair."""
MAX_NUMBER: Final = 2**53 - 1
MAX_COUNT: Final = 8192
"""Messages in a run."""
MAX_TOPIC: Final = 300
"""Bytes of a topic or prefix."""
MAX_META: Final = 16 * 1024
"""Bytes of what a hub says about a run besides its type."""

TrackSeq: TypeAlias = tuple[bytes, int, int]
"""`(incarnation of the receiver, track, tseq)`: the number of a run's first message on that receiver's track."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive messages of one type, on the tracks of all peers that want them.

    Attributes:
        tracks: For each receiver its own number of the first message.
        type: The messages' type; what is directed to one peer may have any.
        meta: What the hubs say to each other about the run; the mesh passes it on.
    """

    KIND: ClassVar[int] = 1
    incarnation: bytes
    tracks: tuple[TrackSeq, ...]
    type: str
    count: int
    meta: bytes


class Pulse(NamedTuple):
    """What a beat says to one peer.

    Attributes:
        to: Incarnation of that peer.
        track: Its track, 0 while it has none.
        sent: The number of the last message on that track.
        from_track: The track on which the sender of the beat receives from that peer, 0 while it knows none.
        got: The number up to which it has everything on that.
        echo: Number of the last beat it has heard from that peer.
        held: Microseconds between hearing that one and sending this.
    """

    to: bytes
    track: int
    sent: int
    from_track: int
    got: int
    echo: int
    held: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life to all peers. `number` counts the beats of an incarnation from 1.

    Attributes:
        clock: The sender's clock when it was sent, in microseconds since 1970; 0 when it does not say.
    """

    KIND: ClassVar[int] = 2
    incarnation: bytes
    number: int
    pulses: tuple[Pulse, ...]
    clock: int = 0


@dataclass(frozen=True, slots=True)
class Interest:
    """A request: these topics are wanted from now on. A higher version replaces all before.

    It counts when its barrier has been seen among the subscriptions.
    """

    KIND: ClassVar[int] = 16
    incarnation: bytes
    to: bytes
    version: int
    prefixes: tuple[bytes, ...]
    barrier: bytes


@dataclass(frozen=True, slots=True)
class InterestDone:
    """The answer: whatever is published from now on is numbered on `track`; `sent` is its last number so far."""

    KIND: ClassVar[int] = 17
    incarnation: bytes
    to: bytes
    version: int
    track: int
    sent: int


@dataclass(frozen=True, slots=True)
class Repair:
    """A request: these ranges of the track, in order, have not come: send them again."""

    KIND: ClassVar[int] = 18
    incarnation: bytes
    to: bytes
    track: int
    holes: tuple[tuple[int, int], ...]


RepairedRun: TypeAlias = tuple[int, str, int, int, bytes]
"""`(tseq, type, count, bytes of its body, meta)`."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """The answer: runs of the track, in order, their bodies one after another in the frame's body.

    Attributes:
        floor: The lowest number that is still there; what lies below is lost.
        runs: Some of what was asked, from its beginning: as much as fits.
    """

    KIND: ClassVar[int] = 19
    incarnation: bytes
    to: bytes
    track: int
    floor: int
    runs: tuple[RepairedRun, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """A request: the sender leaves the mesh; `sent` is the last number on the track, 0 with track 0."""

    KIND: ClassVar[int] = 20
    incarnation: bytes
    to: bytes
    track: int
    sent: int


@dataclass(frozen=True, slots=True)
class LeaveDone:
    """The answer: all that was sent before has come, or lies in an announced gap."""

    KIND: ClassVar[int] = 21
    incarnation: bytes
    to: bytes


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A request: publish this one message. `number` counts the tunnels of an incarnation from 1."""

    KIND: ClassVar[int] = 22
    incarnation: bytes
    to: bytes
    number: int
    redelivered: bool
    meta: bytes


@dataclass(frozen=True, slots=True)
class TunnelDone:
    """The answer: it is published."""

    KIND: ClassVar[int] = 23
    incarnation: bytes
    to: bytes
    number: int


Stream: TypeAlias = Run | Beat
Request: TypeAlias = Interest | Repair | Leave | Tunnel
Answer: TypeAlias = InterestDone | Repaired | LeaveDone | TunnelDone
Frame: TypeAlias = Stream | Request | Answer

_KINDS: dict[int, type[Any]] = {
    kind.KIND: kind
    for kind in (Run, Beat, Interest, InterestDone, Repair, Repaired, Leave, LeaveDone, Tunnel, TunnelDone)
}
# Shapes: a type, or a list: of one shape for an array of any length, of several for exactly these.
_LANE = [bytes, int, int]
_SHAPES: dict[type[Any], list[Any]] = {
    Run: [bytes, [_LANE], str, int, bytes],
    Beat: [bytes, int, [[bytes, int, int, int, int, int, int]], int],
    Interest: [bytes, bytes, int, [bytes], bytes],
    InterestDone: [bytes, bytes, int, int, int],
    Repair: [bytes, bytes, int, [[int, int]]],
    Repaired: [bytes, bytes, int, int, [[int, str, int, int, bytes]]],
    Leave: [bytes, bytes, int, int],
    LeaveDone: [bytes, bytes],
    Tunnel: [bytes, bytes, int, bool, bytes],
    TunnelDone: [bytes, bytes, int],
}
_pack = msgpack.Packer(autoreset=True).pack
_STRICT = {
    "raw": False, "use_list": False, "strict_map_key": True, "max_str_len": MAX_HEADER, "max_bin_len": MAX_HEADER,
    "max_array_len": MAX_ITEMS, "max_map_len": 0, "max_ext_len": 0,
}  # fmt: skip


def encode_frame(frame: Frame) -> bytes:
    """Return the header of a frame."""
    fields = (frame.KIND, *(getattr(frame, name) for name in frame.__slots__))
    return _pack(fields)  # type: ignore[no-any-return, unused-ignore]


def decode_frame(header: bytes, body_size: int) -> Frame:
    """Return the frame of a header.

    Args:
        body_size: Bytes of the frame's body.

    Raises:
        ProtocolError: It is no frame of this version, or over a limit; the text says what was seen.
    """
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"header of {len(header)} bytes, allowed are {MAX_HEADER}")
    try:
        fields = msgpack.unpackb(header, **_STRICT)
    except Exception as exc:  # msgpack raises ValueError, its own errors, RecursionError and UnicodeDecodeError
        raise ProtocolError(f"header is no MessagePack within the limits: {exc}") from exc
    if type(fields) is not tuple or not fields or type(fields[0]) is not int or fields[0] not in _KINDS:
        raise ProtocolError(f"header must begin with a kind, saw {fields!r:.60}")
    kind = _KINDS[fields[0]]
    name = kind.__name__
    _match(fields[1:], _SHAPES[kind], name)
    if kind is Beat:
        frame: Any = Beat(fields[1], fields[2], tuple(Pulse(*each) for each in fields[3]), fields[4])
    else:
        frame = kind(*fields[1:])
    for incarnation in (frame.incarnation, getattr(frame, "to", frame.incarnation)):
        if len(incarnation) != INCARNATION_BYTES:
            raise ProtocolError(f"{name}: incarnation of {len(incarnation)} bytes, must be {INCARNATION_BYTES}")
    _check(frame, body_size)
    return frame  # type: ignore[no-any-return]


def _check(frame: Frame, body_size: int) -> None:
    match frame:
        case Run(tracks=tracks, type=type_, count=count, meta=meta):
            if not 1 <= count <= MAX_COUNT or not tracks or any(tseq < 1 for _, _, tseq in tracks):
                raise ProtocolError(f"Run: {count} messages on {len(tracks)} tracks, must be numbered from 1")
            _check_run(type_, meta)
            return
        case Interest(prefixes=prefixes, barrier=barrier):
            if any(len(prefix) > MAX_TOPIC for prefix in (*prefixes, barrier)):
                raise ProtocolError(f"Interest: a prefix over {MAX_TOPIC} bytes")
        case Repair(holes=holes):
            following = 1
            for first, last in holes:
                if not following <= first <= last:
                    raise ProtocolError(f"Repair: from {first} to {last}, expected at {following} or behind")
                following = last + 1
        case Repaired(runs=runs):
            expected = 0
            following = 1
            for tseq, type_, count, size, meta in runs:
                if not 1 <= count <= MAX_COUNT or tseq < following:
                    raise ProtocolError(f"Repaired: run of {count} at {tseq}, expected at {following} or behind")
                _check_run(type_, meta)
                following = tseq + count
                expected += size
            if expected != body_size:
                raise ProtocolError(f"Repaired: runs of {expected} bytes in a body of {body_size}")
            return
        case Tunnel(meta=meta):
            _check_run("", meta)
            return
        case _:
            pass
    if body_size:
        raise ProtocolError(f"{type(frame).__name__}: a body of {body_size} bytes, must be empty")


def _check_run(type_: str, meta: bytes) -> None:
    if len(type_) > MAX_TOPIC or len(meta) > MAX_META:
        raise ProtocolError(f"run with a type of {len(type_)} characters and {len(meta)} bytes about it")


def _match(value: Any, shape: Any, what: str) -> None:
    if isinstance(shape, list):
        if type(value) is not tuple or (len(shape) > 1 and len(value) != len(shape)):
            raise ProtocolError(f"{what}: expected an array of {len(shape)}, saw {value!r:.60}")
        shapes = shape if len(shape) > 1 else shape * len(value)
        for item, item_shape in zip(value, shapes, strict=True):
            _match(item, item_shape, what)
    elif type(value) is not shape:
        raise ProtocolError(f"{what}: expected {shape.__name__}, saw {value!r:.60}")
    elif shape is int and not 0 <= value <= MAX_NUMBER:
        raise ProtocolError(f"{what}: expected a number from 0 to 2**53 - 1, saw {value}")
