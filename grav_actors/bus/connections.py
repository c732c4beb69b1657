"""The connections of the bus's socket: what happens at them, and how one that is judged to be hostile is cut.

ZeroMQ's I/O thread owns the descriptors. They are looked at and never read; what tells which there are is the
socket's monitor. Needs Linux; elsewhere nothing is watched and nothing cut.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket as sockets
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from grav_actors.bus.lookout import MIB, Lookout

CALM_INTERVAL = 0.05
"""Seconds between two looks at the memory, each of a few microseconds."""
ALERT_INTERVAL = 0.002
"""Seconds between two looks at the connections, when the memory has grown."""
LARGEST_PART = 0.03
"""Part of the time that looking may take, however many connections there are."""
FREEING = 0.1
"""Seconds after a cut in which the I/O thread frees what the connection had sent."""
REPORT_INTERVAL = 10.0
"""Seconds between two lines for the log."""

_NOBLOCK = int(zmq.NOBLOCK)
_SRCFD = int(zmq.SRCFD)
_MEMORY = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Connections:
    """Watches the connections of a bound socket.

    Attributes:
        is_alert: Messages are to be told by `heard`.
        due: When to `look` again, in seconds of the monotonic clock.

    Args:
        socket: Not bound yet: connections from before its monitor are not known.
        max_frame: Bytes of the largest frame that the socket takes.
        report: Called with each line for the log.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        socket: zmq.Socket[bytes],
        max_frame: int,
        report: Callable[[str], object],
    ) -> None:
        self.is_alert = False
        self.due = float("inf")
        self._lookout = Lookout(max_frame)
        self._socket = socket
        self._report = report
        self._reported_at = float("-inf")
        self._unreported = 0
        self._open: set[int] = set()
        self._arrivals: select.epoll | None = None
        self._unread: select.epoll | None = None
        self._round = 0
        self._give_back_at = float("inf")
        self._monitor: zmq.Socket[bytes] | None = None
        if not _MEMORY.exists() or not hasattr(select, "epoll"):
            return
        self._memory = os.open(_MEMORY, os.O_RDONLY | os.O_CLOEXEC)
        endpoint = f"inproc://connections-{id(self)}"
        socket.monitor(endpoint, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._monitor = context.socket(zmq.PAIR)
        # With a limit the I/O thread would wait for this one to read.
        self._monitor.setsockopt(zmq.RCVHWM, 0)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.connect(endpoint)
        self.due = 0.0

    def heard(self, frame: zmq.Frame, now: float) -> None:
        """Note, while alert, a whole message, by any frame of it."""
        with suppress(zmq.ZMQError):
            self._lookout.heard(int(frame.get(_SRCFD)), now)
        self._round += 1

    def look(self, now: float, held: int, *, is_drained: bool) -> int:
        """Look at the memory, and if need be at the connections; return how many were cut.

        Args:
            held: Bytes of messages that the bus knows of.
            is_drained: Nothing whole was left to be received.
        """
        begin = time.monotonic()
        # Whole messages are received from all connections in turn.
        is_round = is_drained or self._round > 2 * len(self._open)
        self._follow(now)
        busy = self._busy() if is_round else []
        if is_round:
            self._round = 0
        if now >= self._give_back_at:
            self._give_back_at = float("inf")
            _give_back()
        memory = int(os.pread(self._memory, 128, 0).split()[1]) * _PAGE
        culprits = self._lookout.look(now, memory, busy, held)
        if culprits:
            self._follow(now)
            self._cut(culprits, memory, now)
        self._set_alert()
        spent = time.monotonic() - begin
        self.due = now + max(ALERT_INTERVAL if self.is_alert else CALM_INTERVAL, spent / LARGEST_PART)
        return len(culprits)

    def _follow(self, now: float) -> None:
        """Take in which connections have come and gone."""
        assert self._monitor is not None
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(_NOBLOCK))
            except zmq.Again:
                return
            number = int(event["value"])
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._open.add(number)
                self._lookout.opened(number, now)
                self._watch(number)
            else:
                self._open.discard(number)
                self._lookout.closed(number)

    def _set_alert(self) -> None:
        self.is_alert = self._lookout.is_alert
        if self.is_alert and self._arrivals is None:
            self._arrivals, self._unread = select.epoll(), select.epoll()
            for number in self._open:
                self._watch(number)
            self._busy()  # the state at the beginning
        elif not self.is_alert:
            self._forget()

    def _watch(self, number: int) -> None:
        if self._arrivals is None or self._unread is None:
            return
        # A descriptor that is closed is forgotten by the kernel.
        with suppress(OSError):
            # By edges, and with output, which is nearly always possible: so each arrival is told, also when the I/O
            # thread has read it already.
            self._arrivals.register(number, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            self._unread.register(number, select.EPOLLIN)

    def _busy(self) -> list[tuple[int, bool]]:
        if self._arrivals is None or self._unread is None:
            return []
        limit = max(1, len(self._open))
        unread = {number for number, _ in self._unread.poll(0, limit)}
        arrived = {number for number, _ in self._arrivals.poll(0, limit)}
        return [(number, number in unread) for number in arrived | unread]

    def _forget(self) -> None:
        for epoll in (self._arrivals, self._unread):
            if epoll is not None:
                epoll.close()
        self._arrivals = self._unread = None

    def _cut(self, culprits: list[int], memory: int, now: float) -> None:
        peers: list[str] = []
        for number in culprits:
            if number not in self._open:
                continue
            with suppress(OSError), sockets.socket(fileno=os.dup(number)) as connection:
                peers.append(_peer(connection))
                # Over TCP the peer is told when ZeroMQ closes it, although there is input that nobody has read.
                connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(sockets.SHUT_RDWR)
        self._give_back_at = now + FREEING
        self._unreported += len(culprits)
        if now - self._reported_at >= REPORT_INTERVAL:
            self._report(
                f"cut {self._unreported} connections that sent messages without an end, the last of them by "
                f"{', '.join(peers) or 'somebody who has gone'}; the bus had grown to {memory // MIB} MiB"
            )
            self._reported_at = now
            self._unreported = 0

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        if self._monitor is not None:
            # In this order: an event that nobody can take would hold up the I/O thread.
            self._socket.disable_monitor()
            self._monitor.close()
            self._monitor = None
            os.close(self._memory)
        self._forget()
        self.due = float("inf")


def _peer(connection: sockets.socket) -> str:
    if connection.family == sockets.AF_UNIX:
        size = struct.calcsize("3i")
        process, _, _ = struct.unpack("3i", connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, size))
        return f"process {process}"
    host, port = connection.getpeername()[:2]
    return f"{host}:{port}"


def _give_back() -> None:
    """Give the memory of freed messages back to the system: of small ones the C library would keep it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
