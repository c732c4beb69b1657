"""Nodes linked over TCP by ZeroMQ: PUB/SUB for what is published, REQ/REP for questions. `docs/mesh.md` specifies it.

Endpoints are `tcp://host:port`. A node answers requests at that port, by a ROUTER, and publishes at another one, by an
XPUB: the port 10,000 higher where that is free. For each peer it has a DEALER to the first and a SUB to the second.
DEALER and ROUTER speak REQ/REP's messages: a REQ in their place would have to wait for each answer before it may ask
again, and a REP could answer one peer at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final

import zmq

from grav_actors.errors import ConfigError, ConnectionClosedError, ProtocolError
from grav_actors.options import show
from grav_actors.transports.base import ConnectFunc, FindFunc, TransportOptions
from grav_actors.transports.socket_loop import SocketLoop
from grav_actors.transports.tcp_address import TcpAddress, is_numeric, listening_address, plain_host
from grav_actors.transports.zeromq_connection import Asker, ZeroMQConnection
from grav_actors.transports.zeromq_curve import ZAP_ENDPOINT, Curve
from grav_actors.transports.zeromq_line import LINGER, set_common
from grav_actors.transports.zeromq_lines import DRAIN, HIGH_WATER_MARK, ID_BYTES
from grav_actors.transports.zeromq_wire import (
    REQUESTS,
    Introduction,
    Kind,
    envelope,
    open_envelope,
    read_subscribed_prefix,
)

STREAM_PORT_OFFSET: Final = 10_000
MAX_PENDING: Final = 64
"""Introductions of peers that wait for their answer; further ones are turned away."""
MAX_MESSAGE: Final = 1024 * 1024
FRAME_MARGIN: Final = 1024 * 1024
"""Bytes that a frame may have beside one message: a run has at most 256 KiB, the answer to a repair about 1 MiB."""
MAX_SOCKETS: Final = 65_535

_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE_NOBLOCK = int(zmq.SNDMORE) | int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)


class ZeroMQTransport:
    """Links nodes over TCP; see `MeshTransport`.

    `TransportOptions.custom` may be a mapping with

    - `keys`: the folder with this node's key pair and the keys that it allows; without it nothing is encrypted;
    - `insecure`: whether it may listen where other machines reach it, without keys;
    - `max_message`: the bytes of the largest message, by default 1 MiB.

    Attributes:
        bad_frames: What was malformed and dropped.
    """

    def __init__(self) -> None:
        self.host = ""
        self.request_port = self.stream_port = 0
        self.max_frame = MAX_MESSAGE + FRAME_MARGIN
        self.logger = logging.getLogger(__name__)
        self.bad_frames = 0
        self.loop: SocketLoop
        self._connect_func: ConnectFunc
        self._address = TcpAddress("127.0.0.1", 0)
        self._context: zmq.Context[Any] | None = None
        self._router: zmq.Socket[Any]
        self._publisher: zmq.Socket[Any]
        self._curve: Curve | None = None
        self._gate: zmq.Socket[Any] | None = None  # where ZeroMQ asks who may connect
        self._publishing = threading.Lock()  # whoever holds it may use the publisher
        self._connections: dict[bytes, ZeroMQConnection] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._reported: set[str] = set()

    # Set-up

    def setup(self, options: TransportOptions, connect_func: ConnectFunc, find_func: FindFunc) -> str:
        """Listen; see `Transport`.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        self._connect_func, self.logger = connect_func, options.logger
        custom: Mapping[str, Any] = options.custom if isinstance(options.custom, Mapping) else {}
        self.max_frame = int(custom.get("max_message") or MAX_MESSAGE) + FRAME_MARGIN
        address = listening_address(options.port, options.uri)
        self._curve = self._trust(address, custom)
        context: zmq.Context[Any] = zmq.Context()
        context.setsockopt(zmq.MAX_SOCKETS, MAX_SOCKETS)
        context.setsockopt(zmq.LINGER, LINGER)
        self._context = context
        try:
            if self._curve is not None:
                # Before anybody can connect.
                gate = self._gate = context.socket(zmq.ROUTER)
                gate.bind(ZAP_ENDPOINT)
            self._router = self._listening(zmq.ROUTER)
            self._publisher = self._listening(zmq.XPUB)
            # Without the checks of the class above, which take as long.
            self._send_part = super(zmq.Socket, self._publisher).send
            self._address = address = self._bind(self._router, address)
            self.stream_port = self._bind_stream(address).port
        except BaseException:
            context.destroy(0)
            self._context = None
            raise
        self.request_port = address.port
        self.host = "" if address.is_wildcard() else address.host
        self.loop = SocketLoop("grav-zmq", self._look, self.logger)
        if self._gate is not None:
            self.loop.watch(self._gate, self._drain_gate)
        self.loop.watch(self._router, self._drain_requests)
        self.loop.watch(self._publisher, self._drain_subscriptions)
        self.loop.start()
        return str(address)

    def _trust(self, address: TcpAddress, custom: Mapping[str, Any]) -> Curve | None:
        """Return the keys of the node; None when it may go without."""
        folder = custom.get("keys")
        if folder is not None:
            if not isinstance(folder, (str, Path)) or not str(folder):
                raise ConfigError(f"keys is {show(folder)}: allowed is the path of a folder")
            return Curve(Path(folder).expanduser(), self.logger)
        if custom.get("insecure"):
            self.logger.warning("the mesh is insecure: whoever reaches %s can read and send everything", address)
        elif not address.is_loopback():
            raise ConfigError(
                f"{address} can be reached from other machines, and this node has no keys: whoever reaches it could"
                ' read and send everything. Make keys with "grav-actors keys new" and name their folder by keys=...,'
                " or listen on 127.0.0.1, or say insecure=True if all who can reach it may do that"
            )
        return None

    def make_socket(self, kind: int, key: str) -> zmq.Socket[Any]:
        """Return a socket that may be connected to the node with this public key."""
        socket = self._new_socket(kind)
        if self._curve is not None:
            self._curve.secure_dialler(socket, key)
        return socket

    def _listening(self, kind: int) -> zmq.Socket[Any]:
        socket = self._new_socket(kind)
        if self._curve is not None:
            self._curve.secure_listener(socket)
        socket.setsockopt(zmq.BACKLOG, 1024)
        if kind == zmq.ROUTER:
            # Handover would let a forged identity take its victim's place.
            socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        return socket

    def _new_socket(self, kind: int) -> zmq.Socket[Any]:
        assert self._context is not None
        socket: zmq.Socket[Any] = self._context.socket(kind)
        set_common(socket)
        socket.setsockopt(zmq.MAXMSGSIZE, self.max_frame)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        return socket

    @staticmethod
    def _bind(socket: zmq.Socket[Any], address: TcpAddress) -> TcpAddress:
        # A socket for both families says of an IPv4 address that it is one of IPv6.
        socket.setsockopt(zmq.IPV6, int(":" in address.host))
        try:
            socket.bind(str(address))
        except zmq.ZMQError as exc:
            raise ConfigError(
                f"cannot listen on {address}: {exc}; choose another endpoint, or port 0 for any that is free"
            ) from exc
        bound = TcpAddress.parse(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        assert bound is not None
        return bound

    def _bind_stream(self, address: TcpAddress) -> TcpAddress:
        wanted = address.port + STREAM_PORT_OFFSET
        if wanted < MAX_SOCKETS:
            try:
                return self._bind(self._publisher, address.at(wanted))
            except ConfigError:
                self.logger.debug("port %d is taken; another one serves the stream", wanted)
        return self._bind(self._publisher, address.at(0))

    # Links

    def connect(self, endpoint: str) -> ZeroMQConnection:
        """Return a link to the node there, which its handshake makes; see `Transport`."""
        address = TcpAddress.parse(endpoint)
        if address is None or not address.port or address.is_wildcard():
            raise ConfigError(f"{show(endpoint)} is no endpoint of the transport zmq; they are like tcp://host:7470")
        if self._address.is_loopback() and not address.is_loopback():
            raise ConfigError(
                f"{endpoint} cannot be dialled by a node that listens on {self._address}, where no other machine"
                ' reaches it; give it an endpoint like "tcp://0.0.0.0:7470"'
            )
        with self._lock:
            if self._is_closed or self._context is None:
                raise ConnectionClosedError("the transport is closed")
            connection = ZeroMQConnection(self, address)
            self._connections[connection.token] = connection
        return connection

    def forget(self, connection: ZeroMQConnection) -> None:
        """Let go of a connection that has ended."""
        with self._lock:
            self._connections.pop(connection.token, None)

    def keys_to_try(self, address: TcpAddress) -> list[str]:
        """Return the public keys that the node there may have, the likeliest first; [""] without encryption."""
        return [""] if self._curve is None else self._curve.keys_to_try(address)

    def check_uuid(self, uuid: str, key: str) -> str:
        """Return why the node with this key cannot have that uuid; "" when it can."""
        return "" if self._curve is None else self._curve.check_uuid(uuid, key)

    def reached(self, address: TcpAddress, key: str) -> None:
        """Note whose key it is that the node there has."""
        if self._curve is not None:
            self._curve.reached(address, key)

    # Publishing

    def publish(self, topic: bytes, header: bytes, body: bytes = b"") -> None:
        """Send a frame to all peers that have subscribed to it; see `MeshTransport`."""
        with self._publishing:
            socket = self._publisher
            if socket.closed:
                return
            # Never waits: of a peer that is too slow the frame is lost.
            send = self._send_part
            send(topic, _SNDMORE_NOBLOCK)
            send(header, _SNDMORE_NOBLOCK)
            send(body, _NOBLOCK)
            # Sending may have taken in what the descriptor would have told.
            has_come = socket.getsockopt(_EVENTS) & _POLLIN  # type: ignore[operator]
        if has_come:
            self.loop.post(lambda: self.loop.look_at(socket))

    def _drain_subscriptions(self) -> bool:
        """Take in who has subscribed to what; on the loop's thread."""
        for _ in range(DRAIN):
            with self._publishing:
                try:
                    frames = self._publisher.recv_multipart(_NOBLOCK)
                except zmq.ZMQError:
                    return False
            found = read_subscribed_prefix(frames[0][1:]) if frames[0][:1] == b"\x01" else None
            if found is not None:
                token, last = found
                connection = self._connections.get(token)
                if connection is not None:
                    connection.subscribed(last)
        return True

    # Requests; on the loop's thread

    def _drain_gate(self) -> bool:
        assert self._gate is not None
        assert self._curve is not None
        for _ in range(DRAIN):
            try:
                route, empty, *request = self._gate.recv_multipart(_NOBLOCK)
            except zmq.ZMQError:
                return False
            self._gate.send_multipart([route, empty, *self._curve.decide(request)])
            self.loop.look_at(self._gate)
        return True

    def _drain_requests(self) -> bool:
        for _ in range(DRAIN):
            try:
                frames = self._router.recv_multipart(_NOBLOCK, copy=False)
            except zmq.ZMQError:
                return False
            try:
                self._on_request(frames)
            except ProtocolError as exc:
                self.bad_frame(f"a request: {exc}")
        return True

    def _on_request(self, frames: list[Any]) -> None:
        if len(frames) != 6 or len(frames[1].bytes) != ID_BYTES or len(frames[2].bytes):
            raise ProtocolError(f"{len(frames)} frames, must be 6")
        kind, token = open_envelope(frames[3].bytes)
        asker = Asker(frames[0].bytes, frames[1].bytes, _property(frames[3], "User-Id"))
        header = frames[4].bytes
        if kind is Kind.INTRODUCE:
            self._introduced(Introduction.unpack(header), token, asker, _property(frames[3], "Peer-Address"))
            return
        if kind not in REQUESTS:
            raise ProtocolError(f"{kind.name} is no request")
        connection = self._connections.get(token)
        if connection is not None:
            connection.asked(kind, asker, header, frames[5].bytes)
        elif kind is not Kind.BYE:
            self.reply(asker, Kind.GONE)

    def _introduced(self, introduction: Introduction, token: bytes, asker: Asker, seen_from: str) -> None:
        refusal = self.check_uuid(introduction.handshake.uuid, asker.key)
        if not refusal and sum(each.is_pending for each in list(self._connections.values())) >= MAX_PENDING:
            refusal = "too many nodes introduce themselves at this moment"
        if not refusal and introduction.host and not is_numeric(introduction.host):
            refusal = f"{show(introduction.host)} is no address; names are not looked up for strangers"
        if refusal:
            self.bad_frame(f"an introduction was refused: {refusal}")
            self.reply(asker, Kind.FAILED, refusal.encode())
            return
        address = TcpAddress(introduction.host or plain_host(seen_from), introduction.request_port)
        connection = ZeroMQConnection(self, address, (introduction, token, asker))
        with self._lock:
            if self._is_closed:
                return
            self._connections[connection.token] = connection
        self._connect_func(connection)

    def reply(self, asker: Asker, kind: Kind, header: bytes = b"", body: bytes = b"") -> None:
        """Answer a request; on the loop's thread."""
        frames = (asker.route, asker.id, b"", envelope(kind, bytes(16)), header, body)
        router = self._router
        try:
            # A route that is gone, or has no room, takes nothing and says nothing: whoever asks asks again.
            for index, frame in enumerate(frames):
                router.send(frame, _NOBLOCK if index == len(frames) - 1 else _SNDMORE_NOBLOCK)
        except zmq.ZMQError as exc:
            self.logger.debug("an answer could not leave: %s", exc)
        self.loop.look_at(router)

    def bad_frame(self, reason: str) -> None:
        """Count something malformed, and log it once for each reason."""
        self.bad_frames += 1
        cause = reason[:40]
        if cause not in self._reported and len(self._reported) < 100:
            self._reported.add(cause)
            self.logger.warning("dropped what a peer has sent: %s", reason)

    def _look(self, now: float) -> None:
        for connection in list(self._connections.values()):
            connection.look(monotonic())

    # Ending

    def close(self) -> None:
        """Stop listening and close all connections; see `Transport`."""
        with self._lock:
            is_first = not self._is_closed
            self._is_closed = True
            connections = list(self._connections.values())
        if not is_first or self._context is None:
            return
        for connection in connections:
            connection.close()
        self.loop.stop(self._close_sockets)
        self._context.destroy(LINGER)

    def _close_sockets(self) -> None:
        for socket in (self._router, self._publisher):
            self.loop.forget(socket)
        with self._publishing:
            self._publisher.close(LINGER)
        self._router.close(LINGER)
        if self._gate is not None:
            self.loop.forget(self._gate)
            self._gate.close(0)


def _property(frame: Any, name: str) -> str:
    """Return what ZeroMQ knows about the sender of a frame; "" for nothing."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""
