"""Values that users write: what is taken, what is refused, and that a refusal says why in one line."""

import dataclasses
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.errors import ConfigError
from grav_actors.options import (
    Backoff,
    BusOptions,
    OptionError,
    PodOptions,
    RestartLimits,
    check_choice,
    check_flag,
    check_name,
    check_number,
    check_text,
    is_name,
    nearest,
    parse_duration,
    parse_size,
    show,
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("200ms", 0.2),
        ("3ms", 0.003),
        ("5s", 5.0),
        ("5 s", 5.0),
        ("1.5s", 1.5),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("2.5", 2.5),
        (0, 0.0),
        (7, 7.0),
        (0.25, 0.25),
    ],
)
def test_durations_are_read_as_seconds(value: object, seconds: float) -> None:
    result = parse_duration(value)
    assert result == seconds
    assert isinstance(result, float)


@pytest.mark.parametrize(
    "value",
    [
        *[
            "",
            "s",
            "5 parsecs",
            "5S",
            "-5s",
            "1h30m",
            "nan",
            "inf",
            "1e3",
            "5s\n",
            " 5s",
            "\u0665s",
            "9" * 400,
            ".5s",
        ],
        *[-1, -0.001, math.nan, math.inf, -math.inf, 10**400, True, False, None, [], b"5s", {"s": 5}],
    ],
)
def test_what_is_no_duration_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ConfigError, match="is no duration; write") as caught:
        parse_duration(value)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10**9), st.sampled_from([("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]))
def test_a_duration_is_its_number_of_units(number: int, unit: tuple[str, int]) -> None:
    name, milliseconds = unit
    assert parse_duration(f"{number}{name}") == pytest.approx(number * milliseconds / 1000, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("64KiB", 65536),
        ("1MiB", 1048576),
        ("2GiB", 2147483648),
        ("1.5MiB", 1572864),
        ("100B", 100),
        ("100", 100),
        ("1 MiB", 1048576),
        (0, 0),
        (1048576, 1048576),
    ],
)
def test_sizes_are_read_as_bytes(value: object, size: int) -> None:
    result = parse_size(value)
    assert result == size
    assert type(result) is int


@pytest.mark.parametrize(
    "value",
    [
        "",
        "MiB",
        "64KB",
        "1mib",
        "0.3B",
        "-1",
        "1e6",
        "1_000",
        "1MiB\n",
        "9" * 400,
        -1,
        1.0,
        1.5,
        math.nan,
        True,
        None,
        [],
    ],
)
def test_what_is_no_size_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ConfigError, match="is no size; write") as caught:
        parse_size(value)
    assert "\n" not in str(caught.value)


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.binary()))
def test_any_value_is_read_or_refused_never_anything_else(value: object) -> None:
    for parse in (parse_duration, parse_size):
        try:
            result = parse(value)
        except ConfigError:
            continue
        assert result >= 0
        assert math.isfinite(result)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("instance", "instances"), ("KIND", "kind"), ("zzz", None), ("", None), ("restrat", "restart")],
)
def test_the_nearest_word_is_found_whatever_its_case(word: str, expected: str | None) -> None:
    assert nearest(word, ("class", "kind", "instances", "restart")) == expected


def test_importing_options_imports_neither_difflib_nor_tomllib() -> None:
    code = "import grav_actors.options, sys; print(sorted({'difflib', 'tomllib', 'hashlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_long_value_is_shown_short_and_in_one_line() -> None:
    shown = show("a\nb" * 1000)
    assert len(shown) <= 80
    assert "\n" not in shown


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 64, "-", "."])
def test_names_of_the_allowed_characters_are_names(name: str) -> None:
    assert is_name(name)
    check_name("name", name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a\n", "ä", "a/b", "a:b", None, 3])
def test_other_names_are_refused(name: object) -> None:
    assert not is_name(name)
    with pytest.raises(OptionError, match="^name must be a name of 1 to 64 characters"):
        check_name("name", name)


def test_a_wrong_choice_lists_the_choices_and_names_the_nearest() -> None:
    with pytest.raises(OptionError) as caught:
        check_choice("kind", "proces", ("process", "thread"))
    assert str(caught.value) == 'kind must be "process" or "thread", not "proces"; did you mean "process"?'
    assert caught.value.option == "kind"


def test_an_unhashable_choice_is_refused() -> None:
    with pytest.raises(OptionError, match="^kind must be"):
        check_choice("kind", ["process"], ("process", "thread"))


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_flag_is_a_bool(value: object) -> None:
    with pytest.raises(OptionError, match="^flag must be true or false"):
        check_flag("flag", value)


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "\x00", 3, None, b"a"])
def test_a_text_is_printable_and_not_empty(value: object) -> None:
    with pytest.raises(OptionError, match="^belongs_to must be a text"):
        check_text("belongs_to", value)


@pytest.mark.parametrize("value", ["1", True, None, math.nan, -1, 3])
def test_a_number_lies_in_its_range(value: object) -> None:
    with pytest.raises(OptionError, match="^jitter must be"):
        check_number("jitter", value, 0, 2)


def test_an_option_error_survives_pickling_with_its_option() -> None:
    error = pickle.loads(pickle.dumps(OptionError("kind must be", "kind")))
    assert (str(error), error.option) == ("kind must be", "kind")


def test_the_defaults_are_those_of_the_api() -> None:
    assert dataclasses.astuple(Backoff()) == (0.2, 30.0, 2.0, 0.2)
    assert dataclasses.astuple(BusOptions()) == (128, 1048576, 10.0)
    assert RestartLimits() == RestartLimits(5, 30.0, Backoff())
    assert dataclasses.astuple(PodOptions()) == (4096, 65536, "block", 5.0, 5)


@pytest.mark.parametrize("cls", [Backoff, BusOptions, RestartLimits, PodOptions])
def test_options_are_frozen_slotted_and_hashable(cls: type) -> None:
    options = cls()
    assert not hasattr(options, "__dict__")
    assert hash(options) == hash(cls())
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, dataclasses.fields(cls)[0].name, 1)


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Backoff, {"first": 0, "max": 0, "factor": 1, "jitter": 0}),
        (Backoff, {"jitter": 1}),
        (BusOptions, {"replay_limit": 0, "max_message": 1, "send_timeout": 0.001}),
        (BusOptions, {"max_message": 2**31}),
        (RestartLimits, {"max_restarts": 0}),
        (PodOptions, {"prefetch": None, "stuck_after": None}),
        (PodOptions, {"prefetch": 1, "mailbox_limit": 1, "max_deliver": 1, "overflow": "disconnect"}),
    ],
)
def test_options_at_the_edge_are_taken(cls: type, values: dict[str, object]) -> None:
    options = cls(**values)
    assert {name: getattr(options, name) for name in values} == values


@pytest.mark.parametrize(
    ("cls", "option", "value"),
    [
        (Backoff, "first", -0.1),
        (Backoff, "first", "200ms"),
        (Backoff, "first", True),
        (Backoff, "max", math.nan),
        (Backoff, "max", math.inf),
        (Backoff, "max", 0.1),
        (Backoff, "factor", 0.9),
        (Backoff, "jitter", 1.1),
        (Backoff, "jitter", -0.1),
        (BusOptions, "replay_limit", -1),
        (BusOptions, "replay_limit", 1.0),
        (BusOptions, "replay_limit", True),
        (BusOptions, "max_message", 0),
        (BusOptions, "max_message", 2**31 + 1),
        (BusOptions, "max_message", "1MiB"),
        (BusOptions, "send_timeout", 0),
        (BusOptions, "send_timeout", None),
        (RestartLimits, "max_restarts", -1),
        (RestartLimits, "within", 0),
        (RestartLimits, "backoff", 0.2),
        (RestartLimits, "backoff", None),
        (PodOptions, "prefetch", 0),
        (PodOptions, "mailbox_limit", 0),
        (PodOptions, "mailbox_limit", None),
        (PodOptions, "overflow", "drop"),
        (PodOptions, "overflow", None),
        (PodOptions, "stuck_after", 0),
        (PodOptions, "stuck_after", -1),
        (PodOptions, "max_deliver", 0),
    ],
)
def test_a_bad_option_is_refused_by_name(cls: type, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{option} must be") as caught:
        cls(**{option: value})
    assert isinstance(caught.value, OptionError)
    assert caught.value.option == option
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "concurrency", "grouped", "window"),
    [
        (PodOptions(), 1, False, 4096),
        (PodOptions(prefetch=10), 3, True, 10),
        (PodOptions(prefetch=None), 3, False, 4096),
        (PodOptions(prefetch=None), 3, True, 12),
    ],
)
def test_the_window_is_prefetch_or_what_fits_the_kind(
    options: PodOptions, concurrency: int, grouped: bool, window: int
) -> None:
    assert options.window(concurrency, grouped=grouped) == window
