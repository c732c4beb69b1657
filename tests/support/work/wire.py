"""Sockets in memory, for the real loops of bus and link, under a clock that each look at it moves on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

import zmq

from grav_actors.bus import server
from grav_actors.bus.core import BusCore
from grav_actors.pod import link, pod

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
        descriptor: What it gives as its descriptor.
        uses: Calls of the socket so far: receiving, sending, asking whether something came.
    """

    def __init__(self) -> None:
        self.incoming: deque[tuple[bytes, bool]] = deque()
        self.outgoing: list[tuple[bytes, ...]] = []
        self.uses = 0
        self.on_idle: Callable[[], None] = lambda: None
        self.descriptor = -1
        self._parts: list[bytes] = []

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
        """Return the descriptor, or whether there is input."""
        if option == zmq.FD:
            return self.descriptor
        self.uses += 1
        if not self.incoming:
            self.on_idle()
        return int(zmq.POLLIN) if self.incoming else 0

    def close(self, linger: int | None = None) -> None:
        """Do nothing."""


class FakeMonitor(SocketBase):
    """A monitor that never has an event."""

    def recv_multipart(self, flags: int) -> list[bytes]:
        """Find nothing."""
        raise zmq.Again


class FakeSocket(SocketBase):
    """A socket that carries nothing: what comes in and what goes out are lists."""

    def send(self, data: Any, flags: int = 0, **options: Any) -> None:
        """As the class below; the bus may go past this one, as it does past pyzmq's."""
        super().send(data, flags, **options)

    def setsockopt(self, option: int, value: Any) -> None:
        """Take any option."""

    def bind(self, endpoint: str) -> None:
        """Listen to nobody."""

    def connect(self, endpoint: str) -> None:
        """Connect to nobody."""

    def disconnect(self, endpoint: str) -> None:
        """Do nothing."""

    def get_monitor_socket(self, events: int) -> FakeMonitor:
        """Return a monitor."""
        return FakeMonitor()

    def disable_monitor(self) -> None:
        """Do nothing."""

    def getsockopt_string(self, option: int) -> str:
        """Return where it listens."""
        return "fake"


class FakeContext:
    """Makes sockets."""

    def setsockopt(self, option: int, value: Any) -> None:
        """Take any option."""

    def socket(self, kind: int) -> FakeSocket:
        """Return a new socket."""
        return FakeSocket()

    def term(self) -> None:
        """Do nothing."""


class FakeZmq:
    """Stands for the module `zmq`."""

    Socket = FakeSocket
    Context = FakeContext

    def __getattr__(self, name: str) -> Any:
        return getattr(zmq, name)


def poll_fakes(sockets: list[tuple[FakeSocket, int]], timeout: int) -> list[tuple[FakeSocket, int]]:
    """Stand for `zmq_poll`: return which of the sockets have input."""
    return [(socket, int(zmq.POLLIN)) for socket, _ in sockets if socket.getsockopt(zmq.EVENTS)]


class NoConnections:
    """Stands for what watches the connections: there are none."""

    is_alert = False
    due = float("inf")

    def __init__(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        """Do nothing."""


class NoDuty:
    """Stands for who serves the socket of a link: the rig does."""

    def __init__(self, *_: Any) -> None:
        pass

    def start(self) -> None:
        """Do nothing."""

    def wake(self) -> None:
        """Do nothing: the rig looks whenever something may be there."""

    def later(self, call: Callable[[], None]) -> None:
        """Make a call at once."""
        call()

    def close(self) -> None:
        """Do nothing."""


class Stage:
    """Puts what stands here for sockets and time into the modules of bus and pods, as long as it lasts."""

    def __init__(self, clock: Clock) -> None:
        self._kept: list[tuple[ModuleType, str, Any]] = []
        fake = FakeZmq()
        instead: dict[ModuleType, dict[str, Any]] = {
            server: {"zmq": fake, "zmq_poll": poll_fakes, "time": clock, "Connections": NoConnections},
            link: {"zmq": fake, "time": clock, "Duty": NoDuty},
            pod: {"monotonic": clock.monotonic, "time_ns": clock.time_ns},
        }
        for module, names in instead.items():
            for name, value in names.items():
                self._kept.append((module, name, getattr(module, name)))
                setattr(module, name, value)

    def close(self) -> None:
        """Put back what was there."""
        for module, name, value in self._kept:
            setattr(module, name, value)


class Wire:
    """A bus server over a fake socket.

    Args:
        on_idle: Called when the bus has taken all that came and sent what there was to be sent; returns False to end.
    """

    def __init__(self, on_idle: Callable[[], bool]) -> None:
        self._on_idle = on_idle
        self._is_drained = False
        self.core = BusCore(b"8 octets")
        self.server = server.BusServer(self.core, ["fake"], lambda records: None, lambda line: None)
        socket: Any = self.server._socket
        self.socket: FakeSocket = socket
        self.socket.on_idle = self._feed
        # The bus waits for input at the descriptor: there always is some.
        self.socket.descriptor = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

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
        """End the server and give the descriptor back."""
        self.server.close()
        os.close(self.socket.descriptor)
