"""Addresses: what is taken, what stands for every address, what is reached by whom."""

import pytest

from grav_actors.errors import ConfigError, ConnectionClosedError
from grav_actors.transports.tcp_address import TcpAddress, is_loopback, listening_address, plain_host


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("tcp://10.77.0.1:7470", TcpAddress("10.77.0.1", 7470)),
        ("tcp://farm.example:7470", TcpAddress("farm.example", 7470)),
        ("tcp://[fe80::1%eth0]:7470", TcpAddress("fe80::1%eth0", 7470)),
        ("tcp://0.0.0.0", TcpAddress("0.0.0.0", 0)),
        ("tcp://*:7470", TcpAddress("::", 7470)),
    ],
)
def test_endpoint_is_an_address_and_back(endpoint: str, address: TcpAddress) -> None:
    assert TcpAddress.parse(endpoint) == address
    assert TcpAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "tcp://",
        "tcp://:7470",
        "tcp://a:",
        "tcp://a:x",
        "tcp://a:65536",
        "tcp://::1:7470",
        "udp://a:1",
        "tcp://a b:1",
    ],
)
def test_what_is_no_endpoint_has_no_address(endpoint: str) -> None:
    assert TcpAddress.parse(endpoint) is None


@pytest.mark.parametrize(
    ("port", "uri", "address"),
    [
        (None, "", "tcp://127.0.0.1:0"),
        (7470, "", "tcp://127.0.0.1:7470"),
        (7470, "0.0.0.0", "tcp://0.0.0.0:7470"),
        (None, "tcp://0.0.0.0:7470", "tcp://0.0.0.0:7470"),
        (7480, "tcp://0.0.0.0:7470", "tcp://0.0.0.0:7480"),
        (0, "tcp://localhost", "tcp://127.0.0.1:0"),
        (0, "[::1]", "tcp://[::1]:0"),
    ],
)
def test_what_is_listened_on_is_the_loopback_unless_said_otherwise(port: int | None, uri: str, address: str) -> None:
    assert str(listening_address(port, uri)) == address


def test_what_cannot_be_listened_on_says_what_can() -> None:
    with pytest.raises(ConfigError, match='allowed are a host like "tcp://0.0.0.0"'):
        listening_address(0, "ipc:///tmp/x")


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False), ("0.0.0.0", False), ("::", False), ("farm.example", False),
    ],
)  # fmt: skip
def test_only_the_loopback_is_out_of_reach_of_others(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


def test_wildcard_is_the_host_under_which_it_was_seen() -> None:
    assert str(TcpAddress("0.0.0.0", 7470).seen_from("10.77.0.2")) == "tcp://10.77.0.2:7470"
    assert str(TcpAddress("::", 7470).seen_from("fe80::1%eth0")) == "tcp://[fe80::1%eth0]:7470"
    assert str(TcpAddress("10.0.0.1", 7470).seen_from("10.77.0.2")) == "tcp://10.0.0.1:7470"


def test_ipv4_address_that_is_written_as_ipv6_is_plain() -> None:
    assert [plain_host(host) for host in ("::ffff:10.0.0.1", "10.0.0.1", "fe80::1%eth0", "name")] == [
        "10.0.0.1", "10.0.0.1", "fe80::1%eth0", "name",
    ]  # fmt: skip


def test_address_needs_no_lookup_and_a_name_that_is_none_is_no_connection() -> None:
    address = TcpAddress("10.0.0.1", 1)

    assert address.resolve() is address
    assert TcpAddress("localhost", 7).resolve() == TcpAddress("127.0.0.1", 7)
    with pytest.raises(ConnectionClosedError, match="cannot be looked up"):
        TcpAddress("no..such..name", 7).resolve()
