"""What users may give as a time limit."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

Timeout = float | Callable[[], float] | None
"""Seconds, a callable that returns them (as Grav's TimeoutFunc), or None for no limit."""


def seconds(timeout: Timeout) -> float | None:
    """Return a limit in seconds; None has no limit, 0 looks once.

    Raises:
        ValueError: It is negative or no number.
    """
    if isinstance(timeout, float) and timeout >= 0:
        return timeout
    value = timeout() if callable(timeout) else timeout
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or isnan(value):
        raise ValueError(f"a time limit is a number of seconds or None, not {value!r}")
    if value < 0:
        raise ValueError(f"a time limit must not be negative, saw {value!r}; None has no limit, 0 looks once")
    return float(value)


def no_limit_below(timeout: Timeout) -> float | None:
    """Return a limit as Grav's `WaitUntil` takes it: 0 and less have none.

    Raises:
        ValueError: It is no number.
    """
    value = timeout() if callable(timeout) else timeout
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
        return None
    return seconds(value)
