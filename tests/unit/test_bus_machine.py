"""A state machine over the bus and its pods: Hypothesis looks for the shortest way to break a promise."""

from __future__ import annotations

import random
from contextlib import ExitStack
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from grav_actors.filters import FilterSet
from grav_actors.pod.inbound import Inbound
from grav_actors.protocol import KIND_ASK, KIND_PUBLISH, KIND_TELL, PodSettings
from support.simulation.checkers import violations
from support.simulation.history import Quiet
from support.simulation.pods import Outcome, Post, SimPod
from support.simulation.seeding import Limits, seeded_ids
from support.simulation.wards import Ward
from support.simulation.world import World

KINDS = {"publish": KIND_PUBLISH, "tell": KIND_TELL, "ask": KIND_ASK}
ACTORS = ("actor", "m1", "m2")


class Machine(World):
    """A sender, a plain pod, an actor, and a group of two; messages say what their handlers do."""

    def __init__(self) -> None:
        super().__init__(random.Random(0))
        self.supervisor = self.spawn(self.new_wire(), "supervisor", PodSettings(), FilterSet())
        self.source = self.spawn(self.new_wire(), "sender", PodSettings(), FilterSet())
        listening = FilterSet(listening=True)
        self.plain = self.spawn(self.new_wire(), "plain", PodSettings(mailbox_limit=8), listening)
        self.wards: dict[str, Ward] = {}
        for name in ACTORS:
            self.wards[name] = Ward(name, partial(self.start_actor, name))
        self.flow()

    def start_actor(self, name: str, number: int) -> SimPod:
        group = "group" if name.startswith("m") else ""
        wanted = PodSettings(
            actor=True, supervisor=self.supervisor.uuid, incarnation=number, group=group, prefetch=2 if group else 4096
        )
        return self.spawn(self.new_wire(), name, wanted, FilterSet(listening=True))

    def has_ended(self, pod: SimPod, how: str) -> None:
        ward = self.wards.get(pod.core.name)
        if ward is not None and ward.pod is pod:
            ward.ended(self, how, delay=0.0, gives_up=False, tells=True)

    def behaviour(self, pod: SimPod, inbound: Inbound, record: list[Any], rng: random.Random) -> Outcome:
        fails = isinstance(record[4], int) and inbound.attempt <= record[4]
        return Outcome(how="fail" if fails else "ok")

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        for ward in self.wards.values():
            ward.look(self, self.supervisor)


pods = st.integers(0, 20)
counts = st.integers(0, 5)


class Node(RuleBasedStateMachine):
    @initialize(frame=st.sampled_from((1, 3, 512)), window=st.sampled_from((4, 4096)))
    def start(self, frame: int, window: int) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(seeded_ids(lambda: 0.0))
        self.stack.enter_context(Limits(frame=frame, window=window).applied())
        self.world = Machine()

    def living(self, number: int) -> SimPod:
        living = [pod for pod in self.world.by_uuid.values() if pod.is_alive]
        return living[number % len(living)]

    @rule(failures=st.sampled_from((0, 0, 1, 2)), count=counts)
    def publish(self, failures: int, count: int) -> None:
        for _ in range(count):
            self.world.source.post(Post(KIND_PUBLISH, "x", data=failures))

    @rule(kind=st.sampled_from(("tell", "ask")), name=st.sampled_from((*ACTORS, "nobody")), by=pods)
    def send_to(self, kind: str, name: str, by: int) -> None:
        pod = self.living(by)
        if pod.is_here and (kind == "tell" or pod.core.name != name):
            pod.post(Post(KINDS[kind], "told", name, data=0))

    @rule(pod=pods, upwards=counts, downwards=counts)
    def move(self, pod: int, upwards: int, downwards: int) -> None:
        wire = self.living(pod).wire
        self.world.up(wire, upwards)
        self.world.route()
        self.world.down(wire, downwards)

    @rule(pod=pods, steps=counts)
    def work(self, pod: int, steps: int) -> None:
        for _ in range(steps):
            self.living(pod).work(self.world.rng)

    @rule(pod=pods)
    def push(self, pod: int) -> None:
        self.living(pod).push()

    @rule(seconds=st.sampled_from((0.01, 1.0, 6.0)))
    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(pod=pods, silently=st.booleans())
    def cut(self, pod: int, silently: bool) -> None:
        wire = self.living(pod).wire
        for one in wire.pods.values():
            assert isinstance(one, SimPod)
            one.disturb("connection")
        self.world.cut(wire, silently=silently)

    @rule(name=st.sampled_from(ACTORS))
    def kill(self, name: str) -> None:
        self.world.kill(self.world.wards[name].pod)

    @rule()
    def restart_bus(self) -> None:
        self.world.kill_bus()
        self.world.start_bus()

    @rule(pod=pods)
    def change_filter(self, pod: int) -> None:
        one = self.living(pod)
        if one.is_here and one is not self.world.supervisor and not one.core.settings.group:
            one.change_filters(FilterSet(listening=not one.core.filters.listening))

    @invariant()
    def counts_are_right(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        with self.stack:
            world = self.world
            world.ghosts.clear()
            for _ in range(60):
                world.flow()
                world.pass_time(5.0)
            world.flow()
            world.check_quiet()
            world.record(Quiet)
            assert violations(world.history) == []


Node.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None, derandomize=True)
TestNode = Node.TestCase
