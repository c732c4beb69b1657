"""What a thread, or a coroutine, waits on for one outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any


class Waiter:
    """One outcome, given once: a value or an error.

    A bare lock: an Event costs ten times as much, and one is made for every question.
    """

    __slots__ = ("_lock", "_on_done", "error", "is_done", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._on_done: Callable[[], None] | None = None
        self.is_done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def resolve(self, value: Any) -> None:
        """Give the outcome; a second one is ignored. The caller holds the lock of the link."""
        if not self.is_done:
            self.is_done = True
            self.value = value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Give an error as the outcome; a second outcome is ignored. The caller holds the lock of the link."""
        if not self.is_done:
            self.is_done = True
            self.error = error
            self._wake()

    def _wake(self) -> None:
        if self._on_done is not None:
            self._on_done()
        self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Block until there is an outcome; return whether there is one within `timeout` seconds."""
        if self.is_done:
            return True
        if timeout is not None and timeout <= 0:
            return False
        if self._lock.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            self._lock.release()
        return self.is_done

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value

    async def wait_async(self, timeout: float | None) -> bool:
        """Wait in asyncio; return whether there is an outcome within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def on_done() -> None:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        self._on_done = on_done
        if self.is_done:
            return True
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            pass
        return self.is_done
