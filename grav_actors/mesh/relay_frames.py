"""What hubs say to each other about the runs that they carry, and what the mesh itself sends as runs: bytes and checks.

What is malformed raises `ProtocolError` here and nowhere else. `docs/mesh.md` is the specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from grav_actors.errors import ProtocolError
from grav_actors.mesh.frames import INCARNATION_BYTES, MAX_META
from grav_actors.protocol import (
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    MAX_GATEWAY_ERROR,
    MAX_NAME,
    MAX_OVERHEAD,
    MAX_TYPE,
    STAGE_BEGIN,
    STAGE_END,
)

NEWS_TYPE: Final = "grav.mesh.news"
"""Type of a run that says which actors and groups its node has."""
AGAIN_TYPE: Final = "grav.mesh.again"
"""Type of a run that asks for all of that."""
TOO_LARGE_TYPE: Final = "grav.mesh.too_large"
"""Type of a run that stands for a message which is larger than its receiver takes: it has the place, and no content."""
KIND_CANCEL: Final = 6
"""The askers of these questions no longer wait."""
KIND_ENDED: Final = 7
"""No answer to these questions will come from this node, or no further one."""
STAGES: Final = STAGE_BEGIN | STAGE_END
KIND_LOST: Final = 8
"""Something of the receiver's was lost on its way here: perhaps a question, to which no answer will come."""
MAX_NEWS_ITEMS: Final = 64
"""Entries of each list of the news that one run carries."""

Served = tuple[tuple[str, bytes], ...]
"""`((group, incarnation of the node whose member is to have it), ...)`."""
Groups = tuple[tuple[str, str, bool], ...]
"""`((group, pattern, wanted), ...)`."""
Names = tuple[tuple[str, str | None, str], ...]
"""`((name, reason of its end or None, error), ...)`."""


def is_too_large(size: int, max_message: int) -> bool:
    """Tell whether a record of so many bytes is more than a node takes which says `max_message`; 0: it says nothing."""
    return 0 < max_message < size - MAX_OVERHEAD


@dataclass(frozen=True, slots=True)
class Meta:
    """What goes with a run.

    Attributes:
        kind: As on a bus, or `KIND_CANCEL`, `KIND_ENDED` or `KIND_LOST`.
        sender: The pod that sent it on its own node; b"" where that does not matter.
        to: Of TELL and ASK the name; of ANSWER the pod or process; of what is published the groups that are to
            have it, each with the node; of ENDED the code and text of the error, two empty ones for none.
    """

    kind: int
    sender: bytes
    to: Any


@dataclass(frozen=True, slots=True)
class News:
    """Which groups want what at a node, and which actors it has.

    Attributes:
        stage: As of LOCAL: something has changed, all of it follows, or that was all.
    """

    stage: int
    groups: Groups
    names: Names


_STRICT = {
    "raw": False, "use_list": False, "strict_map_key": True, "max_str_len": MAX_META, "max_bin_len": MAX_META,
    "max_array_len": 4096, "max_map_len": 0, "max_ext_len": 0,
}  # fmt: skip
_pack = msgpack.Packer(autoreset=True).pack


def encode_meta(kind: int, sender: bytes, to: Any) -> bytes:
    """Return what goes with a run."""
    return _pack((kind, sender, to))  # type: ignore[no-any-return, unused-ignore]


def decode_meta(raw: bytes) -> Meta:
    """Read what came with a run; raise ProtocolError for what is malformed."""
    fields = _unpack(raw)
    if type(fields) is not tuple or len(fields) != 3 or type(fields[0]) is not int or type(fields[1]) is not bytes:
        raise ProtocolError(f"a run of a peer with {fields!r:.60}")
    kind, sender, to = fields
    if len(sender) not in (0, 16) or not _FITS.get(kind, _never)(to):
        raise ProtocolError(f"a run of kind {kind} of a peer for {to!r:.60}")
    return Meta(kind, sender, to)


def _never(to: Any) -> bool:
    return False


def _is_name(to: Any) -> bool:
    # The framework's own names are for the node itself: a peer has no say there.
    return type(to) is str and 0 < len(to.encode()) <= MAX_TYPE and not to.startswith("grav.")


def _is_pod(to: Any) -> bool:
    return type(to) is bytes and len(to) in (8, 16)


def _is_served(to: Any) -> bool:
    return type(to) is tuple and all(
        type(each) is tuple
        and len(each) == 2
        and type(each[0]) is str
        and len(each[0]) <= MAX_NAME
        and type(each[1]) is bytes
        and len(each[1]) == INCARNATION_BYTES
        for each in to
    )


def _is_outcome(to: Any) -> bool:
    return type(to) is tuple and len(to) == 2 and type(to[0]) is str and type(to[1]) is str


_FITS: dict[int, Callable[[Any], bool]] = {
    KIND_PUBLISH: _is_served,
    KIND_REPLY: _is_served,
    KIND_ASK_ANY: _is_served,
    KIND_TELL: _is_name,
    KIND_ASK: _is_name,
    KIND_ANSWER: _is_pod,
    KIND_CANCEL: lambda to: to is None,
    KIND_ENDED: _is_outcome,
    KIND_LOST: lambda to: to is None,
}


def encode_type(type: str) -> bytes:
    """Return what goes with a message in a tunnel."""
    return _pack(type)  # type: ignore[no-any-return, unused-ignore]


def decode_type(raw: bytes) -> str:
    """Read the type of a message from a tunnel; "" if it is malformed, which no message has."""
    try:
        type_ = _unpack(raw)
    except ProtocolError:
        return ""
    return type_ if isinstance(type_, str) else ""


def encode_ids(ids: list[bytes]) -> bytes:
    """Return the body of CANCEL and ENDED."""
    return _pack(tuple(ids))  # type: ignore[no-any-return, unused-ignore]


def decode_ids(body: bytes, count: int) -> tuple[bytes, ...]:
    """Read the body of CANCEL and ENDED; raise ProtocolError for what is malformed."""
    ids = _unpack(body)
    if type(ids) is not tuple or len(ids) != count or any(type(each) is not bytes or len(each) != 16 for each in ids):
        raise ProtocolError(f"{count} uuids of questions were announced, saw {ids!r:.60}")
    return ids


def encode_news(news: News) -> bytes:
    """Return the body of a run of news."""
    return _pack((news.stage, news.groups, news.names))  # type: ignore[no-any-return, unused-ignore]


def decode_news(body: bytes) -> News:
    """Read the body of a run of news; raise ProtocolError for what is malformed."""
    fields = _unpack(body)
    if type(fields) is not tuple or len(fields) != 3 or type(fields[0]) is not int or not 0 <= fields[0] <= STAGES:
        raise ProtocolError(f"news of a peer that are none: {fields!r:.60}")
    stage, groups, names = fields
    for group in _items(groups, (str, str, bool)):
        if len(group[0]) > MAX_NAME or len(group[1].encode()) > MAX_TYPE:
            raise ProtocolError(f"a group of a peer that is none: {group!r:.60}")
    for name in _items(names, (str, (str, type(None)), str)):
        if not _is_name(name[0]) or len(name[2]) > MAX_GATEWAY_ERROR:
            raise ProtocolError(f"a name of a peer that is none: {name!r:.60}")
    return News(stage, groups, names)


def _items(items: Any, shape: tuple[Any, ...]) -> tuple[Any, ...]:
    if type(items) is not tuple or not all(
        type(item) is tuple and len(item) == len(shape) and all(map(_is_of, item, shape)) for item in items
    ):
        raise ProtocolError(f"news of a peer that are none: {items!r:.60}")
    return items


def _is_of(value: Any, shape: Any) -> bool:
    return isinstance(value, shape) and type(value) in (shape if isinstance(shape, tuple) else (shape,))


def _unpack(raw: bytes) -> Any:
    try:
        return msgpack.unpackb(raw, **_STRICT)
    except Exception as exc:  # msgpack raises ValueError, its own errors, RecursionError and UnicodeDecodeError
        raise ProtocolError(f"no MessagePack within the limits: {exc}") from exc
