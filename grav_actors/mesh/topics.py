"""Topics: what frames of the stream are published under, and prefixes: what a node subscribes to.

The topic of a message's type is `t`, the type and a zero byte, so that no type is the beginning of another's.
A pattern becomes the prefix that all topics which it matches have in common; what is subscribed too widely
by that, the filters of the receiving bus sort out.
"""

from collections.abc import Iterable
from typing import Final

from grav_actors.pattern import FRAMEWORK_PREFIX, MSG_TYPE_DEFAULT, check_pattern

MAX_PREFIXES: Final = 512
"""Prefixes that a node subscribes to at a peer, and types and patterns that a hub asks of its bus."""
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

    The framework's own types never leave a node, but for `grav.default`: they are left out. More than 512 are widened.
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
    return widened(wanted)


def prefix_patterns(prefixes: Iterable[bytes]) -> tuple[str, ...]:
    """Return the types and patterns that these prefixes of types stand for; others are left out.

    A prefix may come from a peer: what is none that `interest_prefixes` returns is passed over.
    """
    found: set[str] = set()
    for prefix in prefixes:
        if prefix == b"t":
            found |= {">", MSG_TYPE_DEFAULT}
        elif prefix[:1] == b"t" and prefix[-1:] in (b"\0", b"."):
            try:
                text = prefix[1:-1].decode() if prefix[-1:] == b"\0" else prefix[1:].decode() + ">"
                found.add(check_pattern(text))
            except ValueError:  # of the encoding, or of the pattern
                continue
    return tuple(sorted(each for each in found if not each.startswith(FRAMEWORK_PREFIX) or each == MSG_TYPE_DEFAULT))


def widened(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return prefixes of types that cover these, and are not too many: by their first token, else all types."""
    kept = without_covered(prefixes)
    if len(kept) > MAX_PREFIXES:
        kept = without_covered(prefix[: prefix.index(b".") + 1] if b"." in prefix else prefix for prefix in kept)
    return kept if len(kept) <= MAX_PREFIXES else (b"t",)


def without_covered(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the prefixes, sorted, without those that begin with another of them."""
    kept: list[bytes] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)
