"""What every transport must do: a suite to inherit from, with `make` and `options` of the one under test."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from grav_actors.errors import ConfigError, ConnectionClosedError, NodeWithdrawnError
from grav_actors.ids import id_text, new_id
from grav_actors.message import Message
from grav_actors.transports.base import (
    Channel,
    Connection,
    Handshake,
    HandshakeAck,
    Incoming,
    LinkDown,
    MeshConnection,
    MeshFrame,
    MeshTransport,
    Subscribed,
    Transport,
    TransportOptions,
    Withdraw,
)

PATIENCE = 20.0
"""Seconds after which something is taken for not coming; a bound for failures, nothing waits for it."""


class Node:
    """A node of which only the transport is real.

    Attributes:
        incoming: Connections that peers have opened.
    """

    def __init__(self, transport: Any, options: TransportOptions) -> None:
        self.uuid = options.node_uuid
        self.transport = transport
        self.incoming: queue.Queue[Any] = queue.Queue()
        self.endpoint = transport.setup(options, self.incoming.put, lambda uuid: None)

    def accept(self, **fields: Any) -> HandshakeAck:
        return HandshakeAck(**{"accept": True, "uuid": self.uuid, "incarnation": "ab" * 8, **fields})

    def handshake(self, **fields: Any) -> Handshake:
        return Handshake(**{"uuid": self.uuid, "incarnation": "cd" * 8, **fields})


class Side:
    """One end of a link, and everything that came to it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.came: queue.Queue[tuple[str, Incoming]] = queue.Queue()

    def start(self) -> None:
        self.connection.start(lambda uuid, item: self.came.put((uuid, item)))

    def next(self) -> Any:
        return self.came.get(timeout=PATIENCE)[1]

    def next_of(self, kind: type) -> Any:
        while not isinstance(item := self.next(), kind):
            pass
        return item


class Answering(threading.Thread):
    """Accepts the next incoming connection of a node, as the hub does, on a thread of its own."""

    def __init__(self, node: Node, answer: HandshakeAck) -> None:
        super().__init__(name="answering")
        self.node, self.answer = node, answer
        self.seen: list[Handshake] = []
        self.connection: Any = None
        self.start()

    def run(self) -> None:
        self.connection = self.node.incoming.get(timeout=PATIENCE)
        self.connection.do_incoming_handshake(self._look)

    def _look(self, handshake: Handshake) -> HandshakeAck:
        self.seen.append(handshake)
        return self.answer


def link(one: Node, other: Node) -> tuple[Side, Side]:
    """Dial from one to the other, shake hands and start both ends."""
    answering = Answering(other, other.accept())
    connection = one.transport.connect(other.endpoint)
    ack = connection.do_outgoing_handshake(one.handshake())
    assert ack.accept
    answering.join(PATIENCE)
    sides = Side(connection), Side(answering.connection)
    for side in sides:
        side.start()
    return sides


class TransportContract:
    """Inherit and fill in `make` and `options`; the fixtures close everything."""

    def make(self) -> Any:
        """Return a transport that is not set up."""
        raise NotImplementedError

    def options(self, uuid: str) -> TransportOptions:
        """Return options by which it listens where no other does."""
        return TransportOptions(uuid, port=0)

    def unreachable(self) -> str:
        """Return an endpoint at which nobody listens."""
        raise NotImplementedError

    @pytest.fixture
    def nodes(self) -> Iterator[list[Node]]:
        nodes = [Node(self.make(), self.options(id_text(new_id()))) for _ in range(3)]
        yield nodes
        for node in nodes:
            node.transport.close()

    @pytest.fixture
    def sides(self, nodes: list[Node]) -> tuple[Side, Side]:
        return link(nodes[0], nodes[1])

    # Shape

    def test_it_is_a_transport_of_connections(self, sides: tuple[Side, Side], nodes: list[Node]) -> None:
        assert isinstance(nodes[0].transport, Transport)
        assert isinstance(sides[0].connection, Connection)

    # Setting up

    def test_each_listens_at_an_endpoint_of_its_own(self, nodes: list[Node]) -> None:
        assert len({node.endpoint for node in nodes}) == 3
        assert "" not in {node.endpoint for node in nodes}

    @pytest.mark.parametrize("endpoint", ["", "nonsense", "carrier-pigeon://loft", "loopback:", "tcp://"])
    def test_endpoint_that_is_none_is_a_config_error(self, nodes: list[Node], endpoint: str) -> None:
        with pytest.raises(ConfigError):
            nodes[0].transport.connect(endpoint)

    def test_nobody_there_is_a_closed_connection_at_the_latest_in_the_handshake(self, nodes: list[Node]) -> None:
        def dial() -> None:
            connection = nodes[0].transport.connect(self.unreachable())
            try:
                connection.do_outgoing_handshake(nodes[0].handshake())
            finally:
                connection.close()

        with pytest.raises((ConnectionClosedError, TimeoutError)):
            dial()

    # Handshakes

    def test_handshake_and_answer_arrive_as_they_were(self, nodes: list[Node]) -> None:
        answer = nodes[1].accept(
            name="right", belongs_to="farm", interests=("vision",), endpoints=("a", "b"), reason="r", code="c"
        )
        answering = Answering(nodes[1], answer)
        connection = nodes[0].transport.connect(nodes[1].endpoint)
        handshake = nodes[0].handshake(name="left", belongs_to="*", interests=("x", "y"), endpoints=("c",))

        assert connection.do_outgoing_handshake(handshake) == answer
        answering.join(PATIENCE)
        assert answering.seen == [handshake]

    def test_refusal_is_an_answer(self, nodes: list[Node]) -> None:
        refusal = nodes[1].accept(accept=False, code="belongs_to", reason="another farm")
        answering = Answering(nodes[1], refusal)
        connection = nodes[0].transport.connect(nodes[1].endpoint)

        assert connection.do_outgoing_handshake(nodes[0].handshake()) == refusal
        answering.join(PATIENCE)
        answering.connection.close()
        connection.close()

    def test_close_ends_the_wait_for_an_answer(self, nodes: list[Node]) -> None:
        connection = nodes[0].transport.connect(nodes[1].endpoint)
        closer = threading.Timer(0.05, connection.close)
        closer.start()

        with pytest.raises(ConnectionClosedError):
            connection.do_outgoing_handshake(nodes[0].handshake())
        closer.join()

    def test_peer_that_closes_instead_of_answering_ends_the_wait(self, nodes: list[Node]) -> None:
        closer = threading.Thread(target=lambda: nodes[1].incoming.get(timeout=PATIENCE).close())
        closer.start()
        connection = nodes[0].transport.connect(nodes[1].endpoint)

        with pytest.raises((ConnectionClosedError, TimeoutError)):
            connection.do_outgoing_handshake(nodes[0].handshake())
        closer.join()

    # Messages

    def test_messages_arrive_in_order_as_copies_with_their_senders_uuid(
        self, nodes: list[Node], sides: tuple[Side, Side]
    ) -> None:
        sent = [Message("count", {"n": n, "list": [n]}) for n in range(1000)]
        for message in sent:
            sides[0].connection.send(message)
        came = [sides[1].came.get(timeout=PATIENCE) for _ in sent]

        assert {uuid for uuid, _ in came} == {nodes[0].uuid}
        assert [item for _, item in came] == sent
        assert all(one is not other for (_, one), other in zip(came, sent, strict=True))

    def test_both_directions_carry(self, sides: tuple[Side, Side]) -> None:
        for mine, theirs in (sides, sides[::-1]):
            mine.connection.send(Message("hello", 1))
            assert theirs.next().data == 1

    def test_what_is_sent_before_the_peer_starts_waits_for_it(self, nodes: list[Node]) -> None:
        answering = Answering(nodes[1], nodes[1].accept())
        connection = nodes[0].transport.connect(nodes[1].endpoint)
        connection.do_outgoing_handshake(nodes[0].handshake())
        answering.join(PATIENCE)
        mine, theirs = Side(connection), Side(answering.connection)
        mine.start()
        connection.send(Message("early", 7))
        theirs.start()

        assert theirs.next().data == 7

    def test_receiver_that_blocks_holds_up_no_other_connection(self, nodes: list[Node]) -> None:
        free = threading.Event()
        sender, blocked = link(nodes[0], nodes[1])

        def block(item: Any) -> None:
            free.wait(PATIENCE)

        blocked.came.put = block  # type: ignore[assignment, method-assign]
        mine, theirs = link(nodes[2], nodes[1])
        try:
            sender.connection.send(Message("held", 1))
            mine.connection.send(Message("through", 1))
            assert theirs.next().data == 1
        finally:
            free.set()

    # Ends

    def test_peer_is_told_of_the_end_once_and_last(self, sides: tuple[Side, Side]) -> None:
        sides[0].connection.send(Message("last", 1))
        assert sides[1].next().data == 1
        sides[0].connection.close()

        assert isinstance(sides[1].next(), LinkDown)
        sides[1].connection.close()
        assert sides[1].came.empty()

    def test_own_close_is_not_told(self, sides: tuple[Side, Side]) -> None:
        sides[0].connection.close()
        sides[0].connection.close()

        assert sides[0].came.empty()

    def test_closed_connection_refuses_everything(self, sides: tuple[Side, Side]) -> None:
        connection = sides[0].connection
        connection.close()
        with pytest.raises(ConnectionClosedError):
            connection.send(Message("late", 1))
        with pytest.raises(ConnectionClosedError):
            connection.send_withdraw(Withdraw("me"))
        with pytest.raises(ConnectionClosedError):
            connection.start(lambda uuid, item: None)

    def test_connection_may_be_closed_from_its_own_receiver(self, nodes: list[Node]) -> None:
        answering = Answering(nodes[1], nodes[1].accept())
        connection = nodes[0].transport.connect(nodes[1].endpoint)
        connection.do_outgoing_handshake(nodes[0].handshake())
        answering.join(PATIENCE)
        closed = threading.Event()

        def receive(uuid: str, item: Incoming) -> None:
            answering.connection.close()
            closed.set()

        answering.connection.start(receive)
        mine = Side(connection)
        mine.start()
        connection.send(Message("close", 1))

        assert closed.wait(PATIENCE)
        assert isinstance(mine.next(), LinkDown)

    def test_end_of_the_transport_ends_its_connections(self, nodes: list[Node], sides: tuple[Side, Side]) -> None:
        nodes[0].transport.close()
        nodes[0].transport.close()

        assert isinstance(sides[1].next(), LinkDown)
        with pytest.raises(ConnectionClosedError):
            nodes[0].transport.connect(nodes[1].endpoint)

    def test_link_can_be_made_again(self, nodes: list[Node], sides: tuple[Side, Side]) -> None:
        sides[0].connection.close()
        assert isinstance(sides[1].next(), LinkDown)
        mine, theirs = link(nodes[0], nodes[1])
        mine.connection.send(Message("again", 1))

        assert theirs.next().data == 1

    # Withdrawing

    def test_withdrawal_is_acknowledged_when_its_receiver_has_returned(self, nodes: list[Node]) -> None:
        answering = Answering(nodes[1], nodes[1].accept())
        connection = nodes[0].transport.connect(nodes[1].endpoint)
        connection.do_outgoing_handshake(nodes[0].handshake())
        answering.join(PATIENCE)
        returned: list[Incoming] = []
        entered, go_on = threading.Event(), threading.Event()

        def receive(uuid: str, item: Incoming) -> None:
            if isinstance(item, Withdraw):
                entered.set()
                assert go_on.wait(PATIENCE)
            returned.append(item)

        answering.connection.start(receive)
        connection.start(lambda uuid, item: None)
        connection.send(Message("before", 1))
        withdraw = Withdraw(nodes[0].uuid, "for today")
        result: list[list[Incoming]] = []

        def leave() -> None:
            connection.send_withdraw(withdraw)
            result.append(list(returned))

        leaver = threading.Thread(target=leave)
        leaver.start()
        assert entered.wait(PATIENCE)
        assert result == []
        go_on.set()
        leaver.join(PATIENCE)

        assert [type(item) for item in result[0]] == [Message, Withdraw]
        assert result[0][1] == withdraw
        with pytest.raises(NodeWithdrawnError):
            answering.connection.send(Message("late", 1))


class MeshTransportContract(TransportContract):
    """The same, and what the mesh needs."""

    def test_it_is_a_mesh_transport(self, sides: tuple[Side, Side], nodes: list[Node]) -> None:
        assert isinstance(nodes[0].transport, MeshTransport)
        assert isinstance(sides[0].connection, MeshConnection)

    def subscribe(self, mine: Side, theirs: Side, *prefixes: bytes) -> None:
        """Subscribe, and wait until the peer knows."""
        mine.connection.subscribe(prefixes)
        while theirs.next_of(Subscribed).prefix != prefixes[-1]:
            pass

    def test_frame_is_published_to_those_who_have_subscribed_to_a_prefix(self, nodes: list[Node]) -> None:
        first = link(nodes[0], nodes[1])
        second = link(nodes[0], nodes[2])
        self.subscribe(first[1], first[0], b"ta", b"x1")
        self.subscribe(second[1], second[0], b"tab", b"tb", b"x2")
        for topic in (b"ta", b"tab", b"tb", b"c"):
            nodes[0].transport.publish(topic, topic, b"body")
        nodes[0].transport.publish(b"x1", b"end", b"")
        nodes[0].transport.publish(b"x2", b"end", b"")

        def until_end(side: Side) -> list[bytes]:
            seen: list[bytes] = []
            while (frame := side.next_of(MeshFrame)).header != b"end":
                assert (frame.channel, bytes(frame.body)) == (Channel.STREAM, b"body")
                seen.append(frame.header)
            return seen

        assert until_end(first[1]) == [b"ta", b"tab"]
        assert until_end(second[1]) == [b"tab", b"tb"]

    def test_subscription_replaces_the_one_before(self, nodes: list[Node], sides: tuple[Side, Side]) -> None:
        self.subscribe(sides[1], sides[0], b"ta", b"x1")
        self.subscribe(sides[1], sides[0], b"tb", b"x2")
        for topic in (b"ta", b"tb"):
            nodes[0].transport.publish(topic, topic)

        assert sides[1].next_of(MeshFrame).header == b"tb"

    def test_nothing_is_published_to_who_has_not_subscribed(self, nodes: list[Node], sides: tuple[Side, Side]) -> None:
        nodes[0].transport.publish(b"ta", b"frame")
        sides[0].connection.ask(b"request")

        assert sides[1].next_of(MeshFrame).header == b"request"

    def test_request_is_answered_by_its_ticket_also_out_of_order(self, sides: tuple[Side, Side]) -> None:
        for number in range(3):
            sides[0].connection.ask(b"question %d" % number, b"body")
        requests = [sides[1].next_of(MeshFrame) for _ in range(3)]
        assert [(frame.channel, frame.header, bytes(frame.body)) for frame in requests] == [
            (Channel.REQUEST, b"question %d" % number, b"body") for number in range(3)
        ]
        assert len({frame.ticket for frame in requests}) == 3

        for frame in reversed(requests):
            sides[1].connection.answer(frame.ticket, b"answer to " + frame.header, b"x" * 1_000_000)
        answers = [sides[0].next_of(MeshFrame) for _ in range(3)]
        assert {frame.channel for frame in answers} == {Channel.ANSWER}
        assert {frame.header for frame in answers} == {b"answer to question %d" % number for number in range(3)}
        assert {len(frame.body) for frame in answers} == {1_000_000}

    def test_both_sides_may_ask_at_once(self, sides: tuple[Side, Side]) -> None:
        for side in sides:
            side.connection.ask(b"question")
        for side in sides:
            assert side.next_of(MeshFrame).channel is Channel.REQUEST

    def test_closed_connection_refuses_frames_too(self, sides: tuple[Side, Side]) -> None:
        connection = sides[0].connection
        connection.close()
        with pytest.raises(ConnectionClosedError):
            connection.ask(b"late")
        with pytest.raises(ConnectionClosedError):
            connection.answer(1, b"late")
        with pytest.raises(ConnectionClosedError):
            connection.subscribe((b"t",))

    def test_end_of_one_link_does_not_disturb_what_is_published_to_others(self, nodes: list[Node]) -> None:
        first = link(nodes[0], nodes[1])
        second = link(nodes[0], nodes[2])
        for mine, theirs in (first, second):
            self.subscribe(theirs, mine, b"t")
        first[1].connection.close()
        nodes[0].transport.publish(b"ta", b"frame")

        assert second[1].next_of(MeshFrame).header == b"frame"
