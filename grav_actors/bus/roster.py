"""The roster: who is connected, as a journal that a restarted bus reads.

A record is written before the frame that confirms the change leaves, so that a pod which was told `yes`
is known to the next bus. No fsync: it guards against the death of the process, not of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

from grav_actors.bus.receiver import Receiver
from grav_actors.errors import ProtocolError
from grav_actors.filters import FilterWire
from grav_actors.protocol import MAX_HEADER, PodSettings, pack, read_filters

JOIN = 1
FILTER = 2
LEAVE = 3

COMPACT_AFTER = 10_000
"""Records after which a journal is written anew from what is still true."""


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One pod of the roster."""

    uuid: bytes
    name: str
    settings: PodSettings
    filters: FilterWire


def join_record(receiver: Receiver) -> bytes:
    """Return the record of a pod that joined."""
    return pack(JOIN, receiver.uuid, receiver.name, receiver.settings.to_wire(), receiver.filters.to_wire())


def filter_record(receiver: Receiver) -> bytes:
    """Return the record of a changed filter."""
    return pack(FILTER, receiver.uuid, receiver.filters.to_wire())


def leave_record(uuid: bytes) -> bytes:
    """Return the record of a pod that left or was released."""
    return pack(LEAVE, uuid)


def read_roster(raw: bytes) -> list[RosterEntry]:
    """Return the pods that a journal leaves connected.

    A record that was cut off by the death of its writer ends the reading; so does anything malformed.
    """
    entries: dict[bytes, RosterEntry] = {}
    unpacker = msgpack.Unpacker(
        raw=False,
        use_list=False,
        max_buffer_size=max(len(raw), 1),
        max_str_len=MAX_HEADER,
        max_bin_len=MAX_HEADER,
    )
    unpacker.feed(raw)
    try:
        for record in unpacker:
            _apply(entries, record)
    except (ValueError, TypeError, KeyError, IndexError, ProtocolError, msgpack.UnpackException):
        pass
    return list(entries.values())


def _apply(entries: dict[bytes, RosterEntry], record: Any) -> None:
    if record[0] == JOIN:
        _, uuid, name, settings, filters = record
        if type(uuid) is not bytes or len(uuid) != 16 or type(name) is not str:
            raise ProtocolError("a roster record without uuid and name")
        entries[uuid] = RosterEntry(uuid, name, PodSettings.from_wire(settings), read_filters(filters))
    elif record[0] == FILTER:
        known = entries[record[1]]
        entries[record[1]] = RosterEntry(known.uuid, known.name, known.settings, read_filters(record[2]))
    elif record[0] == LEAVE:
        entries.pop(record[1], None)


def compact(receivers: Iterable[Receiver]) -> bytes:
    """Return a journal of only these pods."""
    return b"".join(join_record(receiver) for receiver in receivers)
