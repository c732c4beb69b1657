"""What the threads of users wait for: the state of the mesh as its hub has last told it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from grav_actors.errors import (
    BelongsToMismatchError,
    ConnectionClosedError,
    GravError,
    NodeUUIDMismatchError,
    NodeWithdrawnError,
)
from grav_actors.mesh import handshake as refusals
from grav_actors.mesh.effects import DialRefused, TunnelEnded
from grav_actors.mesh.view import Peer
from grav_actors.timeouts import Timeout, seconds

MAX_REFUSALS = 256
"""Endpoints of which it is remembered why no link was made; past it the oldest go."""


class Bulletin:
    """Told by the hub, waited for by users. Any thread may call any method.

    Attributes:
        changed: Held by whoever changes something that is waited for, and notified then.
        peers: All that are known.
        refused: Why no link was made to an endpoint, which the errors do not name.
        tunnels: How they ended, until whoever waits has seen it.
        has_left: Every peer has acknowledged that this node leaves.
        is_stopped: Nothing changes any more: all waits end.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.peers: list[Peer] = []
        self.refused: dict[str, GravError] = {}
        self.tunnels: dict[int, TunnelEnded] = {}
        self.has_left = False
        self.is_stopped = False

    def note(self, change: Callable[[], object]) -> None:
        """Change something."""
        with self.changed:
            change()
            self.changed.notify_all()

    def wait(self, look: Callable[[], Any], timeout: Timeout) -> Any:
        """Return what `look` finds, asked at each change; None when time is up.

        Raises:
            ConnectionClosedError: The node is stopped.
        """
        limit = seconds(timeout)
        deadline = None if limit is None else monotonic() + limit
        with self.changed:
            while (found := look()) is None:
                if self.is_stopped:
                    raise ConnectionClosedError("this node is stopped; make a new Grav")
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return None
                self.changed.wait(left)
            return found

    def stop(self) -> None:
        """End all waits."""
        self.note(lambda: setattr(self, "is_stopped", True))

    # Links that were not made

    def refuse(self, refusal: DialRefused) -> None:
        """Note that a link was refused, by a peer or to it."""
        if refusal.code != refusals.SELF:  # nobody is missing there
            kind = _REFUSALS.get(refusal.code, ConnectionClosedError)
            self.fail(refusal.endpoint, kind(refusal.reason))

    def fail(self, endpoint: str, error: GravError) -> None:
        """Note why no link is made to an endpoint."""
        with self.changed:
            self.refused.pop(endpoint, None)
            self.refused[endpoint] = error
            if len(self.refused) > MAX_REFUSALS:
                del self.refused[next(iter(self.refused))]
            self.changed.notify_all()

    def forget(self, endpoint: str) -> None:
        """Note that an endpoint is tried anew, or led to a peer."""
        self.note(lambda: self.refused.pop(endpoint, None))


_REFUSALS: dict[str, type[GravError]] = {
    refusals.BELONGS_TO: BelongsToMismatchError,
    refusals.UUID: NodeUUIDMismatchError,
    refusals.SELF: NodeUUIDMismatchError,
    refusals.WITHDRAWN: NodeWithdrawnError,
}
