"""Topics: what frames of the stream are published under, and prefixes: what a node subscribes to.

The topic of a message's type is `t`, the type and a zero byte, so that no type is the beginning of another's.
A pattern becomes the prefix that all topics which it matches have in common; what is subscribed too widely
by that, the filters of the receiving bus sort out.
"""

from collections.abc import Iterable
from typing import Final

from grav_actors.pattern import FRAMEWORK_PREFIX, MSG_TYPE_DEFAULT

BEAT_TOPIC: Final = b"b"
"""The topic of beats; everybody subscribes to it."""


def type_topic(type: str) -> bytes:
    """Return the topic of a message's type."""
    return b"t%b\0" % type.encode()


def directed_topic(incarnation: bytes) -> bytes:
    """Return the topic of what goes to one node alone."""
    return b"d" + incarnation


def barrier_topic(incarnation: bytes, version: int) -> bytes:
    """Return the topic that a node subscribes to last: who sees it subscribed has seen all before it."""
    return b"x%b%d" % (incarnation, version)


def interest_prefixes(patterns: Iterable[str]) -> tuple[bytes, ...]:
    """Return what to subscribe to for these types and patterns, sorted, none covered by another.

    The framework's own types never leave a node, but for `grav.default`: they are left out.
    """
    wanted: set[bytes] = set()
    for pattern in patterns:
        tokens = pattern.split(".")
        wild = next((index for index, token in enumerate(tokens) if token in ("*", ">")), None)
        if wild is None:
            if not pattern.startswith(FRAMEWORK_PREFIX) or pattern == MSG_TYPE_DEFAULT:
                wanted.add(type_topic(pattern))
        elif tokens[0] != "grav":
            wanted.add(b"t" + "".join(f"{token}." for token in tokens[:wild]).encode())
        elif len(tokens) == 2:
            wanted.add(type_topic(MSG_TYPE_DEFAULT))  # `grav.*` and `grav.>` match it too
    return without_covered(wanted)


def without_covered(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the prefixes, sorted, without those that begin with another of them."""
    kept: list[bytes] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)
