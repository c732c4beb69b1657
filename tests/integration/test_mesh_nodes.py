"""Nodes that are linked: real buses and hubs, over the transport in memory."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grav_actors import (
    BelongsToMismatchError,
    ConfigError,
    ConnectionClosedError,
    Grav,
    Message,
    NodeUUIDMismatchError,
    Peer,
    TransportNotConfiguredError,
    TunnelNotEstablishedError,
    WaitTimeoutError,
)
from grav_actors.codec import join_body, pack_record
from grav_actors.discovery.base import DiscoveryFunc, DiscoveryOptions
from grav_actors.mesh.effects import Deliver
from grav_actors.mesh.relay_frames import encode_meta
from grav_actors.protocol import KIND_ANSWER, KIND_ASK, KIND_PUBLISH, KIND_TELL
from grav_actors.transports.base import ConnectFunc, FindFunc, TransportOptions
from grav_actors.transports.loopback import LoopbackConnection, LoopbackTransport

PATIENCE = 20.0
PUBLISHED = encode_meta(KIND_PUBLISH, b"s" * 16, ())
ONE_RECORD = b"\x91\x96\xc4\x10" + b"u" * 16 + b"\xc4\x00\xc4\x00\x00\x01\xc0"
Make = Callable[..., Grav]


@pytest.fixture
def make() -> Iterator[Make]:
    nodes: list[Grav] = []

    def start(name: str, **options: Any) -> Grav:
        options.setdefault("transport", "loopback")
        node = Grav(name=name, **options)
        nodes.append(node)
        return node

    yield start
    for node in reversed(nodes):
        node.stop()


def endpoint(node: Grav) -> str:
    return f"loopback://{node.node_uuid}"


class Collector:
    """Collects what a node gets, and tells when it is enough."""

    def __init__(self, node: Grav, pattern: str) -> None:
        self.came: list[Message] = []
        self._changed = threading.Condition()
        self._pod = node.connect()
        self._pod.on_type(pattern, self._take)

    def _take(self, message: Message) -> None:
        with self._changed:
            self.came.append(message)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Message]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.came) >= count, PATIENCE), f"{len(self.came)} of {count}"
            return list(self.came)


def test_nodes_see_each_other_when_one_has_dialled(make: Make) -> None:
    one, other = make("one", interests=["vision"], belongs_to="farm"), make("other")
    peer = other.connect_endpoint(endpoint(one), timeout=PATIENCE)

    assert isinstance(peer, Peer)
    assert (peer.uuid, peer.name, peer.endpoint, peer.state) == (one.node_uuid, "one", endpoint(one), "up")
    assert (peer.belongs_to, peer.interests) == ("farm", ("vision",))
    assert peer.rtt is not None
    assert [each.name for each in one.wait_for_peers(1, PATIENCE)] == ["other"]
    assert [each.uuid for each in one.peers()] == [other.node_uuid]


def test_what_is_published_right_after_the_link_is_up_arrives_everywhere_once_in_order(make: Make) -> None:
    nodes = [make(name) for name in ("a", "b", "c")]
    collectors = [Collector(node, "count.>") for node in nodes]
    for node in nodes[1:]:
        node.connect_endpoint(endpoint(nodes[0]), PATIENCE)
    nodes[1].connect_endpoint(endpoint(nodes[2]), PATIENCE)
    for node in nodes:
        node.wait_for_peers(2, PATIENCE)
    senders = [node.connect() for node in nodes]
    for number in range(300):
        for index, sender in enumerate(senders):
            sender.publish(f"count.{number % 3}", [index, number])

    for collector in collectors:
        came = collector.wait(900)
        for index in range(3):
            assert [m.data[1] for m in came if m.data[0] == index] == list(range(300))
        assert len(came) == 900


def test_message_arrives_as_it_was_sent(make: Make) -> None:
    one, other = make("one"), make("other")
    other.connect_endpoint(endpoint(one), PATIENCE)
    one.wait_for_peers(1, PATIENCE)
    collector = Collector(one, "thing")
    one.wait_until_known(PATIENCE)
    sent = Message("thing", {"n": [1, b"x", None]}, parent_id=Message().uuid, headers={"k": "v"})
    other.connect().send(sent)

    assert collector.wait(1) == [sent]


def test_large_message_crosses(make: Make) -> None:
    one, other = make("one"), make("other")
    other.connect_endpoint(endpoint(one), PATIENCE)
    one.wait_for_peers(1, PATIENCE)
    collector = Collector(one, "big")
    one.wait_until_known(PATIENCE)
    other.publish("big", b"x" * 1_000_000)

    assert len(collector.wait(1)[0].data) == 1_000_000


def test_message_that_is_larger_than_the_peer_takes_is_announced_and_all_others_come(make: Make) -> None:
    small, large = make("small", max_message=65_536), make("large")
    large.connect_endpoint(endpoint(small), PATIENCE)
    small.wait_for_peers(1, PATIENCE)
    collector, gaps = Collector(small, "data"), Collector(small, "grav.sys.node.gap")
    small.wait_until_known(PATIENCE)
    pod = large.connect()
    for size in (1, 65_536, 200_000, 900_000, 2):
        pod.publish("data", bytes(size))
    pod.flush(PATIENCE, settled=True)

    assert [len(m.data) for m in collector.wait(3)] == [1, 65_536, 2]
    assert [m.data for m in gaps.wait(2)] == [{"uuid": large.node_uuid, "count": 1}] * 2
    assert [peer.state for peer in small.peers()] == ["up"]


def test_peer_refuses_what_is_too_large_for_it_whoever_sends_it(make: Make) -> None:
    small = make("small", max_message=65_536)
    collector, gaps = Collector(small, "data"), Collector(small, "grav.sys.node.gap")
    records = [pack_record(Message("data", bytes(size)), 1_000_000) for size in (1, 200_000, 2)]
    hub = small._hub
    assert hub is not None
    hub._call(lambda now: hub._switchboard.deliver(Deliver("u", b"p" * 8, "data", 3, PUBLISHED, join_body(records))))

    assert [len(m.data) for m in collector.wait(2)] == [1, 2]
    assert gaps.wait(1)[0].data == {"uuid": "u", "count": 1}
    assert hub._core.counts.too_large == 1


def test_reply_of_another_node_reaches_the_receipt(make: Make) -> None:
    one, other = make("one"), make("other")
    other.connect_endpoint(endpoint(one), PATIENCE)
    one.wait_for_peers(1, PATIENCE)
    answering = one.connect()
    answering.on_type("question", lambda m: answering.reply_to(m, Message("answer", m.data + 1)))
    one.wait_until_known(PATIENCE)
    receipt = other.connect().publish("question", 41)

    assert receipt.result(PATIENCE).data == 42


def test_link_is_refused_between_groups_and_both_say_so(make: Make) -> None:
    one, other = make("one", belongs_to="farm"), make("other", belongs_to="barn")

    with pytest.raises(BelongsToMismatchError, match="belongs to 'farm'"):
        other.connect_endpoint(endpoint(one), PATIENCE)
    assert (one.peers(), other.peers()) == ([], [])


def test_nobody_there_times_out_and_no_endpoint_is_a_config_error(make: Make) -> None:
    node = make("one")

    with pytest.raises(WaitTimeoutError, match="nobody answered at loopback://nobody within 0.2 s"):
        node.connect_endpoint("loopback://nobody", timeout=0.2)
    with pytest.raises(ConfigError, match="no endpoint of the transport loopback"):
        node.connect_endpoint("tcp://127.0.0.1:1", timeout=PATIENCE)


def test_wait_for_peers_says_who_is_missing(make: Make) -> None:
    with pytest.raises(WaitTimeoutError, match="1 peers were not up within 0.1 s: none is known"):
        make("one").wait_for_peers(1, timeout=0.1)


def test_peers_come_and_go_as_events_on_the_bus(make: Make) -> None:
    one = make("one")
    events = Collector(one, "grav.sys.node.*")
    other = make("other")
    other.connect_endpoint(endpoint(one), PATIENCE)
    events.wait(1)
    other.stop()
    came = events.wait(2)

    assert [(m.type, m.data["name"]) for m in came] == [("grav.sys.node.up", "other"), ("grav.sys.node.down", "other")]
    assert came[0].data["uuid"] == other.node_uuid
    assert came[1].data["reason"] == "it has left the mesh"
    assert [peer.state for peer in one.peers()] == ["withdrawn"]


def test_withdrawal_returns_when_all_have_acknowledged_and_nothing_is_carried_afterwards(make: Make) -> None:
    one, other = make("one"), make("other")
    collector = Collector(one, "x")
    other.connect_endpoint(endpoint(one), PATIENCE)
    one.wait_for_peers(1, PATIENCE)
    pod = other.connect()
    for number in range(100):
        pod.publish("x", number)
    pod.flush(PATIENCE, settled=True)
    other.withdraw(PATIENCE)

    assert [peer.state for peer in one.peers()] == ["withdrawn"]
    pod.publish("x", "late")
    pod.flush(PATIENCE, settled=True)
    assert [m.data for m in collector.wait(100)] == list(range(100))


def test_tunnel_reaches_one_peer_that_offers_the_capability(make: Make) -> None:
    hub = make("hub")
    nodes = [make(name, interests=["vision"]) for name in ("left", "right")]
    for node in nodes:
        node.connect_endpoint(endpoint(hub), PATIENCE)
    hub.wait_for_peers(2, PATIENCE)
    collectors = [Collector(node, "frame") for node in nodes]
    for number in range(4):
        hub.tunnel("vision", Message("frame", number), timeout=PATIENCE)

    came = [[m.data for m in collector.wait(2)] for collector in collectors]
    assert sorted(number for numbers in came for number in numbers) == [0, 1, 2, 3]
    with pytest.raises(TunnelNotEstablishedError, match="no peer that is up offers 'hearing'"):
        hub.tunnel("hearing", Message("frame", 5))


@pytest.mark.parametrize("timeout", [None, lambda: PATIENCE])
def test_tunnel_takes_every_kind_of_limit(make: Make, timeout: Any) -> None:
    hub, node = make("hub"), make("node", interests=["vision"])
    node.connect_endpoint(endpoint(hub), PATIENCE)
    hub.wait_for_peers(1, PATIENCE)
    collector = Collector(node, "frame")
    hub.tunnel("vision", Message("frame", 1), timeout)

    assert [m.data for m in collector.wait(1)] == [1]
    with pytest.raises(ValueError, match="must not be negative"):
        hub.tunnel("vision", Message("frame", 2), -1.0)


class Replaceable(LoopbackTransport):
    """Says of its links that newer ones may take their place, and keeps what it is given to find others."""

    def setup(self, options: TransportOptions, connect_func: ConnectFunc, find_func: FindFunc) -> str:
        self.find = find_func
        assert find_func("nobody") is None

        def take(connection: Any) -> None:
            connection.can_replace = lambda: True
            connect_func(connection)

        return super().setup(options, take, find_func)

    def connect(self, endpoint: str) -> LoopbackConnection:
        connection = super().connect(endpoint)
        vars(connection)["can_replace"] = lambda: True
        return connection


def test_transport_finds_the_connection_to_a_peer_and_says_whether_it_can_be_replaced(make: Make) -> None:
    one, other = Replaceable(), Replaceable()
    first, second = make("one", transport=one), make("other", transport=other)
    second.connect_endpoint(endpoint(first), PATIENCE)
    first.wait_for_peers(1, PATIENCE)

    for node, peer, transport in ((first, second, one), (second, first, other)):
        connection = transport.find(peer.node_uuid)
        assert connection in transport._connections
        assert transport.find(node.node_uuid) is None
        assert node._hub is not None
        assert [link.can_replace for link in node._hub._core._state.links.values()] == [True]


def test_second_try_of_a_tunnel_is_marked_as_redelivered(make: Make) -> None:
    hub = make("hub")
    nodes = sorted((make(name, interests=["vision"]) for name in ("left", "right")), key=lambda node: node.node_uuid)
    for node in nodes:
        node.connect_endpoint(endpoint(hub), PATIENCE)
    hub.wait_for_peers(2, PATIENCE)
    collectors = [Collector(node, "frame") for node in nodes]
    held = threading.Event()

    def hold(now: float) -> None:
        held.wait(PATIENCE)

    first = nodes[0]._hub
    assert first is not None
    first._turns.put(hold)
    try:
        hub.tunnel("vision", Message("frame", 1), timeout=PATIENCE)
        assert [message.redelivered for message in collectors[1].wait(1)] == [True]
    finally:
        held.set()
    assert [message.redelivered for message in collectors[0].wait(1)] == [False]


def test_second_node_with_a_transport_on_one_bus_is_refused(make: Make) -> None:
    one = make("one")
    with pytest.raises(ConfigError, match="only one node on a bus"):
        Grav(bus=one.bus_endpoint, transport="loopback")


class Gossip:
    """A discovery that finds what it is told."""

    def __init__(self, *found: tuple[str, str]) -> None:
        self.found = found
        self.options: DiscoveryOptions | None = None
        self.is_stopped = False

    def start(self, options: DiscoveryOptions, discovered: DiscoveryFunc) -> None:
        self.options = options
        for where, uuid in self.found:
            discovered(where, uuid)

    def stop(self) -> None:
        self.is_stopped = True


def test_discovered_nodes_are_linked_and_discovery_ends_with_the_node(make: Make) -> None:
    one = make("one")
    gossip = Gossip((endpoint(one), one.node_uuid), ("loopback://nobody", ""))
    other = make("other", discovery=[gossip])

    assert [peer.name for peer in other.wait_for_peers(1, PATIENCE)] == ["one"]
    options = gossip.options
    assert options is not None
    assert (options.node_uuid, options.transport_port, options.transport_uri) == (
        other.node_uuid,
        None,
        endpoint(other),
    )
    other.stop()
    assert gossip.is_stopped


def test_node_other_than_discovery_said_is_not_linked(make: Make) -> None:
    one = make("one")
    gossip = Gossip((endpoint(one), Message().uuid))
    other = make("other", discovery=gossip)

    hub = other._hub
    assert hub is not None
    refused = hub._bulletin.wait(lambda: hub._bulletin.refused.get(endpoint(one)), PATIENCE)
    assert (type(refused), other.peers()) == (NodeUUIDMismatchError, [])


def test_stopped_node_refuses_and_leaves_nothing(make: Make) -> None:
    one, other = make("one"), make("other")
    other.connect_endpoint(endpoint(one), PATIENCE)
    other.stop()

    with pytest.raises(ConnectionClosedError):
        other.peers()
    make("again", endpoint=("", other.node_uuid))


def test_node_without_a_transport_has_no_mesh(make: Make) -> None:
    node = make("one", transport=None)

    assert node.peers() == []
    assert node.wait_for_peers(0, 0) == []
    for call in (node.withdraw, lambda: node.connect_endpoint("x"), lambda: node.wait_for_peers(1, 0)):
        with pytest.raises(TransportNotConfiguredError):
            call()
    with pytest.raises(TunnelNotEstablishedError):
        node.tunnel("vision", Message())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"transport": "carrier-pigeon"}, "no transport is called"),
        ({"transport": object()}, "an instance of one"),
        ({"transport": "loopback", "discovery": "gossip"}, "no discovery is called"),
        ({"transport": "loopback", "discovery": [object()]}, "an instance of one"),
        ({"transport": "loopback", "endpoint": 7}, "endpoint is 7"),
        ({"transport": "loopback", "endpoint": ("x", "y")}, "endpoint is"),
        ({"bridge": object()}, "bridge is .*an instance of one"),
        ({"bridge": "loopback"}, "bridge is .loopback.: allowed"),
        ({"discovery": Gossip()}, "discovery needs a transport"),
        ({"endpoint": "x"}, "endpoint needs a transport"),
        ({"keys": "keys"}, "keys needs a transport"),
        ({"insecure": True}, "insecure needs a transport"),
    ],
)
def test_bad_mesh_options_say_what_is_allowed(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Grav(**options)


def test_taken_endpoint_is_a_config_error_and_leaves_nothing(make: Make) -> None:
    make("one", endpoint=("7", "farm"))
    with pytest.raises(ConfigError, match="loopback://farm:7 is taken"):
        make("other", endpoint="loopback://farm:7", transport=LoopbackTransport())


def test_link_that_breaks_under_load_is_made_again_and_loses_nothing(make: Make) -> None:
    one, other = make("one"), make("other")
    collector = Collector(one, "count")
    other.connect_endpoint(endpoint(one), PATIENCE)
    one.wait_for_peers(1, PATIENCE)
    sender = other.connect()
    hub = one._hub
    assert hub is not None
    for number in range(3000):
        sender.publish("count", number)
        if number == 1000:
            for connection in list(hub._carrier._connections.values()):
                connection.close()
        if number == 2000:
            collector.wait(1)

    assert [m.data for m in collector.wait(3000)] == list(range(3000))
    assert one.wait_for_peers(1, PATIENCE)


@pytest.mark.parametrize(("count", "size"), [(1, 10), (512, 10), (513, 10), (8192, 1), (300, 1000), (2, 300_000)])
def test_run_of_a_peer_arrives_whole_and_in_order_however_long_it_is(make: Make, count: int, size: int) -> None:
    node = make("one")
    collector = Collector(node, "x")
    hub = node._hub
    assert hub is not None
    data = [number.to_bytes(2, "big") * size for number in range(count)]
    body = join_body([pack_record(Message("x", each), 1 << 20) for each in data])
    for _ in range(2):
        hub._call(lambda now: hub._switchboard.deliver(Deliver("peer", b"p" * 8, "x", count, PUBLISHED, body)))

    assert [m.data for m in collector.wait(2 * count)] == data * 2
    assert hub._relay.waiting_bytes == 0


@pytest.mark.parametrize(
    ("type_", "count", "meta", "body"),
    [
        ("x", 1, b"garbage", b"\x91\x90"),
        ("x", 1, PUBLISHED, b"garbage"),
        ("x", 1, PUBLISHED, b"\x91\x96\xc4\x10"),
        ("x", 1, PUBLISHED, b"\x91\x90\x90"),
        ("x", 2, PUBLISHED, b"\x91\x90"),
        ("x", 1, encode_meta(9, b"", ()), b"\x90"),
        ("x", 1, encode_meta(KIND_TELL, b"", "grav.node"), b"\x90"),
        ("x", 1, encode_meta(KIND_ASK, b"", "grav.bus"), b"\x90"),
        ("x", 1, encode_meta(KIND_ASK, b"", "actor"), b"\x90"),
        ("grav.reply", 1, encode_meta(KIND_ANSWER, b"", bytes(16)), b"\x91\x90"),
        ("grav.sys.dead", 1, PUBLISHED, ONE_RECORD),
        ("grav.sys.actor.stop", 1, PUBLISHED, ONE_RECORD),
        ("no good", 1, PUBLISHED, ONE_RECORD),
    ],
)
def test_garbage_of_a_peer_reaches_nobody_and_disturbs_nothing(
    make: Make, type_: str, count: int, meta: bytes, body: bytes
) -> None:
    node = make("one")
    collector, gaps = Collector(node, ">"), Collector(node, "grav.sys.node.gap")
    hub = node._hub
    assert hub is not None
    hub._call(lambda now: hub._switchboard.deliver(Deliver("peer", b"p" * 8, type_, count, meta, body)))
    hub._call(lambda now: hub._relay.announce("grav.sys.node.gap", {"uuid": "u", "count": 1}))
    gaps.wait(1)  # comes after it
    node.publish("end")

    assert [m.type for m in collector.wait(1)] == ["end"]
    assert hub._relay.garbled + hub._core.counts.garbled + hub._core.counts.late == 1
    assert hub._relay.waiting_bytes == 0


def test_garbled_records_of_a_peer_reach_no_handler_and_spoil_no_run_of_another(make: Make) -> None:
    node = make("one")
    collector, gaps = Collector(node, ">"), Collector(node, "grav.sys.node.gap")
    hub = node._hub
    assert hub is not None

    def deliver(now: float) -> None:
        for number in range(3):
            good = join_body([pack_record(Message("x", number), 1000)])
            hub._switchboard.deliver(Deliver("good", b"g" * 8, "x", 1, PUBLISHED, good))
            hub._switchboard.deliver(Deliver("bad", b"b" * 8, "x", 1, PUBLISHED, b"\x91\x90"))

    hub._call(deliver)
    hub._call(lambda now: hub._relay.announce("grav.sys.node.gap", {"uuid": "u", "count": 1}))
    gaps.wait(1)
    node.publish("end")

    assert [m.data for m in collector.wait(4)] == [0, 1, 2, None]
