"""The transport over ZeroMQ: the contract of all transports, and what is its own."""

import socket
import threading
from collections.abc import Iterator
from time import monotonic

import pytest
import zmq

from grav_actors import ConfigError, ConnectionClosedError, Message, MessageTooLargeError, transports
from grav_actors.ids import id_text, new_id
from grav_actors.transports.base import Handshake, LinkDown, MeshFrame, Subscribed, TransportOptions
from grav_actors.transports.zeromq import ZeroMQTransport
from grav_actors.transports.zeromq_wire import TOKEN_BYTES, Introduction, Kind, envelope
from support.ports import free_tcp_port
from support.transport_contract import PATIENCE, Answering, MeshTransportContract, Node, Side, link


class TestZeroMQ(MeshTransportContract):
    def make(self) -> ZeroMQTransport:
        return ZeroMQTransport()

    def unreachable(self) -> str:
        return "tcp://127.0.0.1:9"


def test_it_is_registered_by_name() -> None:
    assert transports.load("zmq") is ZeroMQTransport


def set_up(transport: ZeroMQTransport, options: TransportOptions) -> str:
    return transport.setup(options, lambda connection: None, lambda uuid: None)


@pytest.fixture
def transport() -> Iterator[ZeroMQTransport]:
    transport = ZeroMQTransport()
    yield transport
    transport.close()


def test_without_an_endpoint_it_listens_on_the_loopback_alone(transport: ZeroMQTransport) -> None:
    endpoint = set_up(transport, TransportOptions("u"))

    assert endpoint.startswith("tcp://127.0.0.1:")
    assert not endpoint.endswith(":0")


@pytest.mark.parametrize("uri", ["tcp://0.0.0.0", "0.0.0.0", "tcp://[::]:0", "tcp://*", "tcp://192.0.2.1:7470"])
def test_listening_beyond_the_loopback_is_refused_without_keys(transport: ZeroMQTransport, uri: str) -> None:
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        set_up(transport, TransportOptions("u", port=0, uri=uri))


def test_insecure_listener_warns(transport: ZeroMQTransport, caplog: pytest.LogCaptureFixture) -> None:
    set_up(transport, TransportOptions("u", port=0, uri="tcp://0.0.0.0", custom={"insecure": True}))

    assert "the mesh is insecure" in caplog.text


def test_taken_port_is_a_config_error(transport: ZeroMQTransport) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on tcp://127.0.0.1:{port}: Address already in use"):
            set_up(transport, TransportOptions("u", port=port))


@pytest.mark.parametrize("uri", ["ipc:///tmp/x", "tcp://", "tcp://a:b", "tcp://127.0.0.1:70000", "two words"])
def test_what_is_no_address_is_a_config_error(transport: ZeroMQTransport, uri: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        set_up(transport, TransportOptions("u", uri=uri))


def test_node_of_the_loopback_dials_nobody_beyond(transport: ZeroMQTransport) -> None:
    set_up(transport, TransportOptions("u"))

    with pytest.raises(ConfigError, match="cannot be dialled by a node that listens on tcp://127.0.0.1"):
        transport.connect("tcp://192.0.2.1:7470")


# What strangers may send


class Stranger:
    """A DEALER of somebody with other ideas."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self.socket.connect(endpoint)

    def ask(self, *frames: bytes) -> Kind | None:
        """Send something, and return the kind of the answer."""
        self.socket.send_multipart([b"0001", b"", *frames])
        if not self.socket.poll(int(PATIENCE * 1000)):
            return None
        return Kind(self.socket.recv_multipart()[2][3])

    def close(self) -> None:
        self._context.destroy(0)


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    nodes = [Node(ZeroMQTransport(), TransportOptions(id_text(new_id()))) for _ in range(2)]
    yield nodes
    for node in nodes:
        node.transport.close()


@pytest.fixture
def stranger(nodes: list[Node]) -> Iterator[Stranger]:
    stranger = Stranger(nodes[1].endpoint)
    yield stranger
    stranger.close()


def is_standing(mine: Side, theirs: Side) -> bool:
    """Tell whether a link still carries."""
    mine.connection.ask(b"still here")
    return bool(theirs.next_of(MeshFrame).header == b"still here")


def introduction(node: Node) -> bytes:
    transport = node.transport
    return Introduction(node.handshake(), transport.host, transport.request_port, transport.stream_port, 10_000).pack()


@pytest.mark.parametrize("is_known", [True, False])
def test_introduction_that_its_sender_does_not_confirm_is_not_taken(
    nodes: list[Node], stranger: Stranger, *, is_known: bool
) -> None:
    mine, theirs = link(nodes[0], nodes[1])
    seen: list[Handshake] = []
    failed: list[Exception] = []

    def accept() -> None:
        connection = nodes[1].incoming.get(timeout=PATIENCE)
        try:
            connection.do_incoming_handshake(seen.append)
        except ConnectionClosedError as exc:
            failed.append(exc)
        connection.close()

    accepting = threading.Thread(target=accept)
    accepting.start()
    # As it was recorded when the link was made, or made up.
    token = mine.connection.token if is_known else b"x" * TOKEN_BYTES
    answer = stranger.ask(envelope(Kind.INTRODUCE, token), introduction(nodes[0]), b"")
    accepting.join(PATIENCE)

    assert answer is Kind.FAILED
    assert (seen, len(failed)) == ([], 1)
    assert is_standing(mine, theirs)


@pytest.mark.parametrize("kind", [Kind.CONFIRM, Kind.MESSAGE, Kind.WITHDRAW, Kind.ASK, Kind.STILL])
def test_who_has_no_link_is_told_so(nodes: list[Node], stranger: Stranger, kind: Kind) -> None:
    assert stranger.ask(envelope(kind, b"x" * TOKEN_BYTES), b"", b"") is Kind.GONE


def test_what_is_malformed_is_counted_and_disturbs_nobody(
    nodes: list[Node], stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    mine, theirs = link(nodes[0], nodes[1])
    bad = [
        [],
        [b""],
        [b"garbage"] * 3,
        [envelope(Kind.INTRODUCE, b"x" * TOKEN_BYTES), b"garbage", b""],
        [envelope(Kind.DONE, b"x" * TOKEN_BYTES), b"", b""],
        [envelope(Kind.STILL, b"x" * TOKEN_BYTES), b"", b"", b"one more"],
    ]
    for frames in bad:
        stranger.socket.send_multipart([b"0001", b"", *frames])
    stranger.socket.send_multipart([b"no id", b"", envelope(Kind.STILL, b"x" * TOKEN_BYTES), b"", b""])
    assert stranger.ask(envelope(Kind.STILL, b"x" * TOKEN_BYTES), b"", b"") is Kind.GONE

    assert nodes[1].transport.bad_frames == len(bad) + 1
    assert "dropped what a peer has sent" in caplog.text
    assert is_standing(mine, theirs)


def test_message_or_withdrawal_that_is_none_is_dropped(nodes: list[Node], stranger: Stranger) -> None:
    mine, theirs = link(nodes[0], nodes[1])
    token = theirs.connection.token
    for kind in (Kind.MESSAGE, Kind.WITHDRAW):
        assert stranger.ask(envelope(kind, token), b"garbage", b"garbage") is Kind.DONE

    assert nodes[1].transport.bad_frames == 2
    assert is_standing(mine, theirs)


def test_too_many_introductions_at_a_time_are_turned_away(
    nodes: list[Node], stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grav_actors.transports.zeromq.MAX_PENDING", 3)
    for number in range(3):
        token = bytes([number]) * TOKEN_BYTES
        stranger.socket.send_multipart(
            [b"000%d" % number, b"", envelope(Kind.INTRODUCE, token), introduction(nodes[0]), b""]
        )

    assert stranger.ask(envelope(Kind.INTRODUCE, b"z" * TOKEN_BYTES), introduction(nodes[0]), b"") is Kind.FAILED
    assert nodes[1].incoming.qsize() == 3


def test_introduction_from_a_name_is_refused(nodes: list[Node], stranger: Stranger) -> None:
    made_up = Introduction(nodes[0].handshake(), "farm.example", 1, 2, 10_000).pack()

    assert stranger.ask(envelope(Kind.INTRODUCE, b"z" * TOKEN_BYTES), made_up, b"") is Kind.FAILED
    assert nodes[1].incoming.empty()


def test_larger_frame_than_the_peer_takes_is_not_sent(nodes: list[Node]) -> None:
    mine, theirs = link(nodes[0], nodes[1])
    mine.connection._peer_max_frame = 1000
    with pytest.raises(MessageTooLargeError, match="takes at most 1000"):
        mine.connection.send(Message("x", b"x" * 2000))
    mine.connection.ask(b"too large", bytes(2000))

    assert is_standing(mine, theirs)


# Addresses


@pytest.mark.parametrize(
    ("uri", "dialled"),
    [("tcp://[::1]", "[::1]"), ("tcp://[::]", "127.0.0.1"), ("tcp://[::]", "[::1]"), ("tcp://0.0.0.0", "127.0.0.1")],
)
def test_nodes_link_by_ipv6_and_by_whichever_address_reaches_them(uri: str, dialled: str) -> None:
    options = [TransportOptions(id_text(new_id()), 0, uri, custom={"insecure": True}) for _ in range(2)]
    nodes = [Node(ZeroMQTransport(), each) for each in options]
    try:
        nodes[1].endpoint = f"tcp://{dialled}:{nodes[1].transport.request_port}"
        mine, theirs = link(nodes[0], nodes[1])
        for one, other in ((mine, theirs), (theirs, mine)):
            one.connection.subscribe((b"t",))
            other.next_of(Subscribed)
        for node, side in zip(nodes, (theirs, mine), strict=True):
            node.transport.publish(b"t", b"frame")
            assert side.next_of(MeshFrame).header == b"frame"
    finally:
        for node in nodes:
            node.transport.close()


def test_endpoints_with_a_wildcard_get_the_host_under_which_a_node_was_seen(nodes: list[Node]) -> None:
    answering = Answering(nodes[1], nodes[1].accept(endpoints=("tcp://0.0.0.0:7470", "tcp://10.0.0.1:7470")))
    connection = nodes[0].transport.connect(nodes[1].endpoint)
    ack = connection.do_outgoing_handshake(nodes[0].handshake(endpoints=("tcp://[::]:7480", "other")))
    answering.join(PATIENCE)

    assert ack.endpoints == ("tcp://127.0.0.1:7470", "tcp://10.0.0.1:7470")
    assert answering.seen[0].endpoints == ("tcp://127.0.0.1:7480", "other")


def test_stream_is_served_ten_thousand_ports_above_or_anywhere_if_that_is_taken(transport: ZeroMQTransport) -> None:
    port = free_tcp_port(below=50_000)
    assert set_up(transport, TransportOptions("u", port)) == f"tcp://127.0.0.1:{port}"
    assert transport.stream_port == port + 10_000
    transport.close()

    other = ZeroMQTransport()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 10_000))
        try:
            set_up(other, TransportOptions("u", port))
            assert other.stream_port not in (0, port, port + 10_000)
        finally:
            other.close()


# Lost connections


def test_link_ends_when_its_peer_is_another_node_now(nodes: list[Node]) -> None:
    mine, theirs = link(nodes[0], nodes[1])
    # As if another node had taken the address while the connection was lost.
    nodes[1].transport.forget(theirs.connection)
    mine.connection.ask(b"anybody there")

    assert isinstance(mine.next_of(LinkDown), LinkDown)
    with pytest.raises(ConnectionClosedError, match="does not have it any more"):
        mine.connection.ask(b"late")
    theirs.connection.close()


def test_link_that_has_messages_under_way_ends_with_its_connection_and_others_do_not(nodes: list[Node]) -> None:
    mine, _ = link(nodes[0], nodes[1])
    line = mine.connection._lines.requests
    lost = threading.Event()

    def lose() -> None:
        line.is_up, line.lost_at = False, monotonic()
        mine.connection.line_changed()
        lost.set()

    nodes[0].transport.loop.post(lose)
    assert lost.wait(PATIENCE)
    assert mine.connection._standing.end == ""
    mine.connection._unanswered[1] = None
    nodes[0].transport.loop.post(lose)

    assert mine.next_of(LinkDown).reason == "the connection was lost with messages under way"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lost_at": 0.0, "ups": 1}, "no connection for requests at"),
        ({"lost_at": 0.0, "ups": 0}, "is there a firewall"),
        ({"refusals": 2}, "nobody listens any more for requests at"),
        ({"failure": "auth"}, "the peer takes this node no more"),
    ],
)
def test_link_ends_when_its_connection_is_lost_for_long_or_refused(
    nodes: list[Node], change: dict[str, object], reason: str
) -> None:
    mine, _ = link(nodes[0], nodes[1])
    line = mine.connection._lines.requests

    def lose() -> None:
        line.is_up, line.lost_at = False, monotonic()
        for name, value in change.items():
            setattr(line, name, value)

    nodes[0].transport.loop.post(lose)

    assert reason in mine.next_of(LinkDown).reason
