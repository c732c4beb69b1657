"""Timers of one actor: messages to itself, later."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from grav_actors.codec import pack_value, unpack_value
from grav_actors.errors import BusBusyError, GravError
from grav_actors.message import Message
from grav_actors.options import check_seconds

logger = logging.getLogger(__name__)

BUSY_DELAY = 1.0
"""Seconds after which a message that the bus did not take is sent again."""
LOOK_INTERVAL = 1.0
"""Seconds between looks for messages of `every` that have ended without being handled."""
SPARE_CANCELLED = 64
"""Cancelled timers that may stay in the schedule, however few others there are."""


class Timer:
    """A handle of `after` or `every`."""

    __slots__ = ("_schedule", "data", "interval", "is_cancelled", "repeats", "type")

    def __init__(self, schedule: Schedule, interval: float, type: str, data: Any, *, repeats: bool) -> None:
        self._schedule = schedule
        self.interval = interval
        self.type = type
        self.data = data
        self.repeats = repeats
        self.is_cancelled = False

    def cancel(self) -> None:
        """Send nothing more; a message that is under way may still come. Idempotent."""
        if not self.is_cancelled:
            self.is_cancelled = True
            self._schedule.cancelled()


class Schedule:
    """Timers by the time at which they are due. Pure: the time comes in.

    `cancelled` may be called from any thread; whoever calls the others sees to it that one does at a time.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, timer: Timer, due: float) -> None:
        """Enter a timer; of those due at one time the first entered is the first taken."""
        if self._cancelled > SPARE_CANCELLED and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].is_cancelled]
            heapq.heapify(self._heap)
            self._cancelled = 0
        heapq.heappush(self._heap, (due, next(self._order), timer))

    def cancelled(self) -> None:
        """Note that a timer was cancelled: many of them are struck, so that they do not pile up."""
        self._cancelled += 1

    def take(self, now: float) -> Timer | None:
        """Remove and return the next timer that is due and not cancelled."""
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].is_cancelled):
            timer = heapq.heappop(self._heap)[2]
            if not timer.is_cancelled:
                return timer
            self._cancelled -= 1
        return None

    def rest(self, now: float) -> float | None:
        """Return the seconds until the next is due; None when there is none."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
        self._cancelled = 0


class Timers:
    """A schedule and a thread that starts with the first timer.

    Args:
        check: Raises for a message that could not be sent.
        send: Sends a message to the actor itself and returns its number, or a higher one.
        is_settled: Tells whether messages up to a number need nothing more: they were handled, or are dead
            letters. Without that a full mailbox could end an `every` for good.
        clock: Monotonic seconds.

    Attributes:
        under_way: Messages of `every` that `handled` must be told of, by their uuids.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[Message], object],
        send: Callable[[Message], int],
        is_settled: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._check = check
        self._send = send
        self._is_settled = is_settled
        self._clock = clock
        self._schedule = Schedule()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self.under_way: dict[bytes, tuple[Timer, int]] = {}

    def after(self, seconds: float, type: str, data: Any) -> Timer:
        """Schedule one message."""
        check_seconds("seconds", seconds, zero=True)
        return self._start(seconds, type, data, repeats=False)

    def every(self, seconds: float, type: str, data: Any) -> Timer:
        """Schedule a message, and each next one when the last was handled."""
        check_seconds("seconds", seconds)
        return self._start(seconds, type, data, repeats=True)

    def _start(self, seconds: float, type: str, data: Any, *, repeats: bool) -> Timer:
        # A mistake raises here, not in the timers' thread; and later changes of the data are not sent.
        self._check(Message(type, data))
        timer = Timer(self._schedule, seconds, type, unpack_value(pack_value(data)), repeats=repeats)
        self._add(timer, seconds)
        return timer

    def _add(self, timer: Timer, seconds: float) -> None:
        with self._changed:
            if self._is_closed:
                return
            self._schedule.add(timer, self._clock() + seconds)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"grav-timers-{self._name}", daemon=True)
                self._thread.start()
            self._changed.notify()

    def handled(self, message_id: bytes) -> None:
        """Note that a message was handled: if it is of `every`, the next one is due in its interval."""
        with self._changed:
            timer, _ = self.under_way.pop(message_id, (None, 0))
            if timer is not None and not timer.is_cancelled:
                self._add(timer, timer.interval)

    def _look_for_lost(self) -> None:
        for message_id, (_, number) in list(self.under_way.items()):
            if number and self._is_settled(number):
                self.handled(message_id)

    def close(self) -> None:
        """Send nothing more. The thread ends when what it is sending has left; see `join`."""
        with self._changed:
            self._is_closed = True
            self._schedule.clear()
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, after `close`."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _work(self) -> None:
        while (timer := self._next()) is not None:
            self._fire(timer)

    def _next(self) -> Timer | None:
        """Wait for a timer to be due and return it; None at the end."""
        while True:
            with self._changed:
                timer = self._schedule.take(self._clock())
                if timer is not None or self._is_closed:
                    return timer
                rest = self._schedule.rest(self._clock())
                is_waiting = bool(self.under_way)
                self._changed.wait(min(LOOK_INTERVAL, rest or LOOK_INTERVAL) if is_waiting else rest)
            if is_waiting:
                self._look_for_lost()

    def _fire(self, timer: Timer) -> None:
        message = Message(timer.type, timer.data)
        message_id: bytes = message._record[0]
        if timer.repeats:
            self.under_way[message_id] = (timer, 0)  # first: it may be handled before the call returns
        try:
            number = self._send(message)
            with self._changed:
                if message_id in self.under_way:
                    self.under_way[message_id] = (timer, number)
        except BusBusyError:
            self.under_way.pop(message_id, None)
            self._add(timer, BUSY_DELAY)
        except GravError as exc:  # the pod has ended
            logger.debug("%s: its timers end: %s", self._name, exc)
            self.close()
