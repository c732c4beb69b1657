"""A process that carries the frames between a host's port and the bridge, late, lost or doubled as told."""

import contextlib
import heapq
import json
import random
import select
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.lanlab.machine import start_side
from support.lanlab.namespaces import LanLabError

_ETH_P_ALL = 3
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_BUFFER_BYTES = 16 << 20
_BATCH = 64

Told = dict[str, Any]


class Relay:
    """The relay of one host, seen from the lab: it hears commands on a socket in the lab's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self.path.exists()

    def start(self, switch: str, port: str, uplink: str, seed: int) -> None:
        """Start it in the switch's namespace; back when it carries frames."""
        prefix = ("ip", "netns", "exec", switch)
        with self.path.with_suffix(".log").open("w") as log:
            process = start_side(
                "_relay", port, uplink, str(self.path), str(seed), prefix=prefix, stdout=subprocess.PIPE, stderr=log
            )
        self._process = process
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"ready":
            self.stop()
            raise LanLabError(f"the relay of {port} did not start; see {self.path.with_suffix('.log')}")

    def tell(self, message: Told) -> Told:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.settimeout(5)
            control.connect(str(self.path))
            control.send(json.dumps(message).encode())
            answer: Told = json.loads(control.recv(65536))
            return answer

    def stop(self) -> None:
        """End it, also one that another process has started."""
        with contextlib.suppress(OSError, ValueError):
            self.tell({"stop": 1})
        self.reap()
        self.path.unlink(missing_ok=True)

    def reap(self) -> None:
        """Take leave of the process, which has ended or is about to."""
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


@dataclass(slots=True)
class _Way:
    """One direction: what it does to frames, and what it has done.

    Attributes:
        source: Where its frames come from.
        target: Where they go.
        last: When the latest frame is due, so that jitter keeps the order.
        free: When the line has sent all that was given to it, for `rate`.
        queued: Frames that wait.
    """

    source: socket.socket
    target: socket.socket
    settings: dict[str, float] = field(default_factory=lambda: {"limit": 20000.0})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("seen", "lost", "doubled", "overflow"), 0))
    last: float = 0.0
    free: float = 0.0
    queued: int = 0

    def get(self, name: str) -> float:
        return self.settings.get(name, 0.0)

    def put(self, frame: bytes) -> None:
        try:
            self.target.send(frame)
        except OSError:
            self.counts["overflow"] += 1


class _Carrier:
    """The process's own side."""

    def __init__(self, port: str, uplink: str, path: str, seed: str) -> None:
        self._random = random.Random(int(seed))
        here, there = _raw(port), _raw(uplink)
        self._ways = {here: _Way(here, there), there: _Way(there, here)}
        self._by_name = {"egress": self._ways[here], "ingress": self._ways[there]}
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.bind(path)
        self._control.listen(8)
        self._waiting: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0

    def run(self) -> None:
        print("ready", flush=True)  # noqa: T201  (the lab waits for it)
        while True:
            wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            for ready in select.select([*self._ways, self._control], [], [], wait)[0]:
                if ready is not self._control:
                    self._carry(self._ways[ready])
                elif not self._obey():
                    return
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, _, source, frame = heapq.heappop(self._waiting)
                self._ways[source].queued -= 1
                self._ways[source].put(frame)

    def _obey(self) -> bool:
        connection, _ = self._control.accept()
        with connection:
            connection.settimeout(1)
            try:
                told: Told = json.loads(connection.recv(65536) or b"{}")
                for name, way in self._by_name.items():
                    way.settings.update(told.get(name, {}))
                connection.send(json.dumps({name: way.counts for name, way in self._by_name.items()}).encode())
            except (OSError, ValueError):
                return True
        return "stop" not in told

    def _carry(self, way: _Way) -> None:
        for _ in range(_BATCH):
            try:
                frame = way.source.recv(65536)
            except OSError:  # empty, or the cable is out
                return
            way.counts["seen"] += 1
            if self._happens(way, "loss"):
                way.counts["lost"] += 1
                continue
            copies = 1
            if self._happens(way, "duplicate"):
                copies = 2
                way.counts["doubled"] += 1
            now = time.monotonic()
            due = self._due(way, len(frame), now)
            for _copy in range(copies):
                if due <= now and not way.queued:
                    way.put(frame)
                elif way.queued >= way.get("limit"):
                    way.counts["overflow"] += 1
                else:
                    self._number += 1
                    way.queued += 1
                    heapq.heappush(self._waiting, (due, self._number, way.source, frame))

    def _due(self, way: _Way, size: int, now: float) -> float:
        due = now + way.get("delay")
        if way.get("jitter"):
            due += self._random.uniform(-way.get("jitter"), way.get("jitter"))
        if way.get("rate"):
            way.free = max(now, way.free) + size * 8 / way.get("rate")
            due += way.free - now
        if self._happens(way, "reorder"):
            return now
        way.last = max(due, way.last)
        return way.last

    def _happens(self, way: _Way, what: str) -> bool:
        return bool(way.get(what)) and self._random.random() < way.get(what)


def carry(port: str, uplink: str, path: str, seed: str) -> None:
    """Carry frames until told to stop."""
    _Carrier(port, uplink, path, seed).run()


def _raw(device: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    raw.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    raw.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    raw.bind((device, _ETH_P_ALL))
    raw.setblocking(False)
    return raw
