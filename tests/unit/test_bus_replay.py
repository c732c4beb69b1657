"""The replay ring: the last messages, to the very message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grav_actors.bus.replay import RING_BYTES, ReplayRing
from grav_actors.bus.run import Run
from grav_actors.bus.sender import Sender


def run(seq: int, count: int, size: int | None = None) -> Run:
    return Run(Sender(b"s" * 16), seq, 0, "x", count, b"", size or count * 10, None)


def held(ring: ReplayRing) -> list[int]:
    return [run.seq + index for run, skipped in ring for index in range(skipped, run.count)]


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(0, 12))
def test_exactly_the_last_messages_are_held(counts: list[int], limit: int) -> None:
    ring = ReplayRing(limit)
    seq = 1
    for count in counts:
        ring.push(run(seq, count))
        seq += count
        assert held(ring) == list(range(max(1, seq - limit), seq))
        assert len(ring) == len(held(ring))


def test_the_edge_may_fall_within_a_run() -> None:
    ring = ReplayRing(128)
    ring.push(run(1, 100))
    ring.push(run(101, 100))
    assert held(ring) == list(range(73, 201))


def test_one_run_may_be_longer_than_the_ring() -> None:
    ring = ReplayRing(128)
    ring.push(run(1, 512))
    assert held(ring) == list(range(385, 513))


def test_it_is_bounded_in_bytes_by_whole_runs() -> None:
    ring = ReplayRing(128)
    for seq in range(1, 5):
        ring.push(run(seq, 1, RING_BYTES // 2))
    assert held(ring) == [3, 4]
    ring.push(run(5, 1, RING_BYTES + 1))
    assert held(ring) == []
    assert ring._bytes == 0
