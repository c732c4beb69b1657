"""Hostile frames for a real bus: sockets that send them, in this process or in one of their own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import zmq

from grav_actors.ids import new_id
from support.hostile import BOMB, Hostile

SUPPORT = Path(__file__).resolve().parents[1]
FRAMES_OF_A_SOCKET = (5, 10, 20, 100)
"""Messages that one socket sends, one of these, before another takes its place: soon it is ignored."""
PATIENCE_MS = 20_000
SOCKETS_AT_ONCE = 1000
"""Closed sockets that may still have to send: a bus that waits for a processor would have tens of thousands, and this
process no descriptor left."""


class Attacker:
    """Sends hostile messages from one socket after another, half of which never read what the bus says.

    Attributes:
        sent: Messages so far.
        sockets: Sockets so far.
    """

    def __init__(self, endpoint: str, seed: int) -> None:
        self.sent = 0
        self.sockets = 0
        self._endpoint = endpoint
        self._random = random.Random(seed)
        self._hostile = Hostile(self._random, [new_id() for _ in range(40)])
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def send(self, count: int) -> None:
        """Send so many messages."""
        left = count
        while left > 0:
            batch = min(left, self._random.choice(FRAMES_OF_A_SOCKET))
            self._send_batch(batch)
            left -= batch

    def _send_batch(self, count: int) -> None:
        if self.sockets and self.sockets % SOCKETS_AT_ONCE == 0:
            self._context.term()
            self._context = zmq.Context()
        socket = connected(self._context, self._endpoint)
        self.sockets += 1
        is_deaf = self._random.random() < 0.5
        try:
            for _ in range(count):
                socket.send_multipart(self._hostile.frames())
                self.sent += 1
                while not is_deaf and socket.poll(0):
                    socket.recv_multipart()
        finally:
            socket.close(linger=PATIENCE_MS)

    def close(self) -> None:
        """Wait until the bus has read everything."""
        self._context.term()


def connected(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """Return a DEALER socket that waits, at most for a while, when the bus does not read."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.SNDHWM, 1000)
    socket.setsockopt(zmq.SNDTIMEO, PATIENCE_MS)
    socket.connect(endpoint)
    return socket


def send_oversize(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, size: int) -> None:
    """Send one frame that is longer than any allowed, and a bomb that is too."""
    for frame in (bytes(size), BOMB):
        socket = connected(context, endpoint)
        socket.send_multipart([b"", frame])
        socket.close(linger=200)


def attack_in_process(endpoint: str, frames: int, seed: int) -> subprocess.Popen[bytes]:
    """Start a process that sends so many hostile messages and ends.

    It stands back behind the bus: a bus that has to wait for a processor is promised no bounds.
    """
    code = (
        f"import os, sys; os.nice(10); sys.path.insert(0, {str(SUPPORT)!r}); from support.attack import Attacker; "
        "attacker = Attacker(sys.argv[1], int(sys.argv[3])); attacker.send(int(sys.argv[2])); attacker.close()"
    )
    return subprocess.Popen([sys.executable, "-c", code, endpoint, str(frames), str(seed)], stdin=subprocess.DEVNULL)


def rss(pid: int) -> int:
    """Return the bytes of a process that lie in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def bus_pid(grav: Any) -> int:
    """Return the process of a node's own bus."""
    pid: int = grav._bus.pid
    return pid
