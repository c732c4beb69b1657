"""Topics and prefixes: whoever wants a type has subscribed to a prefix of its topic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.mesh.topics import (
    BEAT_TOPIC,
    barrier_topic,
    directed_topic,
    interest_prefixes,
    prefix_patterns,
    type_topic,
    without_covered,
)
from grav_actors.pattern import matches

LIFE = b"l" * 8


@pytest.mark.parametrize(
    ("patterns", "prefixes"),
    [
        ([], ()),
        (["a.b"], (b"ta.b\0",)),
        (["a.>"], (b"ta.",)),
        (["a.*.c"], (b"ta.",)),
        ([">"], (b"t",)),
        (["*"], (b"t",)),
        (["*.b", "a"], (b"t",)),
        (["a.b", "a.>", "ab"], (b"ta.", b"tab\0")),
        (["grav.default"], (b"tgrav.default\0",)),
        (["grav.>", "grav.*"], (b"tgrav.default\0",)),
        (["grav.sys.>", "grav.sys.dead", "grav.sys.*.x"], ()),
    ],
)
def test_prefixes_of_patterns(patterns: list[str], prefixes: tuple[bytes, ...]) -> None:
    assert interest_prefixes(patterns) == prefixes


tokens = st.sampled_from(["a", "b", "ab", "grav", "default"])
types = st.lists(tokens, min_size=1, max_size=3).map(".".join)
patterns = st.builds(
    lambda head, tail: ".".join([*head, *tail]),
    st.lists(tokens | st.just("*"), min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)


@given(st.lists(patterns, max_size=3), types)
def test_whoever_wants_a_type_is_sent_it(wanted: list[str], type_: str) -> None:
    leaves = not type_.startswith("grav.") or type_ == "grav.default"
    if leaves and any(matches(pattern, type_) for pattern in wanted):
        assert type_topic(type_).startswith(interest_prefixes(wanted))


@pytest.mark.parametrize(
    ("prefixes", "patterns"),
    [
        ((b"t",), (">", "grav.default")),
        ((b"ta.b\0", b"ta."), ("a.>", "a.b")),
        ((b"tgrav.default\0", b"tgrav.sys.dead\0", b"tgrav."), ("grav.default",)),
        ((b"", b"b", b"d" + LIFE, b"ta", b"t\0", b"t.", b"ta..", b"t\xff.", b"t>\0x", b"ta b\0"), ()),
    ],
)
def test_patterns_of_prefixes(prefixes: tuple[bytes, ...], patterns: tuple[str, ...]) -> None:
    assert prefix_patterns(prefixes) == patterns


@given(types, types)
def test_no_topic_of_a_type_is_the_beginning_of_another(one: str, other: str) -> None:
    assert one == other or not type_topic(one).startswith(type_topic(other))


def test_no_pattern_covers_what_is_not_a_type() -> None:
    for topic in (BEAT_TOPIC, directed_topic(LIFE), barrier_topic(LIFE, 3)):
        assert not topic.startswith(interest_prefixes([">"]))


@given(st.sets(st.binary(max_size=3), max_size=8), st.binary(max_size=4))
def test_leaving_out_what_is_covered_changes_nothing(prefixes: set[bytes], topic: bytes) -> None:
    kept = without_covered(prefixes)

    assert topic.startswith(kept) == topic.startswith(tuple(prefixes))
    assert not any(one != other and one.startswith(other) for one in kept for other in kept)
