"""What a thread, or a coroutine, waits on for one outcome."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

Later = Callable[[Callable[[], None]], None]
"""Takes a call to make it at once or soon."""

CLOCK_RESOLUTION = 0.001
"""Seconds by which a loop may call its timers early."""


class Waiter:
    """One outcome, given once: a value or an error.

    A bare lock: an Event costs ten times as much, and one is made for every question.
    """

    __slots__ = ("_is_called", "_lock", "error", "is_done", "on_done", "value")

    is_callbacks = False
    rank = 3

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
        waker = waker_of(asyncio.get_running_loop())
        future = waker.expect(timeout)
        self.on_done = lambda: waker.wake(future, None, None)
        try:
            if not self.is_done:
                await future
        finally:
            waker.forget(future)
        return self.is_done


class LoopWaiter:
    """One outcome for one coroutine, given once; `await` its future, which a limit ends with `LATE`.

    Attributes:
        later: Puts off what wakes the loop until its thread will not have to wait for the one that does it.
    """

    __slots__ = ("_waker", "future", "is_done", "later")

    def __init__(self, waker: LoopWaker, timeout: float | None, later: Later) -> None:
        self._waker = waker
        self.future = waker.expect(timeout)
        self.is_done = False
        self.later = later

    def resolve(self, value: Any) -> None:
        """Give the outcome; a second one is ignored. The caller holds the lock of the link."""
        if not self.is_done:
            self.is_done = True
            waker = self._waker
            if waker.is_here:
                future = self.future
                if not future.done():
                    future.set_result(value)
            else:
                waker.wake(self.future, value, None, self.later)

    def fail(self, error: BaseException) -> None:
        """Give an error as the outcome; a second outcome is ignored. The caller holds the lock of the link."""
        if not self.is_done:
            self.is_done = True
            self._waker.wake(self.future, None, error, self.later)

    def forget(self) -> None:
        """Note that nobody waits any more. Called in the loop."""
        self._waker.forget(self.future)


LATE: Any = object()
"""The result of a future whose time is up."""

Future = asyncio.Future[Any]


class LoopWaker:
    """Gives the futures of one event loop their outcomes: those of other threads many with one wake-up, and `LATE`.

    One timer for all of them: a timer for each question would cost as much as the rest of it.

    Attributes:
        is_here: The thread of the loop gives outcomes itself, now.
    """

    __slots__ = ("_due", "_is_called", "_outcomes", "_timer", "_waiting", "is_here", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)  # the table of wakers must not keep loops alive
        self.is_here = False
        self._outcomes: deque[tuple[Future, Any, BaseException | None]] = deque()
        self._is_called = False
        self._waiting = 0
        self._due: dict[Future, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    # In the loop

    @property
    def has_waiters(self) -> bool:
        """Whether any future is waited for."""
        return self._waiting > 0

    def expect(self, timeout: float | None) -> Future:
        """Return a future that gets its outcome, or `LATE` when `timeout` seconds have passed; `forget` it then."""
        loop = self.loop()
        assert loop is not None
        future: Future = loop.create_future()
        self._waiting += 1
        if timeout is not None:
            due = self._due[future] = loop.time() + timeout
            if self._timer is None or due < self._timer.when():
                self._set_timer(loop, due)
        return future

    def forget(self, future: Future) -> None:
        """Note that nobody waits for a future any more."""
        self._waiting -= 1
        self._due.pop(future, None)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        loop = self.loop()
        if loop is None:
            return
        now = loop.time() + CLOCK_RESOLUTION
        for future, due in list(self._due.items()):
            if due <= now:
                del self._due[future]
                _set(future, LATE, None)
        if self._due:
            self._set_timer(loop, min(self._due.values()))

    # In any thread

    def wake(self, future: Future, value: Any, error: BaseException | None, later: Later | None = None) -> None:
        """Have a future done: at once in the loop's own thread, else soon."""
        # What came before from another thread goes first: a future has one outcome, so only the order may differ.
        if self.is_here:
            _set(future, value, error)
            return
        self._outcomes.append((future, value, error))
        if self._is_called:
            return
        self._is_called = True
        if later is None:
            self._call()
        else:
            later(self._call)

    def _call(self) -> None:
        loop = self.loop()
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _drain(self) -> None:
        self._is_called = False  # first: what comes from now on calls again
        while self._outcomes:
            _set(*self._outcomes.popleft())


_wakers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWaker] = weakref.WeakKeyDictionary()
_latest: LoopWaker | None = None


def waker_of(loop: asyncio.AbstractEventLoop) -> LoopWaker:
    """Return the one of a loop; call it in that loop."""
    global _latest
    waker = _latest
    if waker is None or waker.loop() is not loop:
        waker = _wakers.get(loop)
        if waker is None:
            waker = _wakers[loop] = LoopWaker(loop)
        _latest = waker
    return waker


def _set(future: Future, value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
