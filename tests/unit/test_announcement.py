"""What a beacon says of a node, and where."""

import socket
import uuid

import pytest

from grav_actors.discovery.announcement import Announcement
from grav_actors.discovery.base import DiscoveryOptions
from grav_actors.discovery.beacon_frame import BeaconFrame, Kind
from grav_actors.discovery.interfaces import Interface
from grav_actors.errors import ConfigError

NODE = uuid.UUID(int=7)
LO = Interface(1, "lo", "127.0.0.1", "", is_loopback=True)
LAN = Interface(2, "eth0", "10.77.0.1", "fe80::1")
WLAN = Interface(3, "wlan0", "10.78.0.1", "fe80::2")


def announced(uri: str = "", port: int | None = None) -> Announcement:
    return Announcement.of(DiscoveryOptions(str(NODE), port, uri))


@pytest.mark.parametrize(
    ("uri", "port", "shown", "form"),
    [
        ("", 7470, 7470, "tcp://"),
        ("tcp://0.0.0.0:7470", None, 7470, "tcp://"),
        ("tcp://*:0", 7470, 7470, "tcp://"),
        ("tcp://[::]:7470", 7471, 7471, "tcp://"),
        ("ws:///mesh", 80, 80, "ws:///mesh"),
        ("ws://10.77.0.1:80/mesh", None, 80, "ws:///mesh"),
        ("/mesh", 80, 80, "tcp:///mesh"),
    ],
)
def test_endpoint_or_a_part_of_one_is_announced(uri: str, port: int | None, shown: int, form: str) -> None:
    assert announced(uri, port).frame == BeaconFrame(Kind.HERE, NODE.bytes, shown, form)


@pytest.mark.parametrize(("uri", "port"), [("", None), ("tcp://*:0", None), ("ipc://", None)])
def test_node_without_a_port_is_not_announced(uri: str, port: int | None) -> None:
    assert announced(uri, port).frame is None


@pytest.mark.parametrize("uri", ["tcp://a:b:c", "ws:///" + "x" * 100, "ws:///a b", "WS:///", "tcp://a:70000"])
def test_what_fits_in_no_beacon_is_refused(uri: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^transport_uri is \"(tcp|ws|WS)://.*; a (beacon can carry|beacon carries|port is at most)"
    ):
        announced(uri)


def test_node_uuid_must_be_one() -> None:
    with pytest.raises(ConfigError, match='a beacon can only carry a UUID, not "node-1"'):
        Announcement.of(DiscoveryOptions("node-1", 7470))


def where(uri: str) -> list[str]:
    """Return interfaces and families on which a node is announced that listens there."""
    places = [(each, family) for each in (LO, LAN, WLAN) for family in (socket.AF_INET, socket.AF_INET6)]
    announcement = announced(uri)
    return [f"{each.name}{family.name[7:]}" for each, family in places if announcement.is_for(each, family)]


@pytest.mark.parametrize(
    ("host", "places"),
    [
        ("*", ["lo", "lo6", "eth0", "eth06", "wlan0", "wlan06"]),
        ("[::]", ["lo", "lo6", "eth0", "eth06", "wlan0", "wlan06"]),
        ("farm.example", ["lo", "lo6", "eth0", "eth06", "wlan0", "wlan06"]),
        ("0.0.0.0", ["lo", "eth0", "wlan0"]),
        ("127.0.0.1", ["lo", "lo6"]),
        ("localhost", ["lo", "lo6"]),
        ("[::1]", ["lo", "lo6"]),
        ("10.78.0.1", ["wlan0"]),
        ("10.99.0.1", []),
        ("[fe80::1%eth0]", ["eth06"]),
    ],
)
def test_node_is_announced_where_its_listener_can_be_reached(host: str, places: list[str]) -> None:
    assert where(f"tcp://{host}:7470") == places
