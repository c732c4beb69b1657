"""Which messages are charged with the death of a process: those that were in its handlers, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from grav_actors.protocol import FLAG_SUSPECT
from support.busnet import Net, TestPod

Word = tuple[bytes, int]


def start(net: Net, supervisor: TestPod, name: str = "a", incarnation: int = 0, **settings: Any) -> TestPod:
    """Return an incarnation of an actor that takes messages and handles none."""
    actor = net.actor(name, "x", supervisor=supervisor.uuid, incarnation=incarnation, is_joined=False, **settings)
    actor.paused = True
    net.settle()
    return actor


def say(net: Net, supervisor: TestPod, incarnation: int, *handling: Word, reason: str = "crashed") -> Any:
    """Have the supervisor tell of the death of `a`."""
    named = [list(item) for item in handling]
    question = supervisor.ask("grav.bus", "grav.sys.bus.release", ["a", incarnation, reason, "", named])
    net.settle()
    return supervisor.answers[question].data


def heard(pod: TestPod) -> list[tuple[Any, bool, int]]:
    return [(got.data, got.redelivered, got.attempt) for got in pod.got]


def resume(net: Net, pod: TestPod) -> list[tuple[Any, bool, int]]:
    pod.paused = False
    net.settle()
    return heard(pod)


def test_only_the_message_that_was_in_the_handler_is_charged() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", *range(5))
    net.settle()
    net.kill(actor)
    assert say(net, supervisor, 0, (sender.uuid, 3)) is True
    heir = start(net, supervisor, incarnation=1)
    assert resume(net, heir) == [(0, True, 1), (1, True, 1), (2, True, 2), (3, True, 1), (4, True, 1)]
    net.advance(10)
    net.check_quiet()


def test_nobody_is_charged_when_the_process_died_between_handlers() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", 0, 1)
    net.settle()
    net.kill(actor)
    say(net, supervisor, 0)
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1), (1, True, 1)]


def test_all_that_were_in_handlers_are_charged() -> None:
    net = Net()
    supervisor, sender, other = net.pod(), net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", *range(3))
    net.settle()
    other.publish("x", *range(3, 6))
    net.settle()
    net.kill(actor)
    say(net, supervisor, 0, (other.uuid, 2), (sender.uuid, 3), (sender.uuid, 1))
    attempts = [attempt for _, _, attempt in resume(net, start(net, supervisor, incarnation=1))]
    assert attempts == [2, 1, 2, 1, 2, 1]


def test_without_a_word_of_the_supervisor_the_oldest_is_charged() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", *range(3))
    net.settle()
    net.kill(actor)
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 2), (1, True, 1), (2, True, 1)]


def test_third_death_in_a_handler_ends_this_message_and_no_other() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    for incarnation in range(3):
        actor = start(net, supervisor, incarnation=incarnation)
        if not incarnation:
            sender.publish("x", *range(100))
            net.settle()
        net.kill(actor)
        say(net, supervisor, incarnation, (sender.uuid, 51))
    assert net.dead() == [("crashed", "a", 50)]
    (letter,) = net.bus.postman.shelf.letters()
    assert letter.attempts == 3
    heir = start(net, supervisor, incarnation=3)
    assert [data for data, _, _ in resume(net, heir)] == [number for number in range(100) if number != 50]
    net.advance(10)
    net.check_quiet()


def test_word_that_comes_when_all_was_taken_back_is_taken_too() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", *range(3))
    net.settle()
    net.kill(actor)
    net.advance(20)
    assert net.receiver(actor).mailbox.waiting_count == 3
    say(net, supervisor, 0, (sender.uuid, 2))
    net.check()
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1), (1, True, 2), (2, True, 1)]


def test_late_word_of_a_third_death_ends_the_message() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    for incarnation in range(3):
        actor = start(net, supervisor, incarnation=incarnation)
        if not incarnation:
            sender.publish("x", *range(3))
            net.settle()
        net.kill(actor)
        net.advance(20)
        say(net, supervisor, incarnation, (sender.uuid, 2))
        net.check()
    assert net.dead() == [("crashed", "a", 1)]
    assert [data for data, _, _ in resume(net, start(net, supervisor, incarnation=3))] == [0, 2]


def test_what_was_never_delivered_is_not_charged() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor, prefetch=1)
    sender.publish("x", 0, 1)
    net.settle()
    net.kill(actor)
    say(net, supervisor, 0, (sender.uuid, 2), (sender.uuid, 77), (b"n" * 16, 1))
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1), (1, False, 1)]


@pytest.mark.parametrize("named", [[1], [[b"s" * 16]], [["s", 1]], [[b"s" * 16, "1"]], [b"s"]])
def test_malformed_word_is_refused(named: Any) -> None:
    net = Net()
    supervisor = net.pod()
    start(net, supervisor)
    question = supervisor.ask("grav.bus", "grav.sys.bus.release", ["a", 0, "crashed", "", named])
    net.settle()
    assert supervisor.answers[question].type == "grav.error"
    assert net.bus.directory.named("a") is not None


def test_pod_that_says_in_which_handler_it_ends_has_that_message_charged() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", *range(3))
    net.settle()
    actor.core.crashed(actor.waiting[0], 1, "Crash: x")
    actor.leave("crashed")
    net.settle()
    say(net, supervisor, 0, (sender.uuid, 2))  # the supervisor may say so too
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1), (1, True, 2), (2, True, 1)]


def test_pod_that_crashes_outside_of_handlers_has_nothing_charged() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", 0)
    net.settle()
    actor.leave("crashed")
    net.settle()
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1)]


def test_pod_that_is_killed_when_it_has_said_so_is_charged_once() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", *range(3))
    net.settle()
    actor.core.crashed(actor.waiting[0], 1, "Crash: x")
    net.settle()
    net.kill(actor)
    say(net, supervisor, 0, (sender.uuid, 2))
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1), (1, True, 2), (2, True, 1)]


def test_end_in_a_handler_is_told_again_when_the_connection_breaks() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    actor = start(net, supervisor)
    sender.publish("x", *range(3))
    net.settle()
    actor.core.crashed(actor.waiting[0], 1, "Crash: x")
    actor.push()
    net.cut(actor.wire)
    net.advance(3)
    actor.leave("crashed")
    net.settle()
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1), (1, True, 2), (2, True, 1)]


def test_deaths_of_a_groups_members_are_counted_together() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    members = {name: start(net, supervisor, name, group="g", prefetch=4) for name in ("a", "b")}
    sender.publish("x", "poison")
    net.settle()
    sender.publish("x", *range(6))
    net.settle()
    for incarnation in range(1, 4):
        name, pod = next((name, pod) for name, pod in members.items() if poisoned(pod))
        net.kill(pod)
        question = supervisor.ask(
            "grav.bus", "grav.sys.bus.release", [name, pod.core.settings.incarnation, "crashed", "", [[sender.uuid, 1]]]
        )
        net.settle()
        assert supervisor.answers[question].data is True
        members[name] = start(net, supervisor, name, incarnation, group="g", prefetch=4)
    assert [(reason, data) for reason, _, data in net.dead()] == [("crashed", "poison")]
    for pod in members.values():
        pod.paused = False
    net.settle()
    assert sorted(got.data for pod in members.values() for got in pod.got) == list(range(6))


def poisoned(pod: TestPod) -> bool:
    """Whether the first message of all is with a pod."""
    return any(inbound.seq <= 1 <= inbound.last for inbound in pod.waiting)


def test_questions_in_flight_end_with_an_error_and_are_not_charged_to_others() -> None:
    net = Net()
    supervisor, asker, sender = net.pod(), net.pod(), net.pod()
    actor = start(net, supervisor)
    question = asker.ask("a", "q")
    net.settle()
    sender.publish("x", 0)
    net.settle()
    net.kill(actor)
    say(net, supervisor, 0, (asker.uuid, 1))
    assert asker.answers[question].data["code"] == "stopped"
    assert resume(net, start(net, supervisor, incarnation=1)) == [(0, True, 1)]
    assert net.dead() == []


def test_message_that_may_not_be_charged_again_is_marked_and_others_are_not() -> None:
    net = Net()
    supervisor, sender = net.pod(), net.pod()
    for incarnation in range(3):
        actor = start(net, supervisor, incarnation=incarnation)
        if not incarnation:
            sender.publish("x", *range(3))
            net.settle()
        marked = [inbound.seq for inbound in actor.waiting if inbound.flags & FLAG_SUSPECT]
        assert marked == ([2] if incarnation == 2 else [])
        net.kill(actor)
        say(net, supervisor, incarnation, (sender.uuid, 2))


def test_a_question_in_flight_to_a_member_that_overflowed_is_not_asked_again() -> None:
    net = Net()
    asker = net.pod()
    member = net.actor("one", "q", "x", group="g", overflow="disconnect", mailbox_limit=4, prefetch=4)
    member.paused = True  # its handler runs
    asker.ask(None, "q")
    net.settle()
    other = net.actor("two", "q", group="g")
    asker.tell("one", "t", *range(8))
    net.settle(handle=False)
    assert member.core.closed_by is not None
    net.settle()
    assert other.got == []
    net.check_quiet()
