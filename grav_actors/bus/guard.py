"""Starts a bus process again when it dies, and logs what it has to say."""

from __future__ import annotations

import logging
import os
import random
import select
import threading
import time
from collections.abc import Callable

from grav_actors.bus.process import BusProcess
from grav_actors.errors import GravError
from grav_actors.options import RestartLimits
from grav_actors.supervisor.policy import GiveUp, RestartPolicy

READ_BYTES = 65_536


class BusGuard:
    """Watches a bus process, on a thread of its own, from the moment it is made.

    Args:
        give_up: Called on that thread, with the reason, when the bus has died too often.
    """

    def __init__(
        self, bus: BusProcess, limits: RestartLimits, give_up: Callable[[str], None], logger: logging.Logger
    ) -> None:
        self._bus = bus
        self._policy = RestartPolicy(limits)
        self._give_up = give_up
        self._log = logger
        self._is_released = False
        self._rest = b""
        self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._work, name="grav-bus-guard", daemon=True)
        self._thread.start()

    def is_here(self) -> bool:
        """Whether the calling thread is the guard's own."""
        return threading.current_thread() is self._thread

    def release(self) -> None:
        """Let the bus end: it is not started again."""
        self._is_released = True

    def stop(self) -> None:
        """End the guard, not the bus. Call it once; on the guard's own thread it does not wait."""
        self.release()
        os.eventfd_write(self._waker, 1)
        if not self.is_here():
            self._thread.join()
        os.close(self._waker)

    def _work(self) -> None:
        bus = self._bus
        while self._has_died():
            text = f"the bus process ended with {bus.describe_exit()}"
            decision = self._policy.failed(time.monotonic(), random.random)
            if isinstance(decision, GiveUp):
                self._log.error("%s; %s: giving up", text, decision)
                self._give_up(f"{text} once more after {decision}")
                return
            self._log.error("%s; starting it again", text)
            if decision.delay and self._is_released_within(decision.delay):
                return
            try:
                bus.start()
            except GravError as exc:
                self._log.error("the bus did not start: %s", exc)

    def _has_died(self) -> bool:
        """Wait for the end of the bus and log what it says; return false if it is no longer guarded."""
        poll = self._poll()
        log = self._bus.log_descriptor
        assert self._bus.pid is not None
        if self._bus.is_alive():
            try:
                descriptor = os.pidfd_open(self._bus.pid)
            except ProcessLookupError:
                return not self._is_released
            try:
                poll.register(descriptor, select.POLLIN)
                poll.register(log, select.POLLIN)
                ready: set[int] = set()
                while ready <= {log}:
                    ready = {one for one, _ in poll.poll()}
                    if log in ready and not self._log_lines(log):
                        poll.unregister(log)  # the bus is about to end
            finally:
                os.close(descriptor)
        return not self._is_released

    def _log_lines(self, descriptor: int) -> bool:
        """Log what has come; return whether more may come."""
        raw = os.read(descriptor, READ_BYTES)
        self._rest += raw
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._log.warning("%s", line.decode("utf-8", "replace"))
        return bool(raw)

    def _is_released_within(self, delay: float) -> bool:
        self._poll().poll(delay * 1000)
        return self._is_released

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        return poll
