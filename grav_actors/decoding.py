"""MessagePack bytes to messages and plain data; `codec` says what they look like."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from msgpack import Unpacker, unpackb

from grav_actors.encoding import (
    CONTAINERS,
    EXT_ACTOR_REF,
    FIX_HEADERS,
    MARSHAL_MAGIC,
    MARSHAL_VERSION,
    MAX_DEPTH,
    MAX_DICT_ITEMS,
    MAX_HEADER_BYTES,
    MAX_LIST_ITEMS,
    array_header,
)
from grav_actors.errors import MessageDecodeError
from grav_actors.ids import ID_BYTES
from grav_actors.reference import ActorRef

_EMPTY = b""
# Bodies up to this long are decoded without looking for lying lengths first: 8 bytes for each claimed
# item, claimed by each nested header, stay below 3 MB.
_TRUSTED_BYTES = 1024
_SCANNED_BYTES = 64 << 10
_BLOB_WIDTHS = {0xC5: 2, 0xC6: 4, 0xDA: 2, 0xDB: 4}  # bytes of the length of bin16, bin32, str16, str32

_DEPTH_CHUNK = 4096  # lists and dicts looked into at a time: the views of all could need more than the data

MakeRef = Callable[[str], Any]


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
    header = FIX_HEADERS[count] if count < 16 else array_header(count)
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
            or type(data) in CONTAINERS
        ]
    except (TypeError, ValueError) as exc:
        raise MessageDecodeError("a body with a record that is no array of 6 items") from exc
    if odd:
        containers = [data for data in odd if type(data) in CONTAINERS]
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


def check_body(body: bytes, count: int) -> None:
    """Raise MessageDecodeError unless a body is an array of `count` whole values; what these are is not looked at."""
    header = FIX_HEADERS[count] if count < 16 else array_header(count)
    if body[: len(header)] != header:
        raise MessageDecodeError(f"a body that does not begin with an array of {count} records")
    try:
        _check_lengths(body, len(body))
    except MessageDecodeError:
        raise
    except Exception as exc:
        raise MessageDecodeError(f"a malformed body ({_text(exc)})") from exc


def unpack_value(raw: bytes | memoryview, make_ref: MakeRef = ActorRef) -> Any:
    """Return what `pack_value` was given.

    Raises:
        MessageDecodeError: The bytes are not one value under the rules for data.
    """
    value = _decode(raw, make_ref)
    if type(value) in CONTAINERS:
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
    if type(data) in CONTAINERS:
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
            if not CONTAINERS.isdisjoint(set(map(type, items))):
                inner += [
                    item
                    for one in part
                    for item in (one.values() if type(one) is dict else one)
                    if type(item) in CONTAINERS
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
