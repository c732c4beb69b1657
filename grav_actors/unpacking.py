"""MessagePack bytes from a socket to plain data, whatever they are: bounded in depth, items and memory."""

from collections.abc import Callable
from itertools import chain
from typing import Any

from msgpack import Unpacker, unpackb

from grav_actors.errors import MessageDecodeError
from grav_actors.ids import ID_BYTES
from grav_actors.plain_data import CONTAINERS, EXT_ACTOR_REF, MAX_DEPTH, MAX_DICT_ITEMS, MAX_LIST_ITEMS
from grav_actors.reference import ActorRef

# Bodies up to this long are decoded without looking for lying lengths first: 8 bytes for each claimed
# item, claimed by each nested header, stay below 3 MB.
_TRUSTED_BYTES = 1024
_SCANNED_BYTES = 64 << 10
BIN_WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
"""Bytes of the length of bin8, bin16 and bin32, by their first byte."""
_BLOB_WIDTHS = {0xC5: 2, 0xC6: 4, 0xDA: 2, 0xDB: 4}  # bytes of the length of bin16, bin32, str16, str32

_DEPTH_CHUNK = 4096  # lists and dicts looked into at a time: the views of all could need more than the data

MakeRef = Callable[[str], Any]
"""Makes the reference to an actor from its name."""


def unpack_value(raw: bytes | memoryview, make_ref: MakeRef = ActorRef) -> Any:
    """Return what `pack_value` was given.

    Raises:
        MessageDecodeError: The bytes are not one value under the rules for data.
    """
    value = decode(raw, make_ref)
    if type(value) in CONTAINERS:
        check_depth([value], MAX_DEPTH)
    return value


def decode(raw: bytes | memoryview, make_ref: MakeRef, at: int = 0, scanned: int = _SCANNED_BYTES) -> Any:
    """Return the one value that the bytes are from `at` on; how deep it nests is for `check_depth`.

    Args:
        scanned: Bytes that are looked through before they are copied for the check.

    Raises:
        MessageDecodeError: They are not one value.
    """

    def extension(code: int, data: bytes) -> Any:
        if code != EXT_ACTOR_REF:
            raise MessageDecodeError(f"unknown MessagePack extension type {code}")
        return make_ref(str(data, "utf-8"))

    size = most_items = most_pairs = len(raw) - at
    if size > MAX_DICT_ITEMS:
        most_items, most_pairs = min(size, MAX_LIST_ITEMS), MAX_DICT_ITEMS
    try:
        if size > _TRUSTED_BYTES and _may_lie(raw, at, size, scanned):
            check_lengths(memoryview(raw)[at:], size)
        return unpackb(
            memoryview(raw)[at:] if at else raw,
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
        raise MessageDecodeError(f"malformed MessagePack ({short_text(exc)})") from exc


def _may_lie(raw: bytes | memoryview, at: int, size: int, scanned: int) -> bool:
    """Tell whether any byte behind the first header could begin an array or map of more than 15 items."""
    if size > scanned:
        return not (_are_blobs(raw, at, size) if at else _is_one_blob(raw, size))
    if type(raw) is not bytes:
        return True
    find = raw.find
    at += 3 if raw[at] == 0xDC else 1
    return find(b"\xdc", at) >= 0 or find(b"\xdd", at) >= 0 or find(b"\xde", at) >= 0 or find(b"\xdf", at) >= 0


def _are_blobs(raw: bytes | memoryview, at: int, size: int) -> bool:
    """Tell whether the array that begins here has nothing but bytes in it; saves copying them for the check."""
    end = at + size
    count = raw[at] & 0x0F
    if raw[at] == 0xDC:
        count = int.from_bytes(raw[at + 1 : at + 3], "big")
        at += 2
    at += 1
    for _ in range(count):
        width = BIN_WIDTHS.get(raw[at], 0) if at < end else 0
        if not width:
            return False
        at += 1 + width + int.from_bytes(raw[at + 1 : at + 1 + width], "big")
    return at == end


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


def check_lengths(raw: bytes | memoryview, size: int) -> None:
    """Raise unless the bytes are one value, without making anything: what headers promise is then known to be there.

    Without this, a thousand nested arrays that each claim a million items cost gigabytes before the
    decoder finds the bytes missing.
    """
    unpacker = Unpacker(max_buffer_size=size)
    unpacker.feed(raw)
    unpacker.skip()
    if unpacker.tell() != size:
        raise MessageDecodeError(f"{size - unpacker.tell()} bytes behind the end of a value")


def check_depth(level: list[Any], room: int) -> None:
    """Raise MessageDecodeError unless these lists and dicts nest at most `room` deep; goes over all, level by level."""
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


def short_text(exc: Exception) -> str:
    """Return what went wrong, for an error: the words of a library may quote what came at any length."""
    text = str(exc)
    return f"{type(exc).__name__}: {text:.120}" if text else type(exc).__name__
