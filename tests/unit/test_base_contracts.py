"""The contracts of transports and discoveries: their values, and that a plain class fulfils them."""

import ast
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grav_actors.discovery import base as discovery_base
from grav_actors.discovery.base import Discovery, DiscoveryFunc, DiscoveryOptions
from grav_actors.errors import ConfigError
from grav_actors.message import Message
from grav_actors.transports import base as transports_base
from grav_actors.transports.base import (
    HANDSHAKE_VERSION,
    TRANSPORT_MSG_HANDSHAKE,
    TRANSPORT_MSG_USER,
    BridgeConnection,
    BridgePod,
    BridgeTransport,
    ConnectFunc,
    Connection,
    FindFunc,
    Handshake,
    HandshakeAck,
    HandshakeFunc,
    LinkDown,
    ReceiveFunc,
    Transport,
    TransportOptions,
    Withdraw,
)

VALUES: list[Any] = [
    TransportOptions("node"),
    Handshake("node"),
    HandshakeAck(accept=True, uuid="node"),
    Withdraw("node"),
    LinkDown(),
    DiscoveryOptions("node"),
]


class PlainConnection:
    """Inherits nothing, as a third party's may."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.receive: ReceiveFunc | None = None

    def start(self, receive_func: ReceiveFunc) -> None:
        self.receive = receive_func

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def can_replace(self) -> bool:
        return False

    def do_outgoing_handshake(self, handshake: Handshake) -> HandshakeAck:
        return HandshakeAck(accept=True, uuid=handshake.uuid)

    def do_incoming_handshake(self, callback: HandshakeFunc) -> None:
        callback(Handshake("peer"))

    def send_withdraw(self, withdraw: Withdraw) -> None:
        pass

    def close(self) -> None:
        pass


class PlainTransport:
    def setup(self, options: TransportOptions, connect_func: ConnectFunc, find_func: FindFunc) -> str:
        connect_func(PlainConnection())
        return options.uri

    def connect(self, endpoint: str) -> Connection:
        return PlainConnection()

    def close(self) -> None:
        pass


class PlainBridgeConnection:
    def start(self, pod: BridgePod) -> None:
        pod.on(None)

    def close(self) -> None:
        pass


class PlainBridge:
    def setup(self, options: TransportOptions) -> None:
        pass

    def connect_topic(self, topic: str) -> BridgeConnection:
        return PlainBridgeConnection()


class PlainDiscovery:
    def start(self, options: DiscoveryOptions, discovered: DiscoveryFunc) -> None:
        discovered("tcp://127.0.0.1:7470", "")

    def stop(self) -> None:
        pass


# The type checkers hold these to the contracts; nothing of them is called.
CONTRACTS: list[tuple[type, Callable[[], object]]] = [
    (Connection, PlainConnection),
    (Transport, PlainTransport),
    (BridgeConnection, PlainBridgeConnection),
    (BridgeTransport, PlainBridge),
    (Discovery, PlainDiscovery),
]
CONNECTION: Connection = PlainConnection()
TRANSPORT: Transport = PlainTransport()
BRIDGE: BridgeTransport = PlainBridge()
DISCOVERY: Discovery = PlainDiscovery()


@pytest.mark.parametrize(("contract", "implementation"), CONTRACTS)
def test_plain_class_fulfils_the_contract(contract: type, implementation: Callable[[], object]) -> None:
    assert isinstance(implementation(), contract)


@pytest.mark.parametrize("contract", [contract for contract, _ in CONTRACTS])
def test_anything_else_does_not(contract: type) -> None:
    assert not isinstance(object(), contract)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_slotted_and_hashable(value: Any) -> None:
    name = dataclasses.fields(value)[0].name

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "other")
    assert not hasattr(value, "__dict__")
    assert hash(value) == hash(dataclasses.replace(value))


@pytest.mark.parametrize("options", [TransportOptions, DiscoveryOptions])
def test_options_need_the_uuid_of_their_node(options: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match="node_uuid is empty"):
        options("")


@pytest.mark.parametrize("port", [None, 0, 1, 65535])
def test_transport_port_may_be_default_any_or_a_port(port: int | None) -> None:
    assert TransportOptions("node", port).port == port


@pytest.mark.parametrize("port", [-1, 65536])
def test_transport_port_out_of_range_says_what_was_seen_and_allowed(port: int) -> None:
    with pytest.raises(ConfigError, match=f"port is {port}: allowed are 1 to 65535, 0 for any"):
        TransportOptions("node", port)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_announced_port_must_be_a_real_one(port: int) -> None:
    with pytest.raises(ConfigError, match=f"transport_port is {port}: allowed are 1 to 65535"):
        DiscoveryOptions("node", port)


def test_loggers_default_to_those_of_the_plug_in_packages() -> None:
    assert TransportOptions("node").logger is logging.getLogger("grav_actors.transports")
    assert DiscoveryOptions("node").logger is logging.getLogger("grav_actors.discovery")


def test_handshake_of_a_node_without_a_group_fits_every_group() -> None:
    assert (Handshake("node").belongs_to, HandshakeAck(accept=True, uuid="node").belongs_to) == ("*", "*")
    assert Handshake("node").version == HANDSHAKE_VERSION


def test_kinds_of_frames_are_those_of_grav() -> None:
    assert (TRANSPORT_MSG_HANDSHAKE, TRANSPORT_MSG_USER) == (1, 2)


@pytest.mark.parametrize("module", [transports_base, discovery_base], ids=["transports", "discovery"])
def test_every_part_of_a_contract_is_documented(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    undocumented = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]

    assert not undocumented
