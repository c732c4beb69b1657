"""Whether a link stands, and waiting for what becomes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from grav_actors.errors import ConnectionClosedError, WaitTimeoutError

T = TypeVar("T")


class Standing:
    """How a link stands, for all threads that have to do with it.

    Attributes:
        peer: What the other node is called in errors.
        end: Why nothing more comes or goes; "" while the link stands.
        changed: To be held by whoever changes anything that somebody may wait for, and notified then.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.end = ""
        self.changed = threading.Condition()

    def check(self) -> None:
        """Raise ConnectionClosedError if the link has ended."""
        if self.end:
            raise ConnectionClosedError(f"the link to {self.peer} has ended: {self.end}")

    def finish(self, reason: str) -> bool:
        """Note that the link has ended; false when it had before."""
        with self.changed:
            is_first = not self.end
            self.end = self.end or reason
            self.changed.notify_all()
        return is_first

    def wait_for(self, look: Callable[[], T | None], deadline: float, text: str) -> T:
        """Return what `look` finds, asked at each change.

        Raises:
            ConnectionClosedError: The link has ended first.
            WaitTimeoutError: Nothing was found in time; says `text`.
        """
        with self.changed:
            while (seen := look()) is None:
                self.check()
                left = deadline - monotonic()
                if left <= 0:
                    raise WaitTimeoutError(text)
                self.changed.wait(left)
            return seen
