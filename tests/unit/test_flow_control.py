"""Credit and full mailboxes in the pure core: who waits, who is told, and what passes."""

from __future__ import annotations

from typing import Any

import pytest

from grav_actors.bus import membership
from grav_actors.bus.core import PING
from grav_actors.bus.mailroom import SLOW_AFTER
from grav_actors.bus.membership import BAD_FRAMES_LIMIT, MAX_REPEATS
from grav_actors.protocol import WINDOW_BYTES, WINDOW_MESSAGES, Verb, unpack_header
from support.busnet import Net, TestPod

SLOW, RECOVERED = "grav.sys.pod.slow", "grav.sys.pod.recovered"


def flooded(overflow: str = "block", **settings: Any) -> tuple[Net, TestPod, TestPod, TestPod]:
    """Return a net with a sender, a pod that handles nothing and whose mailbox is full, and a listener to events."""
    net = Net()
    sender = net.pod()
    pod = net.pod("tortoise", "x", mailbox_limit=10, prefetch=1, stuck_after=None, overflow=overflow, **settings)
    watcher = net.pod("", SLOW, RECOVERED)
    pod.paused = True
    sender.publish("x", *range(30))
    net.settle()
    return net, sender, pod, watcher


def told(watcher: TestPod) -> list[tuple[str, str]]:
    return [(got.type, got.data["pod"]) for got in watcher.got]


# Slow receivers


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest"])
def test_a_receiver_whose_mailbox_stays_full_is_told_as_slow_once(overflow: str) -> None:
    net, sender, pod, watcher = flooded(overflow)
    net.advance(SLOW_AFTER / 2)
    assert told(watcher) == []
    for number in range(20):
        net.advance(1)
        sender.publish("x", number)
    assert told(watcher) == [(SLOW, "tortoise")]
    data = watcher.data[0]
    assert (data["overflow"], data["limit"]) == (overflow, 10)
    assert data["waiting"] >= 10
    assert data["bytes"] > 0
    assert data["seconds"] >= SLOW_AFTER
    assert data["senders"] == (overflow == "block")
    assert net.receiver(pod).mailbox.slow


def test_a_slow_receiver_has_recovered_when_its_mailbox_is_half_empty() -> None:
    net, sender, pod, watcher = flooded()
    net.advance(2)
    pod.paused = False
    net.settle(handle=False)
    pod.handle(10)
    net.advance(2, handle=False)
    assert told(watcher)[1:] == []  # there is room, but not much
    net.advance(2)
    assert told(watcher)[1:] == [(RECOVERED, "tortoise")]
    assert watcher.data[1]["seconds"] > SLOW_AFTER
    assert not net.receiver(pod).mailbox.slow
    assert not net.bus.mailroom.pressed
    pod.paused = True
    sender.publish("x", *range(30))
    net.advance(3)
    assert told(watcher)[2:] == [(SLOW, "tortoise")]


def test_a_mailbox_that_is_full_for_a_moment_makes_nobody_slow() -> None:
    net, _, pod, watcher = flooded()
    pod.paused = False
    net.advance(5)
    assert told(watcher) == []
    assert not net.bus.mailroom.pressed


def test_a_group_is_slow_as_a_whole() -> None:
    net = Net()
    sender, watcher = net.pod(), net.pod("", SLOW)
    member = net.pod("", "x", group="workers", mailbox_limit=10, prefetch=1, stuck_after=None)
    member.paused = True
    sender.publish("x", *range(30))
    net.advance(3)
    assert told(watcher) == [(SLOW, "workers")]


def test_no_member_of_a_group_has_more_than_its_window_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grav_actors.bus.receiver.WINDOW_BYTES", 10_000)
    monkeypatch.setattr("grav_actors.bus.directory.WINDOW_BYTES", 10_000)
    net = Net()
    sender = net.pod()
    members = [net.actor(name, "x.*", group="g", prefetch=4096) for name in ("one", "other")]
    for member in members:
        member.paused = True
    for number in range(100):
        sender.publish(f"x.{number % 2}", bytes([number]) * 1000)  # each a run, and all come at once
    net.settle()
    for member in members:
        mailbox = net.receiver(member).mailbox
        assert 10_000 <= mailbox.used_bytes < 10_000 + 1100, "it is full, and one run may be over"
        assert mailbox.waiting_count == 0, "further ones wait for the group, in order"
    assert net.bus.directory.groups["g"].mailbox.waiting_count > 70
    for member in members:
        member.paused = False
    net.settle()
    assert sorted(data[0] for member in members for data in member.data) == list(range(100))
    net.check_quiet()


def test_a_slow_receiver_that_leaves_is_forgotten() -> None:
    net, _, pod, watcher = flooded()
    net.advance(2)
    pod.leave()
    net.advance(3)
    assert told(watcher) == [(SLOW, "tortoise")]
    assert not net.bus.mailroom.pressed


def test_who_is_slow_or_stuck_stands_in_the_list_of_pods() -> None:
    net, _, _, _ = flooded()
    net.advance(2)
    rows = {row["name"]: (row["slow"], row["stuck"]) for row in net.bus.describe_pods()}
    assert rows["tortoise"] == (True, False)
    assert rows[""] == (False, False)


# What passes a full window


def test_a_question_to_the_bus_passes_the_sender_s_own_full_window() -> None:
    net, sender, _, _ = flooded()
    sender.publish("x", *range(WINDOW_MESSAGES))
    net.settle()
    assert not sender.core.outbox.has_room()
    uuid = sender.ask("grav.bus", "grav.sys.bus.stats")
    net.settle()
    assert sender.answers[uuid].data["pods"] == 3


def test_a_pod_with_a_full_window_changes_its_filter_and_leaves() -> None:
    net, sender, _, _ = flooded()
    sender.publish("x", *range(WINDOW_MESSAGES))
    net.settle()
    sender.listen("y")
    net.settle()
    assert net.receiver(sender).filters.allows_type("y")
    sender.leave()
    net.settle()
    assert sender.uuid not in net.bus.directory.by_uuid


def test_an_answer_passes_the_window_of_a_pod_that_finishes_nothing() -> None:
    net, _, pod, _ = flooded()
    answerer = net.actor("answerer", "q")
    answerer.handler = lambda got: got.data
    uuid = pod.ask("answerer", "q", 7)
    net.settle()
    assert pod.answers[uuid].data == 7


# Floods


def test_pods_that_flood_each_other_both_come_to_an_end() -> None:
    net = Net()
    first, second = net.pod("", "first", mailbox_limit=100), net.pod("", "second", mailbox_limit=100)
    for number in range(3 * WINDOW_MESSAGES):
        for pod, message_type in ((first, "second"), (second, "first")):
            while not pod.core.outbox.has_room():
                net.settle()
            pod.publish(message_type, number)
    net.settle()
    assert first.data == second.data == list(range(3 * WINDOW_MESSAGES))
    net.check_quiet()


def test_what_the_bus_holds_against_a_stopped_pod_is_bounded_by_mailbox_and_window() -> None:
    net = Net()
    sender = net.pod()
    pod = net.pod("", "x", mailbox_limit=1000, stuck_after=None)
    pod.paused = True
    data = bytes(10_000)
    for _ in range(20_000):
        if not sender.core.outbox.has_room():
            net.settle()
            if not sender.core.outbox.has_room():
                break
        sender.publish("x", data)
    else:
        raise AssertionError("the sender was never held back")
    assert net.receiver(pod).mailbox.used <= 1000 + WINDOW_MESSAGES
    assert net.bus.ledger.held_bytes <= 1000 * 10_100 + WINDOW_BYTES
    assert sender.core.outbox.retained_bytes <= 1000 * 10_100 + WINDOW_BYTES


@pytest.mark.parametrize("size", [0, 30_000])
def test_a_stuck_pod_does_not_hold_up_a_sender_that_keeps_all_it_may(size: int) -> None:
    net = Net()
    sender, pod, other = net.pod(), net.pod("stuck", "x", stuck_after=5.0), net.pod("", "y")
    pod.paused = True
    data = bytes(size)
    while sender.core.outbox.has_room():
        sender.publish("x", *[data] * 100)
        if not sender.core.outbox.has_room():
            net.settle()
    net.advance(8)
    assert sender.core.outbox.has_room()
    sender.publish("y", 1)
    net.settle()
    assert other.data == [1]
    buried = net.bus.postman.shelf.counts["overflow"]
    pod.paused = False
    for receiver in net.bus.directory:
        assert receiver.mailbox.used <= receiver.mailbox.limit
    assert buried > 0
    assert net.bus.ledger.held_bytes > 0


def test_one_hung_delivery_keeps_nothing_but_itself_at_its_sender() -> None:
    net = Net()
    sender, hung, quick = net.pod(), net.pod("", "hung"), net.pod("", "quick")
    hung.paused = True
    sender.publish("hung", 0)
    for _ in range(400):
        sender.publish("quick", *range(50))
        net.settle()
        assert sender.core.outbox.retained_messages <= 2 * WINDOW_MESSAGES
    net.advance(1)
    assert len(quick.got) == 20_000
    assert sender.core.outbox.retained_messages == 1
    assert net.bus.ledger.held_bytes < 200


# Pods that come and go


def test_pods_that_come_send_and_leave_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_DEPARTED", 8)
    net = Net()
    receiver = net.pod("", "x")
    wire = net.wire()

    def sizes() -> list[int]:
        bus = net.bus
        directory, mailroom = bus.directory, bus.mailroom
        return [
            len(held)
            for held in (
                bus._routes, bus._away, bus._departed, bus._again, directory.by_uuid, directory.by_name,
                directory._by_process, directory._by_service, directory.groups, bus.ledger.unacked, mailroom.full,
                mailroom.pressed, mailroom.overflowed, bus.handling.failing, bus.postman.own.open,
                receiver.core._failed_held, wire.pods,
            )
        ]  # fmt: skip

    before: list[int] = []
    for number in range(300):
        if number == 8:  # of the last ones the bus remembers what they had sent
            before = sizes()
        sender = net.pod(wire=wire)
        sender.publish("x", number)
        sender.leave()
        net.settle()
        net.pods.clear()
        wire.pods.clear()
    assert receiver.data == list(range(300))
    assert sizes() == before
    net.check_quiet()


def test_a_receiver_remembers_a_bounded_number_of_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grav_actors.pod.ranges.SENDERS", 20)
    net = Net()
    receiver = net.pod("", "x")
    for number in range(200):
        sender = net.pod()
        sender.publish("x", number)
        sender.leave()
        net.settle()
        assert len(receiver.core._memories) <= 20


# What a hostile pod can make the bus hold


def holding(net: Net) -> TestPod:
    """Return a pod with ten messages in flight to it."""
    pod = net.pod("", "x", wire=net.wire())
    pod.paused = True
    net.pod().publish("x", *range(10))
    net.settle()
    return pod


def deliveries(net: Net, pod: TestPod) -> int:
    return sum(unpack_header(header)[0] == Verb.DELIVER for header, _ in pod.wire.down)


def test_of_many_hellos_at_once_only_the_last_is_given_what_is_in_flight() -> None:
    net = Net()
    pod = holding(net)
    pod.core._received = 0  # as if it had come on a connection that broke
    for _ in range(50):
        pod.core.hello(net.now)
    pod.push()
    net.up(pod.wire)
    net.route()
    assert deliveries(net, pod) == 1


def test_a_pod_that_says_hello_again_and_again_and_finishes_nothing_is_malformed() -> None:
    net = Net()
    pod = holding(net)
    for _ in range(MAX_REPEATS + BAD_FRAMES_LIMIT + 10):
        pod.core._received = 0
        pod.core.hello(net.now)
        pod.push()
        net.up(pod.wire)
        net.route()
    assert deliveries(net, pod) == MAX_REPEATS
    assert net.bus.postman.counts.bad_frames == BAD_FRAMES_LIMIT + 10
    assert not net.receiver(pod).route


def test_a_pod_that_is_cut_off_often_and_finishes_something_is_welcome_each_time() -> None:
    net = Net()
    pod = holding(net)
    for _ in range(3 * MAX_REPEATS):
        net.cut(pod.wire)
        net.advance(2, handle=False)
    pod.paused = False
    net.settle()
    assert pod.data == list(range(10))
    assert net.bus.postman.counts.bad_frames == 0


def test_each_route_is_pinged_every_second() -> None:
    net = Net()
    pod = net.pod()
    net.now += 1
    net.bus.tick(net.now)
    assert (pod.wire.route, PING, b"") in net.bus.out


def test_what_is_settled_above_the_floor_is_told_although_nothing_more_happens() -> None:
    net = Net()
    sender = net.pod()
    first, hung, last = (net.pod("", message_type) for message_type in "abc")
    for pod in (first, hung, last):
        pod.paused = True
    for message_type in "abc":
        sender.publish(message_type, 1)
    net.settle()
    for pod in (first, last):
        pod.paused = False
    net.settle()
    net.advance(2)
    assert sender.core.outbox.retained_messages == 1, "what hangs, and nothing else"


def test_what_a_pod_sent_is_taken_once_although_its_connection_breaks_as_it_leaves() -> None:
    net = Net()
    sender, receiver = net.pod(), net.pod("", "x")
    sender.publish("x", 1)
    sender.leave()
    sender.push()
    net.up(sender.wire)
    net.route()
    net.cut(sender.wire)
    net.advance(3)
    assert [(got.data, got.redelivered) for got in receiver.got] == [(1, False)]
    assert net.bus.postman.counts.messages == 1
