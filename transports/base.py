"""The contract between a node and its transports.

A transport carries messages to and from the outside of a node. There are two kinds: a *mesh* transport
(`Transport`) links nodes with each other, one `Connection` for each peer; a *bridge* (`BridgeTransport`)
ties a topic of another messaging system to the local bus.

The part of a node that drives them is called the hub here. It calls in this order:

    mesh:    setup  ->  connect(endpoint)   ->  do_outgoing_handshake  ->  start  ->  send ...  ->  close
                     or connect_func(conn)  ->  do_incoming_handshake  ->  start  ->  send ...  ->  close
    bridge:  setup  ->  connect_topic(topic)  ->  start(pod)  ->  close

`Transport` and `Connection` carry messages, as in Grav. The mesh needs more: frames that are published once for all
who have subscribed, and questions with answers. What offers that too is a `MeshTransport`, whose connections are
`MeshConnection`s; `docs/mesh.md` says what the mesh does with them. They may lose frames: the mesh notices and repairs.

Classes need not inherit from these protocols; having the members is enough. What is loaded by name
(`grav_actors.transports.load`) is made without arguments, so settings come in `TransportOptions.custom`.

Errors are those of `grav_actors.errors`. Whatever else a library below raises (`OSError`, its own errors)
is translated by the transport, with `raise ... from`. Bytes from a peer never raise out of a transport's
threads: what does not decode is counted, logged once per cause and dropped, or ends that one connection.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias, runtime_checkable

from grav_actors.errors import ConfigError
from grav_actors.message import Message

TRANSPORT_MSG_HANDSHAKE = 1
"""Kind of a transport's frame that carries a handshake, its answer, or a withdrawal."""

TRANSPORT_MSG_USER = 2
"""Kind of a transport's frame that carries a message."""

HANDSHAKE_VERSION = 1
"""Version of the handshake's content; a node refuses one that it does not know."""

HANDSHAKE_TIMEOUT = 5.0
"""Seconds after which a handshake or a withdrawal without an answer is given up."""


def _default_logger() -> logging.Logger:
    return logging.getLogger("grav_actors.transports")


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What a transport is told when it is set up.

    Attributes:
        node_uuid: UUID of this node, new at each of its starts.
        port: Where to listen: 1 to 65535, 0 for any free one, None for the transport's own default.
        uri: What else the transport needs to know to listen, in its own terms (an address, a path); `""`
            for its default.
        logger: For everything the transport logs. It is the node's: the transport adds no handlers.
        custom: Whatever else the user has configured for this transport; None when nothing.

    Raises:
        ConfigError: `node_uuid` is empty, or `port` is out of range.
    """

    node_uuid: str
    port: int | None = None
    uri: str = ""
    logger: logging.Logger = field(default_factory=_default_logger)
    custom: object = None

    def __post_init__(self) -> None:
        if not self.node_uuid:
            raise ConfigError("node_uuid is empty: a transport needs the UUID of its node")
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}: allowed are 1 to 65535, 0 for any free port, None for the default")


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the dialling node says about itself.

    Attributes:
        uuid: UUID of the dialling node.
        belongs_to: Its group of nodes; `"*"` fits every group.
        interests: Capabilities it offers to tunnels.
        incarnation: Tells one life of the node's hub from the next.
        name: The node's name for people; may be empty and need not be unique.
        endpoints: Where it can be dialled itself, best first; empty when it does not listen.
        version: Version of this content (`HANDSHAKE_VERSION`).
        max_message: Bytes of one message's data that it takes; 0 when it does not say.
    """

    uuid: str
    belongs_to: str = "*"
    interests: tuple[str, ...] = ()
    incarnation: str = ""
    name: str = ""
    endpoints: tuple[str, ...] = ()
    version: int = HANDSHAKE_VERSION
    max_message: int = 0


@dataclass(frozen=True, slots=True)
class HandshakeAck:
    """The answer to a `Handshake`.

    Attributes:
        accept: False when the answering node refuses the link; the dialler then closes the connection.
        uuid: UUID of the answering node. The dialler compares it with what discovery has said.
        belongs_to: Its group of nodes.
        interests: Capabilities it offers to tunnels.
        reason: Why it refuses, in words for people; `""` when it accepts.
        incarnation: Tells one life of the node's hub from the next.
        name: The node's name for people; may be empty and need not be unique.
        endpoints: Where it can be dialled, best first; empty when it does not say.
        code: Why it refuses, for programs: one word; `""` when it accepts.
        version: Version of this content (`HANDSHAKE_VERSION`).
        max_message: Bytes of one message's data that it takes; 0 when it does not say.
    """

    accept: bool
    uuid: str
    belongs_to: str = "*"
    interests: tuple[str, ...] = ()
    reason: str = ""
    incarnation: str = ""
    name: str = ""
    endpoints: tuple[str, ...] = ()
    code: str = ""
    version: int = HANDSHAKE_VERSION
    max_message: int = 0


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A node's announcement that it leaves the mesh.

    Attributes:
        uuid: UUID of the node that leaves.
        reason: Why, in words for people; may be empty.
    """

    uuid: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A connection's last word: its link has ended, and nothing more will come.

    Attributes:
        reason: What was seen, in words for people.
    """

    reason: str = ""


class Channel(Enum):
    """By which way a `MeshFrame` came."""

    STREAM = "stream"
    """It was published."""
    REQUEST = "request"
    """It wants an answer."""
    ANSWER = "answer"
    """It answers an earlier request of this node."""


@dataclass(frozen=True, slots=True)
class MeshFrame:
    """A frame of the mesh, which a transport carries without looking into it.

    Attributes:
        header: At most 256 KiB.
        body: Any buffer; the receiver does not change it.
        ticket: Of a request: what `MeshConnection.answer` takes; 0 otherwise.
    """

    channel: Channel
    header: bytes
    body: bytes = b""
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The peer has subscribed to this prefix, and to all that it named before: they count from now on."""

    prefix: bytes


Incoming: TypeAlias = Message | Withdraw | LinkDown | MeshFrame | Subscribed
"""What a connection hands to its `ReceiveFunc`; the last two only that of a `MeshTransport`."""

ReceiveFunc: TypeAlias = Callable[[str, Incoming], None]
"""`receive_func(peer_uuid, incoming)`, see `Connection.start`."""

ConnectFunc: TypeAlias = Callable[["Connection"], None]
"""`connect_func(connection)`: hand over a connection that a peer has opened, see `Transport.setup`."""

FindFunc: TypeAlias = Callable[[str], "Connection | None"]
"""`find_func(peer_uuid)`: the started connection to that peer, or None, see `Transport.setup`."""

HandshakeFunc: TypeAlias = Callable[[Handshake], HandshakeAck]
"""`callback(handshake)`: the hub's answer to a peer, see `Connection.do_incoming_handshake`."""


@runtime_checkable
class Connection(Protocol):
    """One link to one peer.

    `send` and `close` may be called from any thread and at the same time; the other methods are called by one
    thread at a time. After `close` every method but `close` raises ConnectionClosedError.
    """

    def start(self, receive_func: ReceiveFunc) -> None:
        """Begin to hand over what the peer sends.

        Called once, after a handshake in which both sides accepted. What the peer has sent since then is
        handed over too; nothing is before `start`.

        `receive_func(peer_uuid, incoming)` is called on a thread of the transport, for one connection never
        twice at a time, and in the order in which the peer sent. It may block while the local bus is full:
        the transport must go on serving its other connections meanwhile, and must bound what piles up for
        this one. It does not raise. A `Withdraw` is acknowledged to the peer when the call has returned. A
        `LinkDown` is the last call, and comes at most once; it does not come when the end was this side's
        own `close`.

        Args:
            receive_func: Where everything from the peer goes.

        Raises:
            ConnectionClosedError: The link has ended, or `close` was called.
        """
        ...

    def send(self, message: Message) -> None:
        """Send a message to the peer, in the order of the calls.

        Returns when the transport has taken the message, not when the peer has it. Blocks while what the
        transport holds for this peer is at its limit.

        Args:
            message: A user's message; the transport does not change it.

        Raises:
            ConnectionClosedError: The link has ended, or `close` was called, also while `send` was blocked.
            MessageTooLargeError: The message is above the transport's limit; the connection stays usable.
            NodeWithdrawnError: The peer has left the mesh.
        """
        ...

    def can_replace(self) -> bool:
        """Tell whether a newer connection to the same peer may take the place of this one.

        False for a link that lasts (a socket): of two, the hub keeps the one that stands. True for one that
        is opened anew for each exchange. Never blocks.
        """
        ...

    def do_outgoing_handshake(self, handshake: Handshake) -> HandshakeAck:
        """Introduce this node to the peer it has dialled, and return the peer's answer.

        Called once, before `start`, for a connection made by `Transport.connect`. Blocks until the answer is
        there; a `close` from another thread ends the wait. A refusal is an answer, not an error.

        Args:
            handshake: What this node says about itself.

        Raises:
            ConnectionClosedError: The link ended before the answer came.
            ProtocolError: The answer is none that this version understands.
            WaitTimeoutError: No answer within `HANDSHAKE_TIMEOUT`.
        """
        ...

    def do_incoming_handshake(self, callback: HandshakeFunc) -> None:
        """Wait for the peer's introduction and answer it.

        Called once, before `start`, for a connection that came through `connect_func`, on a thread of the
        hub: a slow peer holds up nobody else. Returns when the answer is on its way, a refusal too; the hub
        then closes a refused connection.

        Args:
            callback: Called at most once, in the calling thread, with what the peer says; returns the
                answer to send. It does not block and does not raise.

        Raises:
            ConnectionClosedError: The link ended first.
            ProtocolError: The peer sent something else than a handshake.
            WaitTimeoutError: The peer said nothing within `HANDSHAKE_TIMEOUT`.
        """
        ...

    def send_withdraw(self, withdraw: Withdraw) -> None:
        """Tell the peer that this node leaves, and return when the peer has acknowledged it.

        Goes behind all messages sent before. Called at most once, after `start`; the hub sends nothing
        afterwards.

        Args:
            withdraw: Who leaves, and why.

        Raises:
            ConnectionClosedError: The link ended before the acknowledgement came.
            WaitTimeoutError: No acknowledgement within `HANDSHAKE_TIMEOUT`.
        """
        ...

    def close(self) -> None:
        """End the link and free what belongs to it.

        Idempotent and callable in every state, also from within `receive_func`. What was sent is given up
        to one second to leave. After it has returned there are no further calls of `receive_func`, except
        the one it was called from. Never raises.
        """
        ...


@runtime_checkable
class Transport(Protocol):
    """Links this node with other nodes. One instance serves one node."""

    def setup(self, options: TransportOptions, connect_func: ConnectFunc, find_func: FindFunc) -> str:
        """Start to listen, and return where peers can dial this node.

        Called once, before anything else. Returns when the transport listens; it does not run the
        transport's loop. Both functions may be called from any thread of the transport until `close` has
        returned. They neither block nor raise.

        Args:
            options: What the node has configured.
            connect_func: Takes each connection that a peer opens, before its handshake. The hub owns it
                from then on and closes it.
            find_func: Gives the started connection to a peer by its UUID, for transports that answer over it.

        Returns:
            The endpoint to announce, with the real port where 0 was asked for; `""` when it does not listen.

        Raises:
            ConfigError: The options do not fit this transport, or the address cannot be listened on.
        """
        ...

    def connect(self, endpoint: str) -> Connection:
        """Open a connection to a peer, without a handshake.

        Called from any thread, also several times at once. Does not wait for a peer that is not there where
        that cannot be known without waiting; its handshake will.

        Args:
            endpoint: Where the peer listens, as its own `setup` returned it or as the user wrote it.

        Raises:
            ConfigError: The endpoint is none that this transport can dial.
            ConnectionClosedError: The peer refused at once, or the transport was closed.
        """
        ...

    def close(self) -> None:
        """Stop listening and free everything: connections, threads, sockets, files.

        Idempotent, from any thread but the transport's own. What was sent is given up to one second to
        leave. Never raises.
        """
        ...


@runtime_checkable
class MeshConnection(Connection, Protocol):
    """A link that also carries the frames of a mesh.

    Its methods may be called from any thread after `start`, do not block, and raise ConnectionClosedError once
    the link has ended or `close` was called. Frames of one channel arrive in the order in which they were sent.
    """

    def subscribe(self, prefixes: tuple[bytes, ...]) -> None:
        """Have the peer publish what begins with one of these topics, and nothing else, to this node.

        The peer takes them in this order, and is told by a `Subscribed` when the last one counts; it may be
        told of the others. A transport that makes a new connection below the same link subscribes again.

        Args:
            prefixes: All that are wanted; those of an earlier call that are not among them end.
        """
        ...

    def ask(self, header: bytes, body: bytes = b"") -> None:
        """Send a request. The answer comes to `receive_func`; both may be lost, and whoever asks asks again.

        Args:
            header: At most 256 KiB.
            body: At most 1 MiB, or one message.
        """
        ...

    def answer(self, ticket: int, header: bytes, body: bytes = b"") -> None:
        """Answer a request; one whose asker does not wait any more is dropped.

        Args:
            ticket: That of the request, which may have come long before; each is answered at most once.
            header: At most 256 KiB.
            body: About 1 MiB, or one message.
        """
        ...


@runtime_checkable
class MeshTransport(Transport, Protocol):
    """A transport whose connections are `MeshConnection`s."""

    def publish(self, topic: bytes, header: bytes, body: bytes = b"") -> None:
        """Send a frame to all peers that have subscribed to a prefix of its topic.

        Called by one thread at a time. Does not block: for a peer whose queue is full the frame is lost.

        Args:
            topic: At most 300 bytes.
            header: At most 256 KiB.
            body: At most 256 KiB, or one message.
        """
        ...


class BridgePod(Protocol):
    """The part of a pod that a bridge uses."""

    def on(self, fn: Callable[[Message], object] | None) -> None:
        """Set the function that gets every message of the local bus; it runs on the pod's callback thread."""
        ...

    def send(self, message: Message) -> object:
        """Send a message to the local bus; blocks while the bus has no room for it."""
        ...


@runtime_checkable
class BridgeConnection(Protocol):
    """One topic of a foreign system, tied to the local bus."""

    def start(self, pod: BridgePod) -> None:
        """Carry messages both ways until `close`.

        Called once. The bridge sets the pod's handler and sends what the topic delivers with `pod.send`,
        from a thread of its own. The pod stays the hub's, which disconnects it after `close`.

        Args:
            pod: A connected pod without a handler, for this connection alone.

        Raises:
            ConnectionClosedError: The topic is not reachable, or `close` was called.
        """
        ...

    def close(self) -> None:
        """Leave the topic and free what belongs to it; idempotent, from any thread, never raises."""
        ...


@runtime_checkable
class BridgeTransport(Protocol):
    """Ties topics of another messaging system to the local bus. One instance serves one node."""

    def setup(self, options: TransportOptions) -> None:
        """Reach the foreign system. Called once, before anything else.

        Args:
            options: What the node has configured.

        Raises:
            ConfigError: The options do not fit this bridge, or the foreign system cannot be reached.
        """
        ...

    def connect_topic(self, topic: str) -> BridgeConnection:
        """Open a topic. Called from any thread; each topic at most once at a time.

        Args:
            topic: A topic's name in the foreign system's own form.

        Raises:
            ConfigError: The name is not one of that system.
            ConnectionClosedError: The foreign system is not reachable.
        """
        ...
