"""Pods and a bus in one thread, whose work is counted part by part: sender, bus, receiver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from grav_actors.filters import FilterSet
from grav_actors.message import Message
from grav_actors.pod.callbacks import Callbacks
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.link import Link
from grav_actors.pod.pod import Pod
from grav_actors.protocol import PodSettings
from support.work.meter import Meter
from support.work.wire import DUE, Clock, FakeSocket, Stage, Wire

CROWD = "crowd"
"""The part of pods that only are there: their work is not counted, and they never have something due."""
SOON = 0.002
"""Seconds after which a link sends what its pods have queued."""

Handler = Callable[[Pod, Message], Any]


class DirectCallbacks(Callbacks):
    """Keeps what a pod has to handle, until the rig has it handled."""

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod)
        self.given: list[Inbound] = []

    def put(self, item: Any) -> None:
        """Keep it."""
        self.given.append(item)

    def put_all(self, runs: list[Inbound]) -> None:
        """Keep them."""
        self.given += runs

    def stop(self) -> None:
        """Do nothing: there is no thread."""


class Member:
    """A pod of the rig, over a link of its own, with the part for which its work counts."""

    def __init__(self, route: bytes, part: str, filters: FilterSet, handler: Handler | None, actor: str = "") -> None:
        self.route = route
        self.part = part
        self.link = Link("fake")
        socket: Any = self.link._socket
        self.socket: FakeSocket = socket
        self.pod = Pod(self.link, actor, PodSettings(actor=bool(actor)), filters)
        self.callbacks = self.pod._callbacks = DirectCallbacks(self.pod)
        if handler is not None:
            self.pod._handler = lambda message: handler(self.pod, message)
        with self.link.lock:
            self.link.add(self.pod)

    def turn(self, *, has_input: bool = False) -> None:
        """Serve the socket of the link once, as the thread on duty does."""
        with self.link.lock:
            self.link.turn([(self.socket.descriptor, int(zmq.POLLIN))] if has_input else [])

    def handle(self, now: float) -> None:
        """Handle what has come, as the callback thread does, and send what is to be sent then."""
        given, self.callbacks.given = self.callbacks.given, []
        self.callbacks.is_busy = True
        for inbound in given:
            self.pod._consume(inbound)
            self.callbacks._handled_bytes += len(inbound.body)
        self.callbacks.is_busy = False
        if given:
            self.callbacks._flush(now, is_idle=True)


Script = Iterator[None]
"""What a scene does: it goes on whenever nothing is under way any more."""


class Rig:
    """A bus and its pods; see `run`.

    Attributes:
        frames: Frame pairs to the bus, from the senders and from the receivers, while work was counted.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.clock = Clock()
        self._stage = Stage(self.clock)
        self.wire = Wire(self._turn)
        self.members: dict[bytes, Member] = {}
        self._script: Script = iter(())
        self._is_quiet = False
        self.frames: Counter[str] = Counter()
        self._uses_before: Counter[str] = Counter()

    def join(self, part: str, *patterns: str, handler: Handler | None = None, actor: str = "") -> Member:
        """Have a pod join the bus, wanting these types, or as an actor; it is there when the script goes on."""
        filters = FilterSet(listening=bool(patterns), exclusive=True)
        for pattern in patterns:
            filters.set_type(pattern, allow=True)
        member = Member(len(self.members).to_bytes(5, "big"), part, filters, handler, actor)
        self.members[member.route] = member
        with member.link.lock:
            member.pod._core.hello(self.clock.monotonic())
            member.link.send_out(member.pod)
        return member

    def flush(self, member: Member) -> None:
        """Have a link send what its pod has queued, as it does after a millisecond."""
        self.clock.now += SOON
        member.turn()

    def begin(self) -> None:
        """Count from now on."""
        if not self.meter.is_on:
            self._uses_before = self._uses()
            self.meter.is_on = True

    def socket_calls(self) -> Counter[str]:
        """Return how often each part has called its socket since `begin`."""
        return self._uses() - self._uses_before

    def _uses(self) -> Counter[str]:
        uses = Counter({"bus": self.wire.socket.uses})
        for member in self.members.values():
            uses[member.part] += member.socket.uses
        return uses

    def run(self, script: Script) -> None:
        """Run a script to its end, while the bus serves."""
        self._script = script
        try:
            self.wire.run()
        finally:
            self.meter.switch("")
            self.wire.close()
            for member in self.members.values():
                member.link.close()
            self._stage.close()

    def _turn(self) -> bool:
        """Bring frames from the bus to the pods and back; return whether there is more to come.

        When there are none, time passes, in which acknowledgements fall due; then the script goes on.
        """
        self.meter.switch("")
        is_over = False
        if self._deliver() | self._collect():
            self._is_quiet = False
        elif not self._is_quiet:
            self._is_quiet = True
            self.clock.now += DUE
            for member in self.members.values():
                if member.part != CROWD:
                    with self.meter.part(member.part):
                        member.turn()
            self._collect()
        else:
            self._is_quiet = False
            is_over = next(self._script, self) is self
            self._collect()
        self.meter.switch("bus")
        return not is_over

    def _deliver(self) -> bool:
        outgoing, self.wire.socket.outgoing = self.wire.socket.outgoing, []
        for route, *frames in outgoing:
            self.members[route].socket.feed(*frames)
        for route in dict.fromkeys(route for route, *_ in outgoing):
            member = self.members[route]
            with self.meter.part(member.part):
                member.turn(has_input=True)
                member.handle(self.clock.monotonic())
        return bool(outgoing)

    def _collect(self) -> bool:
        has_some = False
        for member in self.members.values():
            outgoing, member.socket.outgoing = member.socket.outgoing, []
            for frames in outgoing:
                self.wire.socket.feed(member.route, *frames)
                self.frames[member.part] += self.meter.is_on
                has_some = True
        return has_some
