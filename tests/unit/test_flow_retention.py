"""Senders that keep as much as they may because of receivers that finish nothing: they are not held up for ever."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from grav_actors.bus import ledger
from grav_actors.filters import FilterSet
from grav_actors.pod.inbound import Inbound
from grav_actors.protocol import KIND_TELL, PodSettings
from support.busnet import Net, TestPod
from support.simulation.history import Handled
from support.simulation.pods import Outcome, Post, SimPod
from support.simulation.seeding import Limits, seeded_ids
from support.simulation.world import World

LIMITS = Limits(window=256, frame=64, retained=1024)
STUCK = 8.0
"""Seconds after which a pod that finishes nothing has been called stuck, and room was made."""


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with LIMITS.applied():
        yield


def flood(net: Net, sender: TestPod, data: Any = 0) -> None:
    """Send until the sender keeps all it may."""
    while sender.core.outbox.has_room():
        sender.publish("x", *[data] * 64)
        if not sender.core.outbox.has_room():
            net.settle()


def test_a_pod_that_hangs_within_a_run_does_not_hold_up_its_sender() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("tortoise", "x", mailbox_limit=LIMITS.retained, prefetch=16)
    pod.paused = True
    sender.publish("x", *range(LIMITS.frame))
    net.settle()
    pod.paused = False
    pod.handle(10)  # its sender keeps the whole run, and the mailbox is never full
    net.settle(handle=False)
    pod.paused = True
    flood(net, sender)
    assert net.receiver(pod).mailbox.used < net.receiver(pod).mailbox.limit
    net.advance(STUCK)
    assert sender.core.outbox.has_room()
    assert net.bus.postman.shelf.counts["overflow"] > 0


def test_a_pod_that_makes_progress_keeps_what_waits_for_it() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("tortoise", "x", mailbox_limit=LIMITS.retained * 2)
    pod.paused = True
    flood(net, sender)
    for _ in range(20):
        pod.paused = False
        pod.handle(1)
        pod.paused = True
        net.advance(1)
    assert net.bus.postman.shelf.counts["overflow"] == 0
    assert not sender.core.outbox.has_room()


def test_without_a_limit_a_hung_pod_holds_up_who_sends_to_it() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("tortoise", "x", mailbox_limit=LIMITS.retained * 2, stuck_after=None)
    pod.paused = True
    flood(net, sender)
    net.advance(60)
    assert not sender.core.outbox.has_room()
    assert not net.receiver(pod).mailbox.stuck


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_pod_that_lets_messages_be_dropped_holds_up_nobody(overflow: str) -> None:
    net = Net()
    settings: dict[str, Any] = {"mailbox_limit": 10**6, "prefetch": 16, "stuck_after": None, "overflow": overflow}
    sender, pod = net.pod(), net.pod("tortoise", "x", **settings)
    pod.paused = True
    flood(net, sender)
    net.advance(3)
    assert sender.core.outbox.has_room()
    dead = net.bus.postman.shelf.counts["overflow"]
    assert 0 < dead <= LIMITS.retained
    pod.paused = False
    net.settle()
    assert len(pod.got) + dead == sender.core.outbox.next_seq - 1


def test_a_pod_that_is_disconnected_when_it_overflows_is_so_when_it_holds_up_its_sender() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("tortoise", "x", mailbox_limit=LIMITS.retained * 2, overflow="disconnect")
    pod.paused = True
    flood(net, sender)
    net.advance(STUCK)
    assert sender.core.outbox.has_room()
    assert pod.core.closed_by == ("overflow", "")


def test_group_that_is_disconnected_when_it_overflows_is_so_with_members_of_another_policy() -> None:
    net = Net()
    sender = net.pod()
    settings: dict[str, Any] = {"group": "herd", "mailbox_limit": LIMITS.retained * 2, "prefetch": 16}
    first = net.actor("hare", "x", overflow="disconnect", **settings)
    second = net.actor("tortoise", "x", overflow="block", **settings)
    first.paused = second.paused = True
    flood(net, sender)
    net.advance(STUCK)
    assert sender.core.outbox.has_room()
    assert (first.core.closed_by, second.core.closed_by) == (("overflow", ""), ("overflow", ""))


@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
def test_what_is_in_flight_to_a_hung_pod_does_not_hold_up_its_sender_and_is_handled_later(overflow: str) -> None:
    net = Net()
    settings: dict[str, Any] = {"mailbox_limit": 10**6, "prefetch": 10**6, "overflow": overflow}
    sender, pod = net.pod(), net.pod("tortoise", "x", **settings)
    pod.paused = True
    flood(net, sender)
    assert net.receiver(pod).mailbox.waiting_count == 0
    net.advance(STUCK)
    assert sender.core.outbox.is_all_settled
    assert net.bus.postman.shelf.counts["overflow"] == 0
    pod.paused = False
    net.settle()
    assert len(pod.got) == sender.core.outbox.next_seq - 1
    assert not net.receiver(pod).mailbox.stuck
    net.check_quiet()


def test_what_is_in_flight_to_a_stuck_actor_goes_to_its_next_incarnation() -> None:
    net = Net()
    settings: dict[str, Any] = {"mailbox_limit": 10**6, "prefetch": 10**6, "supervisor": net.pod().uuid}
    sender, actor = net.pod(), net.actor("tortoise", "x", **settings)
    actor.paused = True
    flood(net, sender)
    net.advance(STUCK)
    assert sender.core.outbox.is_all_settled
    net.kill(actor)
    heir = net.actor("tortoise", "x", incarnation=1, **settings)
    net.settle()
    assert len(heir.got) == sender.core.outbox.next_seq - 1
    assert all(got.redelivered for got in heir.got)


def test_a_question_in_flight_to_a_stuck_pod_is_not_called_settled() -> None:
    net = Net()
    asker, actor = net.pod(), net.actor("tortoise", mailbox_limit=10**6, prefetch=10**6)
    actor.paused = True
    asker.ask("tortoise", "q")
    while asker.core.outbox.has_room():
        asker.tell("tortoise", "t", *range(64))
        if not asker.core.outbox.has_room():
            net.settle()
    net.advance(STUCK)
    assert asker.core.outbox.has_room()
    assert asker.core.outbox.retained_messages == 1


def test_a_sender_is_not_held_up_by_more_open_messages_than_an_acknowledgement_can_list() -> None:
    net = Net()
    sender, other = net.pod(), net.pod("", "y")
    hung = net.pod("tortoise", "x", mailbox_limit=10**6, prefetch=16)
    hung.paused = True
    while sender.core.outbox.has_room():
        sender.publish("x", 0)
        sender.publish("y", 0)
        if not sender.core.outbox.has_room():
            net.settle()
    assert len(net.sender(sender).open) < LIMITS.retained * 3 // 4  # it keeps what it cannot know to be settled
    net.advance(STUCK + 6)  # half of what waits goes each second, until the rest can be listed
    assert sender.core.outbox.has_room()
    net.settle()
    assert len(other.got) * 2 == sender.core.outbox.next_seq - 1


def test_hung_pods_that_make_the_bus_hold_all_it_may_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "HELD_BYTES", 1_000_000)
    net = Net()
    senders = [net.pod() for _ in range(3)]
    hung = [net.pod(f"hung{n}", f"x{n}") for n in range(3)]
    for pod in hung:
        pod.paused = True
    for number, sender in enumerate(senders):
        sender.publish(f"x{number}", *[bytes(10_000)] * 40)
    busy, other = net.pod(), net.pod("other", "y")
    net.settle()
    busy.publish("y", 1)
    net.settle()
    net.advance(STUCK * 2)
    assert not net.bus.ledger.starved
    assert net.sender(busy).accepted == net.sender(busy).received
    assert other.data == [1]


class Flooding(World):
    """Actors whose handlers tell others more than they were told."""

    targets: dict[str, list[str]]

    def behaviour(self, pod: SimPod, inbound: Inbound, record: list[Any], rng: random.Random) -> Outcome:
        return Outcome(deque(Post(KIND_TELL, "t", name, data=0) for name in self.targets[pod.core.name]))


@pytest.mark.parametrize(
    ("count", "prefetch"), [(1, 1), (1, 4096), (2, 1), (2, 4096), (3, 2), (5, 4096)], ids=lambda value: str(value)
)
def test_handlers_that_send_more_than_they_get_do_not_wait_for_one_another_for_ever(count: int, prefetch: int) -> None:
    rng = random.Random(1)
    limits = Limits(window=8, frame=4, retained=32)
    world: Flooding | None = None
    with seeded_ids(lambda: world.now if world is not None else 0.0), limits.applied():
        world = Flooding(rng)
        names = [f"a{n}" for n in range(count)]
        world.targets = dict.fromkeys(names, names * 3)
        actors = [
            world.spawn(world.new_wire(), name, PodSettings(actor=True, prefetch=prefetch), FilterSet())
            for name in names
        ]
        first = world.spawn(world.new_wire(), "first", PodSettings(), FilterSet())
        world.flow()
        first.post(Post(KIND_TELL, "t", "a0", data=0))
        for _ in range(3):
            begin = len(world.history)
            for _ in range(12):  # seconds: stuck after 5, and room is made each second
                for _ in range(10):
                    _step(world, actors)
                world.pass_time(1.0)
            handled = {event.pod for event in world.history[begin:] if isinstance(event, Handled)}
            assert handled == {actor.label for actor in actors}
            world.check()


def _step(world: World, actors: list[SimPod]) -> None:
    for actor in actors:
        actor.work(world.rng)
        actor.push()
    for wire in world.wires:
        world.up(wire)
    world.route()
    for wire in world.wires:
        world.down(wire)
