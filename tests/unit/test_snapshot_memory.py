"""The memory in which an actor keeps its state: what is there after a death at any moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.actor import snapshot
from grav_actors.actor.slate import read_slate, slate_size
from grav_actors.actor.snapshot import NEW_RUNS, RING_RUNS, Snapshot, SnapshotMemory, read_snapshot, snapshot_size

ALICE, BOB = b"a" * 16, b"b" * 16
ROOM = 100


def zeros() -> bytearray:
    return bytearray(snapshot_size(ROOM))


def test_memory_without_a_state_gives_none() -> None:
    memory = zeros()
    assert read_snapshot(memory) is None
    SnapshotMemory(memory).note(ALICE, 1)
    assert read_snapshot(memory) is None
    assert read_snapshot(b"") is None


def test_the_present_state_is_the_one_written_last_with_the_messages_noted_by_then() -> None:
    memory = zeros()
    kept = SnapshotMemory(memory)
    kept.note(ALICE, 1)
    kept.write(b"one")
    kept.note(BOB, 7)
    kept.write(b"two!")
    kept.note(BOB, 8)
    assert read_snapshot(memory) == Snapshot(b"two!", ((ALICE, 1, 1), (BOB, 7, 7)))


def test_messages_one_after_another_are_noted_as_one_run() -> None:
    memory = zeros()
    kept = SnapshotMemory(memory)
    for seq in (4, 5, 6, 9):
        kept.note(ALICE, seq)
    kept.write(b"")
    assert read_snapshot(memory) == Snapshot(b"", ((ALICE, 4, 6), (ALICE, 9, 9)))


def test_a_message_behind_a_run_of_the_state_before_does_not_change_that_run() -> None:
    memory = zeros()
    kept = SnapshotMemory(memory)
    kept.note(ALICE, 4)
    kept.write(b"one")
    kept.note(ALICE, 5)
    assert read_snapshot(memory) == Snapshot(b"one", ((ALICE, 4, 4),))


def test_what_the_life_before_has_left_is_the_state_from_the_beginning() -> None:
    earlier = Snapshot(b"one", ((ALICE, 4, 6), (BOB, 1, 1)))
    memory = zeros()
    kept = SnapshotMemory(memory, earlier)
    assert read_snapshot(memory) == earlier
    kept.note(BOB, 2)
    kept.write(b"two")
    assert read_snapshot(memory) == Snapshot(b"two", ((ALICE, 4, 6), (BOB, 1, 1), (BOB, 2, 2)))


def test_a_state_may_be_as_large_as_the_room() -> None:
    memory = zeros()
    kept = SnapshotMemory(memory)
    assert kept.room >= ROOM
    kept.write(b"x" * kept.room)
    kept.write(b"y" * kept.room)
    assert read_snapshot(memory) == Snapshot(b"y" * kept.room, ())


def test_the_runs_of_a_state_outlast_all_that_may_be_noted_before_the_next_one() -> None:
    memory = zeros()
    kept = SnapshotMemory(memory)
    for seq in range(1, 2 * RING_RUNS, 2):
        kept.note(ALICE, seq)
    for _ in range(2):  # the second time round the ring is full
        kept.write(b"state")
        before = read_snapshot(memory)
        assert before is not None
        assert len(before.done) == RING_RUNS - NEW_RUNS
        for seq in range(1, 2 * NEW_RUNS, 2):
            kept.note(BOB, seq)
        assert read_snapshot(memory) == before


class Stores:
    """Memory that remembers each store in it, in order."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)
        self.stores: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self.memory)

    def __setitem__(self, where: slice, content: bytes) -> None:
        self.stores.append((where.start, bytes(content)))
        self.memory[where] = content


class Recording:
    """A Struct that stores through `Stores`."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.size = real.size

    def pack_into(self, stores: Stores, offset: int, *values: Any) -> None:
        content = self._real.pack(*values)
        stores[offset : offset + len(content)] = content

    def unpack_from(self, memory: bytes, offset: int) -> Any:
        return self._real.unpack_from(memory, offset)


@given(steps=st.lists(st.integers(0, 3), min_size=1, max_size=12), cut=st.data())
def test_a_death_between_any_two_stores_leaves_the_state_before_or_after(steps: list[int], cut: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_HEADER", "_NUMBER", "_RUN", "_PLACE"):
            patch.setattr(snapshot, name, Recording(getattr(snapshot, name)))
        stores = Stores(snapshot_size(ROOM))
        kept = SnapshotMemory(stores)  # type: ignore[arg-type]
        expected: list[Snapshot | None] = [None]
        number = 0
        for step in steps:
            for _ in range(step):
                number += 2
                kept.note(ALICE, number)
            kept.write(bytes([number]) * (number % 7))
            expected.append(read_snapshot(bytes(stores.memory)))
        memory = bytearray(len(stores))
        died_at = cut.draw(st.integers(0, len(stores.stores)))
        for start, content in stores.stores[:died_at]:
            memory[start : start + len(content)] = content
        assert read_snapshot(memory) in expected
        assert expected[-1] == Snapshot(
            bytes([number]) * (number % 7), tuple((ALICE, seq, seq) for seq in range(2, number + 1, 2))
        )


def test_a_slate_ends_where_the_kept_state_begins() -> None:
    memory = bytearray(slate_size(2) + snapshot_size(ROOM))
    kept = SnapshotMemory(memoryview(memory)[slate_size(2) :])
    for seq in range(100):
        kept.note(ALICE, 2 * seq)
    kept.write(b"x" * ROOM)
    assert read_slate(bytes(memory)) == []
