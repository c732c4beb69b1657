"""What counts as a time limit."""

import math

import pytest

from grav_actors.timeouts import no_limit_below, seconds


@pytest.mark.parametrize(
    ("given", "limit"),
    [(None, None), (0, 0.0), (1, 1.0), (2.5, 2.5), (lambda: 3, 3.0), (lambda: None, None)],
)
def test_a_limit_is_seconds_or_none_or_a_callable_that_returns_one(given: object, limit: float | None) -> None:
    assert seconds(given) == limit  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [-1, -0.001, math.nan, True, "5", lambda: -1])
def test_anything_else_is_refused_with_what_was_seen(given: object) -> None:
    with pytest.raises(ValueError, match="time limit"):
        seconds(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "limit"), [(None, None), (0, None), (-1, None), (0.5, 0.5), (lambda: -2, None), (lambda: 2, 2.0)]
)
def test_as_in_grav_zero_and_less_have_no_limit(given: object, limit: float | None) -> None:
    assert no_limit_below(given) == limit  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [math.nan, True, False, "5", "", lambda: "5"])
def test_what_is_no_number_is_refused_by_waits_without_limit_too(given: object) -> None:
    with pytest.raises(ValueError, match="a time limit is a number of seconds or None"):
        no_limit_below(given)  # type: ignore[arg-type]
