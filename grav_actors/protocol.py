"""Frames between pods and the bus: verbs, shapes, limits. `docs/protocol.md` is the specification.

Every ZeroMQ message has exactly two frames, header and body. A header is a MessagePack array whose first
two elements are the verb and the slot; bodies pass through untouched. Decoding checks shapes, so that
whoever uses a decoded header may rely on its types: what is malformed raises `ProtocolError` here and
nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import msgpack

from grav_actors.errors import ProtocolError
from grav_actors.filters import FilterWire

VERSION: Final = 1
"""Version of the frames. A bus refuses a HELLO with another one, by REFUSED `version`."""

MAX_HEADER: Final = 256 * 1024
"""Bytes of a header frame."""
MAX_ITEMS: Final = 8192
"""Elements of any array within a header."""
MAX_RUN_MESSAGES: Final = 512
"""Messages that a sender puts in one frame pair."""
MAX_RUN_BYTES: Final = 256 * 1024
"""Bytes after which a sender closes a frame pair; one larger message travels alone."""
MAX_OPEN_RANGES: Final = 64
"""Ranges that a watermark lists; what does not fit counts as open."""
MAX_ERROR_TEXT: Final = 2000
"""Characters of an error that travels in a failure."""

WINDOW_MESSAGES: Final = 4096
"""Messages that a pod may have sent and the bus not yet accepted."""
WINDOW_BYTES: Final = 8 * 1024 * 1024
RETAIN_MESSAGES: Final = 65_536
"""Messages that a pod keeps until they are settled."""
RETAIN_BYTES: Final = 64 * 1024 * 1024
ACK_DELAY: Final = 0.010
"""Seconds that a watermark waits for a frame to ride on."""
BEAT_INTERVAL: Final = 1.0
"""Seconds of silence after which a link sends BEAT and a bus sends PING."""
REJOIN_GRACE: Final = 5.0
"""Seconds that a lost pod has to say HELLO again before it is released."""
FAILED_LIMIT: Final = 64
"""Open failures that disconnect a pod, as in Grav."""

BUS_NAME: Final = "grav.bus"
"""The name under which the bus itself answers questions."""
NODE_NAME: Final = "grav.node"
"""The name under which the node that owns a bus answers questions."""

REPLY_TYPE: Final = "grav.reply"
ERROR_TYPE: Final = "grav.error"


class Verb(IntEnum):
    """First element of a header."""

    HELLO = 1
    SEND = 2
    HANDLED = 3
    FILTER = 4
    BEAT = 5
    BYE = 6
    SYNC = 7
    CANCEL = 8
    WELCOME = 16
    DELIVER = 17
    ACK = 18
    OK = 19
    REJOIN = 20
    PING = 21
    REFUSED = 22
    CLOSE = 23
    CANCELLED = 24


class Kind(IntEnum):
    """What a run is: whom it goes to, and what its sender expects."""

    PUBLISH = 0
    """To every pod whose filter lets it through."""
    REPLY = 1
    """As PUBLISH, and past its filter to the pod (16 bytes) or the process (8 bytes) that asked."""
    TELL = 2
    """To one name."""
    ASK_ANY = 3
    """As PUBLISH, and an answer is expected."""
    ASK = 4
    """To one name, and an answer is expected."""
    ANSWER = 5
    """To the pod that asked, past its filter and past its window."""


# Plain ints: reading an IntEnum member costs a lookup and a comparison through Python code.
KIND_PUBLISH: Final = 0
KIND_REPLY: Final = 1
KIND_TELL: Final = 2
KIND_ASK_ANY: Final = 3
KIND_ASK: Final = 4
KIND_ANSWER: Final = 5
PUBLISHED_KINDS: Final = frozenset({KIND_PUBLISH, KIND_REPLY, KIND_ASK_ANY})
QUESTION_KINDS: Final = frozenset({KIND_ASK_ANY, KIND_ASK})

FLAG_REDELIVERED: Final = 1
"""Perhaps delivered to this pod before."""
FLAG_RECEIPT: Final = 2
"""For the receipts of the pod only: its filter did not let it through, or a second copy is on its way."""
FLAG_GROUP: Final = 4
"""Given to this pod as a member of its group."""

FAIL_ERROR: Final = 0
"""The handler raised."""
FAIL_REJECT: Final = 1
"""The handler raised `Reject`: to the dead letters at once."""

CLOSE_UNHEALTHY: Final = "unhealthy"
CLOSE_OVERFLOW: Final = "overflow"
CLOSE_REPLACED: Final = "replaced"
CLOSE_STOPPING: Final = "stopping"

Ack = tuple[Any, ...]
"""`(accepted, settled)`, or `(accepted, settled, newest, ((first, last), ...))` with the open ranges."""
Handled = int | tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int, str], ...]]
"""The floor, or `(floor, ranges handled above it, (number, FAIL_*, error) of what failed)`."""


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What a pod says of itself in HELLO.

    Attributes:
        actor: The name is claimed: it is unique on the bus and can be told and asked.
        supervisor: Uuid of the pod that restarts this actor, or b"": its name and mailbox outlive it.
        incarnation: Counts the lives of a supervised name; a higher one takes over the mailbox.
        service: Second name shared by the instances of one actor; each in turn is told and asked.
        group: Group whose mailbox gives this pod its published messages, or "".
        replay: The pod gets the replay ring, once, when it first listens.
        prefetch: Messages in flight to the pod at one time.
        mailbox_limit: Messages that may wait for it or be in flight.
        overflow: `block`, `drop_oldest`, `drop_newest` or `disconnect`.
        stuck_after: Seconds without progress at which a full mailbox is called stuck; None is never.
        max_deliver: Attempts before a message goes to the dead letters.
    """

    actor: bool = False
    supervisor: bytes = b""
    incarnation: int = 0
    service: str = ""
    group: str = ""
    replay: bool = False
    prefetch: int = 4096
    mailbox_limit: int = 65_536
    overflow: str = "block"
    stuck_after: float | None = 5.0
    max_deliver: int = 5

    def to_wire(self) -> tuple[Any, ...]:
        """Return the fields in order, as they stand in HELLO and in the roster."""
        return (
            self.actor, self.supervisor, self.incarnation, self.service, self.group, self.replay,
            self.prefetch, self.mailbox_limit, self.overflow, self.stuck_after, self.max_deliver,
        )  # fmt: skip

    @classmethod
    def from_wire(cls, wire: Any) -> PodSettings:
        """Check and build; raise ProtocolError for anything that `to_wire` does not return."""
        _match(wire, _SETTINGS_SHAPE, "settings")
        settings = cls(*wire)
        if settings.overflow not in OVERFLOW_POLICIES:
            raise ProtocolError(f"overflow is {settings.overflow!r}, allowed are {', '.join(OVERFLOW_POLICIES)}")
        if min(settings.prefetch, settings.mailbox_limit, settings.max_deliver) < 1:
            raise ProtocolError("prefetch, mailbox_limit and max_deliver must be at least 1")
        return settings


OVERFLOW_POLICIES: Final = ("block", "drop_oldest", "drop_newest", "disconnect")


@dataclass(frozen=True, slots=True)
class Hello:
    """A decoded HELLO.

    `epoch`, `received` and `handled` say where the pod stands with the bus it last knew (`epoch` is b""
    for none); `floor` is the seq up to which all that it sent is settled.
    """

    request: int
    uuid: bytes
    name: str
    settings: PodSettings
    filters: FilterWire
    epoch: bytes
    received: int
    handled: Handled
    floor: int


# Shapes: a type, a tuple of types (any of them), or a list of shapes for an array of exactly that length.
_INT = int
_SETTINGS_SHAPE = [bool, bytes, int, str, str, bool, int, int, str, (float, int, type(None)), int]
_packb = msgpack.Packer(autoreset=True).pack
_STRICT = {
    "raw": False, "use_list": False, "strict_map_key": True, "max_str_len": MAX_HEADER, "max_bin_len": MAX_HEADER,
    "max_array_len": MAX_ITEMS, "max_map_len": 0, "max_ext_len": 0,
}  # fmt: skip


def pack(*fields: Any) -> bytes:
    """Return a header frame of these fields."""
    return _packb(fields)  # type: ignore[no-any-return, unused-ignore]


def _match(value: Any, shape: Any, what: str) -> None:
    if isinstance(shape, list):
        if type(value) is not tuple or len(value) != len(shape):
            raise ProtocolError(f"{what}: expected an array of {len(shape)}, saw {_brief(value)}")
        for index, (item, item_shape) in enumerate(zip(value, shape, strict=True)):
            _match(item, item_shape, f"{what}[{index}]")
    elif isinstance(shape, tuple):
        if type(value) not in shape:
            raise ProtocolError(f"{what}: expected one of {shape}, saw {_brief(value)}")
    elif type(value) is not shape:
        raise ProtocolError(f"{what}: expected {shape.__name__}, saw {_brief(value)}")
    elif shape is int and value < 0:
        raise ProtocolError(f"{what}: expected a number from 0, saw {value}")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def unpack_header(header: bytes) -> tuple[Any, ...]:
    """Decode a header frame to `(verb, slot, ...)`; the rest is checked by the `read_*` functions.

    Raises:
        ProtocolError: It is no MessagePack array that begins with two numbers, or over a limit.
    """
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"header of {len(header)} bytes, allowed are {MAX_HEADER}")
    try:
        fields = msgpack.unpackb(header, **_STRICT)
    except Exception as exc:  # msgpack raises ValueError, its own errors, RecursionError and UnicodeDecodeError
        raise ProtocolError(f"header is no MessagePack within the limits: {exc}") from exc
    if type(fields) is not tuple or len(fields) < 2 or type(fields[0]) is not int or type(fields[1]) is not int:
        raise ProtocolError(f"header must begin with verb and slot, saw {_brief(fields)}")
    if not 0 <= fields[1] < 2**31:
        raise ProtocolError(f"slot {fields[1]} is not within 0 and 2**31")
    return fields


def read_handled(value: Any) -> Handled:
    """Check a handled watermark."""
    if type(value) is int and value >= 0:
        return value
    _match(value, [int, tuple, tuple], "handled")
    for item in value[1]:
        _match(item, [int, int], "handled range")
    for item in value[2]:
        _match(item, [int, int, str], "failure")
    return value  # type: ignore[no-any-return]


def read_filters(value: Any) -> FilterWire:
    """Check a filter."""
    _match(value, [bool, bool, tuple, tuple], "filters")
    for item in value[2]:
        _match(item, [str, bool], "type filter")
    for item in value[3]:
        _match(item, [bytes, bool], "uuid filter")
        if len(item[0]) != 16:
            raise ProtocolError(f"uuid filter of {len(item[0])} bytes, must be 16")
    return value  # type: ignore[no-any-return]


_NAME_LIMIT = 64


def read_hello(fields: tuple[Any, ...]) -> Hello:
    """Check a HELLO of this version; the version itself is checked by the bus before."""
    _match(fields, [int, int, int, int, bytes, str, tuple, tuple, [bytes, int, (int, tuple), int]], "HELLO")
    _, _, _, request, uuid, name, settings, filters, (epoch, received, handled, floor) = fields
    if len(uuid) != 16:
        raise ProtocolError(f"pod uuid of {len(uuid)} bytes, must be 16")
    if len(name) > _NAME_LIMIT:
        raise ProtocolError(f"name of {len(name)} characters, allowed are {_NAME_LIMIT}")
    return Hello(
        request, uuid, name, PodSettings.from_wire(settings), read_filters(filters), epoch, received,
        read_handled(handled), floor,
    )  # fmt: skip


def pack_hello(slot: int, hello: Hello) -> bytes:
    """Return the HELLO frame."""
    position = (hello.epoch, hello.received, hello.handled, hello.floor)
    return pack(
        Verb.HELLO, slot, VERSION, hello.request, hello.uuid, hello.name, hello.settings.to_wire(), hello.filters,
        position,
    )  # fmt: skip


def check_send(fields: tuple[Any, ...], body_size: int) -> None:
    """Check a SEND: `(verb, slot, seq, handled or None, ((kind, type, count, bytes, dest), ...))`.

    Written out, as it runs once for every frame: sizes must add up to the body, so that slicing is safe.
    """
    if len(fields) != 5 or type(fields[2]) is not int or fields[2] < 1 or type(fields[4]) is not tuple:
        raise ProtocolError(f"SEND: malformed, saw {_brief(fields)}")
    total = 0
    for run in fields[4]:
        if type(run) is not tuple or len(run) != 5:
            raise ProtocolError(f"SEND: malformed run, saw {_brief(run)}")
        kind, message_type, count, size, dest = run
        if (
            type(kind) is not int
            or type(message_type) is not str
            or not 0 < len(message_type) <= 255
            or type(count) is not int
            or type(size) is not int
            or not 1 <= count <= MAX_ITEMS
            or size < count
        ):
            raise ProtocolError(f"SEND: malformed run, saw {_brief(run)}")
        if not (
            (dest is None and kind in (KIND_PUBLISH, KIND_ASK_ANY))
            or (type(dest) is str and kind in (KIND_TELL, KIND_ASK))
            or (type(dest) is bytes and kind in (KIND_REPLY, KIND_ANSWER) and len(dest) in (8, 16))
        ):
            raise ProtocolError(f"SEND: kind {kind} with destination {_brief(dest)}")
        total += size
    if total != body_size:
        raise ProtocolError(f"SEND: runs of {total} bytes in a body of {body_size}")
    if fields[3] is not None:
        read_handled(fields[3])


def check_deliver(fields: tuple[Any, ...], body_size: int) -> None:
    """Check a DELIVER: `(verb, slot, number, ack or None, runs)`; see `docs/protocol.md` for a run."""
    if len(fields) != 5 or type(fields[2]) is not int or type(fields[4]) is not tuple:
        raise ProtocolError(f"DELIVER: malformed, saw {_brief(fields)}")
    total = 0
    for run in fields[4]:
        if type(run) is not tuple or len(run) != 9 or type(run[0]) is not bytes or type(run[4]) is not str:
            raise ProtocolError(f"DELIVER: malformed run, saw {_brief(run)}")
        for index in (1, 2, 3, 5, 6, 7, 8):
            if type(run[index]) is not int or run[index] < 0:
                raise ProtocolError(f"DELIVER: malformed run, saw {_brief(run)}")
        total += run[6]
    if total != body_size:
        raise ProtocolError(f"DELIVER: runs of {total} bytes in a body of {body_size}")
    if fields[3] is not None:
        read_ack(fields[3])


def read_ack(value: Any) -> Ack:
    """Check an accepted and settled watermark."""
    if type(value) is not tuple or len(value) not in (2, 4):
        raise ProtocolError(f"ack: malformed, saw {_brief(value)}")
    if len(value) == 2:
        _match(value, [int, int], "ack")
    else:
        _match(value, [int, int, int, tuple], "ack")
        for item in value[3]:
            _match(item, [int, int], "open range")
    return value


_REST: dict[int, list[Any]] = {
    Verb.HANDLED: [int, int, (int, tuple)],
    Verb.FILTER: [int, int, int, tuple],
    Verb.BEAT: [int, int],
    Verb.BYE: [int, int, int, str],
    Verb.SYNC: [int, int],
    Verb.CANCEL: [int, int, tuple],
    Verb.WELCOME: [int, int, int, int, bytes, bytes, int, bool, [int, int, int]],
    Verb.ACK: [int, int, tuple],
    Verb.OK: [int, int, int, str],
    Verb.REJOIN: [int, int],
    Verb.PING: [int, int],
    Verb.REFUSED: [int, int, int, str, str],
    Verb.CLOSE: [int, int, str, str],
    Verb.CANCELLED: [int, int, bytes, tuple],
}


def check_control(fields: tuple[Any, ...]) -> None:
    """Check any frame but HELLO, SEND and DELIVER against its shape in `docs/protocol.md`.

    Raises:
        ProtocolError: The verb is unknown or the frame malformed.
    """
    shape = _REST.get(fields[0])
    if shape is None:
        raise ProtocolError(f"unknown verb {fields[0]}")
    _match(fields, shape, Verb(fields[0]).name)
    if fields[0] == Verb.HANDLED:
        read_handled(fields[2])
    elif fields[0] == Verb.FILTER:
        read_filters(fields[3])
    elif fields[0] == Verb.ACK:
        read_ack(fields[2])
    elif fields[0] in (Verb.CANCEL, Verb.CANCELLED):
        for seq in fields[-1]:
            _match(seq, int, "cancelled seq")
