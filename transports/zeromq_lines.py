"""The two sockets of one link: one for requests, one for what the peer publishes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol

import zmq

from grav_actors.errors import ProtocolError
from grav_actors.transports.base import Channel, MeshFrame
from grav_actors.transports.socket_loop import SocketLoop
from grav_actors.transports.tcp_address import TcpAddress
from grav_actors.transports.zeromq_line import Line
from grav_actors.transports.zeromq_wire import Kind, envelope, open_envelope, subscribed_prefix

DRAIN: Final = 64
"""Messages taken from one socket before others get their turn."""
HIGH_WATER_MARK: Final = 8192
"""Messages that wait in a socket; past it they are lost, which the mesh repairs. It keeps peers that are up within
2,048 runs and some MiB, so that only those who do not read come here, and these are soon not up any more."""
RECOVERY: Final = 1.5
"""Seconds after which a connection that was lost, and could not be made again, ends its link."""
REFUSALS: Final = 2
"""Attempts refused in a row that end it at once."""
FIRST_RECOVERY: Final = 4.0
"""The same as RECOVERY for a connection that never stood."""
ID_BYTES: Final = 4

_NOBLOCK = int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)


class Station(Protocol):
    """What the links of a node share.

    Attributes:
        host: The address on which it listens; "" for all of them.
        request_port, stream_port: Where it answers requests, and where it publishes.
        max_frame: Bytes of the largest frame that it takes.
    """

    host: str
    request_port: int
    stream_port: int
    max_frame: int
    loop: SocketLoop
    logger: logging.Logger

    def make_socket(self, kind: int, key: str) -> zmq.Socket[Any]:
        """Return a socket that may be connected to a node with this public key; "" without encryption."""
        ...

    def bad_frame(self, reason: str) -> None:
        """Count something malformed, and log it once for each reason."""
        ...


class Owner(Protocol):
    """The link that two sockets belong to. Called on the loop's thread."""

    def answered(self, kind: Kind, number: int, header: bytes, body: bytes) -> None:
        """Take an answer of the peer."""
        ...

    def published(self, frames: list[MeshFrame]) -> None:
        """Take what the peer has published."""
        ...

    def line_changed(self) -> None:
        """Note that a connection was made, or lost."""
        ...


class Lines:
    """The sockets by which a node asks and hears one peer. All methods are for the loop's thread.

    Attributes:
        requests: To where the peer answers; None before `open_requests`.
        stream: To where it publishes; None before `open_stream`.
        token: Names the link at the peer.
    """

    def __init__(self, station: Station, owner: Owner) -> None:
        self._station = station
        self._owner = owner
        self._subscribed: tuple[bytes, ...] = ()
        self._barrier = b""
        self._barriers = 0
        self._numbers = count()
        self._is_closed = False
        self.token = b""
        self.requests: Line | None = None
        self.stream: Line | None = None

    def open_requests(self, address: TcpAddress, key: str) -> None:
        """Connect to where a peer answers; in place of an attempt before."""
        if self.requests is not None:
            self.requests.close(0)
        self.requests = self._open(zmq.DEALER, address, key, self._drain_requests)

    def open_stream(self, address: TcpAddress, key: str) -> None:
        """Connect to where the peer publishes."""
        self.stream = self._open(zmq.SUB, address, key, self._drain_stream)

    def _open(self, kind: int, address: TcpAddress, key: str, drain: Callable[[], bool]) -> Line | None:
        if self._is_closed:
            return None
        socket = self._station.make_socket(kind, key)
        return Line(self._station.loop, socket, str(address), drain, lambda line: self._owner.line_changed())

    def ask(self, kind: Kind, header: bytes = b"", body: bytes = b"", *, token: bytes = b"", number: int = 0) -> bool:
        """Send a request; false when it cannot leave.

        Args:
            token: Instead of the link's own.
            number: That the answer will have; 0 for any.
        """
        if self.requests is None:
            return False
        if not number:
            number = self.next_number()
        frames = (number.to_bytes(ID_BYTES, "big"), b"", envelope(kind, token or self.token), header, body)
        return self.requests.send(frames)

    def next_number(self) -> int:
        """Return a number for a request; from any thread."""
        return next(self._numbers) % 0xFFFF_FFFF + 1

    def subscribe(self, prefixes: tuple[bytes, ...]) -> None:
        """Subscribe to these in this order, then to what tells the peer so; end those before."""
        if self.stream is None or self.stream.socket.closed or not prefixes:
            return
        self._barriers += 1
        barrier = subscribed_prefix(self.token, self._barriers, prefixes[-1])
        before, socket = set(self._subscribed), self.stream.socket
        wanted = dict.fromkeys(prefixes)
        for prefix in wanted:
            if prefix not in before:
                socket.setsockopt(zmq.SUBSCRIBE, prefix)
        for prefix in before.difference(wanted):
            socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
        socket.setsockopt(zmq.SUBSCRIBE, barrier)
        if self._barrier:
            socket.setsockopt(zmq.UNSUBSCRIBE, self._barrier)
        self._subscribed, self._barrier = tuple(wanted), barrier
        self._station.loop.look_at(socket)

    def trouble(self, now: float) -> str:
        """Return why the link has to end, "" while it need not."""
        for line, what in ((self.requests, "requests"), (self.stream, "its stream")):
            if line is None or line.lost_at is None:
                continue
            where = f"{what} at {line.endpoint}"
            if line.refusals >= REFUSALS:
                return f"nobody listens any more for {where}"
            if line.failure in ("auth", "protocol"):
                return f"the peer takes this node no more for {where}"
            limit = RECOVERY if line.ups else FIRST_RECOVERY
            if now - line.lost_at >= limit:
                firewall = "" if line.ups else "; is there a firewall?"
                return f"no connection for {where} since {now - line.lost_at:.1f} s{firewall}"
        return ""

    def _drain_requests(self) -> bool:
        assert self.requests is not None
        receive = self.requests.socket.recv_multipart
        for _ in range(DRAIN):
            try:
                frames = receive(_NOBLOCK)
            except zmq.ZMQError:
                return False
            try:
                number, empty, raw, header, body = frames
                if len(number) != ID_BYTES or empty:
                    raise ProtocolError(f"an answer to {number[:20]!r}")
                kind, _ = open_envelope(raw)
            except (ProtocolError, ValueError) as exc:
                self._station.bad_frame(f"an answer: {exc}")
                continue
            self._owner.answered(kind, int.from_bytes(number, "big"), header, body)
            if self._is_closed:
                return False
        return True

    def _drain_stream(self) -> bool:
        assert self.stream is not None
        receive, events = self.stream.socket.recv, self.stream.socket.getsockopt
        frames: list[MeshFrame] = []
        has_more = True
        for _ in range(DRAIN):
            # Asked first: an exception to say that there is nothing costs several times as much.
            if not events(_EVENTS) & _POLLIN:  # type: ignore[operator]
                has_more = False
                break
            try:
                receive(_NOBLOCK)  # the topic
                # Frames tell for nothing whether more follow; the socket option costs more than the frame.
                header = receive(_NOBLOCK, copy=False)
                if header.more:
                    body = receive(_NOBLOCK, copy=False)
                    if not body.more:
                        frames.append(MeshFrame(Channel.STREAM, header.bytes, body.bytes))
                        continue
                    while body.more:
                        body = receive(_NOBLOCK, copy=False)
            except zmq.ZMQError:
                has_more = False
                break
            self._station.bad_frame("a publication of not three frames")
        if frames:
            self._owner.published(frames)
        return has_more

    def close(self, *, is_lost: bool = False) -> None:
        """Close both sockets; what was sent has a second to leave unless the peer is gone."""
        self._is_closed = True
        if self.requests is not None:
            self.requests.close(0 if is_lost or not self.requests.is_up else 1000)
        if self.stream is not None:
            self.stream.close(0)
