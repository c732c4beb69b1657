"""Which handlers have been at one message for too long. Pure: what they are at, and the time, come in."""

from __future__ import annotations

from collections.abc import Iterable

from grav_actors.actor.slate import Handling


class HandlerClock:
    """Measures how long the handlers of one life are at their messages.

    It sees a message first when it looks, and so a handler is found between `limit` seconds after its begin and the
    look after that.

    Args:
        limit: Seconds after which a handler is hung.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._since: dict[Handling, float] = {}
        self._told: set[Handling] = set()

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return self.limit / 4

    def look(self, handling: Iterable[Handling], now: float) -> list[Handling]:
        """Return the messages whose handlers are hung, each once.

        Args:
            handling: What is in handlers now; the next attempt of a message is another one.
            now: Monotonic seconds.
        """
        self._since = {message: self._since.get(message, now) for message in handling}
        self._told &= self._since.keys()
        hung = [
            message for message, since in self._since.items() if now - since >= self.limit and message not in self._told
        ]
        self._told.update(hung)
        return hung
