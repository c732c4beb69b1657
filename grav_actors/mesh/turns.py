"""Events that are done one at a time, in the order in which they came, by whichever thread has the turn."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from grav_actors.mesh.core import TICK

DRAIN = 256
"""Events that are done before what they call for is."""

Event = Callable[[float], None]
"""Something that happens at a time."""


class Turns:
    """Does events, and after them what they call for. Any thread may call any method.

    A change of thread costs as much as many an event. So what comes often may be done by the thread on which it
    comes, when nothing else is being done and nothing waits; all else is done by a thread of its own, which also
    passes the time on.

    Args:
        finish: Called after events, with the time; with the turn.
        tick: Called about ten times a second; with the turn.
    """

    def __init__(self, name: str, finish: Callable[[float], None], tick: Event, logger: logging.Logger) -> None:
        self._finish = finish
        self._tick = tick
        self._log = logger
        self._turn = threading.Lock()
        self._events: deque[Event] = deque()  # only who has the turn takes one
        self._bell = threading.Event()
        self._is_open = False
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; what came before waits."""
        self._is_open = True
        self._thread.start()

    def put(self, event: Event) -> None:
        """Have an event done soon, on the own thread."""
        self._events.append(event)
        if not self._bell.is_set():
            self._bell.set()

    def act(self, event: Event) -> bool:
        """Do an event at once, on this thread; false, and nothing is done, when others are before it."""
        if self._events or not self._is_open or not self._turn.acquire(blocking=False):
            return False
        try:
            if self._events or self._is_over:  # meanwhile
                return False
            self._do(event)
            self._finish(monotonic())
            return True
        finally:
            self._turn.release()

    def stop(self) -> None:
        """End after what waits, and wait for that; nothing is done afterwards. Idempotent."""
        self.put(lambda now: setattr(self, "_is_over", True))
        self._thread.join()

    def _run(self) -> None:
        due = monotonic() + TICK
        while not self._is_over:
            self._bell.wait(max(0.0, due - monotonic()))
            now = monotonic()
            if now >= due:
                due = now + TICK
                # As an event: who acts lets it go first, where the lock would let a busy thread in again and again.
                self._events.append(self._tick)
            with self._turn:
                self._bell.clear()  # before the events: what comes from here on rings again
                for _ in range(min(len(self._events), DRAIN)):
                    self._do(self._events.popleft())
                self._finish(monotonic())
            if self._events:
                self._bell.set()

    def _do(self, event: Event) -> None:
        try:
            event(monotonic())
        except Exception:
            self._log.exception("an event of the mesh failed")
