"""Nodes of one process, linked in memory: for tests and simulations of users, without sockets.

Endpoints are `loopback://NAME`. The name is `TransportOptions.uri`, or the node's uuid; with a port it is
`NAME:PORT`. Nothing leaves the process, and what is sent is copied, as if it had.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import TypeVar

from grav_actors.errors import ConfigError, ConnectionClosedError, NodeWithdrawnError, ProtocolError, WaitTimeoutError
from grav_actors.message import Message
from grav_actors.transports.base import (
    HANDSHAKE_TIMEOUT,
    Channel,
    ConnectFunc,
    FindFunc,
    Handshake,
    HandshakeAck,
    HandshakeFunc,
    Incoming,
    LinkDown,
    MeshFrame,
    ReceiveFunc,
    Subscribed,
    TransportOptions,
    Withdraw,
)

T = TypeVar("T")

SCHEME = "loopback://"
QUEUE_LIMIT = 4096
"""Messages or frames that wait for one end of a link; past it `send` waits, and frames of a mesh are lost."""

_lock = threading.Lock()
_listening: dict[str, LoopbackTransport] = {}


class LoopbackConnection:
    """One end of a link in memory; see `Connection` and `MeshConnection`."""

    def __init__(self, transport: LoopbackTransport, logger: logging.Logger) -> None:
        self._transport = transport
        self._logger = logger
        self._other: LoopbackConnection | None = None
        self._changed = threading.Condition()
        self._inbox: deque[Incoming] = deque()
        self._thread: threading.Thread | None = None
        self._receive: ReceiveFunc | None = None
        self._end = ""  # why nothing more comes or goes
        self._is_closed = False
        self._has_withdrawn = False  # the peer
        self._handshake: Handshake | None = None
        self._answer: HandshakeAck | None = None
        self._acknowledged = False
        self._peer_uuid = ""
        self._subscribed: tuple[bytes, ...] = ()  # by the peer

    def __repr__(self) -> str:
        return f"<LoopbackConnection to {self._peer_uuid or 'nobody yet'}{', ' + self._end if self._end else ''}>"

    # Handshakes

    def do_outgoing_handshake(self, handshake: Handshake) -> HandshakeAck:
        """Introduce this node; see `Connection`."""
        peer = self._peer()
        with peer._changed:
            peer._handshake = handshake
            peer._changed.notify_all()
        answer = self._wait_for(lambda: self._answer, f"no answer from the peer within {HANDSHAKE_TIMEOUT:g} s")
        self._peer_uuid = answer.uuid
        return answer

    def do_incoming_handshake(self, callback: HandshakeFunc) -> None:
        """Wait for the peer's introduction and answer it; see `Connection`."""
        handshake = self._wait_for(
            lambda: self._handshake, f"the peer did not introduce itself within {HANDSHAKE_TIMEOUT:g} s"
        )
        if not isinstance(handshake, Handshake):
            raise ProtocolError(f"the peer sent {handshake!r:.80} instead of a handshake")
        self._peer_uuid = handshake.uuid
        answer = callback(handshake)
        peer = self._peer()
        with peer._changed:
            peer._answer = answer
            peer._changed.notify_all()

    def _wait_for(self, look: Callable[[], T | None], text: str) -> T:
        deadline = monotonic() + HANDSHAKE_TIMEOUT
        with self._changed:
            while (seen := look()) is None:
                self._check_open()
                left = deadline - monotonic()
                if left <= 0:
                    raise WaitTimeoutError(text)
                self._changed.wait(left)
            return seen

    # Carrying

    def start(self, receive_func: ReceiveFunc) -> None:
        """Begin to hand over what the peer sends, on a thread of this connection; see `Connection`."""
        with self._changed:
            self._check_open()
            self._receive = receive_func
            self._thread = threading.Thread(target=self._run, name=f"loopback to {self._peer_uuid}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        receive = self._receive
        assert receive is not None
        while True:
            with self._changed:
                while not self._inbox and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                item = self._inbox.popleft()
                self._changed.notify_all()
            try:
                receive(self._peer_uuid, item)
            except Exception:
                self._logger.exception("the receiver of %r failed", self)
            if isinstance(item, LinkDown):
                return
            if isinstance(item, Withdraw):
                self._acknowledge()

    def _acknowledge(self) -> None:
        peer = self._other
        if peer is not None:
            with peer._changed:
                peer._acknowledged = True
                peer._changed.notify_all()

    def send(self, message: Message) -> None:
        """Send a copy of a message; waits while the peer's queue is full; see `Connection`."""
        copy = Message.unmarshal(message.marshal())
        peer = self._peer()
        with peer._changed:
            while len(peer._inbox) >= QUEUE_LIMIT and not self._end and not peer._is_closed:
                peer._changed.wait()
            self._check_open()
            if peer._is_closed:  # and about to tell
                raise ConnectionClosedError(f"the link to {self._peer_uuid} has ended: the peer has closed it")
            if self._has_withdrawn:
                raise NodeWithdrawnError(f"node {self._peer_uuid} has left the mesh")
            peer._put(copy)

    def send_withdraw(self, withdraw: Withdraw) -> None:
        """Tell the peer that this node leaves; see `Connection`."""
        peer = self._peer()
        with peer._changed:
            self._check_open()
            peer._has_withdrawn = True
            peer._put(withdraw)
        self._wait_for(
            lambda: self._acknowledged or None,
            f"node {self._peer_uuid} did not acknowledge within {HANDSHAKE_TIMEOUT:g} s",
        )

    def can_replace(self) -> bool:
        """Return False: a link in memory lasts."""
        return False

    # The mesh

    def subscribe(self, prefixes: tuple[bytes, ...]) -> None:
        """Have the peer publish what begins with one of these; see `MeshConnection`."""
        peer = self._peer()
        with peer._changed:
            peer._subscribed = prefixes
            for prefix in prefixes[-1:]:
                peer._put(Subscribed(prefix))

    def ask(self, header: bytes, body: bytes = b"") -> None:
        """Send a request; see `MeshConnection`."""
        self._peer()._offer(MeshFrame(Channel.REQUEST, header, bytes(body), self._transport.next_ticket()))

    def answer(self, ticket: int, header: bytes, body: bytes = b"") -> None:
        """Answer a request; see `MeshConnection`."""
        self._peer()._offer(MeshFrame(Channel.ANSWER, header, bytes(body)))

    def publish(self, topic: bytes, header: bytes, body: bytes) -> None:
        """Send a frame if the peer has subscribed to a prefix of its topic."""
        peer = self._other
        if peer is not None and self._subscribed and topic.startswith(self._subscribed):
            peer._offer(MeshFrame(Channel.STREAM, header, bytes(body)))

    def _offer(self, frame: MeshFrame) -> None:
        with self._changed:
            if len(self._inbox) < QUEUE_LIMIT:
                self._put(frame)

    def _put(self, item: Incoming) -> None:
        """Queue something for this end's receiver, whose lock is held."""
        if not self._is_closed:
            self._inbox.append(item)
            self._changed.notify_all()

    # Ending

    def _peer(self) -> LoopbackConnection:
        self._check_open()
        assert self._other is not None
        return self._other

    def _check_open(self) -> None:
        if self._end:
            raise ConnectionClosedError(f"the link to {self._peer_uuid or 'the peer'} has ended: {self._end}")

    def close(self) -> None:
        """End the link; see `Connection`."""
        with self._changed:
            is_first = not self._is_closed
            self._is_closed = True
            self._end = self._end or "it was closed"
            if is_first:
                self._inbox.clear()
            self._changed.notify_all()
        if is_first and self._other is not None:
            self._other._peer_closed()
        self._transport.forget(self)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _peer_closed(self) -> None:
        with self._changed:
            if not self._end:
                self._end = "the peer has closed it"
                self._put(LinkDown(self._end))
            self._changed.notify_all()


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
