"""Sets of numbers as a floor and ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grav_actors.pod.ranges import NOTED, SENDERS, Memories, Ranges

pairs = st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def test_numbers_in_order_make_one_range() -> None:
    ranges = Ranges()
    for number in range(1, 1000):
        ranges.add(number, number)
    assert list(ranges) == [(1, 999)]


def test_the_floor_takes_ranges_in() -> None:
    ranges = Ranges()
    for number in range(2, 100, 2):
        ranges.add(number, number)
    ranges.raise_floor(97)
    assert list(ranges) == [(98, 98)]
    assert 1 in ranges
    assert 99 not in ranges


def test_ranges_below_the_floor_are_forgotten_in_time() -> None:
    ranges = Ranges()
    for number in range(1, 100_000, 2):
        ranges.raise_floor(number - 20)
        ranges.add(number, number)
    assert len(ranges) < 100


@given(st.lists(st.one_of(pairs, st.integers(0, 45)), max_size=30))
def test_ranges_are_a_set_of_numbers(steps: list[tuple[int, int] | int]) -> None:
    ranges = Ranges()
    wanted: set[int] = set()
    floor = 0
    for step in steps:
        if isinstance(step, int):
            ranges.raise_floor(step)
            floor = max(floor, step)
        else:
            ranges.add(*step)
            wanted.update(range(step[0], step[1] + 1))
        wanted |= set(range(1, floor + 1))
        assert {number for number in range(1, 60) if number in ranges} == wanted
    listed = list(ranges)
    assert {number for first, last in listed for number in range(first, last + 1)} == {n for n in wanted if n > floor}
    assert all(one[1] + 1 < other[0] for one, other in zip(listed, listed[1:], strict=False))


def test_a_thousand_times_more_senders_than_are_remembered_cost_no_more_memory() -> None:
    memories = Memories()
    memories.of(b"old").add(1, 5)
    for number in range(SENDERS * 3):
        memories.of(number.to_bytes(16, "big")).add(1, 1)
        assert 5 in memories.of(b"old"), "who is heard of stays"
    assert len(memories) <= SENDERS


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 40), st.integers(0, 5), st.integers(0, 30)),
             max_size=2 * NOTED),
    st.integers(0, 2 * NOTED),
)  # fmt: skip
def test_what_is_noted_is_there_whenever_somebody_asks(
    deliveries: list[tuple[bytes, int, int, int]], asked_after: int
) -> None:
    noted, plain = Memories(), Memories()
    for index, (sender, first, more, floor) in enumerate(deliveries):
        noted.note(sender, first, first + more, floor)
        memory = plain.of(sender)
        memory.raise_floor(floor)
        memory.add(first, first + more)
        if index == asked_after:
            assert noted.claims(1000) == plain.claims(1000)
    for sender in (b"a", b"b", b"c"):
        assert all(noted.is_settled(sender, seq) == plain.is_settled(sender, seq) for seq in range(50))
    assert len(noted) == len(plain)
    assert noted.claims(1000) == plain.claims(1000)


def test_claims_list_the_senders_heard_of_last_first_and_the_floor_as_a_range() -> None:
    memories = Memories()
    memories.of(b"a").add(3, 4)
    memories.of(b"b").raise_floor(7)
    memories.of(b"b").add(9, 9)
    assert memories.claims(10) == ((b"b", ((1, 7), (9, 9))), (b"a", ((3, 4),)))
    assert memories.claims(2) == ((b"b", ((1, 7), (9, 9))),)
    assert memories.claims(1) == ((b"b", ((1, 7),)),)


def test_what_lies_below_the_floor_or_is_unknown_will_not_come_again() -> None:
    memories = Memories()
    memories.of(b"a").add(3, 4)
    memories.of(b"a").raise_floor(3)
    assert memories.is_settled(b"a", 3)
    assert not memories.is_settled(b"a", 4)
    assert memories.is_settled(b"z", 4)
