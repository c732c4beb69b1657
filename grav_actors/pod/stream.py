"""`async for` over a pod's messages."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from grav_actors.message import Message
from grav_actors.pod.waiter import Waiter

if TYPE_CHECKING:
    from grav_actors.pod.pod import Pod

LOOK_INTERVAL = 1.0
"""Seconds between looks whether the event loop, which says nothing when it ends, has ended."""


class MessageStream:
    """An asynchronous iterator; the callback thread waits while a message is in the loop's body.

    So a message is handled when the next one is asked for, and what the loop has not taken stays with the
    bus. A loop that was left by `break` may be taken up again, by this iterator or by a new one; a new handler
    takes what it left. When the event loop has ended the pod has no handler.
    """

    def __init__(self, pod: Pod, type_or_pattern: str) -> None:
        self._pod = pod
        self._pattern = type_or_pattern
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Event = asyncio.Event()
        self._messages: deque[Message] = deque()
        self._taken: threading.Event | None = None
        self._ended = Waiter()
        self._is_closed = False

    def __aiter__(self) -> MessageStream:
        return self

    async def __anext__(self) -> Message:
        """Return the next message.

        Raises:
            StopAsyncIteration: The pod has disconnected or has another handler, or the stream was closed.
            ConnectionClosedError: The node or the bus ended.
        """
        if self._loop is None:
            await self._start(asyncio.get_running_loop())
        self._release()
        while not self._messages:
            if self._is_closed or self._pod._has_left:
                raise StopAsyncIteration
            if self._ended.is_done:
                self._ended.result()  # raises
            self._ready.clear()
            await self._ready.wait()
        return self._messages.popleft()

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        pod = self._pod
        self._ended.on_done = self._end
        with pod._link.lock:
            pod._waiters.add(self._ended)
        await asyncio.to_thread(pod.on_type, self._pattern, self._give)
        pod._on_replaced = self.close

    async def aclose(self) -> None:
        """End the iteration; the pod has no handler then."""
        if not self._is_closed and self._pod._gate is None and self._loop is not None:
            await asyncio.to_thread(self._pod.on, None)
        self.close()

    def close(self) -> None:
        """End the iteration because the pod has another handler, or none."""
        self._is_closed = True
        self._pod._waiters.discard(self._ended)
        self._end()

    def _end(self) -> None:
        self._release()
        self._wake()

    def _release(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.set()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._ready.set)
            except RuntimeError:  # it was closed meanwhile: nobody waits any more
                return

    def _give(self, message: Message) -> None:
        # On the callback thread: stay until the loop comes back for more.
        if self._is_closed:
            return
        taken = self._taken = threading.Event()
        self._messages.append(message)
        self._wake()
        while not taken.wait(LOOK_INTERVAL):
            if self._loop is None or self._loop.is_closed():
                self._is_closed = True
                self._pod.on(None)
                return
        self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        """Give a message that the loop never took to the pod's next handler, if it wants it."""
        try:
            self._messages.remove(message)
        except ValueError:
            return
        handler = self._pod._handler
        if handler is not None and handler != self._give and self._pod._core.filters.allows_type(message.type):
            handler(message)
