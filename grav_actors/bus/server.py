"""The bus's socket loop: ROUTER frames in, `BusCore` decides, frames out. The only socket code of the bus."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from zmq.backend import zmq_poll

from grav_actors.bus.connections import Connections
from grav_actors.bus.core import PING, BusCore
from grav_actors.bus.run import Body
from grav_actors.protocol import MAX_HEADER

DRAIN_FRAMES = 256
"""Frame pairs taken in one go, before what they made deliverable is sent."""
LARGE_BODY = 64 * 1024
"""Bytes from which a body stays in the frame it came in, which is passed on by reference. Below, copying is
faster."""
HIGH_WATER_MARK = 100_000
"""Safety net: credit keeps far fewer frames on their way."""
MAX_WAITING = 100_000
"""Frames kept for a link whose pipe is full; past it the link is taken for dead."""

PATIENCE = 0.005
"""Seconds that the loop waits in the socket itself when a message has come. That takes half as many calls of the
system as waiting at its descriptor, but nothing else is seen meanwhile."""
LOOK_INTERVAL = 0.02
"""Seconds between looks at what else is watched, while messages come."""
RETRY_INTERVAL = 0.001
"""Seconds between attempts to send to a link whose pipe was full."""

# Plain ints: the enum costs 470 ns for every `|`.
_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE_NOBLOCK = int(zmq.SNDMORE) | int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)


class BusServer:
    """Runs a core on one or more endpoints until told to stop.

    Attributes:
        endpoints: Where it listens, with the ports that were chosen.

    Args:
        core: What decides.
        endpoints: Addresses to bind; raises zmq.ZMQError when one is in use.
        write_roster: Called with the journal records before the frames that confirm them leave.
        report: Called with each line for the log.
    """

    def __init__(
        self,
        core: BusCore,
        endpoints: list[str],
        write_roster: Callable[[list[bytes]], None],
        report: Callable[[str], object],
    ) -> None:
        self._core = core
        self._report = report
        self._write_roster = write_roster
        self._waiting: dict[bytes, deque[tuple[bytes, Body]]] = {}
        self._is_stopping = False
        self.is_final = True
        self._context = zmq.Context()
        self._context.setsockopt(zmq.LINGER, 200)
        self._context.setsockopt(zmq.MAX_SOCKETS, 4096)
        socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket = socket
        # Looked up once: the class above asks for more at each access.
        self._receive = socket.recv
        # For `zmq_poll`, which is all C: the option EVENTS goes through an enum of Python.
        self._own_input = [(socket, _POLLIN)]
        self._send_part = super(zmq.Socket, socket).send  # without the checks of the class above, which take as long
        max_frame = max(core.max_body, MAX_HEADER)
        self._connections = Connections(self._context, socket, max_frame, report)
        # EAGAIN and EHOSTUNREACH instead of silent drops.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # Handover would let a forged identity take its victim's place.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.MAXMSGSIZE, max_frame)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 0)
        socket.setsockopt(zmq.BACKLOG, 1024)
        socket.setsockopt(zmq.RCVTIMEO, round(PATIENCE * 1000))
        self.endpoints: list[str] = []
        try:
            for endpoint in endpoints:
                socket.bind(endpoint)
                # With the port that a wildcard was given.
                self.endpoints.append(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        except BaseException:
            self.close()
            raise

    def stop(self, *, is_final: bool = True) -> None:
        """End the loop after its present turn; safe in a signal handler.

        Args:
            is_final: The pods are told; else they wait for the bus that will be started in its place.
        """
        self._is_stopping = True
        self.is_final = is_final

    def run(self, watched: dict[int, Callable[[], object]]) -> None:
        """Serve until `stop`; `watched` are file descriptors and what to call when they are readable."""
        core = self._core
        connections = self._connections
        # The system's own poll on the socket's descriptor costs a tenth of ZeroMQ's on the socket. The descriptor is
        # edge-triggered: having sent, the socket is asked whether something came in meanwhile.
        poll = select.poll()
        descriptor = int(self._socket.getsockopt(zmq.FD))
        for number in (descriptor, *watched):
            poll.register(number, select.POLLIN)
        route: bytes | None = None  # the first frame of a message that has been waited for
        look_at = 0.0
        while not self._is_stopping:
            now = time.monotonic()
            taken = self._drain(route, now)
            if core.out:
                self._send_out()  # questions and answers, before all is noted of them
            if self._waiting:
                self._send_waiting()
            is_drained = taken < DRAIN_FRAMES
            if now >= connections.due:
                core.cut(connections.look(now, core.ledger.held_bytes, is_drained=is_drained))
            rest = min(core.tick(now), connections.due) - now
            if core.out or core.journal:
                self._send_out()
            if core.dead_letters.log.lines:
                self._report_lines()
            if taken and is_drained and rest >= PATIENCE and now < look_at and not self._waiting:
                route = self._await_route()
                continue
            route = None
            look_at = now + LOOK_INTERVAL
            if not is_drained or self._has_input():
                rest = 0
            elif self._waiting:
                rest = min(rest, RETRY_INTERVAL)
            for number, _ in poll.poll(max(0, rest * 1000)):
                if number != descriptor:
                    watched[number]()
        if self.is_final:
            core.stop(time.monotonic())
            self._send_out()
            self._report_lines()

    def _has_input(self) -> bool:
        return bool(zmq_poll(self._own_input, 0))

    def _await_route(self) -> bytes | None:
        """Return the first frame of the next message; None if none has come soon."""
        try:
            return self._receive()
        except zmq.Again:
            return None

    def _drain(self, route: bytes | None, now: float) -> int:
        """Take what has come, at most a bounded number; return how many that were.

        Args:
            route: The first frame of a message that has been begun.
        """
        receive = self._receive
        core = self._core
        connections = self._connections if self._connections.is_alert else None
        for count in range(DRAIN_FRAMES):
            if route is None:
                # Asked first: an exception to say that there is nothing costs several times as much.
                if not self._has_input():
                    return count
                route = receive(_NOBLOCK)
            # Frames tell for nothing whether more follow; the socket option costs more than the frame.
            header = receive(_NOBLOCK, False)
            if connections is not None:
                connections.heard(header, now)
            if header.more:
                body = receive(_NOBLOCK, False)
                if not body.more:
                    is_small = len(body) < LARGE_BODY
                    core.receive(route, header.bytes, body.bytes if is_small else body.buffer, now)
                    route = None
                    if not count and core.out:
                        self._send_out()  # a question or an answer, before anything else is looked at
                    continue
                while body.more:
                    body = receive(_NOBLOCK, False)
            core.bad_frame(route, now)
            route = None
        return DRAIN_FRAMES

    def _send_out(self) -> None:
        core = self._core
        if core.journal:
            records, core.journal = core.journal, []
            self._write_roster(records)
        out, core.out = core.out, []
        waiting = self._waiting
        for route, header, body in out:
            if waiting and route in waiting:
                self._keep(route, header, body)
                continue
            self._send(route, header, body)

    def _report_lines(self) -> None:
        log = self._core.dead_letters.log
        lines, log.lines = log.lines, []
        for line in lines:
            self._report(line)

    def _send(self, route: bytes, header: bytes, body: Body) -> bool:
        send = self._send_part
        try:
            send(route, _SNDMORE_NOBLOCK)
        except zmq.Again:
            self._keep(route, header, body)
            return False
        except zmq.ZMQError as exc:
            if exc.errno != zmq.EHOSTUNREACH:
                raise
            self._waiting.pop(route, None)
            self._core.unreachable(route, time.monotonic())
            return False
        # Once the route is taken the rest of the message is, too.
        send(header, _SNDMORE_NOBLOCK)
        # A frame that was received is handed over as it is. Any other memory is copied: for a reference to it pyzmq
        # would start a thread that outlives every socket.
        frame: Any = body.obj if body.__class__ is memoryview else None
        if frame is not None and len(frame) == len(body):
            send(frame, _NOBLOCK, copy=False)
        else:
            send(body, _NOBLOCK)
        return True

    def _keep(self, route: bytes, header: bytes, body: Body) -> None:
        if header == PING or not self._core.knows(route):
            return  # a full pipe is no sign of death, and who has not joined is owed nothing
        queue = self._waiting.setdefault(route, deque())
        queue.append((header, body))
        if len(queue) > MAX_WAITING:
            del self._waiting[route]
            self._core.unreachable(route, time.monotonic())

    def _send_waiting(self) -> None:
        for route in list(self._waiting):
            queue = self._waiting.pop(route)
            while queue:
                header, body = queue.popleft()
                if not self._send(route, header, body):
                    rest: Any = self._waiting.get(route)
                    if rest is not None:
                        rest.extend(queue)
                    break

    def close(self) -> None:
        """Close the socket; what was sent has 200 ms to leave."""
        self._connections.close()
        self._socket.close()
        self._context.term()
