"""The slate: a few bytes that a process actor shares with its parent, and that say what its handlers are at.

A process that is killed cannot say which message it was handling; its parent reads it here afterwards, so that this
message is charged with the death, and no other one. A message is named by its sender and seq, which hold over
restarts of the bus, as numbers of deliveries do not.

The bytes are slots, one for each handler that may run at a time. What describes a run is written while its slot is
empty, and the mark of a message lies between two copies of its seq: a process that dies in the middle of writing
leaves a slot that differs in them, and at that moment no handler runs.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from grav_actors.ids import id_text
from grav_actors.protocol import MAX_TYPE

if TYPE_CHECKING:
    from mmap import mmap

    from grav_actors.pod.inbound import Inbound

MAX_SLOTS = 4096
"""Handlers that a slate has room for; what further ones are at is not noted."""

_MARK = struct.Struct("<Q16sQ")  # seq, uuid of the message, seq
_RUN = struct.Struct(f"<16sQB{MAX_TYPE}s")  # sender, attempt, length of the type, type
_RUN_OFFSET = _MARK.size
_SLOT_SIZE = (_MARK.size + _RUN.size + 7) // 8 * 8
_NO_ID = bytes(16)

SNAPSHOT_MARK = b"gravkeep"
"""What begins behind the slots with these bytes is no slot: the state that an actor keeps (`actor/snapshot.py`)."""

Note = Callable[[int, bytes, int], object]
"""Takes the seq of the message that is handled from now on, its uuid, and the seq once more."""


@dataclass(frozen=True, slots=True)
class Handling:
    """A message that was in a handler.

    Attributes:
        sender, seq: Who sent it, and its number among what that pod has sent.
        uuid: Of the message.
        attempt: 1 + the failures and deaths charged to it before.
    """

    sender: bytes
    seq: int
    uuid: bytes
    type: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.type} {id_text(self.uuid)} (attempt {self.attempt})"


def slate_size(concurrency: int) -> int:
    """Return the bytes of a slate for so many handlers at a time."""
    return min(concurrency, MAX_SLOTS) * _SLOT_SIZE


class Slot:
    """The bytes of one handler.

    Attributes:
        note: Notes the message that is handled from now on, one of the run told before; a call of 60 ns.
    """

    __slots__ = ("_memory", "_offset", "note")

    def __init__(self, memory: mmap | bytearray | memoryview, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self.note: Note = partial(_MARK.pack_into, memory, offset)

    def turn_to(self, inbound: Inbound) -> None:
        """Describe the run whose messages are noted next; the slot is empty."""
        name = inbound.type.encode()
        _RUN.pack_into(self._memory, self._offset + _RUN_OFFSET, inbound.sender, inbound.attempt, len(name), name)

    def clear(self) -> None:
        """Note that no handler runs."""
        self.note(0, _NO_ID, 0)


class Slate:
    """What the process writes; zeros at the start, and the process that has it is the only one to write."""

    def __init__(self, memory: mmap | bytearray | memoryview) -> None:
        offsets = range(0, len(memory) - _SLOT_SIZE + 1, _SLOT_SIZE)
        self._free = deque(Slot(memory, offset) for offset in offsets)

    def take(self) -> Slot | None:
        """Return a slot that nobody uses, if there is one; safe from any thread, as is `give_back`."""
        try:
            return self._free.popleft()
        except IndexError:
            return None

    def give_back(self, slot: Slot) -> None:
        """Empty a slot, for the next who takes one."""
        slot.clear()
        self._free.appendleft(slot)


def read_slate(raw: bytes) -> list[Handling]:
    """Return what was in handlers when these bytes were written last; what makes no sense is left out."""
    found: list[Handling] = []
    for offset in range(0, len(raw) - _SLOT_SIZE + 1, _SLOT_SIZE):
        if raw.startswith(SNAPSHOT_MARK, offset):
            break
        seq, uuid, again = _MARK.unpack_from(raw, offset)
        if not seq or seq != again:
            continue
        sender, attempt, length, name = _RUN.unpack_from(raw, offset + _RUN_OFFSET)
        found.append(Handling(sender, seq, uuid, name[:length].decode("utf-8", "replace"), attempt))
    return found
