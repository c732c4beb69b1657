"""The memory in which an actor keeps its state, so that its next life can go on with it.

For a process it is shared with the parent, which reads it when the process has ended, however that was: so a
snapshot is safe as soon as it is written, without a word to anybody. For a thread it is memory of the process.

It holds two places for a state, written in turn, and a ring of the messages that the state holds the work of. One
number says which state is the present one. It is written last: whoever dies in the middle of writing leaves the state
before, with the messages of that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from grav_actors.actor.slate import SNAPSHOT_MARK

RING_RUNS = 8192
"""Runs of messages that are remembered as handled; a window has fewer messages under way, of all senders together."""
NEW_RUNS = RING_RUNS // 4
"""Runs that may be noted between two states: those of the first must stay in the ring until it is replaced."""

_HEADER = struct.Struct(f"<{len(SNAPSHOT_MARK)}sQ")  # the mark, number of the present state
_NUMBER = struct.Struct("<Q")
_NUMBER_OFFSET = len(SNAPSHOT_MARK)
_RUN = struct.Struct("<16sQQ")  # sender, first and last seq
_PLACE = struct.Struct("<QQQ")  # number, runs that were ever written by then, bytes of the state
HEADER_SIZE = 64
"""Bytes at the beginning which say whether there is a state, and where; zeros say that there is none."""
_RING_OFFSET = HEADER_SIZE
_PLACES_OFFSET = _RING_OFFSET + RING_RUNS * _RUN.size

Memory = mmap | bytearray | memoryview
Run = tuple[bytes, int, int]
"""Sender, first and last seq of messages that came one after another."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of an actor, and which messages it is the state after.

    Attributes:
        state: What `snapshot()` returned, as MessagePack.
        done: The messages that were handled last, the latest at the end.
    """

    state: bytes
    done: tuple[Run, ...]


def snapshot_size(max_state: int) -> int:
    """Return the bytes of memory for states of at most that many bytes. What is not written takes up no room."""
    return _PLACES_OFFSET + 2 * _place_size(max_state)


def _place_size(max_state: int) -> int:
    return (_PLACE.size + max_state + 7) // 8 * 8


class SnapshotMemory:
    """What the actor writes, on one thread.

    Args:
        memory: Zeros, of the size that `snapshot_size` says.
        earlier: What the life before has left; it is the present state from now on.
    """

    def __init__(self, memory: Memory, earlier: Snapshot | None = None) -> None:
        self._memory = memory
        self._place_size = (len(memory) - _PLACES_OFFSET) // 2
        self._number = 0
        self._runs = 0
        self._last: tuple[bytes, int, int] | None = None
        _HEADER.pack_into(memory, 0, SNAPSHOT_MARK, 0)
        if earlier is not None:
            for sender, first, last in earlier.done:
                self._append(sender, first, last)
            self.write(earlier.state)

    @property
    def room(self) -> int:
        """Bytes that a state may have."""
        return self._place_size - _PLACE.size

    def note(self, sender: bytes, seq: int) -> None:
        """Note a message whose work the state holds that is written next."""
        last = self._last
        if last is not None and last[0] == sender and last[2] == seq - 1:
            self._last = (sender, last[1], seq)
            _RUN.pack_into(self._memory, self._offset(self._runs - 1), *self._last)
        else:
            self._append(sender, seq, seq)

    def _append(self, sender: bytes, first: int, last: int) -> None:
        self._last = (sender, first, last)
        _RUN.pack_into(self._memory, self._offset(self._runs), sender, first, last)
        self._runs += 1

    @staticmethod
    def _offset(run: int) -> int:
        return _RING_OFFSET + run % RING_RUNS * _RUN.size

    def write(self, state: bytes) -> None:
        """Have a state, of at most `room` bytes, be the present one, after all messages that were noted."""
        number = self._number + 1
        offset = _PLACES_OFFSET + number % 2 * self._place_size
        _PLACE.pack_into(self._memory, offset, number, self._runs, len(state))
        begin = offset + _PLACE.size
        self._memory[begin : begin + len(state)] = state
        _NUMBER.pack_into(self._memory, _NUMBER_OFFSET, number)
        self._number = number
        self._last = None  # it belongs to this state now, and must not be changed


def read_snapshot(memory: bytes | Memory) -> Snapshot | None:
    """Return the present state in what `SnapshotMemory` has written; None if there is none, or it makes no sense."""
    if len(memory) <= _PLACES_OFFSET:
        return None
    mark, number = _HEADER.unpack_from(memory, 0)
    if mark != SNAPSHOT_MARK or not number:
        return None
    place_size = (len(memory) - _PLACES_OFFSET) // 2
    offset = _PLACES_OFFSET + number % 2 * place_size
    found, runs, size = _PLACE.unpack_from(memory, offset)
    if found != number or size > place_size - _PLACE.size:
        return None
    begin = offset + _PLACE.size
    return Snapshot(bytes(memory[begin : begin + size]), tuple(_read_runs(memory, runs)))


def _read_runs(memory: bytes | Memory, runs: int) -> Iterator[Run]:
    # A state that was not finished may have begun to overwrite the oldest: these are older than any that come again.
    for run in range(max(0, runs - (RING_RUNS - NEW_RUNS)), runs):
        yield _RUN.unpack_from(memory, _RING_OFFSET + run % RING_RUNS * _RUN.size)
