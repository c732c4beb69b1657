"""How a node is tied to another messaging system: a pod of its own for each topic, which the bridge drives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from grav_actors.errors import ConfigError, ConnectionClosedError
from grav_actors.options import show
from grav_actors.pod.pod import Pod
from grav_actors.registry import plugin_instance
from grav_actors.transports import load as load_transport
from grav_actors.transports.base import BridgeConnection, BridgeTransport, TransportOptions


class Bridge:
    """The bridge of a node. Any thread may call any method.

    Args:
        transport: Not set up yet.
        connect: Makes a pod.

    Raises:
        ConfigError: The bridge cannot work as asked.
    """

    def __init__(self, transport: BridgeTransport, options: TransportOptions, connect: Callable[[], Pod]) -> None:
        self._transport = transport
        self._connect = connect
        self._lock = threading.Lock()
        self._topics: dict[str, BridgeConnection | None] = {}  # None while one is being connected
        self._is_stopped = False
        transport.setup(options)

    def connect_topic(self, topic: str) -> None:
        """Carry a topic's messages both ways until the node stops; one that is connected stays so.

        Raises:
            ConfigError: It is no topic of that system.
            ConnectionClosedError: That system is not reachable, or the node is stopped.
        """
        if not isinstance(topic, str):
            raise ConfigError(f"topic is {show(topic)}: allowed is text, the name of a topic of the bridge")
        with self._lock:
            if self._is_stopped:
                raise ConnectionClosedError("this node is stopped; make a new Grav")
            if topic in self._topics:
                return
            self._topics[topic] = None
        try:
            connection = self._start(topic)
        except BaseException:
            with self._lock:
                self._topics.pop(topic, None)
            raise
        if not self._keep(topic, connection):
            connection.close()
            raise ConnectionClosedError("this node was stopped meanwhile; make a new Grav")

    def _keep(self, topic: str, connection: BridgeConnection) -> bool:
        with self._lock:
            if not self._is_stopped:
                self._topics[topic] = connection
            return not self._is_stopped

    def _start(self, topic: str) -> BridgeConnection:
        connection = self._transport.connect_topic(topic)
        pod = self._connect()
        try:
            connection.start(pod)
        except BaseException:
            connection.close()
            pod.disconnect()
            raise
        return connection

    def stop(self) -> None:
        """Leave all topics. Idempotent; the pods are left to the node."""
        with self._lock:
            self._is_stopped = True
            connections = [connection for connection in self._topics.values() if connection is not None]
            self._topics.clear()
        for connection in reversed(connections):
            connection.close()


def plan_bridge(bridge: Any) -> BridgeTransport | None:
    """Check what a user asks of a bridge; None for a node without one.

    Raises:
        ConfigError: It is none, and there is none of that name.
    """
    if bridge is None:
        return None
    allowed = "the name of a bridge, or an instance of one; see grav_actors.transports.base.BridgeTransport"
    made: BridgeTransport = plugin_instance("bridge", bridge, load_transport, BridgeTransport, allowed)
    return made
