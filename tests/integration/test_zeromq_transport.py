"""The transport over ZeroMQ: the contract of all transports, and what is its own."""

import socket
from collections.abc import Iterator

import pytest

from grav_actors import ConfigError, transports
from grav_actors.transports.base import TransportOptions
from grav_actors.transports.zeromq import ZeroMQTransport
from support.transport_contract import MeshTransportContract


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
