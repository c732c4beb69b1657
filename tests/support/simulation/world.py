"""A bus and its pods under virtual time, with every kind of bad luck, and the record of what happened.

Frames travel in order on each link, and any number of them may move at any step. What is lost with a connection is
what really is: all that was under way to the pods, and of what was under way to the bus the part that had left.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from grav_actors.bus.core import BusCore
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.roster import read_roster
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.shelf import DeadLetter, Shelf
from grav_actors.filters import FilterSet
from grav_actors.pod.inbound import Inbound
from grav_actors.protocol import (
    ACK_DELAY,
    BEAT_INTERVAL,
    QUESTION_KINDS,
    PodSettings,
    Verb,
    pack,
    unpack_header,
)
from support.busnet import Net, TestPod, Wire
from support.simulation.history import (
    BusKilled,
    BusStarted,
    Dead,
    Dropped,
    Entrusted,
    Event,
    Gap,
    Joined,
    Lost,
    Taken,
)
from support.simulation.pods import Outcome, SimPod
from support.simulation.seeding import process_prefix

ROUNDS = 10_000
"""Turns of `flow` in which everything must have come to rest."""


class RecordingShelf(Shelf):
    """A shelf that tells what comes to it."""

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[DeadLetter], None]) -> None:
        super().__init__()
        self._tell = tell

    def add(self, letter: DeadLetter, *args: Any, **options: Any) -> Any:
        self._tell(letter)
        return super().add(letter, *args, **options)


class World(Net):
    """The simulated machine.

    Attributes:
        history: What happened.
        messages: Uuid of each message, by the uuid of its sender and its seq.
        is_bus_up: Whether a bus runs.
        paused: Links whose process is stopped, as by SIGSTOP.
        ghosts: Routes that are broken, and the bus does not know it: what it sends there vanishes.
        largest: Bytes of the longest message that was sent, and of the longest that answers another.
    """

    core_class: type[BusCore] = BusCore
    pod_class: type[SimPod] = SimPod

    def __init__(self, rng: random.Random, *, replay_limit: int = 128) -> None:
        self.rng = rng
        self.history: list[Event] = []
        self.messages: dict[tuple[bytes, int], str] = {}
        self.prefixes: dict[int, bytes] = {}
        self.labels: Counter[str] = Counter()
        self.by_uuid: dict[bytes, SimPod] = {}
        self.paused: set[int] = set()
        self.ghosts: set[bytes] = set()
        self.is_bus_up = True
        self.largest = [0, 0]
        super().__init__(replay_limit=replay_limit)
        self.record(BusStarted)

    def record(self, event: type[Event], *args: Any, **fields: Any) -> None:
        """Write down what happens now."""
        self.history.append(event(self.now, *args, **fields))

    def new_label(self, name: str) -> str:
        self.labels[name] += 1
        return f"{name}.{self.labels[name]}"

    def label_of(self, uuid: bytes) -> str:
        pod = self.by_uuid.get(uuid)
        return pod.label if pod is not None else uuid.hex()

    # The bus

    def _new_bus(self) -> BusCore:
        epoch = next(self.lives).to_bytes(8, "big")
        bus = self.core_class(epoch, replay_limit=self.replay_limit, max_message=self.max_message)
        self._watch(bus)
        bus.restore(read_roster(self.journal), self.now)
        self.journal = bus.compacted()
        bus.tick(self.now)
        return bus

    def _watch(self, bus: BusCore) -> None:
        """Write down what the bus takes, keeps, buries and gives up."""
        release, entrust = bus._release, bus.ledger.entrust
        self._watch_routing(bus)

        def watched_release(receiver: Receiver, *args: Any) -> None:
            pod = self.by_uuid.get(receiver.uuid)
            if pod is not None and not pod.is_leaving:
                self.record(Lost, pod.label)
            release(receiver, *args)

        def watched_entrust(run: Run, now: float) -> None:
            if run.seq in run.sender.open:
                for seq in range(run.seq, run.seq + run.count):
                    uuid = self.messages.get((run.sender.uuid, seq))
                    if uuid is not None:
                        self.record(Entrusted, uuid)
            entrust(run, now)

        bury = bus.dead_letters.bury

        def watched_bury(delivery: Delivery, reason: str, target: str, *args: Any, **options: Any) -> None:
            if delivery.run.kind in QUESTION_KINDS:
                self._tell_of(delivery, Dropped, reason, target)
            bury(delivery, reason, target, *args, **options)

        abandon = bus.dead_letters.abandon

        def watched_abandon(deliveries: Iterable[Delivery], reason: str, target: str, now: float) -> None:
            given = list(deliveries)
            counted = bus.postman.counts.given_up
            # What the bus itself has said is counted when it is buried, too.
            ended = [one for one in given if not reason and one.run.kind not in QUESTION_KINDS]
            own = [one for one in given if one not in ended and one.run.type.startswith("grav.sys.")]
            abandon(given, reason, target, now)
            counted = bus.postman.counts.given_up - counted
            assert counted == sum(one.count for one in (*ended, *own)), "not all that is given up is counted"
            for one in ended:
                self._tell_of(one, Gap, target, "given up")

        watched: Any = bus
        watched.dead_letters.bury = watched_bury
        watched.dead_letters.abandon = watched_abandon
        watched.ledger.entrust = watched_entrust
        watched._release = watched_release
        bus.dead_letters.shelf = bus.postman.shelf = RecordingShelf(self._buried)

    def _watch_routing(self, bus: BusCore) -> None:
        """Write down what the bus takes."""
        route, pass_on = bus.postman.route, bus.postman.pass_on

        def note(sender: bytes, first: int, count: int) -> None:
            for seq in range(first, first + count):
                uuid = self.messages.get((sender, seq))
                if uuid is not None:
                    self.record(Taken, uuid)

        def watched_route(run: Run, source: Receiver | None, now: float) -> None:
            note(run.sender.uuid, run.seq, run.count)
            route(run, source, now)

        def watched_pass_on(source: Receiver, seq: int, entry: tuple[Any, ...], body: Any) -> Any:
            frame = pass_on(source, seq, entry, body)
            if frame is not None:
                note(source.uuid, seq, entry[2])
            return frame

        watched: Any = bus.postman
        watched.route = watched_route
        watched.pass_on = watched_pass_on

    def _buried(self, letter: DeadLetter) -> None:
        self._tell_of(letter.delivery, Dead, letter.reason, letter.target, letter.attempts)

    def _tell_of(self, delivery: Delivery, event: type[Event], *args: Any) -> None:
        """Write down the same of each message of a delivery."""
        for index in range(delivery.lo, delivery.hi):
            uuid = self.messages.get((delivery.run.sender.uuid, delivery.run.seq + index))
            if uuid is not None:
                self.record(event, uuid, *args)

    def kill_bus(self) -> None:
        """End the bus; every connection breaks."""
        assert self.bus.postman.counts.bad_frames == 0
        self.is_bus_up = False
        self.record(BusKilled)
        for wire in self.wires:
            self.cut(wire)
        self.ghosts.clear()

    def start_bus(self) -> None:
        """Start the next bus, from the roster of the last."""
        self.record(BusStarted)
        self.bus = self._new_bus()
        self.is_bus_up = True

    # Pods

    def new_wire(self) -> Wire:
        wire = self.wire()
        self.prefixes[id(wire)] = process_prefix(len(self.wires))
        return wire

    def spawn(
        self, wire: Wire, name: str, settings: PodSettings, filters: FilterSet, *, concurrency: int = 1
    ) -> SimPod:
        """Start a pod; it has joined when the bus says so."""
        pod = self.pod_class(self, wire, name, settings, filters, concurrency=concurrency)
        prefix = self.prefixes[id(wire)]
        pod.core.uuid = prefix + pod.core.uuid[8:]
        self.by_uuid[pod.uuid] = pod
        self.pods.append(pod)
        pod.core.hello(self.now)
        return pod

    def behaviour(self, pod: SimPod, inbound: Inbound, record: list[Any], rng: random.Random) -> Outcome:
        """Return what a handler does with a message; programs decide."""
        return Outcome()

    def has_ended(self, pod: SimPod, how: str) -> None:
        """Note that a pod is no more; programs start actors again."""

    # Moving frames

    def up(self, wire: Wire, limit: int | None = None) -> int:
        if not self.is_bus_up:
            return 0
        return super().up(wire, limit)

    def route(self) -> None:
        if self.is_bus_up:
            super().route()

    def _collect(self) -> None:
        bus = self.bus
        self.journal += b"".join(bus.journal)
        bus.journal.clear()
        out, bus.out = bus.out, []
        if not out:
            return
        by_route = {wire.route: wire for wire in self.wires if wire.is_alive}
        for route, header, body in out:
            wire = by_route.get(route)
            if wire is not None:
                wire.down.append((header, body))
            elif route not in self.ghosts:
                bus.unreachable(route, self.now)

    def down(self, wire: Wire, limit: int | None = None) -> int:
        if id(wire) in self.paused:
            return 0
        moved = 0
        while wire.down and (limit is None or moved < limit):
            header, body = wire.down.popleft()
            moved += 1
            fields = unpack_header(header)
            if fields[1] == 0:
                if fields[0] == Verb.REJOIN:
                    for pod in wire.pods.values():
                        pod.core.receive(fields, b"", self.now)
            elif fields[1] in wire.pods:
                self._give(wire.pods[fields[1]], fields, body)
        return moved

    def _give(self, pod: TestPod, fields: tuple[Any, ...], body: Any) -> None:
        assert isinstance(pod, SimPod)
        was_joining = pod.core.is_joining
        pod.core.receive(fields, body, self.now)
        pod.is_told = False
        if was_joining and not pod.core.is_joining and fields[0] == Verb.WELCOME:
            is_known = pod.uuid in self.bus.directory.by_uuid  # or it was struck since, and will be told
            if is_known and not pod.is_leaving and not (fields[7] and pod.is_joined):
                self.record(Joined, pod.label)
            pod.is_joined = True
        pod.take()

    def flow(self, *, until_quiet: bool = True) -> None:
        """Let everything move and be handled until nothing does."""
        for _ in range(ROUNDS):
            moved = 0
            for wire in self.wires:
                if wire.pods and id(wire) not in self.paused:
                    for pod in list(wire.pods.values()):
                        assert isinstance(pod, SimPod)
                        while pod.work(self.rng):
                            moved += 1
                        pod.push()
                if wire.up:
                    moved += self.up(wire)
            self.route()
            for wire in self.wires:
                if wire.down and wire.is_alive:
                    moved += self.down(wire)
            if not moved and self.is_bus_up and self.bus.ledger.unacked:
                self.now += ACK_DELAY
            elif not moved:
                return
        raise AssertionError("it never comes to rest")

    def pass_time(self, seconds: float) -> None:
        """Let time pass; those who run do what is due."""
        self.now += seconds
        for wire in self.wires:
            if not wire.is_alive or id(wire) in self.paused:
                continue
            for pod in list(wire.pods.values()):
                pod.core.tick(self.now)
                pod.push(force=False)
            if self.now - wire.sent_at >= BEAT_INTERVAL:
                wire.up.append((pack(Verb.BEAT.value, 0), b""))
                wire.sent_at = self.now
        if self.is_bus_up:
            self.route()

    # Trouble

    def cut(self, wire: Wire, *, silently: bool = False) -> None:
        """Break a connection; the link comes back on a new route.

        Of what the pods have sent, what had left is lost; ZeroMQ still has the rest, and sends it on the new one.
        """
        if silently and self.is_bus_up:
            self.ghosts.add(wire.route)
        for _ in range(self.rng.randint(0, len(wire.up)) if wire.up else 0):
            wire.up.popleft()
        wire.down.clear()
        wire.route = self._route()

    def kill(self, pod: TestPod) -> None:
        """End the process of a pod, with all pods on its link; what had left before still arrives."""
        wire = pod.wire
        if not wire.is_alive:
            return
        if id(wire) not in self.paused and self.rng.random() < 0.5:
            for one in wire.pods.values():
                one.push(force=self.rng.random() < 0.5)  # it was about to send, and gets as far as it gets
        wire.is_alive = False
        self.paused.discard(id(wire))
        for _ in range(self.rng.randint(0, len(wire.up)) if wire.up else 0):
            wire.up.pop()
        wire.down.clear()
        for one in list(wire.pods.values()):
            assert isinstance(one, SimPod)
            one.ended("killed")
        if self.rng.random() < 0.5:
            self.up(wire)  # the bus has it already, and does not know of the death
