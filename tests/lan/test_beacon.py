"""Beacons between hosts with addresses of their own: who finds whom, and how soon."""

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator
from subprocess import PIPE, Popen

import pytest

from grav_actors.discovery.base import DiscoveryOptions
from grav_actors.discovery.beacon import Beacon
from support.lanlab import Host, Lan
from support.lanlab.programs import PROGRAM_LIMIT
from support.lanmesh.attacks import FLOOD

PROGRAM = """
import json, sys, time
from grav_actors.discovery.base import DiscoveryOptions
from grav_actors.discovery.beacon import Beacon

def discovered(endpoint, uuid):
    print(json.dumps([time.monotonic(), endpoint, uuid]), flush=True)

node, uri = sys.argv[1:]
beacon = Beacon()
beacon.start(DiscoveryOptions(node, None, uri), discovered)
print(json.dumps([time.monotonic(), "", ""]), flush=True)
sys.stdin.read()
beacon.stop()
"""
LIMIT = 40.0


class Node:
    """A beacon on a host, and what it has found. Times are those of the machine, the same for all hosts of a lab."""

    def __init__(self, host: Host, number: int, port: int, listens: str) -> None:
        self.host, self.port = host, port
        self.uuid = str(uuid.UUID(int=number))
        self.started = 0.0
        self._uri = f"tcp://{listens}:{port}"
        self._hints: dict[tuple[str, str], float] = {}
        self._latest: dict[tuple[str, str], float] = {}
        self._changed = threading.Condition()

    def start(self) -> None:
        """Run it in this process: a thread that is started on a host, and its sockets, stay there."""
        self._beacon = Beacon()
        with self.host.enter():
            self._beacon.start(DiscoveryOptions(self.uuid, None, self._uri), self._discovered)
        self.started = time.monotonic()

    def end(self) -> None:
        """End it as a user does."""
        self._beacon.stop()

    def close(self) -> None:
        self._beacon.stop()

    def _discovered(self, endpoint: str, node: str) -> None:
        self._note(time.monotonic(), endpoint, node)

    def _note(self, at: float, endpoint: str, node: str) -> None:
        with self._changed:
            if endpoint:
                self._hints.setdefault((endpoint, node), at)
                self._latest[endpoint, node] = at
            else:
                self.started = at
            self._changed.notify_all()

    def endpoint(self, network: int = 0) -> str:
        return f"tcp://{self.host.address(network)}:{self.port}"

    def found(self) -> dict[str, str]:
        """Return the uuid by endpoint of what was found, without what another network brought."""
        with self._changed:
            return dict(self._hints.keys())

    def found_at(self, other: "Node", *, network: int = 0, after: float = 0.0) -> float:
        """Wait until another node has been reported after a time; return when that was."""
        return self.reported(other.endpoint(network), other.uuid, after)

    def reported(self, endpoint: str, node: str, after: float = 0.0) -> float:
        """Wait until a hint has come after a time; return when it first did."""
        key = (endpoint, node)
        with self._changed:
            assert self._changed.wait_for(lambda: self._latest.get(key, 0.0) > after, LIMIT), (key, self._latest)
            return max(self._hints[key], after)

    def wait_for_interfaces(self, *names: str) -> None:
        """Wait until its beacons are sent on these interfaces and no other."""
        end = time.monotonic() + LIMIT
        while self._beacon.status().interfaces != names:
            assert time.monotonic() < end, self._beacon.status()
            threading.Event().wait(0.02)

    def hears_of(self, other: "Node", seconds: float) -> bool:
        """Tell whether another node is reported from now on within a time."""
        begin = time.monotonic()

        def is_reported() -> bool:
            return any(node == other.uuid and at > begin for (_, node), at in self._latest.items())

        with self._changed:
            return self._changed.wait_for(is_reported, seconds)


class Program(Node):
    """The same as a process on the host, which a power cut ends."""

    def start(self) -> None:
        argv = [sys.executable, "-u", "-c", PROGRAM, self.uuid, self._uri]
        self._process: Popen[str] = self.host.popen(argv, stdin=PIPE, stdout=PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        with self._changed:
            assert self._changed.wait_for(lambda: self.started, LIMIT), "the node did not start"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._note(*json.loads(line))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PROGRAM_LIMIT)
        self._reader.join(PROGRAM_LIMIT)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


Start = Callable[..., Node]


@pytest.fixture
def start_node(lan: Lan) -> Generator[Start]:
    """Return `start(host, port=7470, listens="0.0.0.0", kind=Node)`: a node on a host, with a uuid of its own."""
    nodes: list[Node] = []

    def start(host: int, port: int = 7470, listens: str = "0.0.0.0", kind: type[Node] = Node) -> Node:
        node = kind(lan.host(host), len(nodes) + 1, port, listens)
        node.start()
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        node.close()


def mesh_complete(nodes: list[Node]) -> float:
    """Wait until every node has found every other; return the seconds since the last of them has started."""
    end = max(node.found_at(other) for node in nodes for other in nodes if node is not other)
    return max(0.0, end - max(node.started for node in nodes))


@pytest.mark.lan(hosts=3)
def test_three_hosts_find_each_other(lan: Lan, start_node: Start) -> None:
    nodes = [start_node(host) for host in range(3)]

    elapsed = mesh_complete(nodes)

    lan.note("full mesh", seconds=elapsed)
    assert {node.found()[other.endpoint()] for node in nodes for other in nodes if node is not other} == {
        node.uuid for node in nodes
    }


@pytest.mark.lan(hosts=10)
def test_ten_hosts_find_each_other(lan: Lan, start_node: Start) -> None:
    nodes = [start_node(host) for host in range(10)]

    lan.note("full mesh", seconds=mesh_complete(nodes))


@pytest.mark.lan(hosts=2)
def test_nodes_of_one_host_find_each_other_and_those_elsewhere(lan: Lan, start_node: Start) -> None:
    nodes = [start_node(0, 7470), start_node(0, 7471), start_node(1, 7470)]

    mesh_complete(nodes)


@pytest.mark.lan(hosts=3)
def test_partition_hides_and_heal_brings_back(lan: Lan, start_node: Start) -> None:
    one, two, three = (start_node(host) for host in range(3))
    mesh_complete([one, two, three])

    lan.partition(0, 1)
    late = start_node(0, 7480)
    three.found_at(late)
    assert not two.hears_of(late, 1.5)

    lan.heal()
    healed = time.monotonic()
    two.found_at(late, after=healed)
    one.found_at(two, after=healed)
    two.found_at(one, after=healed)


@pytest.mark.lan(hosts=2)
def test_host_that_returns_from_a_power_cut_has_a_new_uuid_on_the_old_address(lan: Lan, start_node: Start) -> None:
    one, before = start_node(0), start_node(1, kind=Program)
    mesh_complete([one, before])

    lan.host(1).kill()
    lan.host(1).boot()
    after = start_node(1, kind=Program)

    assert (after.endpoint(), after.uuid != before.uuid) == (before.endpoint(), True)
    lan.note("back", seconds=mesh_complete([one, after]))


@pytest.mark.lan(hosts=2)
def test_node_that_starts_again_is_found_with_its_new_uuid(lan: Lan, start_node: Start) -> None:
    one, before = start_node(0), start_node(1)
    mesh_complete([one, before])

    before.end()
    after = start_node(1)

    one.found_at(after)


@pytest.mark.lan(hosts=3)
def test_host_with_two_interfaces_finds_the_nodes_of_both_networks(lan: Lan, start_node: Start) -> None:
    lan.host(1).plug_in(1)
    lan.host(2).plug_in(1)
    lan.host(2).pull_out(0)
    here, both, there = (start_node(host) for host in range(3))

    both.found_at(here)
    here.found_at(both)
    both.found_at(there, network=1)
    there.found_at(both, network=1)
    assert all(node.uuid not in other.found().values() for node, other in ((here, there), (there, here)))


@pytest.mark.lan(hosts=2)
def test_interface_that_comes_while_a_node_runs_is_taken_up(lan: Lan, start_node: Start) -> None:
    one, two = start_node(0), start_node(1)
    mesh_complete([one, two])

    for host in lan.hosts:
        host.plug_in(1)
    one.found_at(two, network=1)
    two.found_at(one, network=1)

    lan.host(0).pull_out(1)
    plugged = time.monotonic()
    lan.host(0).plug_in(1)
    one.found_at(two, network=1, after=plugged)
    two.found_at(one, network=1, after=plugged)


@pytest.mark.lan(hosts=2)
def test_cable_that_is_put_back_is_taken_up(lan: Lan, start_node: Start) -> None:
    one, two = start_node(0), start_node(1)
    mesh_complete([one, two])
    lan.host(1).link_down()
    two.wait_for_interfaces("lo")

    lan.host(1).link_up()
    back = time.monotonic()

    one.found_at(two, after=back)
    two.found_at(one, after=back)


@pytest.mark.lan(hosts=2)
def test_node_that_has_no_network_yet_is_found_once_it_has(lan: Lan, start_node: Start) -> None:
    lan.host(1).run("ip addr flush dev eth0")
    one, two = start_node(0), start_node(1)
    assert not one.hears_of(two, 0.5)

    lan.host(1).run(f"ip addr add {lan.host(1).ip}/24 dev eth0")

    one.found_at(two)
    two.found_at(one)


@pytest.mark.lan(hosts=2)
def test_hosts_without_ipv4_find_each_other_by_ipv6(lan: Lan, start_node: Start) -> None:
    for host in lan.hosts:
        host.run("ip -4 addr flush dev eth0")
    one, two = start_node(0, listens="*"), start_node(1, listens="*")
    addresses = [host.run("ip -6 -br addr show dev eth0 scope link").split()[2] for host in lan.hosts]
    endpoints = [f"tcp://[{address.partition('/')[0]}%eth0]:7470" for address in addresses]

    one.reported(endpoints[1], two.uuid)
    two.reported(endpoints[0], one.uuid)


@pytest.mark.lan(hosts=3)
def test_flood_of_100000_uuids_from_one_host_leaves_the_others_alone(lan: Lan, start_node: Start) -> None:
    one = start_node(0)
    flood = lan.host(2).popen([sys.executable, "-c", FLOOD])
    two = start_node(1)

    one.found_at(two)
    two.found_at(one)

    flood.wait(LIMIT)
    assert len([endpoint for endpoint in one.found() if endpoint.startswith(f"tcp://{lan.host(2).ip}:")]) < 500


@pytest.mark.lan(hosts=2)
def test_loss_only_delays(lan: Lan, start_node: Start) -> None:
    lan.netem([0, 1], loss="50%", delay="20ms", jitter="5ms")

    mesh_complete([start_node(0), start_node(1)])
