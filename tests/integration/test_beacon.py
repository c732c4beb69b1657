"""The beacon's sockets, on the loopback: nodes of one host find each other, and bytes of strangers do no harm."""

import logging
import os
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grav_actors.discovery import beacon
from grav_actors.discovery.base import DiscoveryOptions
from grav_actors.discovery.beacon import Beacon
from grav_actors.discovery.beacon_core import MOST_ENDPOINTS
from grav_actors.discovery.beacon_frame import BeaconFrame, Kind, encode
from grav_actors.discovery.beacon_port import GROUP
from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.discovery.interfaces import Interface, list_interfaces
from grav_actors.errors import ConfigError
from support.ports import free_udp_port

LIMIT = 10.0
SECRET = b"a secret of some length"


class Node:
    """A beacon and what it has found."""

    def __init__(self, number: int, settings: BeaconSettings, uri: str = "") -> None:
        self.number, self.uuid = number, str(uuid.UUID(int=number))
        self.found: set[tuple[str, str]] = set()
        self._changed = threading.Condition()
        self.beacon = Beacon(settings)
        options = DiscoveryOptions(self.uuid, None if uri else number, uri)
        self.beacon.start(options, self._discovered)

    def _discovered(self, endpoint: str, node: str) -> None:
        with self._changed:
            self.found.add((endpoint, node))
            self._changed.notify_all()

    def wait_for(self, *others: "Node") -> None:
        wanted = {(f"tcp://127.0.0.1:{other.number}", other.uuid) for other in others}
        with self._changed:
            assert self._changed.wait_for(lambda: wanted <= self.found, LIMIT), self.found


class Stranger:
    """Sends whatever bytes to the group."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own = struct.pack("=4s4si", bytes(4), socket.inet_aton("127.0.0.1"), socket.if_nametoindex("lo"))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)

    def send(self, raw: bytes) -> None:
        self._socket.sendto(raw, (GROUP, self._port))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def port() -> int:
    return free_udp_port()


@pytest.fixture
def start(port: int) -> Iterator[Callable[..., Node]]:
    """Return `start(number, uri="", **settings)`: a node on the loopback that listens on that port."""
    nodes: list[Node] = []

    def start(number: int, uri: str = "", **settings: Any) -> Node:
        nodes.append(Node(number, BeaconSettings(port=port, interfaces=("lo",), **settings), uri))
        return nodes[-1]

    yield start
    for node in nodes:
        node.beacon.stop()


@pytest.fixture
def stranger(port: int) -> Iterator[Stranger]:
    one = Stranger(port)
    yield one
    one.close()


Start = Callable[..., Node]


def wait_until(state: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(LIMIT / 0.01)):
        if state():
            return
        pause.wait(0.01)
    pytest.fail("it did not come to that")


def test_nodes_of_one_host_find_each_other(start: Start) -> None:
    one, two, three = start(1001), start(1002), start(1003)

    one.wait_for(two, three)
    two.wait_for(one, three)
    three.wait_for(one, two)


def test_late_node_is_found_and_finds_at_once(start: Start) -> None:
    one = start(1001)
    wait_until(lambda: one.beacon.status().sent >= 4)  # the quick ones are over
    late = start(1002)

    late.wait_for(one)
    one.wait_for(late)


def test_node_that_comes_back_with_a_new_uuid_is_found_anew(start: Start) -> None:
    one, two = start(1001), start(1002)
    one.wait_for(two)
    two.beacon.stop()
    again = Node(1002, two.beacon._settings)
    try:
        one.wait_for(again)
    finally:
        again.beacon.stop()

    other = Node(1003, two.beacon._settings, "tcp://127.0.0.1:1002")
    try:
        wanted = ("tcp://127.0.0.1:1002", other.uuid)
        wait_until(lambda: wanted in one.found)
    finally:
        other.beacon.stop()


def test_same_secret_finds_and_others_do_not(start: Start, stranger: Stranger) -> None:
    one, two = start(1001, secret=SECRET), start(1002, secret=SECRET)
    plain, wrong = start(1003), start(1004, secret=b"another secret, as long")
    one.wait_for(two)
    two.wait_for(one)
    wait_until(lambda: {"unsigned", "forged"} <= one.beacon.status().refused.keys())
    wait_until(lambda: "signed" in plain.beacon.status().refused)

    assert {node for _, node in one.found} == {two.uuid}
    assert not plain.found
    assert not wrong.found


def test_garbage_is_counted_and_logged_once_for_each_cause(
    start: Start, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "grav_actors.discovery"):
        one, two = start(1001), start(1002)
        for size in range(0, 1400, 7):
            stranger.send(os.urandom(size))
        stranger.send(encode(BeaconFrame(Kind.HERE, bytes(16), 1))[:4] + bytes((9,)) + bytes(21))
        wait_until(lambda: one.beacon.status().refused.get("version", 0) > 0)
        one.wait_for(two)

    assert one.beacon.status().refused["malformed"] > 50
    assert len([line for line in caplog.messages if line.endswith("malformed; more of its kind are only counted")]) <= 2


def test_flood_of_100000_uuids_is_bounded_and_a_real_peer_is_found(start: Start, stranger: Stranger) -> None:
    one = start(1001)
    head = encode(BeaconFrame(Kind.HERE, bytes(16), 1))[:8]

    def flood(first: int, last: int) -> None:
        for number in range(first, last + 1):
            stranger.send(head + number.to_bytes(16, "big") + (number % 64_000 + 1000).to_bytes(2, "big"))

    flood(1, 50_000)
    late = start(1002)
    flood(50_001, 100_000)
    late.wait_for(one)
    one.wait_for(late)

    assert one.beacon.status().heard > 0
    assert one.beacon.status().endpoints <= MOST_ENDPOINTS
    assert len(one.found) < 1000


def test_port_of_a_program_that_does_not_share_it_is_named(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", port))
        with pytest.raises(ConfigError, match=f"UDP port {port} is taken by another program that does not share it"):
            Node(1001, BeaconSettings(port=port, interfaces=("lo",)))


def test_no_interface_is_told_and_is_no_error(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "grav_actors.discovery"):
        node = Node(1001, BeaconSettings(interfaces=("no-such-interface",)))
    node.beacon.stop()

    assert "no network interface can carry beacons now" in caplog.text


def test_status_tells_what_is_going_on(start: Start) -> None:
    one, two = start(1001), start(1002)
    one.wait_for(two)
    wait_until(lambda: one.beacon.status().echoes > 0)

    status = one.beacon.status()
    assert status.interfaces == ("lo",)
    assert status.sent > 0
    assert status.heard > 0
    assert status.endpoints == 1
    assert (dict(status.refused), dict(status.errors)) == ({}, {})
    assert Beacon().status().endpoints == 0


def test_beacons_of_a_node_without_a_port_are_not_sent(start: Start) -> None:
    one, silent = start(1001), start(1002, uri="ipc://")

    silent.wait_for(one)

    assert silent.beacon.status().sent == 0


def test_listener_on_an_address_of_no_interface_is_told(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "grav_actors.discovery"):
        node = start(1001, uri="tcp://192.0.2.99:1001")
        wait_until(lambda: "listens on 192.0.2.99, the first address of no interface" in caplog.text)

    assert node.beacon.status().sent == 0


def test_interfaces_that_cannot_be_listed_do_not_end_it(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[Interface]:
        raise OSError(24, "Too many open files")

    one = start(1001)
    with caplog.at_level(logging.WARNING, "grav_actors.discovery"):
        monkeypatch.setattr(beacon, "list_interfaces", fail)
        wait_until(lambda: "cannot be listed: [Errno 24] Too many open files" in caplog.text)
    monkeypatch.undo()
    two = start(1002)

    one.wait_for(two)
    two.wait_for(one)


def test_interfaces_of_this_machine_are_listed_with_the_loopback() -> None:
    found = {each.name: each for each in list_interfaces()}

    assert found["lo"].is_loopback
    assert found["lo"].ipv4 == "127.0.0.1"
    assert all(each.ipv4 or each.ipv6 for each in found.values())
