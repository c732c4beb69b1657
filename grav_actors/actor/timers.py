"""Timers of one actor: messages to itself, later."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from grav_actors.errors import ConnectionClosedError
from grav_actors.message import Message
from grav_actors.options import check_seconds


class Timer:
    """A handle of `after` or `every`."""

    __slots__ = ("_timers", "data", "interval", "is_cancelled", "type")

    def __init__(self, timers: Timers, interval: float, type: str, data: Any) -> None:
        self._timers = timers
        self.interval = interval
        self.type = type
        self.data = data
        self.is_cancelled = False

    def cancel(self) -> None:
        """Send nothing more; a message that is under way may still come. Idempotent."""
        self.is_cancelled = True


class Timers:
    """A heap and a thread that starts with the first timer.

    Args:
        send: Sends a message to the actor itself; it may raise ConnectionClosedError when all ends.
    """

    def __init__(self, name: str, send: Callable[[Message], None]) -> None:
        self._name = name
        self._send = send
        self._heap: list[tuple[float, int, Timer, bool]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._repeating: dict[bytes, Timer] = {}

    def after(self, seconds: float, type: str, data: Any) -> Timer:
        """Schedule one message."""
        return self._add(seconds, type, data, repeats=False)

    def every(self, seconds: float, type: str, data: Any) -> Timer:
        """Schedule a message, and each next one when the last was handled."""
        check_seconds("seconds", seconds)
        return self._add(seconds, type, data, repeats=True)

    def _add(self, seconds: float, type: str, data: Any, *, repeats: bool) -> Timer:
        check_seconds("seconds", seconds, zero=True)
        Message(type)  # a bad type raises here, not in the timer's thread
        timer = Timer(self, seconds, type, data)
        self._schedule(timer, repeats)
        return timer

    def _schedule(self, timer: Timer, repeats: bool) -> None:
        with self._changed:
            if self._is_closed:
                return
            heapq.heappush(self._heap, (time.monotonic() + timer.interval, next(self._order), timer, repeats))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"grav-timers-{self._name}", daemon=True)
                self._thread.start()
            self._changed.notify()

    @property
    def has_repeating(self) -> bool:
        """Whether messages of `every` are under way."""
        return bool(self._repeating)

    def handled(self, message_id: bytes) -> None:
        """Note that a message was handled: if it is of `every`, the next one is due in its interval."""
        timer = self._repeating.pop(message_id, None)
        if timer is not None and not timer.is_cancelled:
            self._schedule(timer, True)

    def close(self) -> None:
        """Cancel all and end the thread."""
        with self._changed:
            self._is_closed = True
            self._heap.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._is_closed and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if self._is_closed:
                    return
                _, _, timer, repeats = heapq.heappop(self._heap)
            if timer.is_cancelled:
                continue
            message = Message(timer.type, timer.data)
            if repeats:
                self._repeating[message._record[0]] = timer
            try:
                self._send(message)
            except ConnectionClosedError:
                return
