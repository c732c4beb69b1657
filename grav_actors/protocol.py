"""Frames between pods and the bus: verbs, shapes, limits. `docs/protocol.md` is the specification.

Every ZeroMQ message has exactly two frames, header and body. A header is a MessagePack array whose first
two elements are the verb and the slot; bodies pass through untouched. Decoding checks shapes, so that
whoever uses a decoded header may rely on its types: what is malformed raises `ProtocolError` here and
nowhere else.
"""

from __future__ import annotations

import math
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
MAX_NUMBER: Final = 2**53 - 1
"""Highest number in a header: what every language counts exactly."""
MAX_SLOT: Final = 2**31 - 1
MAX_NAME: Final = 64
"""Characters of a pod's name, service and group."""
MAX_TYPE: Final = 255
"""Bytes of a message's type, and of the name that a message is sent to."""
_SURELY_SHORT: Final = MAX_TYPE // 4
"""Characters that are never more bytes than that."""
MAX_RUN_MESSAGES: Final = 512
"""Messages that a sender puts in one frame pair."""
MAX_RUN_BYTES: Final = 256 * 1024
"""Bytes after which a sender closes a frame pair; one larger message travels alone."""
MAX_OVERHEAD: Final = 32 * 1024
"""Bytes that the ids and headers of one message add to its data, at most."""
MAX_OWN_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one message of the bus itself, as the answer to a question about its pods."""
MAX_OPEN_RANGES: Final = 64
"""Ranges that a watermark lists; what does not fit counts as open."""
MAX_FAILURES: Final = 16
"""Failures that one frame reports; more follow in the next."""
MAX_CLAIMS: Final = 2048
"""Ranges of seqs, of all senders together, that the member of a group lists in HELLO."""
MAX_CANCELS: Final = 512
"""Questions that one CANCEL takes back."""
MAX_WATCHES: Final = 512
"""Watches that one WATCH begins, and that it ends; more follow in the next."""
WATCHES_LIMIT: Final = 8_192
"""Watches that a pod may have at a time."""
MAX_GATEWAY_ITEMS: Final = 64
"""Entries of each list that one GATEWAY or LOCAL carries; more follow in the next."""
MAX_GATEWAY_ERROR: Final = 500
"""Characters of an error in GATEWAY and LOCAL."""
MAX_REMOTE_NAMES: Final = 65_536
"""Names of actors on other nodes that a bus takes from its gateway."""
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
GATEWAY_NAME: Final = "grav.mesh"
"""The name of the pod that stands for other nodes: there is one on a bus at most."""

REPLY_TYPE: Final = "grav.reply"
ERROR_TYPE: Final = "grav.error"
STOP_TYPE: Final = "grav.sys.actor.stop"
"""Told to an actor, or to all instances behind a name, it ends them for good."""
DOWN_TYPE: Final = "grav.down"
"""What an actor tells itself when one that it watches is gone for good."""
CODE_NO_RESPONDERS: Final = "no_responders"
"""Code of an error that the bus gives: nobody has got the question."""
CODE_SETTLED: Final = "settled"
"""Code of an error that the bus gives: all who got the question have handled it, and no answer follows."""


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
    WATCH = 9
    GATEWAY = 10
    WELCOME = 16
    DELIVER = 17
    ACK = 18
    OK = 19
    REJOIN = 20
    PING = 21
    REFUSED = 22
    CLOSE = 23
    CANCELLED = 24
    DOWN = 25
    LOCAL = 26


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
VERB_SEND: Final = 2
VERB_HANDLED: Final = 3
VERB_WELCOME: Final = 16
VERB_DELIVER: Final = 17
VERB_ACK: Final = 18
KIND_PUBLISH: Final = 0
KIND_REPLY: Final = 1
KIND_TELL: Final = 2
KIND_ASK_ANY: Final = 3
KIND_ASK: Final = 4
KIND_ANSWER: Final = 5
PUBLISHED_KINDS: Final = frozenset({KIND_PUBLISH, KIND_REPLY, KIND_ASK_ANY})
UNADDRESSED_KINDS: Final = frozenset({KIND_PUBLISH, KIND_ASK_ANY})
NAMED_KINDS: Final = frozenset({KIND_TELL, KIND_ASK})
RETURNED_KINDS: Final = frozenset({KIND_REPLY, KIND_ANSWER})
QUESTION_KINDS: Final = frozenset({KIND_ASK_ANY, KIND_ASK})

FLAG_REDELIVERED: Final = 1
"""Perhaps delivered to this pod before."""
FLAG_RECEIPT: Final = 2
"""For the receipts of the pod only: its filter did not let it through, or a second copy is on its way."""
FLAG_GROUP: Final = 4
"""Given to this pod as a member of its group."""
FLAG_RESENT: Final = 8
"""Its sender had sent it to an earlier bus: the pod looks whether it had it from that one."""
FLAG_SUSPECT: Final = 16
"""Another death in its handler would be one too many: it is handled alone, so that it is charged with its own only."""
FLAG_RELAYED: Final = 32
"""For the gateway, to be carried to other nodes: the run says besides for whom it is, or which groups have it here."""

RELAY_REDELIVERED: Final = 1
"""In the destination of what the gateway publishes: it may have been published before, on this node or another."""

STAGE_CHANGE: Final = 0
"""Of GATEWAY and LOCAL: this has changed."""
STAGE_BEGIN: Final = 1
"""All of it follows from here on; what was told before is void if it does not come again."""
STAGE_END: Final = 2
"""This was the last of all. What fits into one frame is both."""

FAIL_ERROR: Final = 0
"""The handler raised."""
FAIL_REJECT: Final = 1
"""The handler raised `Reject`: to the dead letters at once."""
FAIL_CRASH: Final = 2
"""The pod meets its end in this handler: the message is charged with a death, and stays open."""

CLOSE_UNHEALTHY: Final = "unhealthy"
CLOSE_OVERFLOW: Final = "overflow"
CLOSE_REPLACED: Final = "replaced"
CLOSE_STOPPING: Final = "stopping"
CLOSE_PROTOCOL: Final = "protocol"

BYE_STOPPING: Final = "stopping"
BYE_CRASHED: Final = "crashed"
BYE_UNHEALTHY: Final = CLOSE_UNHEALTHY
OK_UNKNOWN: Final = "unknown"
"""Text of the OK to the BYE of a pod that the bus does not know."""
OK_FULL: Final = "full"
"""Text of the OK to a FILTER that does not fit in beside those of all other pods: the one before holds."""

Ack = tuple[Any, ...]
"""`(accepted, settled)`, or `(accepted, settled, newest, ((first, last), ...))` with the open ranges."""
Handled = int | tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int, str], ...]]
"""The floor, or `(floor, ranges handled above it, (number, FAIL_*, error) of what failed)`."""


Claims = tuple[tuple[bytes, tuple[tuple[int, int], ...]], ...]
"""`((sender uuid, ((first, last), ...)), ...)`: seqs that the member of a group holds or has handled."""


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
            allowed = ", ".join(OVERFLOW_POLICIES)
            raise ProtocolError(f"overflow is {_brief(settings.overflow)}, allowed are {allowed}")
        if min(settings.prefetch, settings.mailbox_limit, settings.max_deliver) < 1:
            raise ProtocolError("prefetch, mailbox_limit and max_deliver must be at least 1")
        if len(settings.supervisor) not in (0, 16):
            raise ProtocolError(f"supervisor of {len(settings.supervisor)} bytes, must be 16 or none")
        if max(len(settings.service), len(settings.group)) > MAX_NAME:
            raise ProtocolError(f"service and group may have {MAX_NAME} characters each")
        stuck = settings.stuck_after
        if stuck is not None and not (math.isfinite(stuck) and stuck > 0):
            raise ProtocolError(f"stuck_after is {stuck}, allowed are nil and what is more than 0")
        return settings


OVERFLOW_POLICIES: Final = ("block", "drop_oldest", "drop_newest", "disconnect")


@dataclass(frozen=True, slots=True)
class Hello:
    """A decoded HELLO.

    `epoch` and `received` say where the pod stands with the bus it last knew (`epoch` is b"" for none):
    `received` is the highest number that was delivered to it. `floor` is the seq up to which all that it sent
    is settled, `sent` the highest that it has ever sent. `claims` are for a new bus: what is sent again to its
    group and listed there goes to this member, which knows it. What the pod has handled is not among them: that follows
    what is sent again, as it must not overtake it.
    """

    request: int
    uuid: bytes
    name: str
    settings: PodSettings
    filters: FilterWire
    epoch: bytes
    received: int
    floor: int
    sent: int
    claims: Claims = ()


# Shapes: a type, a tuple of types (any of them), or a list of shapes for an array of exactly that length.
_INT = int
_SETTINGS_SHAPE = [bool, bytes, int, str, str, bool, int, int, str, (float, int, type(None)), int]
_packb = msgpack.Packer(autoreset=True).pack
_unpackb = msgpack.unpackb


def max_frame_to_pod(max_message: int) -> int:
    """Return how long a frame from a bus may be that carries messages of so many bytes.

    A frame is closed when it has reached a size, and so by one message of any size.
    """
    return max(max_message, MAX_OWN_BYTES) + MAX_OVERHEAD + MAX_RUN_BYTES


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
    elif shape is int and not 0 <= value <= MAX_NUMBER:
        raise ProtocolError(f"{what}: expected a number from 0 to 2**53 - 1, saw {value}")


def _brief(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = "something deeply nested"
    return text if len(text) <= 60 else text[:60] + "..."


def unpack_header(header: bytes) -> tuple[Any, ...]:
    """Decode a header frame to `(verb, slot, ...)`; the rest is checked by the `read_*` functions.

    Raises:
        ProtocolError: It is no MessagePack array that begins with two numbers, or over a limit.
    """
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"header of {len(header)} bytes, allowed are {MAX_HEADER}")
    try:
        # No text and no bytes in it can be longer than the header is.
        fields = _unpackb(header, use_list=False, max_array_len=MAX_ITEMS, max_map_len=0, max_ext_len=0)
    except Exception as exc:  # msgpack raises ValueError, its own errors, RecursionError and UnicodeDecodeError
        raise ProtocolError(f"header is no MessagePack within the limits: {exc}") from exc
    if type(fields) is not tuple or len(fields) < 2 or type(fields[0]) is not int or type(slot := fields[1]) is not int:
        raise ProtocolError(f"header must begin with verb and slot, saw {_brief(fields)}")
    if not 0 <= slot <= MAX_SLOT:
        raise ProtocolError(f"slot {slot} is not within 0 and 2**31 - 1")
    return fields


def read_handled(value: Any) -> Handled:
    """Check a handled watermark."""
    if type(value) is int:
        if not 0 <= value <= MAX_NUMBER:
            _match(value, int, "handled")
        return value
    _match(value, [int, tuple, tuple], "handled")
    _read_ranges(value[1], "handled range")
    if len(value[2]) > MAX_FAILURES:
        raise ProtocolError(f"{len(value[2])} failures in one frame, allowed are {MAX_FAILURES}")
    for item in value[2]:
        _match(item, [int, int, str], "failure")
        if item[1] not in (FAIL_ERROR, FAIL_REJECT, FAIL_CRASH) or len(item[2]) > MAX_ERROR_TEXT:
            raise ProtocolError(f"failure: malformed, saw {_brief(item)}")
    return value  # type: ignore[no-any-return]


def _read_ranges(value: tuple[Any, ...], what: str) -> None:
    if len(value) > MAX_OPEN_RANGES:
        raise ProtocolError(f"{what}: {len(value)} of them, allowed are {MAX_OPEN_RANGES}")
    _check_ranges(value, what)


def _check_ranges(value: tuple[Any, ...], what: str) -> None:
    for item in value:
        _match(item, [int, int], what)
        if item[0] > item[1]:
            raise ProtocolError(f"{what}: from {item[0]} to {item[1]}")


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


def read_hello(fields: tuple[Any, ...]) -> Hello:
    """Check a HELLO of this version; the version itself is checked by the bus before."""
    _match(fields, [int, int, int, int, bytes, str, tuple, tuple, [bytes, int, int, int, tuple]], "HELLO")
    _, slot, _, request, uuid, name, settings_wire, filters, (epoch, received, floor, sent, claims) = fields
    if slot == 0:
        raise ProtocolError("HELLO of slot 0, which is the link itself")
    if len(uuid) != 16:
        raise ProtocolError(f"pod uuid of {len(uuid)} bytes, must be 16")
    if len(name) > MAX_NAME:
        raise ProtocolError(f"name of {len(name)} characters, allowed are {MAX_NAME}")
    if len(epoch) not in (0, 8):
        raise ProtocolError(f"epoch of {len(epoch)} bytes, must be 8 or none")
    if floor > sent:
        raise ProtocolError(f"settled up to {floor}, but sent only up to {sent}")
    settings = PodSettings.from_wire(settings_wire)
    if settings.actor and not name:
        raise ProtocolError("an actor without a name")
    return Hello(
        request, uuid, name, settings, read_filters(filters), epoch, received, floor, sent, _read_claims(claims)
    )


def _read_claims(value: tuple[Any, ...]) -> Claims:
    total = 0
    for item in value:
        _match(item, [bytes, tuple], "claims")
        if len(item[0]) != 16:
            raise ProtocolError(f"claims on a sender of {len(item[0])} bytes, must be 16")
        total += len(item[1])
        _check_ranges(item[1], "claimed range")
    if total > MAX_CLAIMS:
        raise ProtocolError(f"{total} claimed ranges, allowed are {MAX_CLAIMS}")
    return value


def pack_hello(slot: int, hello: Hello) -> bytes:
    """Return the HELLO frame."""
    position = (hello.epoch, hello.received, hello.floor, hello.sent, hello.claims)
    return pack(
        Verb.HELLO, slot, VERSION, hello.request, hello.uuid, hello.name, hello.settings.to_wire(), hello.filters,
        position,
    )  # fmt: skip


def check_send(fields: tuple[Any, ...], body_size: int) -> None:
    """Check a SEND: `(verb, slot, seq, handled or None, ((kind, type, count, bytes, dest), ...))`.

    Written out, as it runs once for every frame: sizes must add up to the body, so that slicing is safe.
    """
    if len(fields) != 5:
        raise ProtocolError(f"SEND: malformed, saw {_brief(fields)}")
    _, _, seq, handled, runs = fields
    if type(seq) is not int or seq < 1 or type(runs) is not tuple or not runs:
        raise ProtocolError(f"SEND: malformed, saw {_brief(fields)}")
    total = 0
    last = seq - 1
    for run in runs:
        if type(run) is not tuple or len(run) != 5:
            raise ProtocolError(f"SEND: malformed run, saw {_brief(run)}")
        kind, message_type, count, size, dest = run
        if (
            type(kind) is not int
            or type(message_type) is not str
            or not ((message_type and len(message_type) <= _SURELY_SHORT) or _is_short(message_type))
            or type(count) is not int
            or type(size) is not int
            or not 0 < count <= size
            or count > MAX_ITEMS
        ):
            raise ProtocolError(f"SEND: malformed run, saw {_brief(run)}")
        if dest is None:
            fits = kind in UNADDRESSED_KINDS
        elif type(dest) is str:
            fits = kind in NAMED_KINDS and ((dest and len(dest) <= _SURELY_SHORT) or _is_short(dest))
        elif type(dest) is bytes:
            fits = kind in RETURNED_KINDS and len(dest) in (8, 16)
        else:
            fits = type(dest) is tuple and kind in PUBLISHED_KINDS and _is_relayed(dest)
        if not fits:
            raise ProtocolError(f"SEND: kind {kind} with destination {_brief(dest)}")
        total += size
        last += count
    if last > MAX_NUMBER:
        # Its receivers would take the frame for malformed, and with it what others have sent.
        raise ProtocolError(f"SEND: the last seq is {last}, allowed are numbers to 2**53 - 1")
    if total != body_size:
        raise ProtocolError(f"SEND: runs of {total} bytes in a body of {body_size}")
    if handled is not None and not (type(handled) is int and 0 <= handled <= MAX_NUMBER):
        read_handled(handled)


def _is_relayed(dest: tuple[Any, ...]) -> bool:
    """Return whether this is what a gateway says of what it publishes: `(flags, groups or None)`."""
    return (
        len(dest) == 2
        and type(dest[0]) is int
        and 0 <= dest[0] <= RELAY_REDELIVERED
        and (
            dest[1] is None
            or (type(dest[1]) is tuple and all(type(group) is str and len(group) <= MAX_NAME for group in dest[1]))
        )
    )


def _is_short(text: str) -> bool:
    """Return whether it has 1 to 255 bytes of UTF-8."""
    return 0 < len(text) <= MAX_TYPE and (text.isascii() or len(text.encode()) <= MAX_TYPE)


def check_deliver(fields: tuple[Any, ...], body_size: int) -> None:
    """Check a DELIVER: `(verb, slot, number, ack or None, runs)`; see `docs/protocol.md` for a run.

    Written out, as it runs once for every frame: one comparison each is what the interpreter does quickest.
    """
    if len(fields) != 5:
        raise ProtocolError(f"DELIVER: malformed, saw {_brief(fields)}")
    _, _, number, ack, runs = fields
    if type(number) is not int or number < 1 or number > MAX_NUMBER or type(runs) is not tuple or not runs:
        raise ProtocolError(f"DELIVER: malformed, saw {_brief(fields)}")
    total = 0
    for entry in runs:
        run = entry if type(entry) is tuple and len(entry) == 9 else _without_relayed(entry)
        sender, seq, floor, kind, message_type, count, size, flags, attempt = run
        if (
            type(sender) is not bytes
            or len(sender) != 16
            or type(seq) is not int
            or seq < 1
            or seq > MAX_NUMBER
            or type(floor) is not int
            or floor < 0
            or floor > MAX_NUMBER
            or type(kind) is not int
            or kind < 0
            or kind > KIND_ANSWER
            or type(message_type) is not str
            or not message_type
            or len(message_type) > MAX_TYPE
            or not (message_type.isascii() or _is_short(message_type))
            or type(count) is not int
            or count < 1
            or count > MAX_ITEMS
            or type(size) is not int
            or size < count
            or type(flags) is not int
            or flags < 0
            or flags > MAX_NUMBER
            or type(attempt) is not int
            or attempt < 1
            or attempt > MAX_NUMBER
        ):
            raise ProtocolError(f"DELIVER: malformed run, saw {_brief(run)}")
        total += size
    if total != body_size:
        raise ProtocolError(f"DELIVER: runs of {total} bytes in a body of {body_size}")
    if ack is not None:
        read_ack(ack)


def _without_relayed(run: Any) -> tuple[Any, ...]:
    """Check what a run for the gateway says besides; return the rest."""
    if type(run) is tuple and len(run) == 10 and type(run[7]) is int and run[7] & FLAG_RELAYED:
        relayed = run[9]
        if (type(relayed) is str and _is_short(relayed)) or (type(relayed) is bytes and len(relayed) in (8, 16)):
            return run[:9]
        if type(relayed) is tuple and all(type(group) is str for group in relayed):
            return run[:9]
    raise ProtocolError(f"DELIVER: malformed run, saw {_brief(run)}")


def read_ack(value: Any) -> Ack:
    """Check an accepted and settled watermark."""
    if type(value) is tuple and len(value) == 2:
        # Written out, as it runs for most frames.
        accepted, settled = value
        if type(accepted) is not int or type(settled) is not int or accepted < 0 or settled < 0:
            _match(value, [int, int], "ack")
        if accepted > MAX_NUMBER or settled > MAX_NUMBER:
            _match(value, [int, int], "ack")
        return value
    if type(value) is not tuple or len(value) != 4:
        raise ProtocolError(f"ack: malformed, saw {_brief(value)}")
    _match(value, [int, int, int, tuple], "ack")
    _read_ranges(value[3], "open range")
    return value


_REST: dict[int, list[Any]] = {
    Verb.HANDLED: [int, int, (int, tuple)],
    Verb.FILTER: [int, int, int, tuple],
    Verb.BEAT: [int, int],
    Verb.BYE: [int, int, int, str],
    Verb.SYNC: [int, int],
    Verb.CANCEL: [int, int, tuple],
    Verb.WATCH: [int, int, tuple, tuple],
    Verb.GATEWAY: [int, int, int, tuple, tuple],
    Verb.WELCOME: [int, int, int, int, bytes, bytes, int, bool, [int, int, int]],
    Verb.ACK: [int, int, tuple],
    Verb.OK: [int, int, int, str],
    Verb.REJOIN: [int, int],
    Verb.PING: [int, int],
    Verb.REFUSED: [int, int, int, str, str],
    Verb.CLOSE: [int, int, str, str],
    Verb.CANCELLED: [int, int, bytes, tuple],
    Verb.DOWN: [int, int, int, str, str],
    Verb.LOCAL: [int, int, int, tuple, tuple, tuple],
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
    elif fields[0] == Verb.WELCOME:
        if len(fields[4]) != 8 or len(fields[5]) != 16:
            raise ProtocolError(f"WELCOME: epoch of {len(fields[4])} bytes, bus uuid of {len(fields[5])}")
    elif fields[0] == Verb.WATCH:
        _check_watches(fields[2], fields[3])
    elif fields[0] == Verb.GATEWAY:
        _check_gateway(fields)
    elif fields[0] == Verb.LOCAL:
        _check_local(fields)
    elif fields[0] in (Verb.CANCEL, Verb.CANCELLED):
        if len(fields[-1]) > MAX_CANCELS:
            raise ProtocolError(f"{len(fields[-1])} questions cancelled in one frame, allowed are {MAX_CANCELS}")
        if fields[0] == Verb.CANCELLED and len(fields[2]) != 16:
            raise ProtocolError(f"CANCELLED: sender of {len(fields[2])} bytes, must be 16")
        for seq in fields[-1]:
            _match(seq, int, "cancelled seq")


def _check_watches(begun: tuple[Any, ...], ended: tuple[Any, ...]) -> None:
    if max(len(begun), len(ended)) > MAX_WATCHES:
        raise ProtocolError(f"{max(len(begun), len(ended))} watches in one frame, allowed are {MAX_WATCHES}")
    for item in begun:
        _match(item, [int, str], "watch")
        if not _is_short(item[1]):
            raise ProtocolError(f"watch: {_brief(item[1])} is no name")
    for number in ended:
        _match(number, int, "ended watch")


def _check_stage(stage: int) -> None:
    if not 0 <= stage <= STAGE_BEGIN | STAGE_END:
        raise ProtocolError(f"stage {stage}, allowed are 0 to 3")


def _check_gateway(fields: tuple[Any, ...]) -> None:
    _, _, stage, begun, ended = fields
    _check_stage(stage)
    for item in begun:
        _match(item, [str, bytes], "name of a peer")
        if not _is_short(item[0]) or len(item[1]) != 16:
            raise ProtocolError(f"GATEWAY: {_brief(item)} is no name of a node")
    for item in ended:
        _match(item, [str, str, str], "ended name")
        if not _is_short(item[0]) or len(item[2]) > MAX_GATEWAY_ERROR:
            raise ProtocolError(f"GATEWAY: {_brief(item)} is no end of a name")


def _check_local(fields: tuple[Any, ...]) -> None:
    _, _, stage, wants, groups, names = fields
    _check_stage(stage)
    for item in wants:
        _match(item, [str, bool], "local want")
    for item in groups:
        _match(item, [str, str, bool], "local want of a group")
    for item in names:
        _match(item, [str, (str, type(None)), str], "local name")
