"""A node on a host of a lab: a program that does what it is told, one line of JSON at a time, and answers each."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from grav_actors import Grav, Message
from grav_actors.mesh.core import MeshCore
from grav_actors.transports.base import ConnectFunc, FindFunc, TransportOptions
from grav_actors.transports.zeromq import ZeroMQTransport

PATIENCE = 60.0


class TimedTransport(ZeroMQTransport):
    """Notes when its listener was bound."""

    bound_at = 0.0

    def setup(self, options: TransportOptions, connect_func: ConnectFunc, find_func: FindFunc) -> str:
        endpoint = super().setup(options, connect_func, find_func)
        self.bound_at = time.monotonic()
        return endpoint


class Origin:
    """What has come from one sender: messages numbered from 1, of several types."""

    def __init__(self) -> None:
        self.count = self.last = self.duplicates = self.disorder = self.missing = 0
        self.last_at = 0.0

    def take(self, number: int) -> None:
        self.count += 1
        self.last_at = time.monotonic()
        if number == self.last:
            self.duplicates += 1
        elif number < self.last:
            self.disorder += 1
        else:
            self.missing += number - self.last - 1
            self.last = number


class Node:
    """The node, and the pods that send, collect and watch."""

    def __init__(self, config: dict[str, Any]) -> None:
        retransmit = config.pop("retransmit", 0)
        if retransmit:
            defaults: Any = MeshCore.__init__.__kwdefaults__
            defaults["retransmit"] = retransmit
        self._config = config
        self._changed = threading.Condition()
        self._open()

    def _open(self) -> None:
        self._transport = TimedTransport()
        self.grav = Grav(transport=self._transport, **self._config)
        self.origins: dict[str, Origin] = {}
        self.events: list[list[Any]] = []
        self._collector = self.grav.connect("collector")
        self._collector.on_type("load.>", self._collect)
        self._watcher = self.grav.connect("watcher")
        self._watcher.on_type("grav.sys.node.*", self._watch)
        self._sender = self.grav.connect("sender")
        self._sent = 0
        self._is_publishing = False
        self._publisher: threading.Thread | None = None

    def _collect(self, message: Message) -> None:
        origin, number, *_ = message.data
        with self._changed:
            self.origins.setdefault(origin, Origin()).take(number)
            self._changed.notify_all()

    def _watch(self, message: Message) -> None:
        kind = message.type.rpartition(".")[2]
        with self._changed:
            self.events.append([time.monotonic(), kind, message.data])
            self._changed.notify_all()

    # What it is told

    def about(self) -> dict[str, Any]:
        return {
            "uuid": self.grav.node_uuid,
            "endpoint": self.grav._hub.endpoint if self.grav._hub is not None else "",
            "bound_at": self._transport.bound_at,
            "bad_frames": self._transport.bad_frames,
        }

    def reopen(self) -> dict[str, Any]:
        """Start anew, with a new uuid."""
        self.grav.stop()
        self._open()
        return self.about()

    def connect(self, endpoint: str, timeout: float = PATIENCE) -> dict[str, Any]:
        self.grav.connect_endpoint(endpoint, timeout)
        return {}

    def wait_for_peers(self, count: int, timeout: float = PATIENCE) -> dict[str, Any]:
        self.grav.wait_for_peers(count, timeout)
        return {"at": time.monotonic()}

    def wait_for(self, uuid: str, state: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait until a peer is in a state; "not up" for any but that."""
        end = time.monotonic() + timeout
        while True:
            found = next((peer.state for peer in self.grav.peers() if peer.uuid == uuid), "unknown")
            if found == state or (state == "not up" and found != "up"):
                return {"at": time.monotonic(), "state": found}
            if time.monotonic() > end:
                raise TimeoutError(f"peer {uuid} is {found}, not {state}, after {timeout} s")
            time.sleep(0.01)

    def burst(self, uuid: str, count: int) -> dict[str, Any]:
        """Wait until a peer is up, and publish at once."""
        while not any(peer.uuid == uuid for peer in self.grav.wait_for_peers(1, PATIENCE) if peer.state == "up"):
            time.sleep(0.001)
        return self.send(count)

    def send(self, count: int, first: int = 1, size: int = 0) -> dict[str, Any]:
        """Publish so many at once, each with so many bytes besides."""
        for number in range(first, first + count):
            self._sender.publish(f"load.{number % 3}", [self.grav.node_uuid, number, bytes(size)])
        return {}

    def publish(self, rate: int, types: int = 5) -> dict[str, Any]:
        """Begin to publish, over several types, so many messages a second."""
        self._is_publishing = True
        self._publisher = threading.Thread(target=self._publish, args=(rate, types))
        self._publisher.start()
        return {}

    def _publish(self, rate: int, types: int) -> None:
        began, number = time.monotonic(), 0
        while self._is_publishing:
            while number < (time.monotonic() - began) * rate:
                number += 1
                self._sender.publish(f"load.{number % types}", [self.grav.node_uuid, number])
            time.sleep(0.01)
        self._sent = number

    def stop_publishing(self) -> dict[str, Any]:
        self._is_publishing = False
        assert self._publisher is not None
        self._publisher.join()
        self._sender.flush(PATIENCE, settled=True)
        return {"sent": self._sent}

    def collected(self, uuid: str, last: int = 0, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return what has come from a node, once its message `last` has, or was announced as lost."""

        def is_there() -> bool:
            origin = self.origins.get(uuid, Origin())
            return max(origin.last, origin.count + self._lost(uuid)) >= last

        with self._changed:
            is_whole = self._changed.wait_for(is_there, timeout)
            origin = self.origins.setdefault(uuid, Origin())
            return {**vars(origin), "gap": self._lost(uuid), "is_whole": is_whole}

    def _lost(self, uuid: str) -> int:
        return sum(data["count"] for _, kind, data in self.events if kind == "gap" and data["uuid"] == uuid)

    def flows(self, uuid: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait for the next message of a node; return when it came."""
        with self._changed:
            before = self.origins.setdefault(uuid, Origin()).count
            if not self._changed.wait_for(lambda: self.origins[uuid].count > before, timeout):
                raise TimeoutError(f"nothing has come from {uuid} within {timeout} s")
            return {"at": self.origins[uuid].last_at}

    def happened(self) -> dict[str, Any]:
        return {"events": self.events, "peers": [[peer.uuid, peer.state] for peer in self.grav.peers()]}

    def busy(self, seconds: float) -> dict[str, Any]:
        """Hold the interpreter: no thread of Python runs meanwhile."""
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
        return {}

    def memory(self) -> dict[str, Any]:
        """Return the memory of this process in MiB."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return {"mib": pages * 4 / 1024}

    def stop(self) -> dict[str, Any]:
        self.grav.stop()
        return {}


def main() -> None:
    faulthandler.enable()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(relativeCreated)d %(name)s %(message)s")
    node = Node(json.loads(sys.argv[1]))
    answer(node.about)
    for line in sys.stdin:
        do, arguments = json.loads(line)
        call: Callable[..., dict[str, Any]] = getattr(node, do)
        answer(partial(call, **arguments))
    node.grav.stop()


def answer(call: Callable[[], dict[str, Any]]) -> None:
    try:
        said = call()
    except Exception as exc:
        said = {"error": f"{type(exc).__name__}: {exc}"}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
