"""Messages and plain data as MessagePack bytes, and back.

A **record** is one message: the array `[uuid, reply_to, parent_id, timestamp_ns, data, headers]`. `uuid`
is 16 bytes, `reply_to` and `parent_id` are 16 bytes or none, `timestamp_ns` counts nanoseconds since 1970
(UTC), `headers` is a map of text to text or nil. A **body** is an array of records.

A **marshalled message** stands alone: the array `["grav", 1, type, uuid, reply_to, parent_id,
timestamp_ns, data, headers]`, where 1 is the version of this form. It always begins with the bytes
`99 a4 67 72 61 76 01`.

**Data** is nil, bool, int from -2**63 to 2**64-1, float, str (UTF-8), bin, array, map with keys str, bin
or int, timestamp (extension -1), or a reference to an actor (extension 1, the name in UTF-8); arrays and
maps nest up to 32 deep, an array has at most 2**20 items and a map 2**19.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import chain
from operator import is_
from types import NoneType
from typing import Any, NoReturn, Protocol

from msgpack import ExtType, Packer, Timestamp, Unpacker, unpackb

from grav_actors.errors import MessageDecodeError, MessageEncodeError, MessageTooLargeError
from grav_actors.ids import ID_BYTES
from grav_actors.reference import ActorRef

MAX_DEPTH = 32
"""Deepest nesting of lists and dicts in data."""

MAX_LIST_ITEMS = 1 << 20
MAX_DICT_ITEMS = 1 << 19
"""Caps on what one header may promise, so that few bytes cannot claim much memory. A message of the
default size cannot reach them."""

MAX_HEADER_BYTES = 8192
"""Most UTF-8 bytes of all keys and values of a message's headers."""

EXT_ACTOR_REF = 1
"""MessagePack extension type of a reference to an actor."""

MARSHAL_VERSION = 1
MARSHAL_MAGIC = b"\x99\xa4grav\x01"
"""The first bytes of every marshalled message."""

_PLAIN = frozenset({NoneType, bool, int, float, str, bytes, bytearray})
_KEYS = frozenset({str, bytes, int})
_CONTAINERS = frozenset({dict, list})
_ALLOWED = "None, bool, int, float, str, bytes, list, dict, aware datetime and ActorRef are carried"
_EMPTY = b""
_FIX_HEADERS = tuple(bytes((0x90 | count,)) for count in range(16))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800  # datetime.min and datetime.max as seconds since 1970
_LAST_SECOND = 253_402_300_799

# Spare packers. A packer is taken out while it works, so neither another thread nor a finalizer of this
# one can meet a half-written buffer; one that failed, or has grown large, is not put back.
_packers: list[Packer] = []
_PACKER_KEEP_BYTES = 2 << 20

# Bodies up to this long are decoded without looking for lying lengths first: 8 bytes for each claimed
# item, claimed by each nested header, stay below 3 MB.
_TRUSTED_BYTES = 1024
_SCANNED_BYTES = 64 << 10
_BLOB_WIDTHS = {0xC5: 2, 0xC6: 4, 0xDA: 2, 0xDB: 4}  # bytes of the length of bin16, bin32, str16, str32

_DEPTH_CHUNK = 4096  # lists and dicts looked into at a time: the views of all could need more than the data

MakeRef = Callable[[str], Any]


class HasRecord(Protocol):
    """What is packed: a Message, seen from here."""

    _record: list[Any]


# ---- packing


def pack_record(message: HasRecord, max_message: int) -> bytes:
    """Return the record of a message; see `pack_fields`."""
    return pack_fields(message._record, max_message)  # noqa: SLF001  (the list that travels; a property would cost as much as packing)


def pack_fields(record: list[Any], max_message: int) -> bytes:
    """Return a record as MessagePack.

    Args:
        record: `[uuid, reply_to, parent_id, timestamp_ns, data, headers]`; the data is checked here, the rest
            was when the message was made.
        max_message: Longest data in bytes: the length of bytes or (in UTF-8) text, else the encoded size.

    Raises:
        MessageEncodeError: The data cannot be carried; names the place, as `data["a"][3]`.
        MessageTooLargeError: The data is longer than `max_message`.
    """
    data = record[4]
    if type(data) not in _PLAIN:
        try:
            plain = _plain(data, MAX_DEPTH)
        except Exception as exc:  # noqa: BLE001  (see _checked)
            _refuse(data, exc)
        if plain is not data:
            record = [*record[:4], plain, record[5]]
    try:
        packer = _packers.pop()
    except IndexError:
        packer = Packer()
    try:
        packed: bytes = packer.pack(record)
    except Exception as exc:  # noqa: BLE001  (whatever a packer raises, the data is what it met)
        _check_size(data, None, max_message)
        _refuse(data, exc)
    size = len(packed)
    if size <= _PACKER_KEEP_BYTES:
        _packers.append(packer)
    if size > max_message:
        _check_size(data, record[4], max_message)
    return packed


def is_fixed(data: Any, max_message: int) -> bool:
    """Return whether data can be encoded later than it was sent, with the same outcome and without an error.

    True only for what neither changes nor can be refused: None, bools, floats, and bytes and ASCII text within
    `max_message`. All else is encoded where it is sent.
    """
    kind = data.__class__
    if kind is bytes:
        return len(data) <= max_message
    if kind is str:
        return len(data) <= max_message and data.isascii()
    return data is None or kind is float or kind is bool


def pack_records(records: list[Any]) -> bytes:
    """Return the body of these records: each is packed already, or a list whose data `is_fixed`.

    One call for many lists costs a third of a call for each.
    """
    if all(record.__class__ is list for record in records):
        return _pack(records, records)
    return join_body([record if record.__class__ is bytes else _pack(record, record) for record in records])


def pack_value(value: Any) -> bytes:
    """Return plain data as MessagePack, under the rules for the data of a message.

    Raises:
        MessageEncodeError: It cannot be carried; names the place, as `data["a"][3]`.
    """
    return _pack(value, value if type(value) in _PLAIN else _checked(value))


def pack_message(type: str, record: list[Any]) -> bytes:
    """Return a message in the marshalled form, which stands alone.

    Raises:
        MessageEncodeError: The data cannot be carried.
    """
    data = _checked(record[4])
    return _pack(record[4], ["grav", MARSHAL_VERSION, type, *record[:4], data, record[5]])


def array_header(count: int) -> bytes:
    """Return the MessagePack header of an array of `count` items."""
    if count < 16:
        return _FIX_HEADERS[count]
    if count < 0x10000:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def join_body(records: list[bytes]) -> bytes:
    """Return the body that holds these records, in order."""
    return array_header(len(records)) + b"".join(records)


def _pack(original: Any, plain: Any) -> bytes:
    try:
        packer = _packers.pop()
    except IndexError:
        packer = Packer()
    try:
        packed: bytes = packer.pack(plain)
    except Exception as exc:  # noqa: BLE001  (as in pack_record)
        _refuse(original, exc)
    if len(packed) <= _PACKER_KEEP_BYTES:
        _packers.append(packer)
    return packed


def _check_size(data: Any, plain: Any, max_message: int) -> None:
    if isinstance(data, bytes | bytearray):
        size = len(data)
    elif isinstance(data, memoryview):
        size = data.nbytes
    elif isinstance(data, str):
        size = len(data.encode("utf-8", "surrogatepass"))
    elif plain is not None:
        size = len(_pack(data, plain))
    else:
        return
    if size > max_message:
        raise MessageTooLargeError(
            f"the data has {size} bytes, {max_message} are allowed (max_message); send less, or where it lies"
        )


def _checked(data: Any) -> Any:
    """Return data that a packer takes as it is; `data` itself when it already was, never changed."""
    try:
        return _plain(data, MAX_DEPTH)
    except Exception as exc:  # noqa: BLE001  (what the data's own code raises means it cannot be carried)
        _refuse(data, exc)


def _plain(value: Any, room: int) -> Any:
    """Check one value with `room` levels of nesting left; flat containers are gone through just once."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        if not room or len(value) > MAX_DICT_ITEMS:
            raise MessageEncodeError
        changed = {}
        for key, item in value.items():
            if type(key) is not str and type(key) not in _KEYS:
                return {_key(key): _plain(inner, room - 1) for key, inner in value.items()}
            if type(item) not in _PLAIN:
                plain = _plain(item, room - 1)
                if plain is not item:
                    changed[key] = plain
        return {**value, **changed} if changed else value
    if kind is list or kind is tuple:
        if not room or len(value) > MAX_LIST_ITEMS:
            raise MessageEncodeError
        if _PLAIN.issuperset(map(type, value)):
            return value
        items = [item if type(item) in _PLAIN else _plain(item, room - 1) for item in value]
        return value if all(map(is_, items, value)) else items
    return _convert(value, room)


def _convert(value: Any, room: int) -> Any:
    """Return what a value of no exact base type travels as; raises MessageEncodeError when nothing."""
    if isinstance(value, datetime):
        return _timestamp(value)
    if isinstance(value, ActorRef):
        return ExtType(EXT_ACTOR_REF, value.name.encode())
    if isinstance(value, memoryview):
        return value.tobytes()
    # A packer takes these two as they are, but no receiver would.
    if isinstance(value, ExtType | Timestamp):
        raise MessageEncodeError
    if isinstance(value, dict):
        return _plain(dict(value.items()), room)
    if isinstance(value, list | tuple):
        return _plain(list(value), room)
    return _base(value)


def _base(value: Any) -> Any:
    """Return a scalar as its base type."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytearray):
        return bytes(memoryview(value))
    raise MessageEncodeError


def _key(key: Any) -> Any:
    if isinstance(key, float | bytearray):
        raise MessageEncodeError
    return _base(key)


def _timestamp(value: datetime) -> Timestamp:
    if value.utcoffset() is None:
        raise MessageEncodeError
    since = value - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise MessageEncodeError
    return Timestamp(seconds, since.microseconds * 1000)


# ---- saying what is wrong with data; slow, only after it was refused


def _refuse(data: Any, cause: Exception) -> NoReturn:
    try:
        fault = _fault(data, "data", MAX_DEPTH)
    except Exception as exc:  # noqa: BLE001  (the data's own code again)
        fault = f"data: {type(exc).__name__}: {exc}"
    if fault is None:
        fault = f"data: cannot be encoded ({type(cause).__name__}: {cause}); was it changed meanwhile?"
    raise MessageEncodeError(fault) from (None if type(cause) is MessageEncodeError else cause)


def _fault(value: Any, path: str, room: int) -> str | None:
    """Return the first reason why a value cannot be carried, with its place."""
    kind = type(value).__name__
    if isinstance(value, dict | list | tuple) and not isinstance(value, ExtType):
        if not room:
            return f"{_short(path)}: nested more than {MAX_DEPTH} deep, or holding itself"
        limit = MAX_DICT_ITEMS if isinstance(value, dict) else MAX_LIST_ITEMS
        if len(value) > limit:
            return f"{path}: {kind} of {len(value)} items; at most {limit} are carried"
        return _fault_inside(value, path, room - 1)
    if value is None or isinstance(value, bool | float | bytes | bytearray | memoryview | ActorRef):
        return None
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            return f"{path}: int of {value.bit_length()} bits; -2**63 to 2**64-1 are carried"
        return None
    if isinstance(value, str):
        return f"{path}: str is not valid Unicode (a lone surrogate)" if _has_surrogate(value) else None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            return f"{path}: naive datetime; give it a timezone, as datetime.now(timezone.utc)"
        try:
            _timestamp(value)
        except MessageEncodeError:
            return f"{path}: datetime {value.isoformat()} lies outside the years 1 to 9999 in UTC"
        return None
    return f"{path}: {kind} is not carried; {_ALLOWED}"


def _fault_inside(value: Any, path: str, room: int) -> str | None:
    if not isinstance(value, dict):
        for index, item in enumerate(value):
            fault = _fault(item, f"{path}[{index}]", room)
            if fault is not None:
                return fault
        return None
    for key, item in value.items():
        if isinstance(key, bool) or not isinstance(key, str | bytes | int):
            return f"{path}: key {key!r:.80} is {type(key).__name__}; keys are str, bytes or int"
        fault = _fault(key, f"{path}: key {key!r:.80}", room)
        if fault is None:
            shown = f'"{key:.80}"' if isinstance(key, str) else f"{key!r:.80}"
            fault = _fault(item, f"{path}[{shown}]", room)
        if fault is not None:
            return fault
    return None


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _short(path: str) -> str:
    return path if len(path) <= 60 else f"{path[:40]}...{path[-15:]}"


# ---- unpacking


def unpack_body(body: bytes | memoryview, count: int, make_ref: MakeRef) -> list[list[Any]]:
    """Return the records of a body, each a list of six.

    Args:
        body: The bytes as they came from a socket.
        count: How many records the body must have.
        make_ref: Makes the reference to an actor from its name.

    Raises:
        MessageDecodeError: It is not that, whatever it is.
    """
    # The bytes tell whether the outermost array is as promised before anything is decoded.
    header = _FIX_HEADERS[count] if count < 16 else array_header(count)
    if body[: len(header)] != header:
        raise MessageDecodeError(f"a body that does not begin with an array of {count} records")
    records: list[list[Any]] = _decode(body, make_ref)
    # A record is in order if it answers nothing, has no headers and holds a scalar; all others are looked
    # at closely. Empty bytes are one object, and a value that is no list cannot hold it twice.
    try:
        odd = [
            data
            for uuid, reply_to, parent_id, stamp, data, headers in records
            if reply_to is not _EMPTY
            or parent_id is not _EMPTY
            or headers is not None
            or type(uuid) is not bytes
            or len(uuid) != ID_BYTES
            or type(stamp) is not int
            or type(data) in _CONTAINERS
        ]
    except (TypeError, ValueError) as exc:
        raise MessageDecodeError("a body with a record that is no array of 6 items") from exc
    if odd:
        containers = [data for data in odd if type(data) in _CONTAINERS]
        if len(containers) < len(odd) or not _are_simple(records):
            for record in records:
                _check_record(record)
        if containers:
            _check_depth(containers, MAX_DEPTH)
    return records


def _are_simple(records: list[list[Any]]) -> bool:
    """Do the test in `unpack_body`, whatever the data is."""
    return not [
        None
        for uuid, reply_to, parent_id, stamp, _, headers in records
        if reply_to is not _EMPTY
        or parent_id is not _EMPTY
        or headers is not None
        or type(uuid) is not bytes
        or len(uuid) != ID_BYTES
        or type(stamp) is not int
    ]


def unpack_value(raw: bytes | memoryview, make_ref: MakeRef = ActorRef) -> Any:
    """Return what `pack_value` was given.

    Raises:
        MessageDecodeError: The bytes are not one value under the rules for data.
    """
    value = _decode(raw, make_ref)
    if type(value) in _CONTAINERS:
        _check_depth([value], MAX_DEPTH)
    return value


def unpack_message(raw: bytes | memoryview, make_ref: MakeRef = ActorRef) -> tuple[str, list[Any]]:
    """Return the type (unchecked) and the record of a marshalled message.

    Raises:
        MessageDecodeError: The bytes are no marshalled message of a version known here.
    """
    if raw[:6] != MARSHAL_MAGIC[:6]:
        raise MessageDecodeError(f"no marshalled message: it begins with {bytes(raw[:8])!r}")
    parts = _decode(raw, make_ref)
    if parts[1] != MARSHAL_VERSION or type(parts[1]) is not int:
        raise MessageDecodeError(f"a marshalled message of version {parts[1]!r:.20}, not {MARSHAL_VERSION}")
    _, _, type_, uuid, reply_to, parent_id, stamp, data, headers = parts
    if type(type_) is not str:
        raise MessageDecodeError(f"a marshalled message whose type is {type_!r:.80}, not text")
    record = [uuid, reply_to, parent_id, stamp, data, headers]
    _check_record(record)
    if type(data) in _CONTAINERS:
        _check_depth([data], MAX_DEPTH)
    return type_, record


def record_offsets(body: bytes | memoryview, count: int) -> list[int]:
    """Return where each record of a body begins, and where the last one ends; decodes nothing.

    Raises:
        MessageDecodeError: The body is not an array of `count` complete values.
    """
    try:
        unpacker = Unpacker(max_buffer_size=max(1, len(body)))
        unpacker.feed(body)
        found = unpacker.read_array_header()
        tell, skip = unpacker.tell, unpacker.skip
        offsets = [tell()]
        for _ in range(min(found, count)):
            skip()
            offsets.append(tell())
    except Exception as exc:
        raise MessageDecodeError(f"a malformed body ({_text(exc)})") from exc
    if found != count:
        raise MessageDecodeError(f"a body of {found} records, {count} were announced")
    if offsets[-1] != len(body):
        raise MessageDecodeError(f"{len(body) - offsets[-1]} bytes behind the last record of a body")
    return offsets


def slice_body(body: bytes | memoryview, offsets: list[int], low: int, high: int) -> bytes:
    """Return the body of the records from `low` up to, but not including, `high`."""
    return array_header(high - low) + bytes(body[offsets[low] : offsets[high]])


def record_ids(body: bytes | memoryview, count: int) -> list[bytes]:
    """Return the uuids of a body's records; decodes nothing else.

    Raises:
        MessageDecodeError: The body is not an array of `count` values that begin like records.
    """
    ids = []
    for offset in record_offsets(body, count)[:-1]:
        # An array of 6 whose first item is 16 bytes; every writer of this protocol makes it this short.
        if body[offset : offset + 3] != b"\x96\xc4\x10":
            raise MessageDecodeError("a record that does not begin with a uuid of 16 bytes")
        ids.append(bytes(body[offset + 3 : offset + 19]))
    return ids


def check_headers(headers: Any) -> None:
    """Raise MessageDecodeError unless these are headers: text to text, at most 8 KiB in all."""
    if not isinstance(headers, Mapping):
        raise MessageDecodeError(f"headers are {type(headers).__name__}, not a map of text to text")
    size = 0
    for key, value in headers.items():
        if type(key) is not str or type(value) is not str:
            raise MessageDecodeError(f"header {key!r:.80}: {value!r:.80} is not text to text")
        size += len(key.encode()) + len(value.encode())
    if size > MAX_HEADER_BYTES:
        raise MessageDecodeError(f"headers of {size} bytes; {MAX_HEADER_BYTES} are allowed")


def _decode(raw: bytes | memoryview, make_ref: MakeRef) -> Any:
    def extension(code: int, data: bytes) -> Any:
        if code != EXT_ACTOR_REF:
            raise MessageDecodeError(f"unknown MessagePack extension type {code}")
        return make_ref(str(data, "utf-8"))

    size = most_items = most_pairs = len(raw)
    if size > MAX_DICT_ITEMS:
        most_items, most_pairs = min(size, MAX_LIST_ITEMS), MAX_DICT_ITEMS
    try:
        if size > _TRUSTED_BYTES and _may_lie(raw, size):
            _check_lengths(raw, size)
        return unpackb(
            raw,
            raw=False,
            strict_map_key=False,
            timestamp=3,
            ext_hook=extension,
            max_array_len=most_items,
            max_map_len=most_pairs,
        )
    except (MessageDecodeError, MemoryError):
        raise
    except Exception as exc:
        raise MessageDecodeError(f"malformed MessagePack ({_text(exc)})") from exc


def _may_lie(raw: bytes | memoryview, size: int) -> bool:
    """Tell whether any byte behind the first header could begin an array or map of more than 15 items."""
    if size > _SCANNED_BYTES:
        return not _is_one_blob(raw, size)
    if type(raw) is not bytes:
        return True
    find = raw.find
    return find(b"\xdc", 3) >= 0 or find(b"\xdd", 3) >= 0 or find(b"\xde", 3) >= 0 or find(b"\xdf", 3) >= 0


def _is_one_blob(raw: bytes | memoryview, size: int) -> bool:
    """Tell whether a large body is one record that is all bytes or text; saves copying it for the check."""
    if raw[:4] != b"\x91\x96\xc4\x10":
        return False
    at = 4 + ID_BYTES
    for _ in ("reply_to", "parent_id"):
        if raw[at] != 0xC4:
            return False
        at += 2 + raw[at + 1]
    if raw[at] != 0xCF:  # the timestamp
        return False
    at += 9
    width = _BLOB_WIDTHS.get(raw[at], 0)
    end = at + 1 + width + int.from_bytes(raw[at + 1 : at + 1 + width], "big")
    return width > 0 and size - end <= _TRUSTED_BYTES


def _check_lengths(raw: bytes | memoryview, size: int) -> None:
    """Go over the bytes without making anything: what headers promise is then known to be there.

    Without this, a thousand nested arrays that each claim a million items cost gigabytes before the
    decoder finds the bytes missing.
    """
    unpacker = Unpacker(max_buffer_size=size)
    unpacker.feed(raw)
    unpacker.skip()
    if unpacker.tell() != size:
        raise MessageDecodeError(f"{size - unpacker.tell()} bytes behind the end of a value")


def _check_record(record: Any) -> None:
    """Raise unless this is a record; its data is not looked at."""
    if type(record) is not list or len(record) != 6:
        raise MessageDecodeError("a record that is no array of 6 items")
    uuid, reply_to, parent_id, stamp, _, headers = record
    if type(uuid) is not bytes or len(uuid) != ID_BYTES:
        raise MessageDecodeError(f"a record whose uuid is not {ID_BYTES} bytes")
    if type(reply_to) is not bytes or len(reply_to) not in (0, ID_BYTES):
        raise MessageDecodeError(f"a record whose reply_to is neither {ID_BYTES} bytes nor empty")
    if type(parent_id) is not bytes or len(parent_id) not in (0, ID_BYTES):
        raise MessageDecodeError(f"a record whose parent_id is neither {ID_BYTES} bytes nor empty")
    if type(stamp) is not int:
        raise MessageDecodeError("a record whose timestamp is not an int")
    if headers is not None:
        check_headers(headers)


def _check_depth(level: list[Any], room: int) -> None:
    """Raise unless these lists and dicts nest at most `room` deep; goes level by level over all of them."""
    while True:
        inner: list[Any] = []
        for start in range(0, len(level), _DEPTH_CHUNK):
            part = level[start : start + _DEPTH_CHUNK]
            items = chain.from_iterable([one.values() if type(one) is dict else one for one in part])
            if not _CONTAINERS.isdisjoint(set(map(type, items))):
                inner += [
                    item
                    for one in part
                    for item in (one.values() if type(one) is dict else one)
                    if type(item) in _CONTAINERS
                ]
        if not inner:
            return
        level = inner
        room -= 1
        if not room:
            raise MessageDecodeError(f"data nested more than {MAX_DEPTH} deep")


def _text(exc: Exception) -> str:
    text = str(exc)
    return f"{type(exc).__name__}: {text:.120}" if text else type(exc).__name__
