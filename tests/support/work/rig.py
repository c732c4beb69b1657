"""Pods and a bus in one thread, whose work is counted part by part: sender, bus, receiver."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from grav_actors.filters import FilterSet
from grav_actors.message import Message
from grav_actors.pod import pod as pod_module
from grav_actors.pod.callbacks import Callbacks
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.intake import collect
from grav_actors.pod.pod import Pod
from grav_actors.protocol import PodSettings, unpack_header
from support.work.meter import Meter
from support.work.wire import DUE, Clock, Wire

Handler = Callable[[Pod, Message], Any]


class DirectLink:
    """Stands for the link of a pod: its frames wait here until the rig takes them to the bus."""

    endpoint = "fake"
    is_foreign = False

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.frames: list[tuple[bytes, Any]] = []

    def new_slot(self) -> int:
        """Return the only slot."""
        return 1

    def add(self, pod: Pod) -> None:
        """Do nothing."""

    def remove(self, pod: Pod) -> None:
        """Do nothing."""

    def send_out(self, pod: Pod) -> None:
        """Take the frames of the pod's core."""
        core = pod._core
        out, core.out = core.out, []
        self.frames += out

    def expect_flush(self, pod: Pod) -> None:
        """Do nothing: the rig flushes when a part is over."""

    def wake(self) -> None:
        """Do nothing."""

    def check_alive(self) -> None:
        """Do nothing."""


class DirectCallbacks(Callbacks):
    """Keeps what a pod has to handle, until the rig has it handled."""

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod)
        self.given: list[Inbound] = []

    def put(self, item: Any) -> None:
        """Keep it."""
        self.given.append(item)

    def stop(self) -> None:
        """Do nothing: there is no thread."""


class Member:
    """A pod of the rig, with the part for which its receiving counts."""

    def __init__(self, route: bytes, part: str, filters: FilterSet, handler: Handler | None) -> None:
        self.route = route
        self.part = part
        self.link = DirectLink()
        self.pod = Pod(self.link, "", PodSettings(), filters)  # type: ignore[arg-type]
        self.callbacks = self.pod._callbacks = DirectCallbacks(self.pod)
        if handler is not None:
            self.pod._handler = lambda message: handler(self.pod, message)

    def receive(self, header: bytes, body: bytes, now: float) -> None:
        """Take a frame pair, as the link does."""
        with self.link.lock:
            self.pod._core.receive(unpack_header(header), body, now)
            collect(self.pod)

    def handle(self, now: float) -> None:
        """Handle what has come, as the callback thread does, and what is to be sent then."""
        given, self.callbacks.given = self.callbacks.given, []
        self.callbacks.is_busy = True
        for inbound in given:
            self.pod._consume(inbound)
            self.callbacks._handled_bytes += len(inbound.body)
        self.callbacks.is_busy = False
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
        self.wire = Wire(self.clock, self._turn)
        self.members: dict[bytes, Member] = {}
        self._script: Script = iter(())
        self._is_quiet = False
        self._kept = {name: getattr(pod_module, name) for name in ("monotonic", "time_ns")}
        for name in self._kept:
            setattr(pod_module, name, getattr(self.clock, name))
        self.frames: Counter[str] = Counter()
        self._uses_before = 0

    def join(self, part: str, *patterns: str, handler: Handler | None = None) -> Member:
        """Have a pod join the bus, wanting these types; it is there when the script goes on."""
        filters = FilterSet(listening=bool(patterns), exclusive=True)
        for pattern in patterns:
            filters.set_type(pattern, allow=True)
        member = Member(len(self.members).to_bytes(5, "big"), part, filters, handler)
        self.members[member.route] = member
        member.pod._core.hello(self.clock.monotonic())
        member.link.send_out(member.pod)
        return member

    def flush(self, member: Member) -> None:
        """Send what a pod has queued, as its link does after a millisecond."""
        with member.link.lock:
            member.pod._flush_now()

    def begin(self) -> None:
        """Count from now on."""
        if not self.meter.is_on:
            self._uses_before = self.wire.socket.uses
            self.meter.is_on = True

    @property
    def socket_calls(self) -> int:
        """How often the bus has called its socket since `begin`."""
        return self.wire.socket.uses - self._uses_before

    def run(self, script: Script) -> None:
        """Run a script to its end, while the bus serves."""
        self._script = script
        try:
            self.wire.run()
        finally:
            self.meter.switch("")
            for name, value in self._kept.items():
                setattr(pod_module, name, value)
            self.wire.close()

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
        else:
            self._is_quiet = False
            is_over = next(self._script, self) is self
            self._collect()
        self.meter.switch("bus")
        return not is_over

    def _deliver(self) -> bool:
        outgoing, self.wire.socket.outgoing = self.wire.socket.outgoing, []
        touched: dict[bytes, None] = {}
        now = self.clock.monotonic()
        for route, header, body in outgoing:
            member = self.members[route]
            if unpack_header(header)[1] != 0:
                with self.meter.part(member.part):
                    member.receive(header, body, now)
                touched[route] = None
        for route in touched:
            member = self.members[route]
            with self.meter.part(member.part):
                member.handle(self.clock.monotonic())
        return bool(outgoing)

    def _collect(self) -> bool:
        has_some = False
        for member in self.members.values():
            frames, member.link.frames = member.link.frames, []
            for header, body in frames:
                self.wire.socket.feed(member.route, header, bytes(body))
                self.frames[member.part] += self.meter.is_on
                has_some = True
        return has_some
