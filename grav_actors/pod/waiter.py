"""What a thread, or a coroutine, waits on for one outcome."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from grav_actors.pod.replies import Question

Later = Callable[[Callable[[], None]], None]
"""Takes a call to make it at once or soon."""
Future = asyncio.Future[Any]

LATE: Any = object()
"""The result of a future whose time is up."""

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
        loop = asyncio.get_running_loop()
        waker = waker_of(loop)
        future = waker.expect(loop, timeout)
        self.on_done = lambda: waker.wake(future, None, None)
        try:
            if not self.is_done:
                await future
        finally:
            del waker.waiting[future]
        return self.is_done


class LoopQuestion(Question):
    """A question of a coroutine, which awaits its future: a limit ends that with `LATE`.

    Attributes:
        waiter: The future.
        waker: That of its loop.
        later: Puts off what wakes the loop until its thread will not have to wait for the one that does it.
    """

    __slots__ = ("later", "waker")

    waker: LoopWaker
    later: Later

    def resolve(self, value: Any) -> None:
        """Give the answer; it is ignored if the coroutine has ended its wait."""
        waker = self.waker
        if waker.is_here:
            future = self.waiter
            if not future.done():
                future.set_result(value)
        else:
            waker.wake(self.waiter, value, None, self.later)

    def fail(self, error: BaseException) -> None:
        """Give an error; it is ignored if the coroutine has ended its wait."""
        self.waker.wake(self.waiter, None, error, self.later)


new_question = LoopQuestion.__new__
"""Makes one without attributes, which who makes it sets: to call the class takes as long again as all of these."""


class LoopWaker:
    """Gives the futures of one event loop their outcomes: those of other threads many with one wake-up, and `LATE`.

    One timer for all of them: a timer for each question would cost as much as the rest of it.

    Attributes:
        is_here: The thread of the loop gives outcomes itself, now.
        waiting: The futures that are waited for, each with the time of the loop at which it is late.
        looks_at: When the timer goes off; infinite if it is not set.
    """

    __slots__ = ("_is_called", "_outcomes", "_timer", "is_here", "looks_at", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)  # the table of wakers must not keep loops alive
        self.is_here = False
        self._outcomes: deque[tuple[Future, Any, BaseException | None]] = deque()
        self._is_called = False
        self.waiting: dict[Future, float] = {}
        self.looks_at = inf
        self._timer: asyncio.TimerHandle | None = None

    # In the loop

    def expect(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> Future:
        """Return a future that gets its outcome, or `LATE` when `timeout` seconds have passed.

        Who awaits it deletes it from `waiting` then.
        """
        future: Future = loop.create_future()
        due = self.waiting[future] = inf if timeout is None else loop.time() + timeout
        if due < self.looks_at:
            self.set_timer(loop, due)
        return future

    def set_timer(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Look at this time of the loop at who is late."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due, self._expire)
        self.looks_at = due

    def _expire(self) -> None:
        self._timer = None
        self.looks_at = inf
        loop = self.loop()
        if loop is None:
            return
        waiting = self.waiting
        now = loop.time() + CLOCK_RESOLUTION
        # A copy: a coroutine that nobody has any more may be closed in between, and strikes its own.
        for future in [future for future, due in list(waiting.items()) if due <= now]:
            if future not in waiting:
                continue
            waiting[future] = inf  # it is late once
            _set(future, LATE, None)
        due = min(waiting.values(), default=inf)
        if due < inf:
            self.set_timer(loop, due)

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
