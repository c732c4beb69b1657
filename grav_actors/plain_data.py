"""What the data of a message may be, and as what it travels: values that a packer of MessagePack takes as they are."""

from datetime import UTC, datetime
from operator import is_
from types import NoneType
from typing import Any, NoReturn

from msgpack import ExtType, Timestamp

from grav_actors.errors import MessageEncodeError
from grav_actors.reference import ActorRef

MAX_DEPTH = 32
"""Deepest nesting of lists and dicts in data."""

MAX_LIST_ITEMS = 1 << 20
MAX_DICT_ITEMS = 1 << 19
"""Caps on what one header may promise, so that few bytes cannot claim much memory. A message of the
default size cannot reach them."""

EXT_ACTOR_REF = 1
"""MessagePack extension type of a reference to an actor."""

PLAIN = frozenset({NoneType, bool, int, float, str, bytes, bytearray})
"""Types of the values that need no look."""
_KEYS = frozenset({str, bytes, int})
CONTAINERS = frozenset({dict, list})
"""Types of received values that hold others."""
_ALLOWED = "None, bool, int, float, str, bytes, list, dict, aware datetime and ActorRef are carried"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800  # datetime.min and datetime.max as seconds since 1970
_LAST_SECOND = 253_402_300_799


def checked(data: Any) -> Any:
    """Return data that a packer takes as it is; `data` itself when it already was, never changed.

    Raises:
        MessageEncodeError: It cannot be carried; names the place, as `data["a"][3]`.
    """
    try:
        return _plain(data, MAX_DEPTH)
    except Exception as exc:
        refuse(data, exc)


def _plain(value: Any, room: int) -> Any:
    """Check one value with `room` levels of nesting left; flat containers are gone through just once."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is dict:
        if not room or len(value) > MAX_DICT_ITEMS:
            raise MessageEncodeError
        changed = {}
        for key, item in value.items():
            if type(key) is not str and type(key) not in _KEYS:
                return {_key(key): _plain(inner, room - 1) for key, inner in value.items()}
            if type(item) not in PLAIN:
                plain = _plain(item, room - 1)
                if plain is not item:
                    changed[key] = plain
        return {**value, **changed} if changed else value
    if kind is list or kind is tuple:
        if not room or len(value) > MAX_LIST_ITEMS:
            raise MessageEncodeError
        if PLAIN.issuperset(map(type, value)):
            return value
        items = [item if type(item) in PLAIN else _plain(item, room - 1) for item in value]
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


def refuse(data: Any, cause: Exception) -> NoReturn:
    """Raise MessageEncodeError that says what of this data cannot be carried, and where that is."""
    try:
        fault = _fault(data, "data", MAX_DEPTH)
    except Exception as exc:
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
