"""What has come on one connection and waits for its receiver, which may block."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from grav_actors.transports.base import Incoming, LinkDown, MeshFrame, ReceiveFunc

MOST_BYTES = 32 * 1024 * 1024
"""Bytes of frames of a mesh that wait; past it frames are lost, which the mesh repairs."""
MOST_ITEMS = 8192
"""Items that wait; past it frames are lost."""
FRAME_OVERHEAD = 256
"""Bytes that a frame counts for beside its body."""

Done: TypeAlias = Callable[[], None]
"""Called when the receiver has returned."""


class Inbox:
    """A queue and the thread that hands over what is in it, in order.

    Attributes:
        lost: Frames for which there was no room.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._changed = threading.Condition()
        self._items: deque[tuple[Incoming, Done | None]] = deque()
        self._bytes = 0
        self._is_closed = False
        self._has_ended = False
        self._thread: threading.Thread | None = None
        self.lost = 0

    def start(self, name: str, peer_uuid: str, receive: ReceiveFunc) -> None:
        """Begin to hand over."""
        self._thread = threading.Thread(target=self._run, args=(peer_uuid, receive), name=name, daemon=True)
        self._thread.start()

    def put(self, item: Incoming, done: Done | None = None) -> None:
        """Queue something that must not be lost; there is always room, as its sender does not send without end."""
        with self._changed:
            if len(self._items) < 2 * MOST_ITEMS:
                self._put(item, done)
            else:
                self.lost += 1

    def end(self, item: LinkDown) -> None:
        """Queue the last item, once."""
        with self._changed:
            if not self._has_ended:
                self._put(item, None)
                self._has_ended = True

    def _put(self, item: Incoming, done: Done | None) -> None:
        if not self._is_closed and not self._has_ended:
            self._items.append((item, done))
            self._changed.notify()

    def offer(self, frames: Iterable[MeshFrame]) -> None:
        """Queue frames as far as there is room."""
        with self._changed:
            if self._is_closed or self._has_ended:
                return
            for frame in frames:
                if self._bytes > MOST_BYTES or len(self._items) >= MOST_ITEMS:
                    self.lost += 1
                    continue
                self._items.append((frame, None))
                self._bytes += len(frame.body) + FRAME_OVERHEAD
            self._changed.notify()

    def _run(self, peer_uuid: str, receive: ReceiveFunc) -> None:
        while True:
            with self._changed:
                while not self._items and not self._is_closed:
                    self._changed.wait()
                taken, self._items = self._items, deque()
                self._bytes = 0
            for item, done in taken:
                if self._is_closed:
                    return
                try:
                    receive(peer_uuid, item)
                except Exception:
                    self._logger.exception("the receiver of what node %s sends failed", peer_uuid)
                if isinstance(item, LinkDown):
                    return
                if done is not None:
                    done()
            if self._is_closed:
                return

    def close(self) -> None:
        """Hand over nothing more; back when the receiver has returned, unless that calls this."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()
        thread: Any = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
