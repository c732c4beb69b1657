"""One thread that serves many ZeroMQ sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import zmq

Drain = Callable[[], bool]
"""Read what has come, a bounded amount; return whether there may be more."""

TICK = 0.1
"""Seconds between the calls of the timer, about."""


class SocketLoop:
    """Waits for sockets, and runs what other threads post. A socket is used by this thread alone.

    It waits on the sockets' file descriptors, so that a wait costs nothing for those that are idle. Such a descriptor
    tells that there is something to look at, once: a socket is looked at until nothing is left, and also after it was
    written to, because writing takes in what the descriptor would have told.

    Args:
        tick: Called about ten times a second.
    """

    def __init__(self, name: str, tick: Callable[[float], None], logger: logging.Logger) -> None:
        self._tick = tick
        self._logger = logger
        self._epoll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, select.EPOLLIN)
        self._drains: dict[int, Drain] = {}
        self._ready: dict[int, None] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def is_here(self) -> bool:
        """Tell whether the calling thread is the loop's own."""
        return threading.current_thread() is self._thread

    def post(self, job: Callable[[], None]) -> None:
        """Have the loop do something soon; from any thread."""
        self._jobs.append(job)
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(OSError):  # the loop has ended
                os.eventfd_write(self._waker, 1)

    def watch(self, socket: zmq.Socket[Any], drain: Drain) -> None:
        """Call `drain` when there is something to read; on the loop's thread, or before it is started."""
        descriptor = int(socket.getsockopt(zmq.FD))
        self._drains[descriptor] = drain
        self._epoll.register(descriptor, select.EPOLLIN)
        self._ready[descriptor] = None

    def forget(self, socket: zmq.Socket[Any]) -> None:
        """Watch a socket no longer; before it is closed."""
        descriptor = int(socket.getsockopt(zmq.FD))
        if self._drains.pop(descriptor, None) is not None:
            self._ready.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    def look_at(self, socket: zmq.Socket[Any]) -> None:
        """Read from a socket soon: it was written to. On the loop's thread."""
        self._ready[int(socket.getsockopt(zmq.FD))] = None

    def stop(self, finish: Callable[[], None]) -> None:
        """End the loop after a last job, and wait for it. Not from its own thread."""

        def last() -> None:
            self._is_stopping = True
            finish()

        self.post(last)
        if self._thread.is_alive():
            self._thread.join()
        else:
            self._work_off()
        self._epoll.close()
        os.close(self._waker)

    def _run(self) -> None:
        due = monotonic() + TICK
        while not self._is_stopping:
            try:
                events = self._epoll.poll(0 if self._ready or self._jobs else max(0.0, due - monotonic()))
            except InterruptedError:
                continue
            for descriptor, _ in events:
                if descriptor == self._waker:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._waker)
                else:
                    self._ready[descriptor] = None
            self._is_woken = False  # before the jobs: what is posted from here on wakes the loop again
            self._work_off()
            for descriptor in list(self._ready):
                self._read(descriptor)
            now = monotonic()
            if now >= due:
                due = now + TICK
                self._guard(lambda: self._tick(monotonic()))

    def _work_off(self) -> None:
        for _ in range(len(self._jobs)):
            self._guard(self._jobs.popleft())

    def _read(self, descriptor: int) -> None:
        drain = self._drains.get(descriptor)
        has_more = False
        if drain is not None:
            try:
                has_more = drain()
            except Exception:
                self._logger.exception("what came was not taken")
        if not has_more:
            self._ready.pop(descriptor, None)

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            self._logger.exception("a job of the transport failed")
