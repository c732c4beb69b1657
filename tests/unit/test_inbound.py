"""A received run, and how far the pod has come with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grav_actors.pod.inbound import Held, Inbound


def inbound(number: int = 10, count: int = 5, seq: int = 1) -> Inbound:
    return Inbound(number, (b"s" * 16, seq, 0, 0, "x", count, 9, 0, 1), b"")


def test_messages_finished_in_order_move_the_floor() -> None:
    run = inbound()
    for index in range(5):
        assert run.done == index
        assert not run.is_finished
        run.finish(index)
    assert run.is_finished


def test_messages_finished_ahead_are_listed_as_ranges_above_the_floor() -> None:
    run = inbound()
    run.finish(1)
    run.finish(2)
    run.finish(4)
    assert run.done == 0
    assert run.ranges(9) == [(11, 12), (14, 14)]
    run.finish(0)
    assert run.done == 3
    assert run.ranges(9) == [(10, 12), (14, 14)]
    assert run.ranges(11) == [(12, 12), (14, 14)]
    run.finish(3)
    assert run.is_finished


def test_what_was_finished_before_is_finished_only_once() -> None:
    run = inbound(count=3)
    run.finish(0)
    run.finish(0)
    run.finish(2)
    run.finish(2)
    assert (run.done, run.ahead) == (1, {2})
    assert [run.is_done(index) for index in range(3)] == [True, False, True]


@given(st.permutations(range(6)), st.integers(0, 6))
def test_any_order_ends_with_everything_finished(order: list[int], count: int) -> None:
    run = inbound(count=6)
    for index in order[:count]:
        run.finish(index)
    numbers = {number for first, last in run.ranges(9) for number in range(first, last + 1)}
    assert numbers == {10 + index for index in order[:count]}
    assert {index for index in range(6) if run.is_done(index)} == set(order[:count])


def test_a_part_is_a_run_of_its_own() -> None:
    part = inbound(number=10, count=5, seq=100).part(2, 4, b"body")
    assert (part.number, part.seq, part.last, part.count, part.body) == (12, 102, 103, 2, b"body")


def test_what_is_held_is_as_far_as_its_original() -> None:
    original = inbound(number=0, count=6, seq=100)
    held = Held(50, original, 2, 5)
    assert (held.number, held.seq, held.last, held.count) == (50, 102, 104, 3)
    original.finish(0)
    original.finish(1)
    assert held.done == 0
    original.finish(3)
    assert held.ranges(49) == [(51, 51)]
    original.finish(2)
    assert held.done == 2
    original.finish(4)
    assert held.is_finished
    assert not original.is_finished
