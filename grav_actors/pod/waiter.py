"""What a thread, or a coroutine, waits on for one outcome."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any


class Waiter:
    """One outcome, given once: a value or an error.

    A bare lock: an Event costs ten times as much, and one is made for every question.
    """

    __slots__ = ("_is_called", "_lock", "error", "is_done", "on_done", "value")

    is_callbacks = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.on_done: Callable[[], None] | None = None
        self._is_called = False
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
        if self.on_done is not None:
            self.on_done()
        if not self._is_called:
            self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Block until there is an outcome; return whether there is one within `timeout` seconds."""
        if self.is_done:
            return True
        if timeout is not None and timeout <= 0:
            return False
        if self.block(timeout):
            self._lock.release()
        return self.is_done

    # For the duty of a link, which may have the thread serve the socket. The caller of the last two holds the lock.

    def block(self, timeout: float | None) -> bool:
        """Block until there is an outcome or a call, at most `timeout` seconds; return whether there is one."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))

    def call(self) -> None:
        """Have the blocked thread come back without an outcome."""
        if not (self.is_done or self._is_called):
            self._is_called = True
            self._lock.release()

    def take_call(self) -> bool:
        """Return whether the thread was called, which it knows from now on; it can block again."""
        is_called, self._is_called = self._is_called, False
        if is_called and not self.is_done:
            self._lock.acquire(blocking=False)
        return is_called

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value

    async def wait_async(self, timeout: float | None) -> bool:
        """Wait in asyncio; return whether there is an outcome within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        waker = _waker_of(loop)
        self.on_done = lambda: waker.wake(future)
        if self.is_done:
            return True
        # A timer of the loop: asyncio.wait_for makes a task for every question.
        timer = None if timeout is None else loop.call_later(timeout, _set, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
        return self.is_done


class _Waker:
    """Wakes the futures of one event loop from other threads: many outcomes, one wake-up."""

    __slots__ = ("_futures", "_is_called", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)  # the table of wakers must not keep loops alive
        self._futures: deque[asyncio.Future[None]] = deque()
        self._is_called = False

    def wake(self, future: asyncio.Future[None]) -> None:
        """Have a future done soon."""
        self._futures.append(future)
        loop = self._loop()
        if not self._is_called and loop is not None:
            self._is_called = True
            try:
                loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _drain(self) -> None:
        self._is_called = False  # first: what comes from now on calls again
        while self._futures:
            _set(self._futures.popleft())


_wakers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waker] = weakref.WeakKeyDictionary()


def _waker_of(loop: asyncio.AbstractEventLoop) -> _Waker:
    waker = _wakers.get(loop)
    if waker is None:
        waker = _wakers[loop] = _Waker(loop)
    return waker


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
