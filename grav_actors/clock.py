"""Where time comes from. Deciders get `now` from their driver; tests drive a `ManualClock`."""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic time."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; never goes back."""
        ...


class SystemClock:
    """The monotonic clock of the operating system."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to advance, for tests."""

    __slots__ = ("_now",)

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def monotonic(self) -> float:
        """Return the seconds set so far."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`; ValueError when negative."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back; advance({seconds!r})")
        self._now += seconds
