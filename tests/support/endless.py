"""Messages without an end: a sender that speaks ZeroMQ's protocol itself, as the library would not send them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

SUPPORT = Path(__file__).resolve().parents[1]
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
SHORT, LONG = 1, 3
"""Flags of a frame that others follow, with a length of one byte or of eight."""
MESSAGE_COST = 64
"""Bytes that a frame takes at its receiver, besides what is in it."""
BURST = 100_000
"""Bytes of small frames that are sent at once."""


def connected(endpoint: str) -> socket.socket:
    """Return a connection to a ROUTER that has agreed to it."""
    if endpoint.startswith("ipc://"):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(endpoint.removeprefix("ipc://"))
    else:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        peer = socket.create_connection((host.strip("[]"), int(port)))
    command = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    peer.sendall(GREETING)
    _receive(peer, len(GREETING))
    peer.sendall(b"\x04" + bytes([len(command)]) + command)
    _, length = _receive(peer, 2)
    _receive(peer, length)
    return peer


def _receive(peer: socket.socket, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        part = peer.recv(size - len(taken))
        if not part:
            raise ConnectionError("the bus has ended the connection in the handshake")
        taken += part
    return taken


def frames(size: int) -> tuple[bytes, int]:
    """Return frames with so many bytes each, to be followed by others, and what they cost the receiver."""
    if size >= 256:
        return bytes([LONG]) + size.to_bytes(8, "big") + bytes(size), size + MESSAGE_COST
    count = max(1, BURST // (size + 2))
    return (bytes([SHORT, size]) + bytes(size)) * count, count * (size + MESSAGE_COST)


def send_endless(endpoint: str, size: int, pause: float, limit: int) -> bool:
    """Send one message until it is cut off, or has cost the receiver `limit` bytes; return whether it was cut off."""
    part, cost = frames(size)
    with connected(endpoint) as peer:
        spent = 0
        try:
            while spent < limit:
                peer.sendall(part)
                spent += cost
                time.sleep(pause)
        except OSError:
            return True
    return False


def endless_in_process(endpoint: str, size: int, *, limit: int, pause: float = 0.0) -> subprocess.Popen[bytes]:
    """Start a process that does so; its exit code is 0 if it was cut off."""
    code = (
        f"import sys; sys.path.insert(0, {str(SUPPORT)!r}); from support.endless import send_endless; "
        f"sys.exit(not send_endless(sys.argv[1], {size}, {pause}, {limit}))"
    )
    return subprocess.Popen([sys.executable, "-c", code, endpoint], stdin=subprocess.DEVNULL)
