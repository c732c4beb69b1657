"""The transport over ZeroMQ with keys: the contract holds, and who has not the right key gets nowhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from grav_actors.errors import ConfigError, ConnectionClosedError, ProtocolError
from grav_actors.ids import id_text, new_id
from grav_actors.mesh.keys import KeyFolder
from grav_actors.transports.base import MeshFrame, Subscribed, TransportOptions
from grav_actors.transports.zeromq import ZeroMQTransport
from grav_actors.transports.zeromq_wire import Kind, envelope
from support.transport_contract import PATIENCE, Answering, MeshTransportContract, Node, link

Folders = Callable[..., list[KeyFolder]]
Start = Callable[..., Node]


def make_folders(where: Path, count: int, *, strangers: int = 0) -> list[KeyFolder]:
    """Return folders that allow each other, and then some that know the others and are known to nobody."""
    folders = [KeyFolder(where / f"node{index}") for index in range(count + strangers)]
    pairs = [folder.new(folder.path.name) for folder in folders]
    for index, folder in enumerate(folders):
        for other, pair in enumerate(pairs[:count]):
            if index != other:
                folder.allow(pair.public())
    return folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return lambda count, strangers=0: make_folders(tmp_path, count, strangers=strangers)


@pytest.fixture
def start() -> Iterator[Start]:
    nodes: list[Node] = []

    def start(folder: KeyFolder | None, *, uuid: str = "", port: int = 0, uri: str = "") -> Node:
        custom = {"keys": folder.path if folder is not None else None}
        node = Node(ZeroMQTransport(), TransportOptions(uuid or id_text(new_id()), port, uri, custom=custom))
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        node.transport.close()


class TestZeroMQWithKeys(MeshTransportContract):
    @pytest.fixture(autouse=True)
    def keys(self, tmp_path: Path) -> None:
        self.folders = itertools.cycle(make_folders(tmp_path, 3))

    def make(self) -> ZeroMQTransport:
        return ZeroMQTransport()

    def options(self, uuid: str) -> TransportOptions:
        return TransportOptions(uuid, port=0, custom={"keys": next(self.folders).path})

    def unreachable(self) -> str:
        return "tcp://127.0.0.1:9"


def dial(one: Node, other: Node, **fields: Any) -> Any:
    connection = one.transport.connect(other.endpoint)
    try:
        return connection.do_outgoing_handshake(one.handshake(**fields))
    finally:
        connection.close()


def test_with_keys_it_listens_on_every_address(folders: Folders, start: Start) -> None:
    assert start(folders(1)[0], uri="tcp://0.0.0.0").endpoint.startswith("tcp://0.0.0.0:")


def test_folder_without_a_pair_is_a_config_error(tmp_path: Path, start: Start) -> None:
    with pytest.raises(ConfigError, match="grav-actors keys new"):
        start(KeyFolder(tmp_path))


def test_secret_that_others_can_read_is_refused(folders: Folders, start: Start) -> None:
    (folder,) = folders(1)
    folder.pair_file.chmod(0o644)

    with pytest.raises(ConfigError, match="has mode 0644"):
        start(folder)


def test_key_that_is_not_allowed_is_turned_away_and_told(folders: Folders, start: Start) -> None:
    known, stranger = folders(1, strangers=1)
    node, other = start(known), start(stranger)

    with pytest.raises(ConnectionClosedError, match="does not allow this node's key"):
        dial(other, node)
    assert node.incoming.empty()


def test_node_whose_key_is_not_allowed_is_not_dialled(folders: Folders, start: Start) -> None:
    known, stranger = folders(1, strangers=1)
    node, other = start(known), start(stranger)

    with pytest.raises(ConnectionClosedError, match="the node there has none of the 0 keys"):
        dial(node, other)
    assert other.incoming.empty()


def test_key_is_found_among_many(folders: Folders, start: Start) -> None:
    all_folders = folders(12)
    node, last = start(all_folders[0]), start(all_folders[-1])
    answering = Answering(last, last.accept())

    assert dial(node, last).accept
    answering.join(PATIENCE)
    answering.connection.close()


@pytest.mark.parametrize("has_keys", [True, False])
def test_with_and_without_keys_do_not_fit(folders: Folders, start: Start, *, has_keys: bool) -> None:
    folder = folders(2)[0]
    one, other = (start(folder), start(None)) if has_keys else (start(None), start(folder))

    with pytest.raises(ConnectionClosedError):
        dial(one, other)
    assert other.incoming.empty()


def test_key_counts_from_when_it_is_allowed_and_no_longer_than_that(folders: Folders, start: Start) -> None:
    known, stranger = folders(1, strangers=1)
    node, other = start(known), start(stranger)
    with pytest.raises(ConnectionClosedError):
        dial(other, node)

    path = known.allow(stranger.pair().public())
    answering = Answering(node, node.accept())
    assert dial(other, node).accept
    answering.join(PATIENCE)
    answering.connection.close()

    path.unlink()
    with pytest.raises(ConnectionClosedError, match="does not allow this node's key"):
        dial(other, node)


def test_uuid_belongs_to_the_key_that_showed_it_first(folders: Folders, start: Start) -> None:
    node, owner, thief = (start(folder) for folder in folders(3))
    sides = link(owner, node)

    with pytest.raises(ConnectionClosedError, match="was here with another key before"):
        dial(thief, node, uuid=owner.uuid)
    assert node.incoming.empty()
    sides[0].connection.ask(b"still here")
    assert sides[1].next_of(MeshFrame).header == b"still here"


def test_answer_with_the_uuid_of_another_is_refused(folders: Folders, start: Start) -> None:
    node, owner, thief = (start(folder) for folder in folders(3))
    link(node, owner)
    answering = Answering(thief, thief.accept(uuid=owner.uuid))

    with pytest.raises(ProtocolError, match="was here with another key before"):
        dial(node, thief)
    answering.join(PATIENCE)
    answering.connection.close()


def test_many_made_up_uuids_push_out_none_of_another_key(folders: Folders, start: Start) -> None:
    node, owner, thief = (start(folder) for folder in folders(3))
    curve = node.transport._curve
    keys = [each.transport._curve._public for each in (owner, thief)]
    assert curve.check_uuid("theirs", keys[0]) == ""
    for number in range(1000):
        curve.check_uuid(str(number), keys[1])

    assert curve.check_uuid("theirs", keys[1])
    assert len(curve._owners) < 100


@pytest.mark.parametrize(
    "request_frames",
    [
        [],
        [b"1.0"],
        [b"1.0", b"7", b"grav-actors", b"h", b"", b"NULL"],
        [b"1.0", b"7", b"grav-actors", b"h", b"", b"PLAIN", b"a", b"b"],
        [b"1.0", b"7", b"other", b"h", b"", b"CURVE", bytes(32)],
        [b"2.0", b"7", b"grav-actors", b"h", b"", b"CURVE", bytes(32)],
        [b"1.0", b"7", b"grav-actors", b"h", b"", b"CURVE", bytes(31)],
        [b"1.0", b"7", b"grav-actors", b"h", b"", b"CURVE", bytes(32)],
        [b"1.0", b"7", b"grav-actors", b"\xff", b"", b"CURVE", bytes(32)],
    ],
)
def test_whatever_is_not_an_allowed_key_is_refused(folders: Folders, start: Start, request_frames: list[bytes]) -> None:
    node = start(folders(1)[0])
    status = node.transport._curve.decide(request_frames)[2]

    assert status in (b"400", b"500")


def test_refusal_of_the_folder_lets_nobody_in(folders: Folders, start: Start) -> None:
    first, second = folders(2)
    one, other = start(first), start(second)
    first.allowed_folder.chmod(0o777)

    with pytest.raises(ConnectionClosedError, match="does not allow this node's key"):
        dial(other, one)


class Eavesdropper:
    """A subscriber and a requester of somebody with other ideas."""

    def __init__(self, node: Node, folder: KeyFolder | None, server: KeyFolder) -> None:
        self._context = zmq.Context()
        transport = node.transport
        self.sub = self._socket(zmq.SUB, folder, server)
        self.sub.subscribe(b"")
        self.sub.connect(f"tcp://127.0.0.1:{transport.stream_port}")
        self.dealer = self._socket(zmq.DEALER, folder, server)
        self.dealer.connect(node.endpoint)

    def _socket(self, kind: int, folder: KeyFolder | None, server: KeyFolder) -> zmq.Socket[Any]:
        made: zmq.Socket[Any] = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        if folder is not None:
            pair = folder.pair()
            made.setsockopt_string(zmq.CURVE_SERVERKEY, server.pair().public_key)
            made.setsockopt_string(zmq.CURVE_PUBLICKEY, pair.public_key)
            made.setsockopt_string(zmq.CURVE_SECRETKEY, pair.secret_key)
        return made

    def close(self) -> None:
        self._context.destroy(0)


@pytest.mark.parametrize("has_keys", [True, False])
def test_stranger_reads_nothing_and_is_not_heard(folders: Folders, start: Start, *, has_keys: bool) -> None:
    first, second, stranger = folders(2, strangers=1)
    node, peer = start(first), start(second)
    mine, theirs = link(node, peer)
    theirs.connection.subscribe((b"t",))
    mine.next_of(Subscribed)
    eve = Eavesdropper(node, stranger if has_keys else None, first)
    try:
        eve.dealer.send_multipart([b"0001", b"", envelope(Kind.BYE, mine.connection.token), b"", b""])
        for _ in range(20):
            node.transport.publish(b"t", b"secret")
        assert theirs.next_of(MeshFrame).header == b"secret"
        assert not eve.sub.poll(200)
    finally:
        eve.close()
    mine.connection.ask(b"still here")
    while theirs.next_of(MeshFrame).header != b"still here":
        pass


def test_token_counts_only_with_the_key_of_its_link(folders: Folders, start: Start) -> None:
    first, second, third = folders(3)
    node, peer = start(first), start(second)
    mine, theirs = link(node, peer)
    eve = Eavesdropper(node, third, first)  # an allowed node, but another one
    try:
        eve.dealer.send_multipart([b"0001", b"", envelope(Kind.BYE, mine.connection.token), b"", b""])
        assert eve.dealer.poll(int(PATIENCE * 1000))
        assert eve.dealer.recv_multipart()[2][3] == Kind.GONE
    finally:
        eve.close()
    mine.connection.ask(b"still here")
    assert theirs.next_of(MeshFrame).header == b"still here"
