"""An event loop that serves the socket of a link while its coroutines wait for answers: nothing changes threads."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING

from grav_actors.pod.waiter import LoopWaker, waker_of

if TYPE_CHECKING:
    from grav_actors.pod.duty import Duty, Ready

LINGER = 0.01
"""Seconds that a loop stays on duty when none of its coroutines waits any more: the next question may follow soon."""


class LoopServer:
    """One event loop at one link. Made, and used but for `ring`, in the thread of the loop.

    It has duplicates of the link's descriptors: they are its own to close, whichever of link and loop ends first.

    Attributes:
        is_rung: The loop will look, and has not since.
        stays: The loop is that of an actor, and serves also while no coroutine waits for an answer.
        waker: What its coroutines wait at.
    """

    is_callbacks = False

    def __init__(self, duty: Duty, loop: asyncio.AbstractEventLoop, descriptors: tuple[int, ...]) -> None:
        self.stays = False
        self._duty = duty
        self._loop = weakref.ref(loop)
        self._ident = threading.get_ident()
        self.waker: LoopWaker = waker_of(loop)
        self._descriptors = descriptors
        self._copies: dict[int, int] = {}
        self.is_rung = False
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_since = 0.0

    # With the lock of the link held

    def watch(self) -> bool:
        """Have the loop look at the descriptors; return whether it can. Called in the loop."""
        loop = self._loop()
        if loop is None:
            return False
        if not self._copies:
            try:
                for descriptor in self._descriptors:
                    copy = os.dup(descriptor)
                    self._copies[copy] = descriptor
                    loop.add_reader(copy, self._on_input, copy)
            except (NotImplementedError, OSError):
                self.leave()
                return False
        self._call_soon(loop)
        return True

    def ring(self) -> None:
        """Have the loop look for work; if it has ended, the relief thread."""
        loop = self._loop()
        if self.is_rung:
            return
        if loop is None or loop.is_closed():
            self._duty.has_lost(self)
            return
        if threading.get_ident() == self._ident:
            self._call_soon(loop)
        else:
            self.is_rung = True
            try:
                loop.call_soon_threadsafe(self._look)
            except RuntimeError:  # it was closed just now
                self._duty.has_lost(self)

    def silence(self) -> None:
        """Note that the loop looks."""
        self.is_rung = False

    def is_gone(self) -> bool:
        """Whether the loop has ended."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def dismiss(self) -> None:
        """Have the loop look at the descriptors no more; from any thread."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            self._close_copies()
        elif threading.get_ident() == self._ident:
            self.leave()
        else:
            try:
                loop.call_soon_threadsafe(self.leave)
            except RuntimeError:
                self._close_copies()

    # In the loop

    def leave(self) -> None:
        """Look at the descriptors no more."""
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            for copy in self._copies:
                loop.remove_reader(copy)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_copies()

    def _close_copies(self) -> None:
        copies, self._copies = self._copies, {}
        for copy in copies:
            os.close(copy)

    def _call_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.is_rung:
            self.is_rung = True
            loop.call_soon(self._look)

    def _look(self) -> None:
        self._turn([])

    def _on_input(self, copy: int) -> None:
        descriptor = self._copies.get(copy)
        if descriptor is not None:
            self._turn([(descriptor, 1)])

    def _on_time(self) -> None:
        self._timer = None
        self._turn([])

    def _turn(self, ready: Ready) -> None:
        loop = self._loop()
        if loop is None:
            return
        rest = self._duty.turn_in_loop(self, ready)
        if rest is None:
            self.leave()
        elif rest <= 0:
            with self._duty.lock:
                self._call_soon(loop)
        elif self._timer is None or self._timer.when() > loop.time() + 2 * rest:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(rest, self._on_time)

    @property
    def rank(self) -> int:
        """Whom it may take the duty from; see `Duty`."""
        return 2 if self.waker.waiting else 1

    def is_idle(self) -> bool:
        """Whether no coroutine has waited for a while."""
        if self.stays or self.waker.waiting:
            self._quiet_since = 0.0
            return False
        now = monotonic()
        if not self._quiet_since:
            self._quiet_since = now
        return now - self._quiet_since >= LINGER
