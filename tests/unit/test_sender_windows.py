"""A sender that ignores its window is stopped by the bus, and none that keeps to it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.run import Run
from grav_actors.bus.sender import WINDOWS_TAKEN, Sender
from grav_actors.errors import ProtocolError
from grav_actors.protocol import KIND_ASK, KIND_PUBLISH, WINDOW_BYTES
from support.busnet import Net, TestPod
from support.simulation.seeding import Limits

LIMITS = Limits(window=256, frame=64, retained=1024)
LARGEST = 1 << 20


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with LIMITS.applied():
        yield


def take(sender: Sender, size: int) -> None:
    """Have the bus take a message, which nobody has handled."""
    sender.check(sender.received + 1, [(KIND_PUBLISH, "x", 1, size, None)], LARGEST)
    run = Run(sender, sender.received + 1, KIND_PUBLISH, "x", 1, b"", size, None)
    sender.open[run.seq] = run
    sender.received += 1
    sender.taken(size, 1)


def fill(net: Net, sender: TestPod, data: object = 0) -> None:
    """Send one by one, as a pod does, until the window is full."""
    while sender.core.outbox.has_room():
        sender.publish("x", data)
        net.settle()


def test_a_sender_that_ignores_its_window_fills_a_mailbox_by_two_windows_at_most_and_is_disconnected() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grav_actors.bus.sender.WINDOWS_TAKEN", WINDOWS_TAKEN)
        net = Net()
        honest, hostile = net.pod(), net.pod()
        slow = net.pod("slow", "x", mailbox_limit=100, stuck_after=None)
        slow.paused = True
        hostile.publish("x", *range(5000))
        net.settle()
        used = net.receiver(slow).mailbox.used
        assert 100 < used <= 100 + LIMITS.frame + WINDOWS_TAKEN * LIMITS.window
        assert net.bus.postman.counts.bad_frames >= 8
        assert hostile.core.closed_by is not None
        assert hostile.core.closed_by[0] == "protocol"
        honest.publish("x", *"honest")
        slow.paused = False
        net.settle()
        assert slow.data == [*range(used), *"honest"], "what came in order is not lost, and others are not disturbed"


def test_bytes_beyond_the_window_are_bounded_too() -> None:
    sender = Sender(b"s" * 16)
    sender.blockers.add(Mailbox("m", 1, "block", None))
    for _ in range(WINDOW_BYTES // LARGEST + 1):
        take(sender, LARGEST)
    with pytest.raises(ProtocolError, match="the window is"):
        take(sender, LARGEST)


def test_what_was_taken_before_costs_nothing() -> None:
    sender = Sender(b"s" * 16, received=10_000)
    sender.blockers.add(Mailbox("m", 1, "block", None))
    for _ in range(10):
        sender.check(1, [(KIND_PUBLISH, "x", 10_000, 10_000, None)], 1000)


def test_a_sender_that_keeps_to_its_window_is_never_stopped_however_often_it_is_held_up() -> None:
    net = Net()
    sender = net.pod()
    slow = net.pod("slow", "x", mailbox_limit=10, prefetch=4)
    for _ in range(3):
        slow.paused = True
        fill(net, sender)
        slow.paused = False
        net.settle()
    assert len(slow.data) >= 3 * LIMITS.window
    net.check_quiet()  # no frame was bad


def test_what_is_sent_again_to_a_new_bus_may_be_more_than_a_window() -> None:
    net = Net()
    first, second = net.pod(), net.pod()
    slow = net.pod("slow", "x", mailbox_limit=700, stuck_after=None)
    slow.paused = True
    first.publish("x", *range(690))
    net.settle()
    assert first.core.outbox.accepted == 690
    net.restart_bus()
    slow.core.rejoin(net.now)
    second.core.rejoin(net.now)
    net.settle()
    second.publish("x", *range(720))
    net.settle()
    assert net.receiver(slow).mailbox.is_full
    first.core.rejoin(net.now)
    net.settle()
    first.publish("x", *range(LIMITS.window))
    net.settle()
    assert net.sender(first).resent == 690
    slow.paused = False
    net.settle()
    assert len(slow.data) == 690 + 720 + LIMITS.window
    net.check_quiet()


def test_a_lie_about_what_was_sent_to_an_earlier_bus_is_worth_what_a_pod_may_keep() -> None:
    net = Net()
    hostile = net.pod()
    slow = net.pod("slow", "x", mailbox_limit=100, stuck_after=None)
    slow.paused = True
    net.restart_bus()
    hostile.core.outbox.sent = 1 << 50
    for pod in (hostile, slow):
        pod.core.rejoin(net.now)
    hostile.core.outbox.sent = 0
    net.settle()
    hostile.publish("x", *range(5000))
    net.settle()
    assert hostile.core.closed_by is not None
    assert net.receiver(slow).mailbox.used <= 100 + LIMITS.frame + LIMITS.retained + LIMITS.window


def test_questions_to_the_bus_count_in_no_window() -> None:
    net = Net()
    sender = net.pod()
    slow = net.pod("slow", "x", mailbox_limit=10, stuck_after=None)
    slow.paused = True
    fill(net, sender)
    for _ in range(3 * LIMITS.window):
        sender.ask("grav.bus", "grav.sys.bus.receivers", "x")
        net.settle()
    assert len(sender.answers) == 3 * LIMITS.window
    assert net.bus.postman.counts.bad_frames == 0
    assert sender.core.closed_by is None


def test_what_is_settled_is_accepted_although_a_mailbox_stays_full() -> None:
    sender = Sender(b"s" * 16)
    sender.blockers.add(Mailbox("m", 1, "block", None))
    for _ in range(10 * LIMITS.window):
        take(sender, 10)
        if len(sender.open) == LIMITS.window:
            sender.open.popitem(last=False)  # the oldest was handled, so its sender may send one more
    assert sender.accepted == 0


def test_only_questions_to_the_bus_itself_are_free() -> None:
    sender = Sender(b"s" * 16)
    sender.blockers.add(Mailbox("m", 1, "block", None))
    sender.check(1, [(KIND_ASK, "x", 5000, 5000, "grav.bus")], 1000)
    with pytest.raises(ProtocolError):
        sender.check(1, [(KIND_ASK, "x", 5000, 5000, "grav.node")], 1000)
