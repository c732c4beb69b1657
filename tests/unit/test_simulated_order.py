"""Order and fairness over simulated histories: one order for all, causes ahead of effects, everybody in turn."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import pytest

from grav_actors.bus.server import DRAIN_FRAMES
from grav_actors.filters import FilterSet
from grav_actors.pod.inbound import Inbound
from grav_actors.protocol import KIND_PUBLISH, PodSettings
from support.simulation.checkers import fifo, total_order, violations
from support.simulation.history import Delivered, Sent, Taken
from support.simulation.pods import Outcome, Post, SimPod
from support.simulation.seeding import Limits, seeded_ids
from support.simulation.world import World

pytestmark = pytest.mark.no_cover  # random histories would take three times as long when they are traced


def listening(*types: str) -> FilterSet:
    filters = FilterSet(listening=bool(types), exclusive=True)
    for message_type in types:
        filters.set_type(message_type, True)
    return filters


class Orders(World):
    """Pods that publish and listen, each in a process of its own, and frames that move at any time."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.answers: dict[str, str] = {}

    def pod_of(self, name: str, *types: str, **settings: Any) -> SimPod:
        pod = self.spawn(self.new_wire(), name, PodSettings(**settings), listening(*types))
        self.flow()
        return pod

    def behaviour(self, pod: SimPod, inbound: Inbound, record: list[Any], rng: random.Random) -> Outcome:
        effect = self.answers.get(f"{pod.core.name} {inbound.type}")
        return Outcome(deque([Post(KIND_PUBLISH, effect, data=record[4])] if effect else []))

    def stir(self, steps: int, *senders: SimPod, message_type: str = "x") -> None:
        """Send, move, handle and push at random, then let everything come to rest."""
        rng = self.rng
        pods = list(self.by_uuid.values())
        for step in range(steps):
            luck = rng.random()
            if luck < 0.3:
                rng.choice(senders).post(Post(KIND_PUBLISH, message_type, data=step))
            elif luck < 0.5:
                wire = rng.choice(self.wires)
                self.up(wire, rng.randrange(4))
                self.down(wire, rng.randrange(4))
            elif luck < 0.6:
                self.route()
            elif luck < 0.8:
                rng.choice(pods).work(rng)
            else:
                rng.choice(pods).push(force=rng.random() < 0.5)
        self.flow()

    def seen_by(self, pod: SimPod) -> list[str]:
        return [event.uuid for event in self.history if isinstance(event, Delivered) and event.pod == pod.label]


@pytest.mark.parametrize("first", range(0, 16, 4))
def test_eight_senders_are_seen_in_one_order_by_four_pods(first: int) -> None:
    for seed in range(first, first + 4):
        with seeded_ids(lambda: 0.0), Limits(frame=4).applied():
            world = Orders(random.Random(seed))
            receivers = [world.pod_of(f"r{n}", "x", prefetch=2**n) for n in range(4)]
            world.stir(1500, *(world.pod_of(f"s{n}") for n in range(8)))
        order = [event.uuid for event in world.history if isinstance(event, Taken)]
        assert len(order) == sum(isinstance(event, Sent) for event in world.history) > 300
        assert [world.seen_by(pod) for pod in receivers] == [order] * 4
        assert violations(world.history, (total_order, fifo)) == []


@pytest.mark.parametrize("first", range(0, 16, 4))
def test_no_effect_is_seen_before_its_cause(first: int) -> None:
    for seed in range(first, first + 4):
        with seeded_ids(lambda: 0.0), Limits(frame=2).applied():
            world = Orders(random.Random(seed))
            world.answers = {"middle x": "y", "last y": "z"}
            source, _middle, _last = world.pod_of("source"), world.pod_of("middle", "x"), world.pod_of("last", "y")
            observers = [world.pod_of(f"o{n}", "x", "y", "z", prefetch=3**n) for n in range(3)]
            world.stir(800, source)
        causes = {event.uuid: event.cause for event in world.history if isinstance(event, Sent)}
        assert sum(1 for cause in causes.values() if cause) > 100
        for observer in observers:
            seen = {uuid: place for place, uuid in enumerate(world.seen_by(observer))}
            assert seen.keys() == causes.keys()
            assert not [uuid for uuid, cause in causes.items() if cause and seen[cause] > seen[uuid]]


class Drains(Orders):
    """A bus that takes frames as ROUTER gives them: from each link that has some in turn, so many in one drain."""

    def drain(self, limit: int) -> list[int]:
        """Take frames; return from which links they came, in order."""
        taken: list[int] = []
        while len(taken) < limit and any(wire.up for wire in self.wires):
            for place, wire in enumerate(self.wires):
                if wire.up and len(taken) < limit:
                    taken.append(place)
                    self.up(wire, 1)
        self.route()
        return taken


def test_senders_that_always_have_something_to_send_are_served_in_turn() -> None:
    with seeded_ids(lambda: 0.0), Limits(window=1024, frame=1).applied():
        world = Drains(random.Random(1))
        floods = [world.pod_of(f"flood{n}") for n in range(4)]
        real = world.pod_of("real")
        receiver = world.pod_of("r", "x", "real")
        served: Counter[int] = Counter()
        for turn in range(40):
            for flood in floods:
                while flood.post(Post(KIND_PUBLISH, "x", data=turn)):
                    pass
                flood.push()
            assert real.post(Post(KIND_PUBLISH, "real", data=turn))
            real.push()
            taken = world.drain(DRAIN_FRAMES)
            assert world.wires.index(real.wire) in taken, "it waits for no more than one drain"
            served.update(taken)
            for wire in world.wires:
                world.down(wire)
            while receiver.work(world.rng):
                pass
            receiver.push()
            world.pass_time(0.02)
        counts = [served[world.wires.index(flood.wire)] for flood in floods]
        assert max(counts) - min(counts) <= DRAIN_FRAMES
        assert min(counts) > 40 * DRAIN_FRAMES // 6
        world.flow()
    seen = [event for event in world.history if isinstance(event, Delivered) and event.type == "real"]
    assert len(seen) == 40
    assert violations(world.history) == []
