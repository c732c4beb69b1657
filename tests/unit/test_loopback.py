"""The transport in memory: the contract of all transports, and what is its own."""

import threading

import pytest

from grav_actors import transports
from grav_actors.errors import ConfigError, ConnectionClosedError, WaitTimeoutError
from grav_actors.message import Message
from grav_actors.transports import inbox, loopback
from grav_actors.transports.base import Incoming, TransportOptions
from grav_actors.transports.loopback import LoopbackTransport
from support.transport_contract import PATIENCE, MeshTransportContract, Node, link


class TestLoopback(MeshTransportContract):
    def make(self) -> LoopbackTransport:
        return LoopbackTransport()

    def unreachable(self) -> str:
        return "loopback://nobody"


def test_it_is_registered_by_name() -> None:
    assert transports.load("loopback") is LoopbackTransport


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        (TransportOptions("u"), "loopback://u"),
        (TransportOptions("u", port=0), "loopback://u"),
        (TransportOptions("u", uri="farm"), "loopback://farm"),
        (TransportOptions("u", port=7, uri="loopback://farm"), "loopback://farm:7"),
    ],
)
def test_endpoint_is_named_by_uri_or_uuid_and_port(options: TransportOptions, endpoint: str) -> None:
    transport = LoopbackTransport()
    try:
        assert transport.setup(options, lambda connection: None, lambda uuid: None) == endpoint
    finally:
        transport.close()


def test_name_is_taken_once_and_free_again_after_close() -> None:
    options = TransportOptions("u", uri="farm")
    first, second = Node(LoopbackTransport(), options), LoopbackTransport()
    with pytest.raises(ConfigError, match="loopback://farm is taken"):
        second.setup(options, lambda connection: None, lambda uuid: None)
    second.close()

    first.transport.close()
    Node(LoopbackTransport(), options).transport.close()


def test_send_waits_while_the_peer_is_full_and_close_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "QUEUE_LIMIT", 3)
    nodes = [Node(LoopbackTransport(), TransportOptions(name)) for name in ("one", "two")]
    mine, theirs = link(*nodes)
    entered, go_on = threading.Event(), threading.Event()

    def block(item: object) -> None:
        entered.set()
        go_on.wait(PATIENCE)

    theirs.came.put = block  # type: ignore[assignment, method-assign]
    failed = threading.Event()

    def flood() -> None:
        try:
            for number in range(10):
                mine.connection.send(Message("x", number))
        except ConnectionClosedError:
            failed.set()

    flooder = threading.Thread(target=flood)
    flooder.start()
    assert entered.wait(PATIENCE)
    assert not failed.is_set()
    mine.connection.close()
    assert failed.wait(PATIENCE)
    go_on.set()
    flooder.join()
    for node in nodes:
        node.transport.close()


def test_frame_for_a_full_peer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MOST_ITEMS", 3)
    nodes = [Node(LoopbackTransport(), TransportOptions(name)) for name in ("one", "two")]
    mine, theirs = link(*nodes)
    entered, go_on = threading.Event(), threading.Event()
    put = theirs.came.put

    def block(item: tuple[str, Incoming]) -> None:
        entered.set()
        go_on.wait(PATIENCE)
        put(item)

    theirs.came.put = block  # type: ignore[assignment, method-assign]
    mine.connection.ask(b"0")
    assert entered.wait(PATIENCE)
    for number in range(1, 6):
        mine.connection.ask(b"%d" % number)
    go_on.set()

    assert [theirs.next().header for _ in range(4)] == [b"0", b"1", b"2", b"3"]
    mine.connection.ask(b"6")
    assert theirs.next().header == b"6"
    for node in nodes:
        node.transport.close()


def test_handshake_that_nobody_answers_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "HANDSHAKE_TIMEOUT", 0.01)
    nodes = [Node(LoopbackTransport(), TransportOptions(name)) for name in ("one", "two")]
    connection = nodes[0].transport.connect(nodes[1].endpoint)

    with pytest.raises(WaitTimeoutError, match="no answer from the peer within 0.01 s"):
        connection.do_outgoing_handshake(nodes[0].handshake())
    silent = nodes[1].incoming.get(timeout=PATIENCE)
    silent._handshake = None
    with pytest.raises(WaitTimeoutError, match="did not introduce itself"):
        silent.do_incoming_handshake(lambda handshake: nodes[1].accept())
    for node in nodes:
        node.transport.close()


def test_receiver_that_raises_is_logged_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [Node(LoopbackTransport(), TransportOptions(name)) for name in ("one", "two")]
    mine, theirs = link(*nodes)
    put, theirs_came = theirs.came.put, theirs.came

    def fail_once(item: tuple[str, Incoming]) -> None:
        theirs_came.put = put  # type: ignore[method-assign]
        raise RuntimeError("broken wing")

    theirs_came.put = fail_once  # type: ignore[assignment, method-assign]
    mine.connection.send(Message("x", 1))
    mine.connection.send(Message("x", 2))

    assert theirs.next().data == 2
    assert "broken wing" in caplog.text
    for node in nodes:
        node.transport.close()
