"""Random programs: who is there, what they send, and what befalls them, all from one seed."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grav_actors.bus.mailbox import Mailbox
from grav_actors.filters import FilterSet
from grav_actors.ids import id_text
from grav_actors.pod.inbound import Inbound
from grav_actors.protocol import (
    FAILED_LIMIT,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    RETAIN_BYTES,
    WINDOW_BYTES,
    PodSettings,
)
from support.busnet import Wire
from support.simulation.history import Measured, Noted, Quiet
from support.simulation.pods import Outcome, Post, SimPod
from support.simulation.retries import IDLE_RETRY
from support.simulation.seeding import Limits
from support.simulation.wards import Ward
from support.simulation.world import World

TYPES = ("x", "x", "x", "y", "y", "z.1", "z.2")
PATTERNS = ("x", "y", "z.1", "z.*", ">", "*")
TROUBLES = ("failures", "deaths", "cuts", "lost", "restarts", "stops", "hangs", "filters", "leaving", "late")
BODY_HEADER = 5
"""Bytes that the body of a run has beside its records, at most."""
EVENT = 500
"""Bytes that the event of a dead letter has beside the message, at most."""
CALM = 3000.0
"""Virtual seconds within which everything must come to rest when all trouble has ended."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What handlers do with one message.

    Attributes:
        how: `ok`, `fail` or `reject`, or `die`.
        times: How often that happens before they succeed.
        steps: Steps that they take.
        echoes: Messages that they send meanwhile.
    """

    how: str = "ok"
    times: int = 0
    steps: int = 0
    echoes: int = 0


class Program(World):
    """A random program.

    Attributes:
        always: Troubles that are never left out.
        often: One of them that comes often.
        troubles: What may befall it.
        is_calm: No more trouble comes, but messages keep their fates.
    """

    always: frozenset[str] = frozenset()
    often = ""

    def __init__(self, rng: random.Random, limits: Limits) -> None:
        super().__init__(rng, replay_limit=rng.choice((0, 3, 128)))
        self.limits = limits
        self.troubles = self.always | {name for name in TROUBLES if rng.random() < 0.5}
        self.is_calm = False
        self.fates: dict[str, Fate] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.next_data = 0
        self.highest: dict[str, float] = {}
        self.wards: dict[str, Ward] = {}
        self.hung: dict[str, SimPod] = {}
        self.flowed_at = self.now
        self.is_tight = rng.random() < 0.5
        home = self.new_wire()
        self.supervisor = self.spawn(home, "supervisor", PodSettings(), FilterSet())
        shared = self.new_wire()
        self.senders = [
            self.spawn(shared if rng.random() < 0.4 else self.new_wire(), f"s{n}", PodSettings(), FilterSet())
            for n in range(rng.randint(1, 4))
        ]
        self.plain = [self.new_plain(f"p{n}", shared) for n in range(rng.randint(0, 3))]
        for n in range(rng.randint(0, 2)):
            self.new_ward(f"a{n}")
        for n in range(rng.choice((0, 0, 1, 2, 3))):
            self.new_ward(f"g{n}", group="group")
        self.flow()
        self.actions = self._actions()

    def _actions(self) -> list[tuple[float, Callable[[], None]]]:
        rng = self.rng
        actions: list[tuple[float, Callable[[], None]]] = [
            (20, self.send),
            (30, self.move),
            (20, self.route),
            (25, self.handle),
            (20, self.push),
            (4, self.wait),
            (1, self.withdraw),
        ]
        rare: dict[str, Callable[[], None]] = {
            "deaths": self.kill_one,
            "cuts": self.cut_one,
            "lost": self.lose_one,
            "restarts": self.restart,
            "stops": self.stop_process,
            "hangs": self.hang,
            "filters": self.refilter,
            "leaving": self.part,
            "late": self.arrive,
        }
        for name in sorted(self.troubles & rare.keys()):
            actions += [(5.0 if name == self.often else rng.choice((0.5, 1.5)), rare[name])]
        if "stops" in self.troubles or "hangs" in self.troubles:
            actions.append((2, self.wake))
        return actions

    # Who is there

    @property
    def keeps_little(self) -> bool:
        """Whether senders may come to wait for what they keep."""
        return self.limits.retained < 256 or self.limits.retained_bytes < RETAIN_BYTES

    def settings(self, **fixed: Any) -> dict[str, Any]:
        rng = self.rng
        limit = rng.choice((4, 16, 64)) if self.is_tight else 65_536
        return {
            "prefetch": rng.choice((1, 4, 4096)),
            "mailbox_limit": limit,
            "overflow": rng.choice(("block", "block", "block", "drop_oldest", "drop_newest", "disconnect")),
            # Without it, two that wait in `send` for each other wait for ever, as they asked for.
            "stuck_after": 5.0 if self.is_tight or self.keeps_little else rng.choice((5.0, None)),
            "max_deliver": rng.choice((1, 2, 5)),
            **fixed,
        }

    def filters(self) -> FilterSet:
        rng = self.rng
        filters = FilterSet(listening=rng.random() < 0.95, exclusive=rng.random() < 0.6)
        for _ in range(rng.randint(1, 3)):
            filters.set_type(rng.choice(PATTERNS), rng.random() < 0.8)
        if rng.random() < 0.1:
            filters.set_type("grav.sys.>", True)
        return filters

    def new_plain(self, name: str, shared: Wire | None = None) -> SimPod:
        rng = self.rng
        wire = shared if shared is not None and shared.is_alive and rng.random() < 0.3 else self.new_wire()
        settings = PodSettings(**self.settings(replay=rng.random() < 0.3))
        return self.spawn(wire, name, settings, self.filters(), concurrency=rng.choice((1, 1, 3)))

    def new_ward(self, name: str, *, group: str = "") -> None:
        rng = self.rng
        settings = self.settings(group=group, service="service" if rng.random() < 0.5 else "")
        settings["replay"] = not group and rng.random() < 0.3
        filters = self.filters()
        filters.listening = True
        concurrency = rng.choice((1, 1, 3))
        wire = self.new_wire() if rng.random() < 0.8 else None

        def start(incarnation: int) -> SimPod:
            own = wire if wire is not None and wire.is_alive else self.new_wire()
            full = PodSettings(actor=True, supervisor=self.supervisor.uuid, incarnation=incarnation, **settings)
            return self.spawn(own, name, full, filters.copy(), concurrency=concurrency)

        self.wards[name] = Ward(name, start)

    def has_ended(self, pod: SimPod, how: str) -> None:
        ward = self.wards.get(pod.core.name)
        if ward is not None and ward.pod is pod:
            rng = self.rng
            ward.ended(
                self,
                how,
                delay=rng.choice((0.0, 0.0, 0.3, 8.0)),
                gives_up=not self.is_calm and rng.random() < 0.15,
                tells=rng.random() < 0.5,
            )

    def everybody(self) -> list[SimPod]:
        """Return who lives."""
        return [pod for pod in self.by_uuid.values() if pod.is_alive]

    def anybody(self) -> SimPod:
        return self.rng.choice(self.everybody())

    # What handlers do

    def behaviour(self, pod: SimPod, inbound: Inbound, record: list[Any], rng: random.Random) -> Outcome:
        uuid = id_text(record[0])
        fate = self.fates.get(uuid)
        if fate is None or not isinstance(record[4], int):
            return Outcome()
        posts = deque(self.echo(pod, inbound, record) for _ in range(fate.echoes))
        self.counts[uuid, pod.core.name] += 1
        if fate.how == "ok" or self.counts[uuid, pod.core.name] > fate.times:
            return Outcome(posts, "ok", fate.steps)
        is_mortal = pod.core.name in self.wards and "deaths" in self.troubles
        if fate.how == "die" and not is_mortal:
            return Outcome(posts, "ok", fate.steps)
        return Outcome(posts, fate.how, fate.steps)

    def echo(self, pod: SimPod, inbound: Inbound, record: list[Any]) -> Post:
        luck = self.rng.random()
        if luck < 0.2:
            return Post(KIND_REPLY, "reply", inbound.sender, record[0], "echo")
        if luck < 0.3:
            return Post(KIND_REPLY, "reply", record[0][:8], record[0], "echo")
        if luck < 0.5 and self.wards:
            return Post(KIND_TELL, "told", self.rng.choice(list(self.wards)), data="echo")
        return Post(KIND_PUBLISH, self.rng.choice(TYPES), data="echo")

    def fate(self) -> Fate:
        rng = self.rng
        steps = rng.choice((0, 0, 0, 0, 3))
        echoes = rng.choice((0, 0, 0, 1, 2))
        luck = rng.random()
        if "failures" in self.troubles and luck < 0.15:
            how = "reject" if luck < 0.02 else "fail"
            return Fate(how, rng.choice((1, 1, 2, 1000)), steps, echoes)
        if "deaths" in self.troubles and luck > 0.97:
            return Fate("die", rng.choice((1, 3, 1000)), steps, echoes)
        return Fate("ok", 0, steps, echoes)

    # Actions

    def send(self) -> None:
        rng = self.rng
        pod = rng.choice(self.senders) if rng.random() < 0.85 else self.anybody()
        if not pod.is_here:
            return
        for _ in range(rng.choice((1, 1, 3, 10, 30 if self.is_tight else 10))):
            post = self.new_post(pod)
            if post is not None and not pod.post(post):
                return
            uuid = self.messages.get((pod.uuid, pod.core.outbox.next_seq - 1))
            if uuid is not None:
                self.fates[uuid] = self.fate()

    def new_post(self, pod: SimPod) -> Post | None:
        rng = self.rng
        self.next_data += 1
        luck = rng.random()
        names = [*self.wards, "service", "nobody"]
        padding = rng.choice((0, 0, 0, 0, 0, 100, 1000)) if self.limits.window_bytes < WINDOW_BYTES else 0
        if luck < 0.12:
            return Post(KIND_TELL, "told", rng.choice(names), data=self.next_data, padding=padding)
        if luck < 0.18:
            name = rng.choice(names)
            is_own = name == pod.core.name
            return None if is_own else Post(KIND_ASK, "q", name, data=self.next_data, padding=padding)
        if luck < 0.22:
            return Post(KIND_ASK_ANY, rng.choice(TYPES), data=self.next_data, padding=padding)
        return Post(KIND_PUBLISH, rng.choice(TYPES), data=self.next_data, padding=padding)

    def move(self) -> None:
        wire = self.rng.choice(self.wires)
        self.up(wire, self.rng.randrange(4))
        if wire.is_alive:
            self.down(wire, self.rng.randrange(4))

    def handle(self) -> None:
        pod = self.anybody()
        if id(pod.wire) not in self.paused:
            for _ in range(self.rng.choice((1, 5, 50))):
                if not pod.work(self.rng):
                    break

    def push(self) -> None:
        pod = self.anybody()
        if id(pod.wire) not in self.paused:
            pod.push(force=self.rng.random() < 0.5)

    def wait(self) -> None:
        rng = self.rng
        for _ in range(rng.choice((1, 1, 3))):
            self.pass_time(rng.choice((0.01, 0.1, 1.0, 3.0)))
            if rng.random() < 0.5:
                self.flow()

    def flow(self, *, until_quiet: bool = True) -> None:
        super().flow(until_quiet=until_quiet)
        self.flowed_at = self.now

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        if not self.is_calm and self.now - self.flowed_at >= IDLE_RETRY:
            # Frames were under way all that time: what comes late did not wait for the bus.
            for pod in self.everybody():
                pod.disturb("links")
                pod.calm("links")
        for ward in list(self.wards.values()):
            ward.look(self, self.supervisor)

    def withdraw(self) -> None:
        pod = self.anybody()
        if pod.questions and pod.is_here:
            pod.cancel(self.rng.choice(list(pod.questions)))

    # Trouble

    def kill_one(self) -> None:
        victims = [ward.pod for ward in self.wards.values() if ward.pod.is_alive]
        if self.rng.random() < 0.3:
            victims = [pod for pod in self.everybody() if pod is not self.supervisor]
        if self.rng.random() < 0.7:
            # What has just sent something has more to lose.
            victims = [pod for pod in victims if pod.wire.up] or victims
        if victims:
            self.kill(self.rng.choice(victims))

    def cut_one(self) -> None:
        wire = self.rng.choice(self.wires)
        if wire.is_alive and self.is_bus_up:
            self.note(f"connection of {self.names(wire)} breaks")
            for pod in self.pods_of(wire):
                pod.disturb("connection")
            self.cut(wire, silently=self.rng.random() < 0.5)

    def lose_one(self) -> None:
        """Let the bus find out that a route is broken."""
        if self.ghosts:
            self.ghosts.discard(self.rng.choice(sorted(self.ghosts)))

    def restart(self) -> None:
        if not self.is_bus_up:
            return
        self.kill_bus()
        for _ in range(self.rng.choice((0, 0, 2))):
            self.pass_time(self.rng.choice((0.1, 1.0)))
            for pod in self.everybody():
                if self.rng.random() < 0.5:
                    pod.work(self.rng)
        self.start_bus()

    def stop_process(self) -> None:
        wire = self.rng.choice(self.wires)
        if wire.is_alive and wire is not self.supervisor.wire:
            self.note(f"process of {self.names(wire)} is stopped")
            self.paused.add(id(wire))
            for pod in self.pods_of(wire):
                pod.disturb("stopped")

    def hang(self) -> None:
        pod = self.anybody()
        pod.paused = True
        self.hung[pod.label] = pod
        pod.disturb("hangs")

    def wake(self) -> None:
        """Let stopped processes and hung handlers go on."""
        for wire in self.wires:
            if id(wire) in self.paused and self.rng.random() < 0.5:
                self.resume(wire)
        for label, pod in list(self.hung.items()):
            if self.rng.random() < 0.5:
                del self.hung[label]
                pod.paused = False
                pod.calm("hangs")

    def resume(self, wire: Wire) -> None:
        self.paused.discard(id(wire))
        for pod in self.pods_of(wire):
            pod.calm("stopped")

    def refilter(self) -> None:
        pod = self.anybody()
        # Members of groups are actors, and their filters are what they have handlers for.
        if pod.is_here and pod is not self.supervisor and not pod.core.settings.group:
            filters = self.filters()
            if self.rng.random() < 0.2 and self.messages:
                filters.set_uuid(bytes.fromhex(list(self.messages.values())[-1].replace("-", "")), False)
            pod.change_filters(filters)

    def part(self) -> None:
        pod = self.anybody()
        # Members of groups are actors, which leave when their handlers have ended, but for answers that they defer.
        is_busy = bool(pod.core.settings.group) and any(not one.is_question for one in pod.running)
        if pod.is_here and not is_busy and pod is not self.supervisor and len(self.everybody()) > 3:
            pod.leave(self.rng.choice(("", "", "stopping")))

    def arrive(self) -> None:
        name = f"late{len(self.plain)}"
        pod = self.new_plain(name)
        self.plain.append(pod)
        if self.rng.random() < 0.3:
            self.senders.append(pod)

    # The end

    def calm_down(self) -> None:
        """End all trouble and let everything come to rest."""
        self.note("all trouble ends")
        self.is_calm = True
        if not self.is_bus_up:
            self.start_bus()
        self.ghosts.clear()
        for wire in self.wires:
            if id(wire) in self.paused:
                self.resume(wire)
        for pod in self.hung.values():
            pod.paused = False
            if pod.is_alive:
                pod.calm("hangs")
        self.hung.clear()
        end = self.now + CALM
        rounds = 0
        while self.now < end:
            self.flow()
            rounds += 1
            if rounds > 8 and self.is_at_rest():
                self.record(Quiet)
                return
            self.pass_time(1.0 if rounds < 12 else 5.0)

    def is_at_rest(self) -> bool:
        return (
            not self.bus.ledger.held_bytes
            and not self.bus.handling.failing
            and not self.bus._away
            and all(pod.is_idle or pod.is_leaving for pod in self.everybody())
            and all(ward.is_given_up or ward.pod.is_alive for ward in self.wards.values())
        )

    def measure(self) -> None:
        """Note how full everything is, when that is more than ever."""
        window = self.limits.window
        postman = self.bus.postman
        self.measured("dead letters", len(postman.shelf), self.limits.shelved)
        self.measured("replay ring", len(postman.ring), self.replay_limit)
        directory = self.bus.directory
        # Past the limit: a window of each sender, and what comes back, from failures, a member, or the ring.
        slack = window * len(self.by_uuid) + FAILED_LIMIT + self.replay_limit
        boxes: list[Mailbox] = [group.mailbox for group in directory.groups.values()]
        boxes += [receiver.mailbox for receiver in directory if not receiver.settings.group]
        for box in boxes:
            if box.overflow == "block":
                self.measured(f"mailbox {box.name}", box.used, box.limit + slack)
            elif box.overflow == "drop_oldest":
                self.measured(f"mailbox {box.name}", box.waiting_count, box.limit + slack)
        for receiver in directory:
            excess = self.limits.frame - 1 if receiver.window >= self.limits.frame else 0
            self.measured(f"in flight to {receiver.name}", receiver.window_used, receiver.window + excess)
            self.measured(f"failures of {receiver.name}", len(receiver.failed), FAILED_LIMIT)
        for pod in self.everybody():
            box_ = pod.core.outbox
            # Questions to the bus itself wait for no room.
            past = sum(seq > box_.accepted for seq in pod.asked_bus)
            self.measured(f"window of {pod.label}", box_.next_seq - 1 - box_.accepted - past, window)
            kept = box_.retained_messages + box_.queued - len(pod.asked_bus.keys() & pod.unsettled.keys())
            self.measured(f"kept by {pod.label}", kept, self.limits.retained)
        self.measure_bytes(boxes)

    def measure_bytes(self, boxes: list[Mailbox]) -> None:
        """Note how many bytes everything holds, when these are more than ever.

        What has room may take one message more than fits, and a window one run.
        """
        limits, bus = self.limits, self.bus
        longest, answer = max(self.largest) + BODY_HEADER, self.largest[True] + BODY_HEADER
        run = max(limits.run_bytes + BODY_HEADER, longest + EVENT)
        window = limits.window_bytes + longest
        self.measured("bytes of dead letters", bus.postman.shelf._bytes, limits.shelved_bytes)
        self.measured("bytes in the replay ring", bus.postman.ring._bytes, limits.ring_bytes)
        # What members leave returns to their group.
        members = window + run if bus.directory.groups else 0
        failed = FAILED_LIMIT * longest if "failures" in self.troubles else 0
        slack = (window + members) * len(self.by_uuid) + limits.ring_bytes + failed
        for box in boxes:
            if box.overflow == "block":
                self.measured(f"bytes in mailbox {box.name}", box.used_bytes, limits.mailbox_bytes + slack)
            elif box.overflow == "drop_oldest":
                waiting = sum(delivery.size for delivery in box.waiting)
                most = limits.mailbox_bytes + 2 * run + window + members + failed
                self.measured(f"bytes in mailbox {box.name}", waiting, most)
        for receiver in bus.directory:
            name = receiver.name
            self.measured(f"bytes in flight to {name}", receiver.window_bytes, limits.window_bytes + run)
            most = limits.answer_bytes + max(limits.run_bytes + BODY_HEADER, answer)
            self.measured(f"bytes of answers to {name}", receiver.answer_bytes, most)
        for pod in self.everybody():
            box_ = pod.core.outbox
            asked = pod.asked_bus
            # Bytes are accepted with all that left together, at most a window.
            past = sum(size for seq, size in asked.items() if seq > box_.accepted - limits.window)
            self.measured(f"bytes in the window of {pod.label}", box_.unaccepted_bytes - past, window)
            past_kept = sum(size for seq, size in asked.items() if seq in pod.unsettled)
            kept = box_.retained_bytes + box_.queued_bytes - past_kept
            self.measured(f"bytes kept by {pod.label}", kept, limits.retained_bytes + longest)
        # Those that have nothing to handle get no credit past the limit of the bus.
        idle = [pod.uuid for pod in self.senders if not pod.core.filters.listening]
        held = sum(
            run.size
            for uuid in idle
            if uuid in bus.directory.by_uuid
            for run in bus.directory.by_uuid[uuid].sender.open.values()
        )
        self.measured("bytes held for senders", held, limits.held_bytes + window * len(idle))

    def measured(self, what: str, used: float, limit: float) -> None:
        if used > self.highest.get(what, 0):
            self.highest[what] = used
            self.record(Measured, what, used, limit)

    # For readers

    def note(self, text: str) -> None:
        self.record(Noted, text)

    def pods_of(self, wire: Wire) -> list[SimPod]:
        return [pod for pod in wire.pods.values() if isinstance(pod, SimPod)]

    def names(self, wire: Wire) -> str:
        return ", ".join(pod.label for pod in self.pods_of(wire)) or "nobody"

    def run(self, steps: int) -> None:
        """Run the program, and let it come to rest."""
        weights = [weight for weight, _ in self.actions]
        actions = [action for _, action in self.actions]
        for step, action in enumerate(self.rng.choices(actions, weights, k=steps)):
            action()
            if step % 8 == 0:
                self.measure()
            if step % 32 == 0:
                self.check()
        self.calm_down()
