"""Types and patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors import pattern
from grav_actors.errors import MessageEncodeError
from grav_actors.pattern import check_pattern, check_type, is_pattern, matches

GOOD_TYPES = [
    "a",
    "sensor.temp",
    "a.b.c",
    "grav",
    "gravity.x",
    "grav.default",
    "a*",
    "a.>b",
    "é.ü",
    "x" * 255,
]
BAD_SHAPES = [
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "a b",
    "a\tb",
    "a\n",
    "\x00",
    "a\x7f",
    "a\x85",
    "a\u2028",
    "a\u00a0",
    "\ud800",
    "x" * 256,
    "é" * 128,
]


@pytest.mark.parametrize("type", GOOD_TYPES)
def test_types_that_are_allowed(type: str) -> None:
    assert check_type(type) == type


@pytest.mark.parametrize(
    "type", [*BAD_SHAPES, "*", ">", "a.*", "a.>", "*.a", "grav.sys.dead", "grav.default.x", "grav.x"]
)
def test_types_that_are_refused(type: str) -> None:
    with pytest.raises(MessageEncodeError, match="message type"):
        check_type(type)


@pytest.mark.parametrize("type", [None, 5, b"a", ["a"], {}])
def test_a_type_is_text(type: object) -> None:
    with pytest.raises(MessageEncodeError, match="must be a str"):
        check_type(type)  # type: ignore[arg-type]


def test_the_framework_may_make_its_own_types() -> None:
    assert check_type("grav.sys.dead", framework=True) == "grav.sys.dead"
    with pytest.raises(MessageEncodeError, match="belong to the framework"):
        check_type("grav.sys.dead")


def test_a_subclass_of_str_becomes_plain_text() -> None:
    class Name(str):
        __slots__ = ()

    check_type("sub.class")
    assert type(check_type(Name("sub.class"))) is str
    assert type(check_type(Name("sub.class.two"))) is str


def test_the_cache_of_types_is_bounded() -> None:
    for number in range(2 * pattern.CACHE_LIMIT):
        check_type(f"many.{number}")
    assert len(pattern.VALID_TYPES) <= pattern.CACHE_LIMIT


@pytest.mark.parametrize("text", ["a", "*", ">", "a.*", "a.>", "*.*.>", "grav.>", "grav.sys.dead", "*.b.*"])
def test_patterns_that_are_allowed(text: str) -> None:
    assert check_pattern(text) == text


@pytest.mark.parametrize("text", [*BAD_SHAPES, ">.a", "a.>.b", ">.>"])
def test_patterns_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        check_pattern(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.b", False), ("a.*", True), (">", True), ("a*", False), ("a.b>", False), ("*.b", True)],
)
def test_only_whole_tokens_make_a_pattern(text: str, expected: bool) -> None:
    assert is_pattern(text) is expected


@pytest.mark.parametrize(
    ("wanted", "type", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("*.b", "a.c", False),
        ("a.*.c", "a.b.c", True),
        (">", "a", True),
        (">", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "b.c", False),
        ("*.>", "a", False),
        ("*.>", "a.b", True),
        ("a.*.>", "a.b", False),
        ("a.*.>", "a.b.c", True),
        ("a*", "ab", False),
        (">", "grav.sys.dead", False),
        ("*.>", "grav.sys.dead", False),
        ("*.sys.dead", "grav.sys.dead", False),
        ("*.*", "grav.reply", False),
        ("grav.>", "grav.sys.dead", True),
        ("grav.*.dead", "grav.sys.dead", True),
        ("grav.sys.dead", "grav.sys.dead", True),
        (">", "grav.default", True),
        ("*.default", "grav.default", True),
        ("grav.*", "grav.default", True),
        (">", "grav.default.x", False),
        ("*", "grav", True),
        (">", "gravity.x", True),
    ],
)
def test_matching(wanted: str, type: str, expected: bool) -> None:
    assert matches(wanted, type) is expected


token = st.text("ab", min_size=1, max_size=2)


@given(st.lists(token, min_size=1, max_size=5), st.data())
def test_a_type_with_tokens_replaced_by_stars_matches(tokens: list[str], data: st.DataObject) -> None:
    starred = [data.draw(st.sampled_from([one, "*"])) for one in tokens]
    cut = data.draw(st.integers(0, len(tokens) - 1))
    assert matches(".".join(starred), ".".join(tokens))
    assert matches(".".join([*starred[:cut], ">"]), ".".join(tokens))
    assert not matches(".".join([*starred, "*"]), ".".join(tokens))
    assert not matches(".".join([*starred, ">"]), ".".join(tokens))


@given(st.text(max_size=300))
def test_any_text_is_either_a_type_or_refused(text: str) -> None:
    try:
        check_type(text)
    except MessageEncodeError:
        return
    assert check_pattern(text) == text
    assert matches(text, text)
    assert matches(">", text)
