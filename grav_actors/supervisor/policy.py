"""When to restart, and when to give up: pure, the time and the chance come in.

A supervisor asks once for each failure; the answer is plain data and the supervisor acts on it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from grav_actors.options import RestartLimits


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart the child.

    Attributes:
        delay: Seconds to wait before; 0 for the first restart of a window.
    """

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Restart nothing more: stop the children and fail.

    Attributes:
        restarts: Restarts that lie within the window, all that were allowed.
        within: Length of the window in seconds.
    """

    restarts: int
    within: float

    def __str__(self) -> str:
        return f"{self.restarts} restart{'' if self.restarts == 1 else 's'} within {self.within:g} s"


class RestartPolicy:
    """The restarts of one supervisor, counted over a sliding window.

    A restart counts from the moment it was decided, for `within` seconds. `max_restarts` bounds the memory.
    """

    __slots__ = ("_decided", "_limits", "_now")

    def __init__(self, limits: RestartLimits) -> None:
        """Begin with no restarts counted."""
        self._limits = limits
        self._decided: deque[float] = deque()
        self._now = float("-inf")

    def failed(self, now: float, rng: Callable[[], float]) -> Restart | GiveUp:
        """Decide about one failure, and count the restart if it is one.

        Args:
            now: Monotonic seconds; a step back counts as no time passed.
            rng: Gives a number from 0 up to 1, as `random.random`; asked only when there is a wait to spread.

        Returns:
            The nth restart of the window waits 0 s for n = 1, then `first * factor ** (n - 2)`, at most
            `max`, and that up to the fraction `jitter` shorter or longer. More than `max_restarts` give up.
        """
        now = self._now = max(now, self._now)
        limits, decided = self._limits, self._decided
        while decided and now - decided[0] >= limits.within:
            decided.popleft()
        if len(decided) >= limits.max_restarts:
            return GiveUp(len(decided), limits.within)
        decided.append(now)
        return Restart(self._delay(len(decided), rng))

    def _delay(self, n: int, rng: Callable[[], float]) -> float:
        backoff = self._limits.backoff
        if n == 1 or backoff.first == 0:
            return 0.0
        try:
            delay = min(backoff.max, backoff.first * float(backoff.factor) ** (n - 2))
        except OverflowError:
            delay = backoff.max
        return delay * (1 + backoff.jitter * (2 * rng() - 1))
