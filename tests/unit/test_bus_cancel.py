"""Questions that are taken back: they are found where they wait, without a look at whatever else waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from grav_actors.bus.run import TRACES, Delivery
from grav_actors.protocol import Verb, unpack_header
from support.busnet import Net, TestPod, Wire

EPOCH = (1).to_bytes(8, "big")
"""Of the first bus."""


def ask(asker: TestPod, name: str | None, count: int) -> None:
    """Ask so many questions, in one run."""
    for number in range(count):
        asker.ask(name, "q", number)


class _Counting(deque[Delivery]):
    """A deque that counts how many of its items are looked at one by one."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        _Counting.looks += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Delivery]:
        for delivery in super().__iter__():
            _Counting.looks += 1
            yield delivery


def count_looks(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count from now on what is looked at in all mailboxes, and in what is in flight."""
    for receiver in net.bus.directory:
        receiver.mailbox.waiting = _Counting(receiver.mailbox.waiting)
        receiver.in_flight = _Counting(receiver.in_flight)
    for group in net.bus.directory.groups.values():
        group.mailbox.waiting = _Counting(group.mailbox.waiting)
    monkeypatch.setattr(_Counting, "looks", 0)


def test_taking_a_question_back_looks_at_few_messages_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    asker, callee = net.pod(), net.actor("a", prefetch=500)
    others = [net.actor(f"other{number}") for number in range(20)]
    for pod in (callee, *others):
        pod.paused = True
    for number in range(2000):
        asker.ask("a", f"q.{number % 2}", number)  # each a run of its own
    for other in others:
        asker.tell(other.core.name, "x", *range(100))
    net.settle()
    count_looks(net, monkeypatch)
    asker.core.cancel([*range(1, 101), *range(1901, 2001)], net.now)
    net.settle()
    assert _Counting.looks < 200 * 100, "a search by halves or two for each; a walk would take 200 * 1,500"
    assert net.receiver(callee).mailbox.used == 1900
    assert callee.core.cancelled == [(asker.uuid, tuple(range(1, 101)))]
    callee.paused = False
    net.settle()
    assert [data for data in callee.data if data >= 1900] == []
    net.check()


def test_a_question_that_is_taken_back_again_and_again_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    asker = net.pod()
    pods = [net.pod(f"p{number}", "q") for number in range(50)]
    for pod in pods:
        pod.paused = True
    asker.ask(None, "q", 1)
    net.settle()
    asker.core.cancel([1], net.now)
    net.settle()
    assert [pod.core.cancelled for pod in pods] == [[(asker.uuid, (1,))]] * 50
    count_looks(net, monkeypatch)
    for _ in range(10):
        assert net.bus.mailroom.cancel(net.sender(asker), [1], net.now) == {}
    assert _Counting.looks == 0


def test_questions_are_found_after_their_group_has_shared_them_out() -> None:
    net = Net()
    asker = net.pod()
    members = [net.pod(f"g{number}", "q", group="g", prefetch=2) for number in range(2)]
    for member in members:
        member.paused = True
    ask(asker, None, 10)
    net.settle()
    asker.core.cancel(list(range(1, 11)), net.now)
    net.settle()
    told = sorted(seq for member in members for _, seqs in member.core.cancelled for seq in seqs)
    assert len(told) == 4, "what the members have"
    group = net.bus.directory.groups["g"]
    assert group.mailbox.used == 0
    net.check()


def test_traces_of_questions_that_have_moved_on_are_forgotten() -> None:
    net = Net()
    asker, callee = net.pod(), net.actor("a", prefetch=1)
    ask(asker, "a", 200)
    net.settle()
    assert len(callee.data) == 200
    callee.paused = True
    ask(asker, "a", 200)
    net.settle()
    (run,) = net.receiver(asker).sender.open.values()
    for _ in range(150):
        callee.paused = False
        callee.handle(1)
        callee.paused = True
        net.settle()
    assert run.traces is not None
    assert len(run.traces) <= 2 * TRACES
    asker.core.cancel(list(range(201, 401)), net.now)
    net.settle()
    assert net.receiver(callee).mailbox.used == 1
    net.check()


@pytest.mark.parametrize("name", ["a", None])
def test_taking_questions_out_of_a_full_mailbox_lets_its_senders_go_on(name: str | None) -> None:
    net = Net()
    asker, other = net.pod(), net.pod()
    callee = net.actor("a", "q", group="" if name else "g", prefetch=1, mailbox_limit=4)
    callee.paused = True
    ask(asker, name, 10)
    net.settle()
    other.publish("q", 1)
    other.tell("a", "q", 2)
    net.settle()
    held = [pod.core.outbox.accepted < pod.core.outbox.sent for pod in (asker, other)]
    assert held == [True, True]
    asker.core.cancel(list(range(1, 11)), net.now)
    net.settle()
    assert [pod.core.outbox.accepted for pod in (asker, other)] == [10, 2]
    net.check()


class _Tardy(Net):
    """A new bus is told what was taken back when it is too late."""

    def up(self, wire: Wire, limit: int | None = None) -> int:
        if self.bus.epoch != EPOCH:
            frames = [frame for frame in wire.up if unpack_header(frame[0])[0] != Verb.CANCEL]
            wire.up = deque(frames)
        return super().up(wire, limit)


def test_a_question_that_was_taken_back_is_not_given_by_a_new_bus() -> None:
    """It would come behind what was sent later, as a first delivery, to a pod that the bus before had spared it."""
    net = _Tardy()
    asker = net.pod()
    busy, slow = net.pod("busy", ">"), net.pod("slow", ">", prefetch=1)
    busy.paused = slow.paused = True
    asker.publish("x", "before")
    ask(asker, None, 3)
    net.settle()
    asker.core.cancel([2, 4], net.now)
    asker.publish("x", "after")
    net.settle()
    slow.paused = False
    net.settle()
    assert slow.data == ["before", 1, "after"]
    asker.publish("x", "waits")
    net.settle(handle=False)
    net.restart_bus()
    net.advance(2, handle=False)
    busy.paused = False
    net.settle()
    assert slow.data == ["before", 1, "after", "waits"]
    assert [data for data in busy.data if data not in (0, 2)] == ["before", 1, "after", "waits"]
    net.check_quiet()
    assert net.bus.postman.counts.missing == 0
