"""Nodes of one process, linked in memory: for tests and simulations of users, without sockets.

Endpoints are `loopback://NAME`. The name is `TransportOptions.uri`, or the node's uuid; with a port it is
`NAME:PORT`. Nothing leaves the process, and what is sent is copied, as if it had.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import TypeVar

from grav_actors.errors import ConfigError, ConnectionClosedError, NodeWithdrawnError, ProtocolError
from grav_actors.message import Message
from grav_actors.transports.base import (
    HANDSHAKE_TIMEOUT,
    Channel,
    ConnectFunc,
    FindFunc,
    Handshake,
    HandshakeAck,
    HandshakeFunc,
    LinkDown,
    MeshFrame,
    ReceiveFunc,
    Subscribed,
    TransportOptions,
    Withdraw,
)
from grav_actors.transports.inbox import Inbox
from grav_actors.transports.standing import Standing

T = TypeVar("T")

SCHEME = "loopback://"
QUEUE_LIMIT = 4096
"""Messages that wait for one end of a link; past it `send` waits."""

_lock = threading.Lock()
_listening: dict[str, LoopbackTransport] = {}


class LoopbackConnection:
    """One end of a link in memory; see `Connection` and `MeshConnection`."""

    def __init__(self, transport: LoopbackTransport, logger: logging.Logger) -> None:
        self._transport = transport
        self._other: LoopbackConnection | None = None
        self._standing = Standing("the peer")
        self._inbox = Inbox(logger)
        self._is_closed = False
        self._has_withdrawn = False  # the peer
        self._handshake: Handshake | None = None
        self._answer: HandshakeAck | None = None
        self._under_way = 0  # messages that the peer's receiver has not been given yet
        self._acknowledged = False
        self._subscribed: tuple[bytes, ...] = ()  # by the peer

    def __repr__(self) -> str:
        return f"<LoopbackConnection to {self._standing.peer}{', ' + self._standing.end if self._standing.end else ''}>"

    # Handshakes

    def do_outgoing_handshake(self, handshake: Handshake) -> HandshakeAck:
        """Introduce this node; see `Connection`."""
        peer = self._peer()
        with peer._standing.changed:
            peer._handshake = handshake
            peer._standing.changed.notify_all()
        answer = self._wait_for(lambda: self._answer, "no answer from the peer")
        self._standing.peer = answer.uuid
        return answer

    def do_incoming_handshake(self, callback: HandshakeFunc) -> None:
        """Wait for the peer's introduction and answer it; see `Connection`."""
        handshake = self._wait_for(lambda: self._handshake, "the peer did not introduce itself")
        if not isinstance(handshake, Handshake):
            raise ProtocolError(f"the peer sent {handshake!r:.80} instead of a handshake")
        self._standing.peer = handshake.uuid
        answer = callback(handshake)
        peer = self._peer()
        with peer._standing.changed:
            peer._answer = answer
            peer._standing.changed.notify_all()

    def _wait_for(self, look: Callable[[], T | None], text: str) -> T:
        return self._standing.wait_for(look, monotonic() + HANDSHAKE_TIMEOUT, f"{text} within {HANDSHAKE_TIMEOUT:g} s")

    # Carrying

    def start(self, receive_func: ReceiveFunc) -> None:
        """Begin to hand over what the peer sends, on a thread of this connection; see `Connection`."""
        with self._standing.changed:
            self._standing.check()
            self._inbox.start(f"loopback to {self._standing.peer}", self._standing.peer, receive_func)

    def send(self, message: Message) -> None:
        """Send a copy of a message; waits while the peer has not been given many before; see `Connection`."""
        copy = Message.unmarshal(message.marshal())
        with self._standing.changed:
            while self._under_way >= QUEUE_LIMIT and not self._standing.end:
                self._standing.changed.wait()
            self._standing.check()
            if self._has_withdrawn:
                raise NodeWithdrawnError(f"node {self._standing.peer} has left the mesh")
            self._under_way += 1
            self._peer()._inbox.put(copy, self._handed_over)

    def _handed_over(self) -> None:
        with self._standing.changed:
            self._under_way -= 1
            self._standing.changed.notify_all()

    def send_withdraw(self, withdraw: Withdraw) -> None:
        """Tell the peer that this node leaves; see `Connection`."""
        peer = self._peer()
        peer._has_withdrawn = True
        peer._inbox.put(withdraw, self._acknowledge)
        self._wait_for(lambda: self._acknowledged or None, f"node {self._standing.peer} did not acknowledge")

    def _acknowledge(self) -> None:
        with self._standing.changed:
            self._acknowledged = True
            self._standing.changed.notify_all()

    def can_replace(self) -> bool:
        """Return False: a link in memory lasts."""
        return False

    # The mesh

    def subscribe(self, prefixes: tuple[bytes, ...]) -> None:
        """Have the peer publish what begins with one of these; see `MeshConnection`."""
        peer = self._peer()
        peer._subscribed = prefixes
        for prefix in prefixes[-1:]:
            peer._inbox.put(Subscribed(prefix))

    def ask(self, header: bytes, body: bytes = b"") -> None:
        """Send a request; see `MeshConnection`."""
        self._offer(MeshFrame(Channel.REQUEST, header, bytes(body), self._transport.next_ticket()))

    def answer(self, ticket: int, header: bytes, body: bytes = b"") -> None:
        """Answer a request; see `MeshConnection`."""
        self._offer(MeshFrame(Channel.ANSWER, header, bytes(body)))

    def publish(self, topic: bytes, header: bytes, body: bytes) -> None:
        """Send a frame if the peer has subscribed to a prefix of its topic."""
        if self._other is not None and self._subscribed and topic.startswith(self._subscribed):
            self._other._inbox.offer([MeshFrame(Channel.STREAM, header, bytes(body))])

    def _offer(self, frame: MeshFrame) -> None:
        self._peer()._inbox.offer([frame])

    # Ending

    def _peer(self) -> LoopbackConnection:
        self._standing.check()
        assert self._other is not None
        return self._other

    def close(self) -> None:
        """End the link; see `Connection`."""
        with self._standing.changed:
            is_first = not self._is_closed
            self._is_closed = True
        self._standing.finish("it was closed")
        if is_first and self._other is not None:
            self._other._peer_closed()
        self._transport.forget(self)
        self._inbox.close()

    def _peer_closed(self) -> None:
        if self._standing.finish("the peer has closed it"):
            self._inbox.end(LinkDown(self._standing.end))


class LoopbackTransport:
    """Links nodes of one process; see `MeshTransport`."""

    def __init__(self) -> None:
        self._endpoint = ""
        self._connect_func: ConnectFunc | None = None
        self._connections: set[LoopbackConnection] = set()
        self._logger = logging.getLogger(__name__)
        self._is_closed = False
        self._tickets = count(1)

    def setup(self, options: TransportOptions, connect_func: ConnectFunc, find_func: FindFunc) -> str:
        """Listen under a name; see `Transport`.

        Raises:
            ConfigError: Another node of this process listens under the name.
        """
        name = options.uri.removeprefix(SCHEME) or options.node_uuid
        if options.port:
            name = f"{name}:{options.port}"
        endpoint = SCHEME + name
        with _lock:
            if endpoint in _listening:
                raise ConfigError(f"{endpoint} is taken by another node of this process; choose another uri or port")
            _listening[endpoint] = self
        self._endpoint, self._connect_func, self._logger = endpoint, connect_func, options.logger
        return endpoint

    def connect(self, endpoint: str) -> LoopbackConnection:
        """Open a link to the node that listens there; see `Transport`."""
        if not endpoint.startswith(SCHEME) or endpoint == SCHEME:
            raise ConfigError(f"{endpoint!r:.80} is no endpoint of the transport loopback; they begin with {SCHEME}")
        with _lock:
            if self._is_closed:
                raise ConnectionClosedError("the transport is closed")
            listener = _listening.get(endpoint)
            if listener is None or listener._connect_func is None:
                raise ConnectionClosedError(f"no node of this process listens at {endpoint}")
            mine, theirs = LoopbackConnection(self, self._logger), LoopbackConnection(listener, listener._logger)
            mine._other, theirs._other = theirs, mine
            self._connections.add(mine)
            listener._connections.add(theirs)
            take = listener._connect_func
        take(theirs)
        return mine

    def publish(self, topic: bytes, header: bytes, body: bytes = b"") -> None:
        """Send a frame to all peers that have subscribed to it; see `MeshTransport`."""
        with _lock:
            connections = list(self._connections)
        for connection in connections:
            connection.publish(topic, header, body)

    def next_ticket(self) -> int:
        """Return a number for a request."""
        return next(self._tickets)

    def forget(self, connection: LoopbackConnection) -> None:
        """Let go of a connection that is closed."""
        with _lock:
            self._connections.discard(connection)

    def close(self) -> None:
        """Stop listening and close all connections; see `Transport`."""
        with _lock:
            self._is_closed = True
            if _listening.get(self._endpoint) is self:
                del _listening[self._endpoint]
            connections = list(self._connections)
        for connection in connections:
            connection.close()
