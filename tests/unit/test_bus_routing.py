"""What becomes of a message: who gets it, how often, in which order, and where it ends otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from grav_actors.bus import ledger, postman
from grav_actors.codec import unpack_body
from grav_actors.filters import FilterSet
from grav_actors.ids import process_prefix
from grav_actors.message import Message
from grav_actors.pod import outbox
from grav_actors.pod.core import State
from grav_actors.protocol import (
    FAILED_LIMIT,
    KIND_ANSWER,
    KIND_PUBLISH,
    KIND_REPLY,
    MAX_OPEN_RANGES,
    WINDOW_MESSAGES,
)
from grav_actors.reference import ActorRef
from support.busnet import Got, Net, Rejected, TestPod


def failing(*data: Any, times: int = 10**9, error: type[Exception] = ValueError) -> Any:
    """Return a handler that raises for these data, so many times for each."""
    left = dict.fromkeys(data, times)

    def handler(got: Got) -> None:
        if left.get(got.data, 0) > 0:
            left[got.data] -= 1
            raise error(f"no {got.data}")

    return handler


def answering(data: Any) -> Any:
    return lambda got: data


# Filters


def test_a_message_goes_to_every_pod_whose_filter_lets_it_through() -> None:
    net = Net()
    sender = net.pod()
    by_type, by_pattern, by_other, silent = net.pod("", "a.b"), net.pod("", "a.*"), net.pod("", "c"), net.pod()
    everything = net.pod()
    everything.listen()
    net.settle()
    sender.publish("a.b", 1)
    sender.publish("c", 2)
    net.settle()
    assert [pod.data for pod in (by_type, by_pattern, by_other, silent, everything)] == [[1], [1], [2], [], [1, 2]]


def test_a_refused_uuid_is_not_delivered_and_the_rest_of_its_run_is() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod()
    messages = [Message("x", number) for number in range(6)]
    filters = FilterSet(listening=True)
    for refused in (0, 2, 3, 5):
        filters.set_uuid(messages[refused]._record[0], False)
    pod.set_filters(filters)
    net.settle()
    for message in messages:
        sender.send_message(KIND_PUBLISH, message, None)
    net.settle()
    assert pod.data == [1, 4]
    net.check_quiet()


def test_a_run_of_which_nothing_is_wanted_is_settled() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod()
    message = Message("x", 1)
    filters = FilterSet(listening=True)
    filters.set_uuid(message._record[0], False)
    pod.set_filters(filters)
    net.settle()
    sender.send_message(KIND_PUBLISH, message, None)
    net.settle()
    net.check_quiet()


def test_what_is_sent_after_a_filter_is_confirmed_follows_it() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x")
    sender.publish("x", 1)
    net.settle()
    pod.listen("y")
    net.settle()
    sender.publish("x", 2)
    sender.publish("y", 3)
    net.settle()
    assert pod.data == [1, 3]


def test_a_pod_never_gets_what_it_published_itself() -> None:
    net = Net()
    pod, member = net.pod("", ">"), net.actor("m", "x", group="g")
    pod.publish("x", 1)
    member.publish("x", 2)
    net.settle()
    assert pod.data == [2]
    assert member.data == [1], "of the group it is the only one who may have the first, and nobody the second"
    net.check_quiet()


def test_a_group_gives_what_a_member_published_to_another() -> None:
    net = Net()
    members = [net.actor(f"m{n}", "x", group="g") for n in range(2)]
    members[0].publish("x", *range(10))
    net.settle()
    assert members[0].data == []
    assert members[1].data == list(range(10))


def test_what_is_told_to_a_name_reaches_it_also_from_itself() -> None:
    net = Net()
    actor = net.actor("a")
    actor.tell("a", "x", 1)
    net.settle()
    assert actor.data == [1]


def test_what_waits_behind_a_full_window_stays_in_order_across_types() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", ">", prefetch=1)
    for number in range(20):
        sender.publish(f"t{number % 3}", number)
    net.settle()
    assert pod.data == list(range(20))


# Names, services, replies


def test_nobody_by_that_name_is_a_dead_letter() -> None:
    net = Net()
    sender = net.pod()
    sender.tell("nobody", "x", 1)
    net.settle()
    assert net.dead() == [("no_responders", "nobody", 1)]
    net.check_quiet()


def test_a_question_to_nobody_ends_at_once() -> None:
    net = Net()
    asker = net.pod()
    questions = [asker.ask("nobody", "q"), asker.ask(None, "q")]
    net.settle()
    errors = [asker.answers[question].data for question in questions]
    assert [(error["code"], error["error"]) for error in errors] == [
        ("no_responders", "there is no actor nobody"),
        ("no_responders", "nobody handles q"),
    ]
    net.check_quiet()


@pytest.mark.parametrize(
    ("name", "pattern", "code"),
    [("nobody", "q", "no_responders"), (None, "other", "no_responders"), (None, "q", "settled")],
)
def test_a_question_without_an_answer_ends_at_once_also_behind_much_that_is_open(
    name: str | None, pattern: str, code: str
) -> None:
    net = Net()
    asker, hung = net.pod(), net.actor("hung")
    net.actor("silent", pattern)
    hung.paused = True
    for _ in range(3 * MAX_OPEN_RANGES):
        asker.tell("hung", "x", 0)
        asker.core.flush(net.now)
        asker.tell("silent", "x", 0)
        asker.core.flush(net.now)
    net.settle()
    assert len(net.sender(asker).open) == 3 * MAX_OPEN_RANGES
    question = asker.ask(name, "q")
    net.settle()
    assert asker.answers[question].data["code"] == code
    hung.paused = False
    net.settle()
    net.check_quiet()


def test_a_question_that_failed_behind_many_open_messages_ends_with_that_error() -> None:
    net = Net()
    asker, hung = net.pod(), net.actor("hung")
    net.actor("other", "q", handler=failing(1))
    hung.paused = True
    for _ in range(MAX_OPEN_RANGES + 1):
        asker.tell("hung", "x", 0)
        asker.core.flush(net.now)
        asker.tell("other", "x", 0)
        asker.core.flush(net.now)
    question = asker.ask(None, "q", 1)
    net.settle()
    assert asker.answers[question].data["code"] == "failed"


def test_a_question_that_all_have_handled_without_an_answer_ends() -> None:
    net = Net()
    asker = net.pod()
    net.pod("", "q")
    net.pod("", "q")
    question = asker.ask(None, "q")
    net.settle()
    assert asker.unanswered == {question}


def test_the_first_answer_to_a_published_question_counts() -> None:
    net = Net()
    asker = net.pod()
    for name in "ab":
        net.pod(name, "q", handler=answering(name))
    question = asker.ask(None, "q")
    net.settle()
    assert asker.answers[question].data == "a"
    assert asker.replies.late == 1


def test_an_error_counts_only_when_everybody_has_failed() -> None:
    net = Net()
    asker = net.pod()
    net.pod("", "q", handler=failing(1))
    question = asker.ask(None, "q", 1)
    net.settle()
    assert asker.answers[question].type == "grav.error"
    net.pod("", "q", handler=lambda got: "yes")
    question = asker.ask(None, "q", 1)
    net.settle()
    assert asker.answers[question].data == "yes"


def test_instances_of_a_service_are_told_and_asked_in_turn() -> None:
    net = Net()
    sender = net.pod()
    instances = [net.actor(f"s-{n}", service="s", handler=answering(n)) for n in range(3)]
    for number in range(6):
        sender.tell("s", "x", number)
        sender.core.flush(net.now)
    net.settle()
    assert [pod.data for pod in instances] == [[0, 3], [1, 4], [2, 5]]
    questions = []
    for _ in range(3):
        questions.append(sender.ask("s", "q"))
        sender.core.flush(net.now)
    net.settle()
    assert [sender.answers[question].data for question in questions] == [0, 1, 2]


def test_a_reply_reaches_listeners_and_past_its_filter_the_asking_pod() -> None:
    net = Net()
    asker, listener, silent = net.pod(), net.pod("", "reply"), net.pod()
    question = Message("question")
    asker.expect_reply(question)
    replier = net.pod()
    replier.reply(question, asker.uuid, "yes")
    net.settle()
    assert listener.data == ["yes"]
    assert asker.answers[question._record[0]].data == "yes"
    assert asker.data == silent.data == []
    net.check_quiet()


def test_a_reply_to_a_uuid_alone_reaches_the_pods_of_its_process() -> None:
    net = Net()
    pods = [net.pod() for _ in range(3)]
    question = Message("question")
    pods[1].expect_reply(question)
    replier = net.pod()
    message = Message("reply", "yes", reply_to=question.uuid)
    replier.send_message(KIND_REPLY, message, process_prefix())
    net.settle()
    assert pods[1].answers[question._record[0]].data == "yes"


def test_a_reply_whose_type_the_asker_wants_comes_to_its_handler_too() -> None:
    net = Net()
    asker = net.pod("", "reply")
    question = Message("question")
    asker.expect_reply(question)
    net.pod().reply(question, asker.uuid, "yes")
    net.settle()
    assert asker.data == ["yes"]
    assert question._record[0] in asker.answers


def test_an_answer_passes_a_full_window_and_a_full_mailbox() -> None:
    net = Net()
    asker, callee = net.pod("", "x", prefetch=1, mailbox_limit=1), net.actor("a")
    sender = net.pod()
    asker.paused = True
    sender.publish("x", 1, 2, 3)
    question = asker.ask("a", "q")
    net.settle()
    assert question in asker.answers
    assert asker.data == []
    assert callee.data == [None]


def test_the_news_that_a_question_is_settled_never_overtakes_its_answer() -> None:
    net = Net()
    asker = net.pod()
    net.actor("a", handler=lambda got: bytes(300 * 1024))
    questions = [asker.ask("a", "q", number) for number in range(5)]
    for pod in (asker, net.pods[1]):
        net.down(pod.wire)
        pod.handle()
        pod.push()
        net.up(pod.wire)
        net.route()
    while net.down(asker.wire, 1):
        assert asker.unanswered == set()
    assert set(asker.answers) == set(questions)


def test_answers_to_a_pod_that_takes_none_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postman, "ANSWERS_LIMIT", 10)
    net = Net()
    asker, callee = net.pod(), net.actor("a")
    net.wires.remove(asker.wire)
    for number in range(30):
        callee.send(KIND_ANSWER, "grav.reply", asker.uuid, number)
        callee.core.flush(net.now)
    net.settle()
    assert net.bus.postman.counts.given_up == 20
    assert net.receiver(asker).answers == 10
    net.check()


def test_a_question_that_is_taken_back_leaves_the_mailbox() -> None:
    net = Net()
    asker, callee = net.pod(), net.actor("a", prefetch=1)
    callee.paused = True
    for number in range(3):
        asker.ask("a", "q", number)
    net.settle()
    asker.core.cancel([1, 2], net.now)
    asker.push()
    net.settle()
    assert callee.core.cancelled == [(asker.uuid, (1,))], "the one that it has already it is told of"
    callee.paused = False
    net.settle()
    assert callee.data == [0, 2]
    net.check_quiet()


def test_only_questions_of_the_pod_itself_can_be_taken_back() -> None:
    net = Net()
    asker, callee = net.pod(), net.actor("a")
    callee.paused = True
    asker.tell("a", "x", 1)
    net.settle()
    asker.core.cancel([1, 99], net.now)
    callee.core.cancel([1], net.now)
    net.settle()
    callee.paused = False
    net.settle()
    assert callee.data == [1]


# Groups


def test_a_group_gets_one_copy_of_each_message() -> None:
    net = Net()
    sender, plain = net.pod(), net.pod("", "x")
    members = [net.actor(f"m{n}", "x", group="g", prefetch=4) for n in range(3)]
    sender.publish("x", *range(100))
    net.settle()
    assert sorted(data for member in members for data in member.data) == list(range(100))
    assert all(member.data for member in members)
    assert plain.data == list(range(100))
    net.check_quiet()


def test_a_member_is_given_no_more_than_its_window() -> None:
    net = Net()
    sender = net.pod()
    members = [net.actor(f"m{n}", "x", group="g", prefetch=4) for n in range(2)]
    for member in members:
        member.paused = True
    sender.publish("x", *range(100))
    net.settle()
    assert [sum(inbound.count for inbound in member.waiting) for member in members] == [4, 4]
    assert net.bus.directory.groups["g"].mailbox.used == 92


def test_a_busy_member_is_passed_over() -> None:
    net = Net()
    sender = net.pod()
    busy, idle = (net.actor(name, "x", group="g", prefetch=4) for name in ("busy", "idle"))
    busy.paused = True
    sender.publish("x", *range(100))
    net.settle()
    assert len(idle.data) == 96
    busy.paused = False
    net.settle()
    assert sorted(busy.data + idle.data) == list(range(100))


def test_what_a_dead_member_leaves_goes_to_the_front_of_the_group() -> None:
    net = Net()
    supervisor, sender = net.pod("node"), net.pod()
    one = net.actor("one", "x", group="g", prefetch=4, supervisor=supervisor.uuid)
    other = net.actor("other", "x", group="g", prefetch=4, supervisor=supervisor.uuid)
    one.paused = other.paused = True
    sender.publish("x", *range(20))
    net.settle()
    held = [data for data in range(20) if data not in waiting_data(other)][:4]
    net.kill(one)
    other.paused = False
    net.actor("one", group="g", prefetch=4, supervisor=supervisor.uuid, incarnation=1)
    net.advance(1)
    assert sorted(other.data) == list(range(20))
    assert {got.data for got in other.got if got.redelivered} == set(held)
    net.check_quiet()


def waiting_data(pod: TestPod) -> list[Any]:
    return [record[4] for run in pod.waiting for record in unpack_body(run.body, run.count, ActorRef)]


def test_a_member_that_was_cut_off_for_a_moment_keeps_what_it_has() -> None:
    net = Net()
    sender = net.pod()
    one = net.actor("one", "x", group="g")
    net.actor("other", "y", group="g")
    one.paused = True
    sender.publish("x", 1, 2)
    net.settle()
    net.cut(one.wire)
    net.advance(3)
    one.paused = False
    net.advance(1)
    assert [(got.data, got.redelivered, got.attempt) for got in one.got] == [(1, False, 1), (2, False, 1)]
    net.check_quiet()


def test_what_waits_for_a_group_whose_takers_have_left_is_a_dead_letter() -> None:
    net = Net()
    sender = net.pod()
    one = net.actor("one", "x", group="g", prefetch=1)
    net.actor("other", "y", group="g", prefetch=1)
    one.paused = True
    sender.publish("x", 0, 1, 2)
    net.settle()
    one.leave()
    net.settle()
    assert net.dead() == [("no_responders", "g", 0), ("no_responders", "g", 1), ("no_responders", "g", 2)]
    net.check_quiet()


@pytest.mark.parametrize("reason", ["", "stopping", "unhealthy"])
def test_a_question_that_a_leaving_member_has_begun_with_is_given_to_no_other(reason: str) -> None:
    net = Net()
    asker = net.pod()
    leaving, staying = (net.actor(name, "x", group="g", prefetch=2) for name in ("one", "other"))
    staying.paused = leaving.paused = True
    staying.handler = lambda got: got.data
    begun, *others = [asker.ask(None, "x", number) for number in (1, 2, 3)]
    net.settle()
    (run,) = (run for run in leaving.waiting if run.seq == 1)
    leaving.core.request_bye(reason, [run])
    staying.paused = False
    net.settle()
    assert asker.answers[begun].data["code"] == "stopped"
    assert [asker.answers[question].data for question in others] == [2, 3]
    assert sorted(staying.data) == [2, 3]
    net.check()


def test_a_message_that_a_leaving_member_has_begun_with_returns_to_the_group() -> None:
    net = Net()
    sender = net.pod()
    leaving = net.actor("one", "x", group="g", prefetch=2)
    leaving.paused = True
    sender.publish("x", 1, 2)
    net.settle()
    staying = net.actor("other", "x", group="g", prefetch=2)
    leaving.leave()
    net.settle()
    assert [(got.data, got.redelivered, got.attempt) for got in staying.got] == [(1, True, 1), (2, True, 1)]
    net.check_quiet()


def test_a_full_group_lets_its_senders_go_on_when_it_has_room_again() -> None:
    net = Net()
    sender = net.pod()
    member = net.actor("m", "x", group="g", prefetch=4, mailbox_limit=10)
    member.paused = True
    sender.publish("x", *range(50))
    net.settle()
    assert sender.core.outbox.accepted < 50
    member.paused = False
    net.settle()
    assert sender.core.outbox.accepted == 50
    net.check_quiet()


def test_a_group_ends_with_its_last_member() -> None:
    net = Net()
    sender = net.pod()
    member = net.actor("m", "x", group="g", prefetch=1)
    member.paused = True
    sender.publish("x", *range(5))
    net.settle()
    member.leave("stopping")
    net.settle()
    assert sorted(data for _, _, data in net.dead()) == list(range(5))
    assert net.bus.directory.groups == {}
    assert sender.core.outbox.is_all_settled


# Replay


def test_a_pod_with_replay_gets_exactly_the_last_128_messages() -> None:
    net = Net()
    sender = net.pod()
    sender.publish("x", *range(200))
    net.settle()
    late = net.pod(replay=True)
    net.settle()
    assert late.data == []
    late.listen()
    net.settle()
    assert late.data == list(range(72, 200))
    assert not any(got.redelivered for got in late.got)
    net.check_quiet()


def test_replay_and_live_messages_join_without_gap_or_repeat() -> None:
    net = Net()
    sender = net.pod()
    sender.publish("x", *range(10))
    net.settle()
    late = net.pod(replay=True)
    late.listen()
    sender.publish("x", *range(10, 20))
    net.settle()
    late.listen("x")
    sender.publish("x", *range(20, 30))
    net.settle()
    assert late.data == list(range(30))


def test_replay_follows_the_filter_and_leaves_out_ones_own() -> None:
    net = Net()
    sender, late = net.pod(), net.pod(replay=True)
    sender.publish("x", 1)
    sender.publish("y", 2)
    late.publish("x", 3)
    sender.tell("nobody", "x", 4)
    sender.ask(None, "x", 5)
    net.settle()
    late.listen("x")
    net.settle()
    assert late.data == [1]


def test_what_was_told_before_does_not_hide_the_replay() -> None:
    net = Net()
    sender = net.pod()
    sender.publish("x", 1)
    net.settle()
    late = net.pod("late", actor=True, replay=True)
    sender.tell("late", "t", 2)
    net.settle()
    late.listen("x")
    net.settle()
    assert late.data == [2, 1]


def test_replay_is_given_once_per_name() -> None:
    net = Net()
    sender, supervisor = net.pod(), net.pod()
    sender.publish("x", 1)
    net.settle()
    actor = net.actor("a", "x", replay=True, supervisor=supervisor.uuid)
    assert actor.data == [1]
    net.kill(actor)
    heir = net.actor("a", "x", replay=True, supervisor=supervisor.uuid, incarnation=1)
    assert heir.data == []


def test_replay_is_not_given_again_to_a_name_that_was_struck() -> None:
    net = Net()
    sender = net.pod()
    sender.publish("x", 1, 2)
    net.settle()
    settings: dict[str, Any] = {"replay": True, "overflow": "disconnect", "mailbox_limit": 4, "prefetch": 4}
    actor = net.actor("greedy", "x", **settings)
    assert actor.data == [1, 2]
    actor.paused = True
    sender.publish("x", *range(3, 9))
    net.settle()
    assert actor.core.closed_by is not None
    assert not net.bus.directory.has_name("greedy")
    again = net.actor("greedy", "x", incarnation=1, **settings)
    assert again.data == []
    sender.publish("x", 9)
    net.settle()
    assert again.data == [9]


def test_replay_is_not_given_to_the_heir_of_a_pod_that_joined_a_new_bus_as_a_stranger() -> None:
    net = Net()
    sender, supervisor = net.pod(), net.pod()
    actor = net.actor("a", "x", replay=True, supervisor=supervisor.uuid)
    net.journal = b""  # the roster does not know the actor: it was given up just before the bus died
    net.restart_bus()
    net.advance(2)
    sender.publish("x", 1)
    net.settle()
    assert actor.data == [1]
    net.kill(actor)
    heir = net.actor("a", "x", replay=True, supervisor=supervisor.uuid, incarnation=1)
    assert heir.data == []


def test_the_frameworks_types_and_replies_are_not_replayed() -> None:
    net = Net()
    sender = net.pod()
    sender.publish("grav.sys.test", 1)
    sender.reply(Message("x"), sender.uuid, 2)
    net.settle()
    assert len(net.bus.postman.ring) == 0


# Slow receivers


def test_acceptance_is_held_while_a_mailbox_is_full() -> None:
    net = Net()
    sender, other, pod = net.pod(), net.pod(), net.pod("", "x", mailbox_limit=10)
    pod.paused = True
    sender.publish("x", *range(9))
    net.settle()
    assert sender.core.outbox.accepted == 9
    sender.publish("x", 9)
    net.settle()
    sender.publish("y", 10)
    other.publish("y", 1)
    net.settle()
    assert sender.core.outbox.accepted == 9
    assert other.core.outbox.accepted == 1, "only who sends to it waits"
    pod.paused = False
    pod.handle(1)
    pod.paused = True
    net.settle()
    assert sender.core.outbox.accepted == 11


def test_a_sender_may_overfill_a_mailbox_by_its_window_only() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", mailbox_limit=10, stuck_after=None)
    pod.paused = True
    sent = 0
    for _ in range(20_000):
        if not sender.core.outbox.has_room():
            net.settle()
            if not sender.core.outbox.has_room():
                break
        sender.publish("x", sent)
        sent += 1
    assert net.receiver(pod).mailbox.used <= 10 + WINDOW_MESSAGES
    pod.paused = False
    net.advance(1)
    assert pod.data == list(range(sent))
    net.check_quiet()


def test_a_receiver_that_finishes_nothing_is_stuck_and_its_senders_run_on() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("slow", "x", mailbox_limit=10, stuck_after=5.0)
    events = net.pod("", "grav.sys.pod.stuck")
    pod.paused = True
    sender.publish("x", *range(10))
    net.advance(4.5)
    assert sender.core.outbox.accepted == 0
    net.advance(2)
    assert sender.core.outbox.accepted == 10
    assert [got.data["pod"] for got in events.got] == ["slow"]
    sender.publish("x", 10, 11)
    net.settle()
    assert net.dead() == [("overflow", "slow", 10), ("overflow", "slow", 11)]
    pod.paused = False
    pod.handle(2)
    pod.paused = True
    net.settle()
    sender.publish("x", 12)
    net.settle()
    assert net.dead()[-1][2] == 12, "until its mailbox is half empty"
    pod.paused = False
    net.settle()
    sender.publish("x", 13)
    net.settle()
    assert pod.data == [*range(10), 13]
    net.check_quiet()


def test_a_slow_receiver_that_makes_progress_is_never_stuck() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", mailbox_limit=10)
    pod.paused = True
    sender.publish("x", *range(200))
    net.settle()
    for _ in range(20):
        net.advance(4, handle=False)
        pod.paused = False
        pod.handle(1)
        pod.paused = True
    net.advance(1)
    assert net.dead() == []


def test_acknowledging_nothing_new_is_no_progress() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", mailbox_limit=10)
    pod.paused = True
    sender.publish("x", *range(10))
    net.settle()
    for _ in range(8):
        pod.core._reported = -1
        net.advance(1, handle=False)
    assert sender.core.outbox.accepted == 10


def test_drop_oldest_keeps_the_newest() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", mailbox_limit=3, overflow="drop_oldest")
    pod.paused = True
    sender.publish("x", *range(3))
    net.settle()
    sender.publish("x", *range(3, 10))
    net.settle()
    assert net.dead() == [("overflow", "p", data) for data in range(3, 7)]
    assert sender.core.outbox.accepted == 10
    pod.paused = False
    net.settle()
    assert pod.data == [0, 1, 2, 7, 8, 9]
    net.check_quiet()


def test_the_latest_value_is_what_a_mailbox_of_one_holds() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", mailbox_limit=1, overflow="drop_oldest")
    pod.paused = True
    for number in range(10):
        sender.publish("x", number)
        net.settle()
    pod.paused = False
    net.settle()
    assert pod.data == [0, 9]


def test_drop_newest_keeps_the_oldest() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", mailbox_limit=3, overflow="drop_newest")
    pod.paused = True
    sender.publish("x", *range(10))
    net.settle()
    assert net.dead() == [("overflow", "p", data) for data in range(3, 10)]
    pod.paused = False
    net.settle()
    assert pod.data == [0, 1, 2]
    net.check_quiet()


def test_disconnect_ends_the_pod_whose_mailbox_overflows() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", mailbox_limit=3, overflow="disconnect")
    pod.paused = True
    sender.publish("x", *range(3))
    net.settle()
    assert pod.core.state is State.JOINED
    sender.publish("x", 3)
    net.settle()
    assert pod.core.closed_by == ("overflow", "")
    assert net.dead() == [("overflow", "p", data) for data in range(4)]
    assert sender.core.outbox.is_all_settled


def test_the_bus_takes_no_more_than_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "HELD_BYTES", 10_000)
    net = Net()
    sender, pod = net.pod(), net.pod("", "x")
    pod.paused = True
    for _ in range(5):
        sender.publish("x", bytes(3000))
        net.settle()
    assert sender.core.outbox.accepted == 3
    pod.paused = False
    net.settle()
    assert sender.core.outbox.accepted == 5
    net.check_quiet()


def test_handlers_that_send_go_on_when_the_bus_holds_all_that_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "HELD_BYTES", 10_000)
    monkeypatch.setattr(outbox, "WINDOW_MESSAGES", 8)
    net = Net()
    sender, worker, last = net.pod(), net.pod("", "x"), net.pod("", "y")

    def work(got: Got) -> None:
        worker.publish("y", got.data)

    worker.handler = work
    for _ in range(2):
        sender.publish("x", *["x" * 1000] * 8)
        net.settle(handle=False)
    assert not sender.core.outbox.has_room(), "who has nothing to handle waits"
    for _ in range(16):
        assert worker.core.outbox.has_room(), "its handler would wait for ever"
        assert worker.handle(1)
        net.advance(0.1, handle=False)
    net.advance(2)
    assert sender.core.outbox.has_room()
    assert len(last.got) == 16
    net.check_quiet()


def test_who_is_held_back_goes_on_when_it_has_something_to_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "HELD_BYTES", 10_000)
    net = Net()
    sender, pod, other = net.pod(), net.pod("", "x"), net.pod()
    pod.paused = True
    sender.publish("x", "x" * 20_000)
    net.settle()
    assert sender.core.outbox.accepted == 0
    sender.listen("y")
    sender.paused = True
    net.settle()
    other.publish("y", 1)
    net.advance(1.5)
    assert sender.core.outbox.accepted == 1


def test_events_of_the_bus_do_not_fill_a_mailbox_that_is_full() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "grav.sys.dead", mailbox_limit=5, stuck_after=None)
    pod.paused = True
    for number in range(100):
        sender.tell("nobody", "x", number)
        net.settle()
    assert net.receiver(pod).mailbox.used == 5
    assert net.bus.postman.counts.given_up == 95
    assert len(net.dead()) == 100


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "disconnect"])
def test_events_of_the_bus_push_nothing_out_of_a_mailbox_that_is_full(overflow: str) -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", "grav.sys.dead", mailbox_limit=5, prefetch=1, overflow=overflow)
    pod.paused = True
    sender.publish("x", *range(5))
    net.settle()
    for number in range(100):
        sender.tell("nobody", "y", number)
        net.settle()
    pod.paused = False
    net.settle()
    assert [got.data for got in pod.got if got.type == "x"] == list(range(5))
    assert len(net.dead()) == 100


def test_two_pods_that_flood_each_other_both_go_on() -> None:
    net = Net()
    one, other = (net.pod("", kind, mailbox_limit=10, prefetch=4) for kind in "xy")
    one.publish("y", *range(500))
    other.publish("x", *range(500))
    net.advance(1)
    assert one.data == other.data == list(range(500))
    net.check_quiet()


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest", "disconnect"])
def test_a_pod_is_given_no_more_of_the_ring_than_its_mailbox_takes(overflow: str) -> None:
    net = Net()
    sender = net.pod()
    sender.publish("x", *range(5))
    net.settle()
    sender.publish("x", *range(5, 10))
    net.settle()
    pod = net.pod("p", "x", replay=True, mailbox_limit=7, overflow=overflow)
    net.settle()
    assert pod.data == list(range(3, 10))
    assert net.dead() == []
    net.check_quiet()


# Failures


def test_what_failed_comes_again_after_a_success_in_order() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", handler=failing(0, 1, 2, times=1))
    sender.publish("x", *range(5))
    net.settle()
    assert [(got.data, got.attempt, got.redelivered) for got in pod.got] == [
        (0, 1, False), (1, 1, False), (2, 1, False), (3, 1, False), (4, 1, False),
        (0, 2, True), (1, 2, True), (2, 2, True),
    ]  # fmt: skip
    net.settle()
    net.check_quiet()


def test_what_failed_comes_again_behind_what_failed_before_it_and_still_waits() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", prefetch=3, handler=failing(0, 1, 2, 4, times=1))
    sender.publish("x", *range(8))
    for _ in range(100):
        # One at a time, so that the success of 5 brings 4 back while 2 waits for the window.
        pod.handle(1)
        pod.push()
        net.settle(handle=False)
    assert [got.data for got in pod.got if got.attempt == 2] == [0, 1, 2, 4]


def test_a_success_before_the_failure_brings_nothing_back() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", handler=failing(1, times=1))
    sender.publish("x", 0, 1)
    net.settle()
    assert pod.data == [0, 1]
    assert len(net.receiver(pod).failed) == 1


def test_what_fails_again_waits_for_the_next_success() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", handler=failing("bad", times=3))
    sender.publish("x", "bad", 1)
    net.settle()
    assert pod.data == ["bad", 1, "bad"]
    sender.publish("x", 2)
    net.settle()
    assert pod.data == ["bad", 1, "bad", 2, "bad"]
    sender.publish("x", 3)
    net.settle()
    assert [got.attempt for got in pod.got if got.data == "bad"] == [1, 2, 3, 4]
    net.check_quiet()


def test_a_success_among_what_came_again_brings_nothing_back() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", handler=failing("bad"))
    sender.publish("x", "bad", "good")
    net.settle()
    pod.handler = failing("bad", "once")
    sender.publish("x", "once")
    net.settle()
    pod.handler = failing("bad")
    sender.publish("x", 1)
    net.settle()
    assert pod.data == ["bad", "good", "bad", "once", 1, "bad", "once"]
    assert len(net.receiver(pod).failed) == 1


def test_after_5_attempts_it_is_a_dead_letter() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", handler=failing("bad"))
    sender.publish("x", "bad")
    for number in range(6):
        sender.publish("x", number)
        net.settle()
    (letter,) = net.bus.postman.shelf.letters()
    assert (letter.reason, letter.target, letter.attempts, letter.error) == (
        "max_deliver",
        "p",
        5,
        "ValueError: no bad",
    )
    assert [got.attempt for got in pod.got if got.data == "bad"] == [1, 2, 3, 4, 5]
    net.settle()
    net.check_quiet()


def test_max_deliver_1_tries_once() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", max_deliver=1, handler=failing("bad"))
    sender.publish("x", "bad")
    net.settle()
    assert net.dead() == [("max_deliver", "p", "bad")]
    assert pod.core.open_failures == 0


def test_what_is_rejected_is_a_dead_letter_at_once() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", handler=failing("bad", error=Rejected))
    sender.publish("x", "bad", "good")
    net.settle()
    assert net.dead() == [("rejected", "p", "bad")]
    assert pod.data == ["bad", "good"]
    net.check_quiet()


def test_an_idle_pod_is_given_its_oldest_failure_after_5_seconds_doubling_to_30() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", max_deliver=7, handler=failing("bad"))
    times: list[float] = []
    start = net.now

    def handler(got: Got) -> None:
        times.append(net.now - start)
        raise ValueError

    pod.handler = handler
    sender.publish("x", "bad")
    net.advance(200)
    gaps = [later - sooner for sooner, later in zip(times, times[1:], strict=False)]
    wanted = (5, 10, 20, 30, 30, 30)  # looked at once a second
    assert all(least <= gap + 0.01 <= least + 1.2 for gap, least in zip(gaps, wanted, strict=True))
    assert len(net.dead()) == 1


def test_a_retry_that_succeeds_brings_the_others_back() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", handler=failing(*range(5), times=1))
    sender.publish("x", *range(5))
    net.advance(7)
    assert pod.data == [*range(5), 0, 1, 2, 3, 4]
    net.check_quiet()


def test_a_retry_of_what_came_again_already_brings_the_others_back_too() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", handler=failing("a", "b", times=2))
    sender.publish("x", "a", "b", "good")
    net.advance(7)
    assert pod.data == ["a", "b", "good", "a", "b", "a", "b"]
    net.check_quiet()


def test_a_pod_that_is_busy_is_not_given_its_failures() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", handler=failing("bad"))
    sender.publish("x", "bad")
    net.settle()
    pod.paused = True
    sender.publish("x", 1)
    net.advance(20)
    pod.paused = False
    net.settle()
    assert pod.data == ["bad", 1, "bad"]


def test_64_failures_disconnect_a_pod() -> None:
    net = Net()
    sender = net.pod()
    pod = net.pod("p", "x", handler=failing(*range(200)))
    sender.publish("x", *range(200))
    net.settle()
    assert len(pod.data) == FAILED_LIMIT
    assert pod.core.state is State.CLOSED
    assert net.dead() == [("pod_unhealthy", "p", data) for data in range(FAILED_LIMIT)]
    assert net.bus.postman.counts.given_up == 200 - FAILED_LIMIT
    assert sender.core.outbox.is_all_settled


def test_the_rest_of_an_unhealthy_actors_mailbox_goes_to_its_next_incarnation() -> None:
    net = Net()
    sender, supervisor = net.pod(), net.pod("node")
    actor = net.actor("a", "x", supervisor=supervisor.uuid, handler=failing(*range(200)))
    sender.publish("x", *range(100))
    net.settle()
    heir = net.actor("a", "x", supervisor=supervisor.uuid, incarnation=1)
    net.settle()
    assert len(actor.data) == FAILED_LIMIT
    assert heir.data == list(range(FAILED_LIMIT, 100))
    assert len(net.dead()) == FAILED_LIMIT
    net.check_quiet()


def test_failures_of_an_actor_survive_its_process() -> None:
    net = Net()
    sender, supervisor = net.pod(), net.pod("node")
    actor = net.actor("a", "x", supervisor=supervisor.uuid, handler=failing("bad"))
    sender.publish("x", "bad")
    net.settle()
    net.kill(actor)
    heir = net.actor("a", "x", supervisor=supervisor.uuid, incarnation=1)
    sender.publish("x", "good")
    net.settle()
    assert [(got.data, got.attempt) for got in heir.got] == [("good", 1), ("bad", 2)]
    net.check_quiet()


def test_a_failed_message_of_a_group_stays_with_its_member() -> None:
    net = Net()
    sender = net.pod()
    one = net.actor("one", "x", group="g", handler=failing("bad", times=1))
    other = net.actor("other", "y", group="g")
    sender.publish("x", "bad")
    net.settle()
    other.listen("x")
    net.settle()
    one.paused = False
    sender.publish("x", *range(8))
    net.advance(7)
    assert [got.data for got in one.got].count("bad") == 2
    assert "bad" not in other.data
    net.check_quiet()


# Dead letters


def test_a_dead_letter_is_announced() -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    sender.tell("nobody", "x", 1)
    net.settle()
    (got,) = listener.got
    assert (got.data["reason"], got.data["target"], got.data["type"]) == ("no_responders", "nobody", "x")


def test_there_is_never_a_dead_letter_of_a_dead_letter() -> None:
    net = Net()
    sender = net.pod()
    listener = net.pod("", "grav.sys.dead", mailbox_limit=2, overflow="drop_newest")
    listener.paused = True
    for number in range(10):
        sender.tell("nobody", "x", number)
        net.settle()
    assert len(net.dead()) == 10
    net.kill(listener)
    net.advance(8)
    assert len(net.dead()) == 10


def test_the_shelf_holds_the_last_1000_and_counts_all() -> None:
    net = Net()
    sender = net.pod()
    sender.tell("nobody", "x", *range(1500))
    net.settle()
    assert [data for _, _, data in net.dead()] == list(range(500, 1500))
    assert net.bus.postman.shelf.counts == {"no_responders": 1500}


# A bus that dies


def restart_with(net: Net, *first: TestPod) -> None:
    """Kill the bus; these pods are back before the others."""
    net.restart_bus()
    for pod in first:
        pod.core.hello(net.now)
        pod.push()
        net.up(pod.wire)
        net.route()
        net.down(pod.wire)
        pod.push()
        net.up(pod.wire)
        net.route()


@pytest.mark.parametrize("first", ["sender", "receiver"])
def test_nothing_is_lost_and_nothing_comes_twice_when_the_bus_dies(first: str) -> None:
    net = Net()
    sender, pod = net.pod("sender"), net.pod("receiver", "x")
    sender.publish("x", *range(10))
    sender.push()
    net.up(sender.wire)
    net.route()
    net.down(pod.wire)
    pod.take()
    pod.handle(4)
    sender.publish("x", *range(10, 15))
    restart_with(net, sender if first == "sender" else pod)
    sender.publish("x", 15)
    net.advance(3)
    assert pod.data == list(range(16))
    assert not any(got.redelivered for got in pod.got)
    net.check_quiet()


def test_what_waited_on_the_bus_is_sent_again_by_its_sender() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x", prefetch=4)
    pod.paused = True
    sender.publish("x", *range(1000))
    net.settle()
    net.restart_bus()
    pod.paused = False
    net.advance(3)
    assert pod.data == list(range(1000))
    net.check_quiet()


def test_a_pod_that_does_not_come_back_is_released_and_its_messages_are_dead_letters() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("gone", "x")
    pod.paused = True
    sender.publish("x", 1)
    net.settle()
    net.kill(pod)
    net.restart_bus()
    net.advance(8)
    assert net.dead() == [("pod_lost", "gone", 1)]
    assert sender.core.outbox.is_all_settled
    net.check_quiet()


def test_an_actor_that_dies_with_the_bus_has_its_messages_marked() -> None:
    net = Net()
    sender, supervisor = net.pod(), net.pod("node")
    actor = net.actor("a", "x", supervisor=supervisor.uuid)
    sender.publish("x", *range(3))
    sender.push()
    net.up(sender.wire)
    net.route()
    net.down(actor.wire)
    actor.handle()
    net.kill(actor)
    net.restart_bus()
    heir = net.actor("a", "x", supervisor=supervisor.uuid, incarnation=1)
    net.advance(3)
    assert [(got.data, got.redelivered) for got in heir.got] == [(0, True), (1, True), (2, True)]
    net.check_quiet()


def test_a_group_work_that_a_member_had_is_not_given_to_another() -> None:
    net = Net()
    sender = net.pod()
    members: list[TestPod] = []
    for number in range(3):
        # Not in turn: the first has the first four, and so on.
        members.append(net.actor(f"m{number}", "x", group="g", prefetch=4))
        members[-1].paused = True
        sender.publish("x", *range(4 * number, 4 * number + 4))
        net.settle()
    members[0].paused = False
    members[0].handle(2)
    restart_with(net, sender, members[2])
    for member in members:
        member.paused = False
    net.advance(3)
    assert sorted(data for member in members for data in member.data) == list(range(12))
    net.check_quiet()


def test_group_work_waits_for_members_that_are_missing_but_no_longer_than_5_seconds() -> None:
    net = Net()
    sender, supervisor = net.pod(), net.pod("node")
    one, other = (net.actor(n, "x", group="g", supervisor=supervisor.uuid) for n in ("one", "other"))
    one.paused = other.paused = True
    sender.publish("x", *range(4))
    net.settle()
    net.kill(one)
    net.restart_bus()
    other.paused = False
    net.advance(4)
    before = list(other.data)
    assert len(before) < 4
    net.advance(4)
    assert sorted(other.data) == list(range(4))
    assert {got.data for got in other.got if got.redelivered} == set(range(4)) - set(before)


def test_a_sender_that_has_much_unsettled_sends_it_all_again() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", ">", stuck_after=None)
    pod.paused = True
    for number in range(1000):
        sender.publish(f"t{number % 5}", number)
    net.settle()
    net.restart_bus()
    net.advance(2, handle=False)
    pod.paused = False
    net.advance(2)
    assert pod.data == list(range(1000))
    assert sender.core.outbox.retained_messages == 0
    net.check_quiet()


def test_a_flush_ends_also_when_what_it_waits_for_was_settled_before_the_bus_died() -> None:
    net = Net()
    sender, slow, quick = net.pod(), net.pod("", "x", mailbox_limit=2), net.pod("", "y")
    slow.paused = True
    sender.publish("x", 1, 2)
    sender.publish("y", 3)
    net.settle()
    net.advance(0.5, handle=True)
    assert quick.data == [3]
    assert sender.core.outbox.accepted == 0
    net.restart_bus()
    slow.paused = False
    net.advance(3)
    assert sender.core.outbox.accepted == 3
    net.check_quiet()
