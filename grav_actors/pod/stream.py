"""`async for` over a pod's messages."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from grav_actors.message import Message

if TYPE_CHECKING:
    from grav_actors.pod.pod import Pod


class MessageStream:
    """An asynchronous iterator; the callback thread waits while a message is in the loop's body.

    So a message is handled when the next one is asked for, and what the loop has not taken stays with the
    bus when the iteration ends.
    """

    def __init__(self, pod: Pod, type_or_pattern: str) -> None:
        self._pod = pod
        self._pattern = type_or_pattern
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Event = asyncio.Event()
        self._messages: deque[Message] = deque()
        self._taken: threading.Event | None = None
        self._is_closed = False

    def __aiter__(self) -> MessageStream:
        return self

    async def __anext__(self) -> Message:
        """Return the next message.

        Raises:
            StopAsyncIteration: The pod has disconnected, or the stream was closed.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._pod._on_end = lambda error: self._wake()
            await asyncio.to_thread(self._pod.on_type, self._pattern, self._give)
        self._release()
        while not self._messages:
            if self._is_closed or self._pod._gate is not None:
                raise StopAsyncIteration
            self._ready.clear()
            try:
                await asyncio.wait_for(self._ready.wait(), 1.0)
            except TimeoutError:
                continue  # looks whether the pod has ended
        return self._messages.popleft()

    async def aclose(self) -> None:
        """End the iteration; the pod has no handler then."""
        self._is_closed = True
        self._release()
        self._wake()
        if self._pod._gate is None:
            await asyncio.to_thread(self._pod.on, None)

    def _release(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.set()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._ready.set)

    def _give(self, message: Message) -> None:
        # On the callback thread: stay until the loop comes back for more.
        taken = threading.Event()
        self._taken = taken
        self._messages.append(message)
        self._wake()
        while not taken.wait(1.0):
            if self._is_closed or self._pod._gate is not None or (self._loop is not None and self._loop.is_closed()):
                return
