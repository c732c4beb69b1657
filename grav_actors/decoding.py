"""MessagePack bytes to messages and plain data; `codec` says what they look like."""

import struct
import sys
from array import array
from collections.abc import Iterable, Mapping
from itertools import chain, pairwise, repeat
from typing import Any

from msgpack import Unpacker

from grav_actors.encoding import (
    COLUMNS,
    FIX_HEADERS,
    MARSHAL_MAGIC,
    MARSHAL_VERSION,
    MAX_HEADER_BYTES,
    NIL,
    NO_ID,
    array_header,
    bin_header,
    pack_value,
)
from grav_actors.errors import MessageDecodeError
from grav_actors.ids import ID_BYTES, PREFIX_BYTES
from grav_actors.plain_data import CONTAINERS, MAX_DEPTH
from grav_actors.reference import ActorRef
from grav_actors.unpacking import BIN_WIDTHS, MakeRef, check_depth, check_lengths, decode, short_text

_EMPTY = b""
_LINK, _TIME = b"\xc4\x10", b"\xcf"
_UUID_FIRST = b"\x96" + _LINK
_NO_LINKS_BUT_TIME = b"\xc4\x00\xc4\x00" + _TIME
_SCANNED_MEAN = 1024  # so many bytes for each message are looked through faster than they are copied for the check
_ID = struct.Struct("16s")


def unpack_body(body: bytes | memoryview, count: int, make_ref: MakeRef) -> list[list[Any]]:
    """Return the records of a body, each a list of six.

    Args:
        body: The bytes as they came from a socket.
        count: How many records the body must have.
        make_ref: Makes the reference to an actor from its name.

    Raises:
        MessageDecodeError: It is not that, whatever it is.
    """
    return open_body(body, count, make_ref).records() if _is_columns(body) else _unpack_records(body, count, make_ref)


def _unpack_records(body: bytes | memoryview, count: int, make_ref: MakeRef) -> list[list[Any]]:
    # The bytes tell whether the outermost array is as promised before anything is decoded.
    header = FIX_HEADERS[count] if count < 16 else array_header(count)
    if body[: len(header)] != header:
        raise MessageDecodeError(f"a body that does not begin with an array of {count} records")
    records: list[list[Any]] = decode(body, make_ref)
    if count == 1 and _begins_as_record(body):
        record = records[0]
        if record[5] is None and type(record[4]) not in CONTAINERS:
            return records
    if not _are_simple(records):
        for record in records:
            _check_record(record)
    containers = [record[4] for record in records if type(record[4]) in CONTAINERS]
    if containers:
        check_depth(containers, MAX_DEPTH)
    return records


def _begins_as_record(body: bytes | memoryview) -> bool:
    """Tell whether the one item of a decoded body is an array of 6 that begins with sound ids and a time.

    The bytes say so of all that writers of this protocol make with both links or with none.
    """
    return body[1:4] == _UUID_FIRST and (
        body[20:25] == _NO_LINKS_BUT_TIME or (body[20:22] == _LINK and body[38:40] == _LINK and body[56:57] == _TIME)
    )


def _are_simple(records: list[Any]) -> bool:
    """Tell whether these are records without headers, whatever their data is; False says nothing of them.

    One look at all of them, for a fifth of what `_check_record` of each costs.
    """
    try:
        return not [
            None
            for record in records
            for uuid, reply_to, parent_id, stamp, _, headers in (record,)
            if type(record) is not list
            or headers is not None
            or type(uuid) is not bytes
            or len(uuid) != ID_BYTES
            or (reply_to is not _EMPTY and (type(reply_to) is not bytes or len(reply_to) != ID_BYTES))
            or (parent_id is not _EMPTY and (type(parent_id) is not bytes or len(parent_id) != ID_BYTES))
            or type(stamp) is not int
        ]
    except (TypeError, ValueError):
        return False


def check_body(body: bytes, count: int) -> None:
    """Raise MessageDecodeError unless a body has `count` whole values; what these are is not looked at."""
    if _is_columns(body):
        record_offsets(body, count)
        return
    header = FIX_HEADERS[count] if count < 16 else array_header(count)
    if body[: len(header)] != header:
        raise MessageDecodeError(f"a body that does not begin with an array of {count} records")
    try:
        check_lengths(body, len(body))
    except MessageDecodeError:
        raise
    except Exception as exc:
        raise MessageDecodeError(f"a malformed body ({short_text(exc)})") from exc


def _is_columns(body: bytes | memoryview) -> bool:
    return body[:1] == COLUMNS and body[1:2] != FIX_HEADERS[6]


Stem = tuple[bytes, bytes]
"""What is known of a message besides its number, time and data: the first half of its uuid, and its parent or b""."""


def stem_uuid(stem: Stem, number: int) -> bytes:
    """Return the raw uuid of a message that has a stem."""
    return stem[0] + number.to_bytes(PREFIX_BYTES, "big")


def stem_record(stem: Stem, number: int, stamp: int, data: Any) -> list[Any]:
    """Return the record of a message that has a stem."""
    return [stem_uuid(stem, number), b"", stem[1], stamp, data, None]


class Opened:
    """The messages of a body, decoded no further than is needed for those who look at their data.

    Attributes:
        sources: For each message its record, or the stem.
        numbers, stamps: For each message that has a stem the second half of its uuid and its time; else of no meaning.
        data: For each message. All can be gone through several times; only this one has as many as there are messages.
    """

    __slots__ = ("data", "numbers", "sources", "stamps")

    def __init__(
        self,
        sources: Iterable[list[Any] | Stem],
        numbers: Iterable[int],
        stamps: Iterable[int],
        data: list[Any],
    ) -> None:
        self.sources = sources
        self.numbers = numbers
        self.stamps = stamps
        self.data = data

    def records(self) -> list[list[Any]]:
        """Return all records."""
        if self.numbers is _NO_NUMBERS:
            return self.sources  # type: ignore[return-value]  # they came as records
        return [
            source if isinstance(source, list) else stem_record(source, number, stamp, data)
            for source, number, stamp, data in zip(self.sources, self.numbers, self.stamps, self.data, strict=False)
        ]


def open_body(body: bytes | memoryview, count: int, make_ref: MakeRef) -> Opened:
    """Decode a body as `unpack_body` does, but make no records where it is in columns.

    Raises:
        MessageDecodeError: It is not the body of `count` messages.
    """
    if body[:1] != COLUMNS or body[1:2] == FIX_HEADERS[6]:
        return _opened(_unpack_records(body, count, make_ref))
    uuids, parents, stamps, at = _read_head(body, count)
    header = array_header(count)
    if body[at : at + len(header)] != header:
        raise MessageDecodeError(f"a body whose data is not an array of {count} items")
    data = decode(body, make_ref, at, _SCANNED_MEAN * count)
    if not CONTAINERS.isdisjoint(set(map(type, data))):
        check_depth([one for one in data if type(one) in CONTAINERS], MAX_DEPTH)
    halves = _numbers("Q", uuids)
    times = _numbers("q", stamps)
    if halves[::2].tobytes() != halves[:1].tobytes() * count:
        entries = zip(_ids(uuids), _causes(parents, count), times, data, strict=True)
        return _opened([[uuid, b"", parent, stamp, one, None] for uuid, parent, stamp, one in entries])
    prefix = uuids[:PREFIX_BYTES]
    stems: Iterable[Stem] = repeat((prefix, parents))
    if len(parents) > ID_BYTES:
        stems = list(zip(repeat(prefix), _causes(parents, count), strict=False))
    return Opened(stems, halves[1::2], times, data)


_NO_NUMBERS = repeat(0)
"""Stands for the numbers, and the times, of messages that have records."""


def _opened(records: list[list[Any]]) -> Opened:
    return Opened(records, _NO_NUMBERS, _NO_NUMBERS, [record[4] for record in records])


def _numbers(code: str, column: bytes) -> "array[int]":
    numbers = array(code, column)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _ids(column: bytes) -> Iterable[bytes]:
    return chain.from_iterable(_ID.iter_unpack(column))


def _causes(parents: bytes, count: int) -> Iterable[bytes]:
    """Return the parent of each message."""
    if len(parents) <= ID_BYTES:
        return repeat(parents, count)
    return _ids(parents) if NO_ID not in parents else [b"" if one == NO_ID else one for one in _ids(parents)]


def _read_head(body: bytes | memoryview, count: int) -> tuple[bytes, bytes, bytes, int]:
    """Return the uuids, parents and times of a body in columns, and where its data begins."""
    uuids, at = _read_bin(body, 1)
    parents, at = _read_bin(body, at)
    stamps, at = _read_bin(body, at)
    if (
        count < 1
        or len(uuids) != ID_BYTES * count
        or len(stamps) != 8 * count
        or len(parents) not in (0, ID_BYTES, ID_BYTES * count)
    ):
        raise MessageDecodeError(f"a body whose columns are not of {count} messages")
    return uuids, b"" if parents == NO_ID else parents, stamps, at


def _read_bin(body: bytes | memoryview, at: int) -> tuple[bytes, int]:
    width = BIN_WIDTHS.get(body[at], 0) if at < len(body) else 0
    begin = at + 1 + width
    end = begin + int.from_bytes(body[at + 1 : begin], "big")
    if not width or end > len(body):
        raise MessageDecodeError("a body with a column that is no bytes, or is not all there")
    return bytes(body[begin:end]), end


def unpack_message(raw: bytes | memoryview, make_ref: MakeRef = ActorRef) -> tuple[str, list[Any]]:
    """Return the type (unchecked) and the record of a marshalled message.

    Raises:
        MessageDecodeError: The bytes are no marshalled message of a version known here.
    """
    if raw[:6] != MARSHAL_MAGIC[:6]:
        raise MessageDecodeError(f"no marshalled message: it begins with {bytes(raw[:8])!r}")
    parts = decode(raw, make_ref)
    if parts[1] != MARSHAL_VERSION or type(parts[1]) is not int:
        raise MessageDecodeError(f"a marshalled message of version {parts[1]!r:.20}, not {MARSHAL_VERSION}")
    _, _, type_, uuid, reply_to, parent_id, stamp, data, headers = parts
    if type(type_) is not str:
        raise MessageDecodeError(f"a marshalled message whose type is {type_!r:.80}, not text")
    record = [uuid, reply_to, parent_id, stamp, data, headers]
    _check_record(record)
    if type(data) in CONTAINERS:
        check_depth([data], MAX_DEPTH)
    return type_, record


def record_offsets(body: bytes | memoryview, count: int) -> list[int]:
    """Return where each record of a body begins, and where the last one ends; decodes nothing.

    Of a body in columns: where the data of each message begins.

    Raises:
        MessageDecodeError: The body does not hold `count` complete values.
    """
    at = _read_head(body, count)[3] if _is_columns(body) else 0
    try:
        unpacker = Unpacker(max_buffer_size=max(1, len(body)))
        unpacker.feed(body[at:])
        found = unpacker.read_array_header()
        tell, skip = unpacker.tell, unpacker.skip
        offsets = [at + tell()]
        for _ in range(min(found, count)):
            skip()
            offsets.append(at + tell())
    except Exception as exc:
        raise MessageDecodeError(f"a malformed body ({short_text(exc)})") from exc
    if found != count:
        raise MessageDecodeError(f"a body of {found} records, {count} were announced")
    if offsets[-1] != len(body):
        raise MessageDecodeError(f"{len(body) - offsets[-1]} bytes behind the last record of a body")
    return offsets


def slice_body(body: bytes | memoryview, offsets: list[int], low: int, high: int) -> bytes:
    """Return the body of the records from `low` up to, but not including, `high`."""
    rest = bytes(body[offsets[low] : offsets[high]])
    count = high - low
    if not _is_columns(body):
        return array_header(count) + rest
    uuids, parents, stamps, _ = _read_head(body, len(offsets) - 1)
    uuids = uuids[ID_BYTES * low : ID_BYTES * high]
    if len(parents) > ID_BYTES:
        parents = parents[ID_BYTES * low : ID_BYTES * high]
        if count == 1 and parents == NO_ID:
            parents = b""
    stamps = stamps[8 * low : 8 * high]
    columns = [part for column in (uuids, parents, stamps) for part in (bin_header(len(column)), column)]
    return b"".join((COLUMNS, *columns, array_header(count), rest))


def cut_records(body: bytes | memoryview, count: int) -> list[bytes]:
    """Return each record of a body as bytes, whatever form the body has; decodes no data.

    Raises:
        MessageDecodeError: The body does not hold `count` complete values.
    """
    offsets = record_offsets(body, count)
    pieces = [bytes(body[first:last]) for first, last in pairwise(offsets)]
    if not _is_columns(body):
        return pieces
    uuids, parents, stamps, _ = _read_head(body, count)
    entries = zip(_ids(uuids), _causes(parents, count), _numbers("q", stamps), pieces, strict=True)
    return [
        b"".join((FIX_HEADERS[6], pack_value([uuid, b"", parent, stamp])[1:], piece, NIL))
        for uuid, parent, stamp, piece in entries
    ]


def record_ids(body: bytes | memoryview, count: int) -> list[bytes]:
    """Return the uuids of a body's records; decodes nothing else.

    Raises:
        MessageDecodeError: The body does not hold `count` values that begin like records.
    """
    offsets = record_offsets(body, count)
    if _is_columns(body):
        return [uuid for (uuid,) in _ID.iter_unpack(_read_head(body, count)[0])]
    ids = []
    for offset in offsets[:-1]:
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
