"""What somebody waits for who has asked a supervisor for something."""

from __future__ import annotations

import threading

from grav_actors.errors import ActorStartError


class Request:
    """An answer of the decider, and of the bus, which has to know of the ends before it."""

    def __init__(self) -> None:
        self.error: ActorStartError | None = None
        self.releases: tuple[threading.Event, ...] = ()
        self._answered = threading.Event()

    def answer(self) -> None:
        """Let who waits go on."""
        self._answered.set()

    def wait(self) -> None:
        """Wait for the answer; raise the error that it is."""
        self._answered.wait()
        for release in self.releases:
            release.wait()
        if self.error is not None:
            raise self.error
