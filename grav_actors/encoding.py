"""Messages and plain data to MessagePack bytes; `codec` says what they look like."""

import sys
from array import array
from typing import Any, Protocol

from msgpack import Packer

from grav_actors.errors import MessageEncodeError, MessageTooLargeError
from grav_actors.plain_data import PLAIN, checked, refuse

MAX_HEADER_BYTES = 8192
"""Most UTF-8 bytes of all keys and values of a message's headers."""

MARSHAL_VERSION = 1
MARSHAL_MAGIC = b"\x99\xa4grav\x01"
"""The first bytes of every marshalled message."""

NO_ID = bytes(16)
"""Stands for no parent, in a column of them."""
FIX_HEADERS = tuple(bytes((0x90 | count,)) for count in range(16))
NIL = b"\xc0"
COLUMNS = b"\x94"
"""How a body in columns begins; one in records goes on with a record where this one has the first column."""
COLUMNS_FROM = 4
"""Messages from which a body in columns is cheaper to make and to read than one in records."""

# Spare packers. A packer is taken out while it works, so neither another thread nor a finalizer of this
# one can meet a half-written buffer; one that failed, or has grown large, is not put back.
_packers: list[Packer] = []
_PACKER_KEEP_BYTES = 2 << 20
_LONG_INT = 1 << 32  # from here on an int takes 9 bytes
_LISTS = {list}
JOINED_FROM = 1024
"""Mean bytes of a message's data from which it is cheaper to copy it once than to have a packer copy it twice."""
LARGE_DATA = 64 * 1024
"""Bytes of data that are copied straight into their body: a packer would copy them twice."""


class HasRecord(Protocol):
    """What is packed: a Message, seen from here."""

    @property
    def _record(self) -> list[Any]: ...


# ---- packing


def pack_record(message: HasRecord, max_message: int) -> bytes:
    """Return the record of a message; see `pack_fields`."""
    return pack_fields(message._record, max_message)


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
    if type(data) is bytes and LARGE_DATA <= len(data) <= max_message:
        return b"".join(_large_record(record))
    if type(data) not in PLAIN:
        plain = checked(data)
        if plain is not data:
            record = [*record[:4], plain, record[5]]
    try:
        packer = _packers.pop()
    except IndexError:
        packer = Packer()
    try:
        packed: bytes = packer.pack(record)
    except Exception as exc:
        _check_size(data, None, max_message)
        refuse(data, exc)
    size = len(packed)
    if size <= _PACKER_KEEP_BYTES:
        _packers.append(packer)
    if size > max_message:
        _check_size(data, record[4], max_message)
    return packed


def is_fixed(data: Any, max_message: int) -> bool:
    """Return whether data can be encoded later than it was sent, with the same outcome and without an error.

    True only for what neither changes nor can be refused: None, bools, floats, ints of 64 bits, and bytes and ASCII
    text within `max_message`. All else is encoded where it is sent; also what only says that it is one of these.
    """
    kind = type(data)  # not its __class__, which anybody may define: unittest.mock does
    if kind is bytes:
        return len(data) <= max_message
    if kind is str:
        return len(data) <= max_message and data.isascii()
    if kind is int:
        return bool(-(1 << 63) <= data < 1 << 64)
    return data is None or kind is float or kind is bool


def pack_records(records: list[Any]) -> bytes:
    """Return the body of these records: each is packed already, or a list whose data `is_fixed`.

    One call for many lists costs a third of a call for each.
    """
    if set(map(type, records)) == _LISTS:
        parts = large_parts(records[0]) if len(records) == 1 else ()
        return b"".join(parts) if parts else _pack(records, records)
    return join_body([record if record.__class__ is bytes else _pack(record, record) for record in records])


def pack_single(record: Any) -> bytes:
    """Return the body of one small record, as `pack_records`."""
    return FIX_HEADERS[1] + record if record.__class__ is bytes else _pack(record, [record])


def pack_each(records: list[list[Any]]) -> list[bytes]:
    """Return for each of these records the body that holds it alone; the data of each `is_fixed`.

    One call for all, cut by their lengths, costs a third of a call for each; so bytes are packed.
    """
    if not all(
        record[4].__class__ is bytes and len(record[4]) < LARGE_DATA and record[3] >= _LONG_INT and record[5] is None
        for record in records
    ):
        return [pack_records([record]) for record in records]
    packed = _pack(records, records)
    at = len(array_header(len(records)))
    bodies: list[bytes] = []
    for uuid, reply_to, parent, _, data, _ in records:
        # The header of the array, those of three ids, the time, the header of the data, and nil.
        size = len(data)
        end = at + 17 + len(uuid) + len(reply_to) + len(parent) + (2 if size < 0x100 else 3) + size
        bodies.append(FIX_HEADERS[1] + packed[at:end])
        at = end
    return bodies


def large_parts(record: Any) -> tuple[bytes, ...]:
    """Return the body of one message in parts which hold its data as it is, if that is large; else nothing.

    Args:
        record: As for `pack_records`.
    """
    if record.__class__ is bytes:
        return (FIX_HEADERS[1], record) if len(record) >= LARGE_DATA else ()
    data = record[4]
    if data.__class__ is bytes and len(data) >= LARGE_DATA:
        return (FIX_HEADERS[1], *_large_record(record))
    return ()


def record_of(prefix: bytes, number: int, stamp: int, data: Any, parent: bytes) -> list[Any]:
    """Return the record of a message that answers nothing and has no headers; see `pack_columns`."""
    return [prefix + number.to_bytes(8, "big"), b"", parent, stamp, data, None]


def pack_columns(prefix: bytes, numbers: list[int], stamps: list[int], data: list[Any], parents: list[bytes]) -> bytes:
    """Return the body of messages that answer nothing and have no headers: in columns, unless they are few.

    Args:
        prefix, numbers: Their uuids, as 8 bytes that all have and a number below 2**64 each.
        stamps: Nanoseconds since 1970, within 64 bits.
        data: For each message data that `is_fixed`, or a tuple with the data packed.
        parents: Raw uuids, or b"" for none.
    """
    count = len(numbers)
    if count < COLUMNS_FROM:
        fields = zip(numbers, stamps, data, parents, strict=True)
        return _pack_few([record_of(prefix, *field) for field in fields])
    ids = array("Q", bytes(2 * 8 * count))
    ids[::2] = array("Q", (int.from_bytes(prefix, "big"),)) * count
    ids[1::2] = array("Q", numbers)
    times = array("q", stamps)
    if sys.byteorder == "little":
        ids.byteswap()
        times.byteswap()
    first = parents[0]
    causes = first if parents.count(first) == count else b"".join([one or NO_ID for one in parents])
    head = (COLUMNS, bin_header(16 * count), ids.tobytes(), bin_header(len(causes)), causes,
            bin_header(8 * count), times.tobytes())  # fmt: skip
    kinds = set(map(type, data))
    if tuple in kinds:
        return b"".join((*head, array_header(count), *[_packed_once(one) for one in data]))
    if kinds == {bytes} and sum(map(len, data)) >= JOINED_FROM * count:
        parts = [array_header(count)]
        for one in data:
            parts += (bin_header(len(one)), one)
        return b"".join((*head, *parts))
    return b"".join((*head, _pack(data, data)))


def _pack_few(records: list[list[Any]]) -> bytes:
    """Return the body of some records, of which the data is as in `pack_columns`."""
    if not any(record[4].__class__ is tuple for record in records):
        return pack_records(records)
    heads = [b"".join((FIX_HEADERS[6], _pack(record, record[:4])[1:])) for record in records]
    return join_body(
        [b"".join((head, _packed_once(record[4]), NIL)) for head, record in zip(heads, records, strict=True)]
    )


def _packed_once(data: Any) -> bytes:
    return data[0] if type(data) is tuple else _pack(data, data)


def bin_header(size: int) -> bytes:
    """Return the MessagePack header of so many bytes."""
    if size < 0x100:
        return bytes((0xC4, size))
    if size < 0x10000:
        return b"\xc5" + size.to_bytes(2, "big")
    return b"\xc6" + size.to_bytes(4, "big")


def pack_value(value: Any) -> bytes:
    """Return plain data as MessagePack, under the rules for the data of a message.

    Raises:
        MessageEncodeError: It cannot be carried; names the place, as `data["a"][3]`.
    """
    return _pack(value, value if type(value) in PLAIN else checked(value))


def pack_data(data: Any, max_message: int) -> bytes:
    """Return the data of a message as MessagePack.

    Raises:
        MessageEncodeError, MessageTooLargeError: As `pack_fields`.
    """
    plain = data
    try:
        if type(data) not in PLAIN:
            plain = checked(data)
        packed = _pack(data, plain)
    except MessageEncodeError:
        _check_size(data, None, max_message)
        raise
    if len(packed) > max_message:
        _check_size(data, plain, max_message)
    return packed


def pack_message(type: str, record: list[Any]) -> bytes:
    """Return a message in the marshalled form, which stands alone.

    Raises:
        MessageEncodeError: The data cannot be carried.
    """
    data = checked(record[4])
    return _pack(record[4], ["grav", MARSHAL_VERSION, type, *record[:4], data, record[5]])


def array_header(count: int) -> bytes:
    """Return the MessagePack header of an array of `count` items."""
    if count < 16:
        return FIX_HEADERS[count]
    if count < 0x10000:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def join_body(records: list[bytes]) -> bytes:
    """Return the body that holds these records, in order."""
    return b"".join((array_header(len(records)), *records))


def _large_record(record: list[Any]) -> tuple[bytes, bytes, bytes]:
    """Return a record whose data are at least 64 KiB of bytes, in three parts that follow each other."""
    *ids, data, headers = record
    head = b"".join((FIX_HEADERS[6], _pack(ids, ids)[1:], b"\xc6", len(data).to_bytes(4, "big")))
    return head, data, _pack(headers, headers)


def _pack(original: Any, plain: Any) -> bytes:
    try:
        packer = _packers.pop()
    except IndexError:
        packer = Packer()
    try:
        packed: bytes = packer.pack(plain)
    except Exception as exc:
        refuse(original, exc)
    if len(packed) <= _PACKER_KEEP_BYTES:
        _packers.append(packer)
    return packed


def _check_size(data: Any, plain: Any, max_message: int) -> None:
    kind = type(data)
    if issubclass(kind, bytes | bytearray):
        size = len(data)
    elif kind is memoryview:
        size = data.nbytes
    elif issubclass(kind, str):
        size = len(data.encode("utf-8", "surrogatepass"))
    elif plain is not None:
        size = len(_pack(data, plain))
    else:
        return
    if size > max_message:
        raise MessageTooLargeError(
            f"the data has {size} bytes, {max_message} are allowed (max_message); send less, or where it lies"
        )
