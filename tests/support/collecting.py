"""What handlers of tests put messages into, and how tests wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from grav_actors import Grav, Message, Pod

LIMIT = 30.0
"""Seconds that anything may take on a machine that is busy."""


class Collector:
    """A handler that keeps what it is given.

    Args:
        then: Called with each message after it was kept; what it raises is a failure of the handler.
    """

    def __init__(self, then: Callable[[Message], object] | None = None) -> None:
        self._changed = threading.Condition()
        self._then = then
        self._messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()
        if self._then is not None:
            self._then(message)

    @property
    def messages(self) -> list[Message]:
        """What came so far."""
        with self._changed:
            return list(self._messages)

    @property
    def data(self) -> list[Any]:
        """The data of what came so far."""
        return [message.data for message in self.messages]

    @property
    def types(self) -> list[str]:
        """The types of what came so far."""
        return [message.type for message in self.messages]

    def wait(self, count: int) -> list[Message]:
        """Wait until so many came, and return what came."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self._messages) >= count, LIMIT)
            assert arrived, f"{len(self._messages)} of {count} messages came within {LIMIT} s"
            return list(self._messages)

    def wait_for(self, condition: Callable[[list[Message]], bool]) -> None:
        """Wait until what came, at least one message, is as wanted."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: self._messages and condition(self._messages), LIMIT)
            assert arrived, f"what came within {LIMIT} s was not what was wanted: {len(self._messages)} messages"


def settle(*senders: Pod) -> None:
    """Return when every receiver has handled what these pods sent: nothing more of it can come."""
    for sender in senders:
        sender.flush(LIMIT, settled=True)


def wait_for_receivers(grav: Grav, message_type: str, count: int = 1) -> None:
    """Return when the bus gives a type to so many pods: for what another thread is about to set."""
    for _ in range(100_000):
        if grav.ask("grav.sys.bus.receivers", message_type, to="grav.bus", timeout=LIMIT) == count:
            return
    raise AssertionError(f"there never were {count} receivers of {message_type}")


def in_thread(action: Callable[[], Any]) -> Callable[[], Any]:
    """Run `action` in a thread; return a function that waits for it, and returns or raises what it did."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((action(), None))
        except BaseException as exc:
            outcome.append((None, exc))

    thread = threading.Thread(target=run, name="test-action")
    thread.start()

    def join() -> Any:
        thread.join(LIMIT)
        assert outcome, f"the thread has not ended within {LIMIT} s"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return join
