"""MessageBuffer: the latest messages, to be read again and again."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

from grav_actors.message import Message


class MessageBuffer:
    """The last `limit` messages that were pushed; safe to share among threads.

    When it is full the oldest goes first. One message pushed twice is held twice.

    Args:
        limit: Most messages held.

    Raises:
        ValueError: `limit` is less than 1.
        TypeError: It is no whole number.
    """

    def __init__(self, limit: int) -> None:
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise TypeError(f"limit is {limit!r}; a buffer holds a whole number of messages")
        if limit < 1:
            raise ValueError(f"limit is {limit!r}; a buffer holds at least 1 message")
        self._limit = limit
        self._lock = threading.Lock()
        # A ring: the message that was pushed as number n lies at n % limit.
        self._ring: list[Message] = []
        self._pushed = 0
        self._next = 0

    @property
    def limit(self) -> int:
        """Most messages held."""
        return self._limit

    def push(self, message: Message) -> None:
        """Add a message; drops the oldest when the buffer is full."""
        with self._lock:
            if len(self._ring) < self._limit:
                self._ring.append(message)
            else:
                self._ring[self._pushed % self._limit] = message
            self._pushed += 1

    def next(self) -> Message | None:
        """Return the message after the one returned last, the oldest after the newest; removes nothing.

        Returns:
            None when the buffer is empty. When messages were dropped meanwhile it goes on with the oldest.
        """
        with self._lock:
            if not self._ring:
                return None
            oldest = self._pushed - len(self._ring)
            if not oldest <= self._next < self._pushed:
                self._next = oldest
            message = self._ring[self._next % self._limit]
            self._next += 1
            return message

    def iter(self, fn: Callable[[Message], Any]) -> None:
        """Call `fn` for each message held now, the oldest first; it may push to this buffer."""
        for message in self._snapshot():
            fn(message)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._snapshot())

    def __len__(self) -> int:
        return len(self._ring)

    def __repr__(self) -> str:
        return f"<MessageBuffer {len(self)} of {self._limit}>"

    def _snapshot(self) -> list[Message]:
        with self._lock:
            split = self._pushed % self._limit if len(self._ring) == self._limit else 0
            return self._ring[split:] + self._ring[:split]
