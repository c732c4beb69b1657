"""Reaching a peer over ZeroMQ where it takes requests, with the key that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from grav_actors.errors import ConnectionClosedError
from grav_actors.transports.socket_loop import SocketLoop
from grav_actors.transports.standing import Standing
from grav_actors.transports.tcp_address import TcpAddress
from grav_actors.transports.zeromq_line import Line
from grav_actors.transports.zeromq_lines import Lines

_FATAL: Final = {
    "refused": "nobody listens there",
    "unreachable": "it cannot be reached",
    "auth": 'the node there does not allow this node\'s key; allow it there with "grav-actors keys allow"',
    "protocol": "the node there does not speak as this one: only one of them uses keys, or it is no node",
}
"""What an attempt failed with after which it is no use to try another key."""


class Approach:
    """The way to a peer.

    Args:
        fail: Ends the link; called on the loop's thread.
    """

    def __init__(self, loop: SocketLoop, lines: Lines, standing: Standing, fail: Callable[[str], None]) -> None:
        self._loop = loop
        self._lines = lines
        self._standing = standing
        self._fail = fail

    def reach(self, address: TcpAddress, keys: list[str], deadline: float) -> str:
        """Connect the requests of the link to a peer, with the first of these keys that is its own; return that.

        Raises:
            ConnectionClosedError: Nobody can be reached there, none of the keys is right, or the link was closed.
            WaitTimeoutError: Time is up.
        """
        for key in keys:
            line = self._try(address, key, deadline)
            if line.is_up:
                return key
            if line.failure in _FATAL:
                raise ConnectionClosedError(f"{address}: {_FATAL[line.failure]}")
        if keys == [""]:
            raise ConnectionClosedError(f"{address}: the connection was ended at once; is there a node?")
        raise ConnectionClosedError(
            f"{address}: the node there has none of the {len(keys)} keys that this node allows; allow its key with"
            ' "grav-actors keys allow"'
        )

    def _try(self, address: TcpAddress, key: str, deadline: float) -> Line:
        """Return a connection, once it stands or has failed."""
        tried: list[Line | None] = []

        def open_line() -> None:
            try:
                self._lines.open_requests(address, key)
            except Exception as exc:  # libzmq's errors, as of a network interface that is not there
                self._fail(f"{address} cannot be dialled: {exc}")
                return
            with self._standing.changed:
                tried.append(self._lines.requests)
                self._standing.changed.notify_all()

        def look() -> Line | None:
            line = tried[0] if tried else None
            return line if line is not None and (line.is_up or line.failure) else None

        self._loop.post(open_line)
        return self._standing.wait_for(look, deadline, f"{address} cannot be reached")
