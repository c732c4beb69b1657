"""Filters: exact type first, then patterns in order, and the framework's types only when named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.errors import ConfigError
from grav_actors.filters import CACHED_TYPES, FilterSet, is_framework_type
from grav_actors.ids import new_id


def listening(*entries: tuple[str, bool], exclusive: bool = False) -> FilterSet:
    filters = FilterSet(listening=True, exclusive=exclusive)
    for type_or_pattern, allow in entries:
        filters.set_type(type_or_pattern, allow)
    return filters


def test_a_new_filter_lets_nothing_through() -> None:
    assert not FilterSet().allows_type("a")


def test_a_listening_filter_lets_everything_through_but_the_frameworks_types() -> None:
    filters = listening()
    assert filters.allows_type("a.b")
    assert filters.allows_type("grav.default")
    assert not filters.allows_type("grav.sys.dead")
    assert not filters.allows_type("grav.reply")


def test_an_exclusive_filter_lets_only_its_entries_through() -> None:
    filters = listening(("a", True), exclusive=True)
    assert filters.allows_type("a")
    assert not filters.allows_type("b")


def test_the_exact_type_comes_before_patterns() -> None:
    filters = listening(("a.*", False), ("a.b", True))
    assert filters.allows_type("a.b")
    assert not filters.allows_type("a.c")


def test_patterns_count_in_the_order_in_which_they_were_set() -> None:
    assert listening(("a.*", False), ("a.>", True)).allows_type("a.b") is False
    assert listening(("a.>", True), ("a.*", False)).allows_type("a.b") is True


def test_a_pattern_that_is_set_again_keeps_its_place() -> None:
    filters = listening(("a.*", False), ("a.>", False))
    filters.set_type("a.>", True)
    assert not filters.allows_type("a.b")
    filters.set_type("a.*", True)
    assert filters.allows_type("a.b")


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("grav.sys.dead", True),
        ("grav.sys.>", True),
        ("grav.>", True),
        (">", False),
        ("*.*.*", False),
        ("*.sys.dead", False),
    ],
)
def test_framework_types_come_only_by_name_or_a_pattern_that_begins_with_grav(entry: str, wanted: bool) -> None:
    assert listening((entry, True)).allows_type("grav.sys.dead") is wanted


def test_a_verdict_changes_with_the_filter() -> None:
    filters = listening()
    assert filters.allows_type("a")
    filters.set_type("a", False)
    assert not filters.allows_type("a")


def test_uuids_are_allowed_unless_they_were_refused() -> None:
    filters = listening()
    one, other = new_id(), new_id()
    filters.set_uuid(one, False)
    assert not filters.allows_uuid(one)
    assert filters.allows_uuid(other)
    filters.set_uuid(one, True)
    assert filters.allows_uuid(one)


def test_remembered_verdicts_are_bounded() -> None:
    filters = listening()
    for number in range(CACHED_TYPES + 10):
        filters.allows_type(f"t{number}")
    assert len(filters._verdicts) <= CACHED_TYPES


tokens = st.sampled_from(["a", "b", "grav", "*"])
types = st.lists(tokens, min_size=1, max_size=3).map(".".join)


@given(st.lists(st.tuples(types, st.booleans()), max_size=6), st.booleans(), st.booleans(), types)
def test_a_filter_decides_the_same_on_both_sides_of_the_wire(
    entries: list[tuple[str, bool]], is_listening: bool, exclusive: bool, message_type: str
) -> None:
    filters = FilterSet(listening=is_listening, exclusive=exclusive)
    for entry, allow in entries:
        filters.set_type(entry, allow)
    filters.set_uuid(b"u" * 16, False)
    copy = FilterSet.from_wire(filters.to_wire())
    assert copy.to_wire() == filters.to_wire()
    assert copy.allows_type(message_type) == filters.allows_type(message_type)
    assert not copy.allows_uuid(b"u" * 16)


def test_a_copy_is_independent() -> None:
    filters = listening()
    filters.copy().set_type("a", False)
    assert filters.allows_type("a")


def test_a_filter_that_fits_no_frame_is_refused_where_it_is_set() -> None:
    filters = listening()
    for number in range(6553):
        filters.set_uuid(number.to_bytes(16, "big"), False)
    with pytest.raises(ConfigError, match="6553 uuids is full"):
        filters.set_uuid(b"x" * 16, False)
    filters.set_uuid(bytes(16), True)  # an entry that is there can be changed
    with pytest.raises(ConfigError):
        filters.copy().set_type("x" * 255, True)


def test_what_came_from_a_frame_is_taken_whatever_its_size() -> None:
    uuids = tuple((number.to_bytes(16, "big"), False) for number in range(8000))
    assert len(FilterSet.from_wire((True, False, (), uuids)).uuids) == 8000


def test_framework_types_are_those_under_grav_but_for_the_default() -> None:
    assert is_framework_type("grav.sys.dead")
    assert not is_framework_type("grav.default")
    assert not is_framework_type("gravel.x")
    assert not is_framework_type("grav")
