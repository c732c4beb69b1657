"""A link without a bus, for those who serve its socket."""

import os
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from grav_actors.pod.duty import Duty, Ready
from grav_actors.pod.waiter import Waiter

LIMIT = 10.0


class Line:
    """A link without a bus: what is given to it is called in a turn, by whichever thread is on duty."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.turned_at = monotonic()
        self.is_torn = False
        self._jobs: deque[Callable[[], object]] = deque()
        self._read, self._write = os.pipe()
        self.duty = Duty(cast("Any", self), (self._read,))
        self.duty.start()

    def give(self, job: Callable[[], object]) -> None:
        """Have something called in a turn."""
        self._jobs.append(job)
        os.write(self._write, b"x")

    def take(self, ready: Ready) -> None:
        """Call what was given."""
        self.turned_at = monotonic()
        for descriptor, _ in ready:
            if descriptor == self._read:
                os.read(self._read, 1)
                self._jobs.popleft()()

    def tend(self) -> float:
        """Do nothing more."""
        return LIMIT

    def is_overdue(self, now: float) -> bool:
        """Return whether it should have been looked at."""
        return False

    def served_by(self) -> int:
        """Return which thread serves now."""
        served: list[int] = []
        is_served = threading.Event()

        def note() -> None:
            served.append(threading.get_ident())
            is_served.set()

        self.give(note)
        assert is_served.wait(LIMIT)
        return served[0]

    def close(self) -> None:
        """End."""
        self.duty.close()
        os.close(self._read)
        os.close(self._write)


class Asker:
    """A thread that waits for an outcome."""

    def __init__(self, line: Line, timeout: float | None = LIMIT) -> None:
        self.waiter = Waiter()
        self.result: bool | None = None
        self._line = line
        self._timeout = timeout
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        self.result = self._line.duty.wait(self.waiter, self._timeout)

    @property
    def ident(self) -> int:
        """Which thread it is."""
        assert self._thread.ident is not None
        return self._thread.ident

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = monotonic() + LIMIT
    while not condition():
        assert monotonic() < deadline
        threading.Event().wait(0.001)
