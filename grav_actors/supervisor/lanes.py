"""Work that may take long, in order for each child, and side by side for different ones."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

Job = Callable[[], None]


class Lanes:
    """Jobs by name: those of one name are done one after another, on a thread that ends when there are no more."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._jobs: dict[str, deque[Job]] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def add(self, name: str, job: Job) -> None:
        """Have a job done when those before it are, from any thread; what it raises is logged."""
        with self._lock:
            waiting = self._jobs.get(name)
            if waiting is not None:
                waiting.append(job)
                return
            self._jobs[name] = deque([job])
            thread = threading.Thread(target=self._work, args=(name,), name=f"{self._prefix}-{name}", daemon=True)
            self._threads.add(thread)
        thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until nothing is left to do, but not for the calling thread; return whether that is so."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _work(self, name: str) -> None:
        while (job := self._next(name)) is not None:
            try:
                job()
            except Exception:
                logger.exception("%s-%s met an error", self._prefix, name)

    def _next(self, name: str) -> Job | None:
        with self._lock:
            jobs = self._jobs[name]
            if jobs:
                return jobs.popleft()
            del self._jobs[name]
            self._threads.discard(threading.current_thread())
            return None
