"""A socket that was connected to a peer, and how its connection fares."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

import zmq

from grav_actors.transports.socket_loop import SocketLoop

CONNECT_TIMEOUT: Final = 1000
"""Milliseconds until an attempt to connect is given up for the next one."""
RECONNECT: Final = 100
RECONNECT_MAX: Final = 500
HANDSHAKE_IVL: Final = 2000
"""Milliseconds that a connection has to come to an understanding; a stranger's that says nothing ends then."""
HEARTBEAT_IVL: Final = 500
HEARTBEAT_TIMEOUT: Final = 2000
"""Milliseconds until a silent connection is ended. Without it a subscriber stays deaf for ever after a power cut."""
LINGER: Final = 1000
"""Milliseconds that what was sent has to leave when its socket is closed."""
QUICK: Final = 0.5
"""Seconds within which an attempt that fails was refused: somebody is there and says that nobody listens."""

_EVENTS: Final = (
    zmq.EVENT_CONNECT_DELAYED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE_NOBLOCK = int(zmq.SNDMORE) | int(zmq.NOBLOCK)


class Line:
    """A connected socket. All methods are for the loop's thread.

    Attributes:
        endpoint: Where it was connected to.
        is_up: The connection stands, and its handshake is done.
        ups: How often it came up.
        lost_at: Since when it does not stand; None while it does.
        refusals: Attempts in a row that were refused.
        failure: What the last attempt failed with: "refused", "unreachable", "auth", "protocol", "handshake".

    Args:
        socket: Set up but for what every such socket has.
        drain: Reads from the socket.
        changed: Called when any attribute has changed.
    """

    def __init__(
        self,
        loop: SocketLoop,
        socket: zmq.Socket[Any],
        endpoint: str,
        drain: Callable[[], bool],
        changed: Callable[[Line], None],
    ) -> None:
        self._loop = loop
        self._changed = changed
        self.socket = socket
        self.endpoint = endpoint
        self.is_up = False
        self.ups = 0
        self.lost_at: float | None = monotonic()
        self.refusals = 0
        self.failure = ""
        self._began_at = monotonic()
        set_common(socket)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX)
        # Before it connects, so that nothing is missed.
        self._monitor: zmq.Socket[Any] = socket.get_monitor_socket(_EVENTS)
        loop.watch(self._monitor, self._look)
        loop.watch(socket, drain)
        socket.connect(endpoint)

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message; false when there is no room for it, or the socket is closed."""
        socket = self.socket
        if socket.closed:
            return False
        last = len(frames) - 1
        try:
            for index, frame in enumerate(frames):
                socket.send(frame, _NOBLOCK if index == last else _SNDMORE_NOBLOCK)
        except zmq.ZMQError:
            return False
        self._loop.look_at(socket)
        return True

    def _look(self) -> bool:
        """Take in what has become of the connection."""
        try:
            while True:
                raw = self._monitor.recv(_NOBLOCK)
                self._monitor.recv(_NOBLOCK)  # the endpoint
                self._note(struct.unpack("=HI", raw)[0])
        except zmq.ZMQError:
            pass
        if not self.socket.closed:
            self._changed(self)
        return False

    def _note(self, event: int) -> None:
        now = monotonic()
        if event == zmq.EVENT_CONNECT_DELAYED:
            self._began_at = now
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.is_up, self.lost_at, self.refusals, self.failure = True, None, 0, ""
            self.ups += 1
            return
        self.is_up = False
        if self.lost_at is None:
            self.lost_at = now
        if event == zmq.EVENT_CLOSED:
            if now - self._began_at < QUICK:
                self.refusals += 1
                self.failure = "refused"
            else:
                self.failure = "unreachable"
        elif event != zmq.EVENT_DISCONNECTED:
            self.failure = _FAILURES.get(event, "handshake")

    def close(self, linger: int = LINGER) -> None:
        """Close the socket; what was sent has so many milliseconds to leave."""
        if self.socket.closed:
            return
        self._loop.forget(self._monitor)
        self._loop.forget(self.socket)
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(linger)


_FAILURES: dict[int, str] = {
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "auth",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "protocol",
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "handshake",
}


def set_common(socket: zmq.Socket[Any]) -> None:
    """Set what every socket between nodes has."""
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.LINGER, LINGER)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_IVL)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT)
