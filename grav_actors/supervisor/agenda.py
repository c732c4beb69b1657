"""A thread that does what is due, one thing after another."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

Job = Callable[[], None]


class Agenda:
    """Jobs by the time at which they are due. The thread starts with the first; what a job raises is logged."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def add(self, delay: float, job: Job) -> None:
        """Have a job done in so many seconds, from any thread; nothing happens after `close`."""
        with self._changed:
            if self._is_closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            heapq.heappush(self._jobs, (time.monotonic() + delay, next(self._order), job))
            self._changed.notify()

    def close(self) -> None:
        """Do nothing more; back when the job that runs has ended, unless this is that job."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:
                logger.exception("%s met an error", self._name)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._is_closed:
                rest = self._jobs[0][0] - time.monotonic() if self._jobs else None
                if rest is not None and rest <= 0:
                    return heapq.heappop(self._jobs)[2]
                self._changed.wait(rest)
        return None
