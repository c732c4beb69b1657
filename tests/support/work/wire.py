"""The bus's real loop over a socket of the test's own, in memory, under a clock that each look at it moves on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from grav_actors.bus import server
from grav_actors.bus.core import BusCore

LOOK = 5e-6
"""Seconds that pass between two looks at the clock."""
DUE = 0.02
"""Seconds after which what waited for company, or for an acknowledgement's time, has left."""


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the seconds, a little more each time."""
        self.now += LOOK
        return self.now

    def time_ns(self) -> int:
        """Return the same in nanoseconds."""
        return int(self.monotonic() * 1e9)


class Frame:
    """A received frame."""

    __slots__ = ("bytes", "more")

    def __init__(self, data: bytes, more: bool) -> None:
        self.bytes = data
        self.more = more

    @property
    def buffer(self) -> memoryview:
        """What `zmq.Frame.buffer` is."""
        return memoryview(self.bytes)

    def __len__(self) -> int:
        return len(self.bytes)


class SocketBase:
    """What pyzmq's compiled socket does; see `FakeSocket`.

    Attributes:
        uses: Calls of the socket so far: receiving, sending, asking whether something came.
    """

    def __init__(self) -> None:
        self.incoming: deque[tuple[bytes, bool]] = deque()
        self.outgoing: list[tuple[bytes, ...]] = []
        self.uses = 0
        self.on_idle: Callable[[], None] = lambda: None
        self._parts: list[bytes] = []
        self._readable = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def feed(self, *frames: bytes) -> None:
        """Have a message come in."""
        self.incoming.extend((frame, frame is not frames[-1]) for frame in frames)

    def recv(self, flags: int = 0, copy: bool = True, **_: Any) -> Any:
        """Return the next frame; ask for more first, when there is none."""
        self.uses += 1
        if not self.incoming:
            self.on_idle()
        if not self.incoming:
            raise zmq.Again
        data, more = self.incoming.popleft()
        return data if copy else Frame(data, more)

    def send(self, data: Any, flags: int = 0, **_: Any) -> None:
        """Take a frame, and with the last one of a message the whole."""
        self.uses += 1
        self._parts.append(bytes(data))
        if not flags & zmq.SNDMORE:
            self.outgoing.append(tuple(self._parts))
            self._parts = []

    def getsockopt(self, option: int) -> int:
        """Return the descriptor, which is always readable, or whether there is input."""
        if option == zmq.FD:
            return self._readable
        self.uses += 1
        if not self.incoming:
            self.on_idle()
        return int(zmq.POLLIN) if self.incoming else 0

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._readable)


class FakeSocket(SocketBase):
    """A ROUTER socket that carries nothing: what comes in and what goes out are lists."""

    def send(self, data: Any, flags: int = 0, **options: Any) -> None:
        """As the class below; the bus may go past this one, as it does past pyzmq's."""
        super().send(data, flags, **options)

    def setsockopt(self, option: int, value: Any) -> None:
        """Take any option."""

    def bind(self, endpoint: str) -> None:
        """Listen to nobody."""

    def getsockopt_string(self, option: int) -> str:
        """Return where it listens."""
        return "fake"


class FakeContext:
    """Makes the one socket."""

    def __init__(self, socket: FakeSocket) -> None:
        self._socket = socket

    def setsockopt(self, option: int, value: Any) -> None:
        """Take any option."""

    def socket(self, kind: int) -> FakeSocket:
        """Return the socket."""
        return self._socket

    def term(self) -> None:
        """Do nothing."""


class FakePoller:
    """Says at once that there is something to do."""

    def __init__(self) -> None:
        self._ready: list[tuple[Any, int]] = []

    def register(self, what: Any, flags: int) -> None:
        """Note what to report."""
        self._ready.append((what, flags))

    def poll(self, delay: int) -> list[tuple[Any, int]]:
        """Report it."""
        return self._ready


class FakeZmq:
    """Stands for the module `zmq` within the bus's loop."""

    Socket = FakeSocket
    Poller = FakePoller

    def __init__(self, socket: FakeSocket) -> None:
        self._socket = socket

    def Context(self) -> FakeContext:  # noqa: N802  (named as what it stands for)
        """Return the context of the one socket."""
        return FakeContext(self._socket)

    def __getattr__(self, name: str) -> Any:
        return getattr(zmq, name)


class NoConnections:
    """Stands for what watches the connections: there are none."""

    is_alert = False
    due = float("inf")

    def __init__(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        """Do nothing."""


class Wire:
    """A bus server over a fake socket.

    Args:
        on_idle: Called when the bus has taken all that came and sent what there was to be sent; returns False to end.
    """

    def __init__(self, clock: Clock, on_idle: Callable[[], bool]) -> None:
        self.clock = clock
        self.socket = FakeSocket()
        self.core = BusCore(b"8 octets")
        self._on_idle = on_idle
        self._is_drained = False
        instead = {"zmq": FakeZmq(self.socket), "time": clock, "Connections": NoConnections}
        self._kept = {name: getattr(server, name) for name in instead}
        for name, value in instead.items():
            setattr(server, name, value)
        self.server = server.BusServer(self.core, ["fake"], lambda records: None, lambda line: None)
        self.socket.on_idle = self._feed

    def _feed(self) -> None:
        """Have a drain end first, and then the next one find something."""
        if not self._is_drained:
            self._is_drained = True
        elif self._on_idle():
            self._is_drained = not self.socket.incoming
        else:
            self.server.stop(is_final=False)

    def run(self) -> None:
        """Serve until nothing more happens."""
        self.server.run({})

    def close(self) -> None:
        """Put the modules back as they were."""
        self.server.close()
        for name, value in self._kept.items():
            setattr(server, name, value)
