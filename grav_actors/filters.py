"""What a pod wants: its filter by type and by uuid, the same on the pod and on the bus."""

from __future__ import annotations

from collections.abc import Collection

from grav_actors.errors import ConfigError
from grav_actors.pattern import is_pattern, matches

FilterWire = tuple[bool, bool, tuple[tuple[str, bool], ...], tuple[tuple[bytes, bool], ...]]
"""`(listening, exclusive, ((type or pattern, allow), ...), ((uuid, allow), ...))`."""

MAX_FILTER_BYTES = 128 * 1024
"""Bytes of all entries of a filter: a filter travels in one header, and is kept by the bus for every pod."""
ALL_FILTERS_BYTES = 16 * 1024 * 1024
"""Bytes of all entries of the filters of all pods of a bus: 256 for each pod that it admits."""
FILTERS_FULL = (
    f"the filters of all pods of this bus have {ALL_FILTERS_BYTES // 1024**2} MiB of entries, and there is no room for "
    "more; use patterns instead of many types, or look at the uuid in the handler"
)
"""What a pod is told whose filter does not fit in."""
UUID_ENTRY_BYTES = 20
"""What the entry of one uuid takes."""

CACHED_TYPES = 4096
"""Types whose verdict a filter remembers; at the limit the memory starts anew."""


def is_framework_type(message_type: str) -> bool:
    """Return whether the type belongs to the framework: `grav.*` but for `grav.default`."""
    return message_type.startswith("grav.") and message_type != "grav.default"


class FilterSet:
    """Filters of one pod.

    The exact type comes first, then the patterns in the order in which they were set; a missing entry
    means allow, unless the filter is exclusive. Types of the framework are let through only by an entry
    that names them or by a pattern that begins with `grav`. A pod that is not listening gets nothing
    that was published.
    """

    __slots__ = ("_bytes", "_exact", "_patterns", "_verdicts", "exclusive", "listening", "uuids")

    def __init__(self, *, listening: bool = False, exclusive: bool = False) -> None:
        self.listening = listening
        self.exclusive = exclusive
        self.uuids: dict[bytes, bool] = {}
        self._exact: dict[str, bool] = {}
        self._patterns: dict[str, bool] = {}
        self._verdicts: dict[str, bool] = {}
        self._bytes = 0

    def set_type(self, type_or_pattern: str, allow: bool) -> None:
        """Allow or refuse a type or pattern; setting it again keeps its place in the order.

        Raises:
            ConfigError: The filter would have more than 128 KiB of entries.
        """
        table = self._patterns if is_pattern(type_or_pattern) else self._exact
        if type_or_pattern not in table:
            self._grow(len(type_or_pattern.encode()) + 5)
        table[type_or_pattern] = allow
        self._verdicts.clear()

    def set_uuid(self, uuid: bytes, allow: bool) -> None:
        """Allow or refuse one message by its uuid (16 bytes).

        Raises:
            ConfigError: The filter would have more than 128 KiB of entries: about 6,500 uuids.
        """
        if uuid not in self.uuids:
            self._grow(UUID_ENTRY_BYTES)
        self.uuids[uuid] = allow

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return self._bytes

    def _grow(self, size: int) -> None:
        if self._bytes + size > MAX_FILTER_BYTES:
            raise ConfigError(
                f"a filter of {len(self._exact) + len(self._patterns)} types and {len(self.uuids)} uuids is full "
                f"({MAX_FILTER_BYTES} bytes); use patterns, or look at the uuid in the handler"
            )
        self._bytes += size

    def allows_type(self, message_type: str) -> bool:
        """Return whether a published message of this type is wanted."""
        verdict = self._verdicts.get(message_type)
        if verdict is None:
            if len(self._verdicts) >= CACHED_TYPES:
                self._verdicts.clear()
            verdict = self._verdicts[message_type] = self.decides(message_type)
        return verdict

    def decides(self, message_type: str) -> bool:
        """Return the same, and remember nothing: for the bus, which has the filters of all pods."""
        if not self.listening:
            return False
        exact = self._exact.get(message_type)
        if exact is not None:
            return exact
        for pattern, allow in self._patterns.items():
            if matches(pattern, message_type):
                return allow
        return not self.exclusive and not is_framework_type(message_type)

    def allowed(self, message_types: Collection[str]) -> list[str]:
        """Return which of these types are wanted; quick for a filter that names all that it wants."""
        if not self.listening:
            return []
        if self.exclusive and not self._patterns:
            return [each for each, allow in self._exact.items() if allow and each in message_types]
        return [each for each in message_types if self.decides(each)]

    def wanted_patterns(self) -> list[str]:
        """Return types and patterns that cover all that is wanted, but for types of the framework.

        What is refused in particular may be among it.
        """
        if not self.listening:
            return []
        if not self.exclusive:
            return [">"]
        tables = (self._exact, self._patterns)
        return [each for table in tables for each, allow in table.items() if allow and _may_travel(each)]

    def allows_uuid(self, uuid: bytes) -> bool:
        """Return whether the message with this uuid is wanted."""
        return self.uuids.get(uuid, True)

    def copy(self) -> FilterSet:
        """Return an independent copy."""
        return FilterSet.from_wire(self.to_wire())

    def to_wire(self) -> FilterWire:
        """Return the filter as it travels in HELLO and FILTER frames."""
        types = (*self._exact.items(), *self._patterns.items())
        return (self.listening, self.exclusive, types, tuple(self.uuids.items()))

    @classmethod
    def from_wire(cls, wire: FilterWire) -> FilterSet:
        """Build a filter from what `to_wire` returned; the caller has checked its shape."""
        listening, exclusive, types, uuids = wire
        filters = cls(listening=listening, exclusive=exclusive)
        # Not by the setters: a frame has its own limit, and what came from a socket must not raise here.
        for type_or_pattern, allow in types:
            table = filters._patterns if is_pattern(type_or_pattern) else filters._exact
            table[type_or_pattern] = allow
            filters._bytes += len(type_or_pattern.encode()) + 5
        filters.uuids.update(uuids)
        filters._bytes += len(uuids) * UUID_ENTRY_BYTES
        return filters


def _may_travel(type_or_pattern: str) -> bool:
    """Return whether it covers a type that is not the framework's."""
    return not type_or_pattern.startswith("grav.") or type_or_pattern in ("grav.default", "grav.*", "grav.>")
