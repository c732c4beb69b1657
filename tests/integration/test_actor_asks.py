"""Asking actors: every outcome that an ask can have, answers that come later, and questions taken back."""

import threading

import pytest

from grav_actors import (
    Actor,
    ActorRef,
    ActorStoppedError,
    AskTimeoutError,
    Child,
    ConnectionClosedError,
    Grav,
    HandlerError,
    NoRespondersError,
)
from support import actors
from support.collecting import LIMIT, Collector, in_thread
from support.nodes import collect

ASKERS = [actors.Asker, actors.AskerAsync]
WAITING = [actors.Waiting, actors.WaitingPool, actors.WaitingAsync, actors.WaitingTasks]


# Outcomes


def test_answer_may_be_none(grav: Grav, kind: str) -> None:
    assert grav.spawn(actors.Plain, kind=kind).ask("nothing", timeout=LIMIT) is None


@pytest.mark.parametrize("actor_class", [actors.Plain, actors.Asynchronous])
def test_handler_error_carries_the_remote_traceback(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    ref = grav.spawn(actor_class, kind=kind)
    for to in (ref, None):
        with pytest.raises(HandlerError) as caught:
            grav.ask("fail", 7, to=to, timeout=LIMIT)
        assert caught.value.error == "ValueError: bad 7"
        assert 'raise ValueError(f"bad {msg.data}")' in caught.value.remote_traceback
    assert grav.stats()["dead_letters"] == {}


def test_answer_that_cannot_be_carried(grav: Grav, kind: str) -> None:
    with pytest.raises(HandlerError, match="MessageEncodeError"):
        grav.spawn(actors.Plain, kind=kind).ask("unpackable", timeout=LIMIT)


def test_unknown_name_ends_at_once(grav: Grav) -> None:
    with pytest.raises(NoRespondersError, match="nobody answers echo to 'nobody': there is no actor nobody; "):
        grav.ask("echo", to="nobody", timeout=None)


def test_unhandled_type_ends_at_once(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Plain, kind=kind)
    with pytest.raises(NoRespondersError, match="plain does not handle unknown"):
        ref.ask("unknown", timeout=None)
    with pytest.raises(NoRespondersError, match="nobody answers unknown: nobody handles unknown; "):
        grav.ask("unknown", timeout=None)


def test_published_question_that_all_handle_without_an_answer(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Plain, kind=kind)
    grav.spawn(actors.Plain, kind=kind)
    with pytest.raises(NoRespondersError, match="nobody answers nothing: all have handled it without an answer; "):
        grav.ask("nothing", timeout=None)


def test_first_answer_to_a_published_question_wins(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Gate, kind="thread")
    slow = grav.spawn(actors.Waiting, name="slow", kind=kind)
    waited = collect(grav, "waited")
    grav.spawn(actors.Free, name="quick", kind=kind)
    assert grav.ask("wait", 1, timeout=LIMIT) == "quick"
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    waited.wait(1)
    assert slow.ask("free", timeout=LIMIT) == "slow"
    assert grav._pod.late_replies == 1, "that of the slow one, which came before this"


def test_one_failure_does_not_end_a_published_question(grav: Grav, kind: str) -> None:
    grav.spawn(actors.FailsFirst, kind=kind)
    grav.spawn(actors.Plain, kind=kind)
    assert grav.ask("echo", 1, timeout=LIMIT) == ["hello", 1]


def test_failure_of_every_receiver_is_the_outcome_of_a_published_question(grav: Grav, kind: str) -> None:
    grav.spawn(actors.FailsFirst, kind=kind)
    grav.spawn(actors.FailsFirst, kind=kind)
    with pytest.raises(HandlerError, match="asked echo: the handler failed: ValueError: not this one") as caught:
        grav.ask("echo", 1, timeout=None)
    assert "not this one" in caught.value.remote_traceback


def test_published_message_is_answered_only_by_a_value(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Plain, kind=kind)
    answers = Collector()
    pod = grav.connect()
    silent, loud = pod.publish("nothing"), pod.publish("echo", 1)
    silent.on_reply(answers)
    assert loud.result(LIMIT).data == ["hello", 1]
    pod.flush(LIMIT, settled=True)
    assert answers.messages == []


def test_told_message_is_not_answered(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Plain, kind=kind).tell("echo", 1)
    grav.actor("plain").ask("echo", 1, timeout=LIMIT)
    assert grav.stats()["late_answers"] == 0


@pytest.mark.parametrize("asker", ASKERS)
def test_actor_asks_another(grav: Grav, kind: str, asker: type[Actor]) -> None:
    grav.spawn(actors.Plain, kind=kind)
    ref = grav.spawn(asker, kind=kind)

    def ask(to: str | ActorRef, message_type: str) -> object:
        return ref.ask("ask", [to, message_type, 1, LIMIT], timeout=LIMIT)

    assert ask("plain", "echo") == ["hello", 1]
    assert ask(grav.actor("plain"), "echo") == ["hello", 1]
    assert ask("plain", "nothing") is None
    for to, message_type, error in (
        ("plain", "fail", "HandlerError"),
        ("nobody", "echo", "NoRespondersError"),
        ("plain", "unknown", "NoRespondersError"),
    ):
        answer = ask(to, message_type)
        assert isinstance(answer, list)
        assert answer[0] == error


@pytest.mark.parametrize("asker", ASKERS)
def test_actor_that_asks_itself(grav: Grav, kind: str, asker: type[Actor]) -> None:
    ref = grav.spawn(asker, kind=kind)
    for to in (ref.name, ref):
        error, text = ref.ask("ask", [to, "echo", 1, LIMIT], timeout=LIMIT)
        assert error == "ValueError"
        assert "asked itself" in text


@pytest.mark.parametrize("asker", ASKERS)
def test_actor_whose_ask_runs_out_of_time(grav: Grav, kind: str, asker: type[Actor]) -> None:
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(asker, kind=kind)
    error, text = ref.ask("ask", ["gate", "gate.wait", 1, 0.01], timeout=LIMIT)
    assert error == "AskTimeoutError"
    assert "no answer to gate.wait from gate within 0.01 s" in text


@pytest.mark.parametrize("how", ["crash", "exit", "os_exit", "kill", "stop"])
def test_callee_that_dies_with_the_question(grav: Grav, kind: str, how: str) -> None:
    if kind == "thread" and how in ("os_exit", "kill"):
        pytest.skip("would end the test")
    ref = grav.spawn(actors.Hooked, kind=kind)
    if how == "stop":
        assert ref.ask("end", how, timeout=None) is None  # the stop comes after the message
    else:
        with pytest.raises(ActorStoppedError):
            ref.ask("end", how, timeout=None)


def test_question_waits_while_the_callee_restarts(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.StartsSlowlyAgain, kind=kind)
    grav.spawn(actors.Gate, kind="thread")
    with pytest.raises(ActorStoppedError):
        ref.ask("end", "crash", timeout=LIMIT)
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    join = in_thread(lambda: ref.ask("echo", 5, timeout=LIMIT))
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert join() == 5


def test_node_that_stops_ends_what_is_asked() -> None:
    grav = Grav()
    grav.spawn(actors.Gate, kind="thread")
    join = in_thread(lambda: grav.ask("gate.wait", to="gate", timeout=None))
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    grav.stop()
    with pytest.raises((ActorStoppedError, ConnectionClosedError)):
        join()


# Answers that come later


def test_answer_deferred_and_given_in_another_handler(grav: Grav, kind: str) -> None:
    deferred = collect(grav, "later.deferred")
    ref = grav.spawn(actors.Deferring, kind=kind)
    joins = [in_thread(lambda: ref.ask("later.get", 1, timeout=LIMIT)) for _ in range(3)]
    deferred.wait(3)
    assert ref.ask("later.put", "now", timeout=LIMIT) == 3
    assert [join() for join in joins] == ["now"] * 3
    grav._pod.flush(LIMIT, settled=True)


def test_question_whose_answer_a_member_defers_is_given_to_no_other_when_it_ends(grav: Grav, kind: str) -> None:
    deferred = collect(grav, "later.deferred")
    leaving = grav.spawn(Child(actors.Deferring, name="one", kind=kind, group="later"))
    join = in_thread(lambda: grav.ask("later.get", 1, timeout=LIMIT))
    deferred.wait(1)
    staying = grav.spawn(Child(actors.Deferring, name="other", kind=kind, group="later"))
    leaving.stop()
    with pytest.raises(ActorStoppedError):
        join()
    assert staying.ask("later.put", "now", timeout=LIMIT) == 0


def test_deferred_answer_to_a_published_message(grav: Grav, kind: str) -> None:
    deferred = collect(grav, "later.deferred")
    ref = grav.spawn(actors.Deferring, kind=kind)
    pod = grav.connect()
    receipt = pod.publish("later.published", 1)
    deferred.wait(1)
    with pytest.raises(TimeoutError):
        pod.flush(0, settled=True)
    ref.ask("later.put", "now", timeout=LIMIT)
    assert receipt.result(LIMIT).data == "now"
    pod.flush(LIMIT, settled=True)


def test_answer_deferred_and_given_in_a_thread(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Deferring, kind=kind)
    for _ in range(20):
        assert ref.ask("later.thread", timeout=LIMIT) == "from a thread"
    grav._pod.flush(LIMIT, settled=True)


def test_explicit_answer_takes_the_place_of_the_returned_value(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Deferring, kind=kind)
    assert ref.ask("later.both", timeout=LIMIT) == "explicit"
    assert grav.stats()["late_answers"] == 0


def test_handler_that_fails_after_it_deferred(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Deferring, kind=kind)
    with pytest.raises(HandlerError, match="after all"):
        ref.ask("later.fail", timeout=LIMIT)
    grav._pod.flush(LIMIT, settled=True)


def test_deferring_twice_or_what_is_not_being_handled(grav: Grav, kind: str) -> None:
    answered, other = grav.spawn(actors.Deferring, kind=kind).ask("later.twice", timeout=LIMIT)
    assert "is answered already" in answered
    assert "only in its handler" in other


def test_what_is_no_message_is_refused_with_what_is_allowed(grav: Grav, kind: str) -> None:
    assert grav.spawn(actors.Deferring, kind=kind).ask("later.wrong", timeout=LIMIT) == [
        'reply takes the message that is answered, not "no message"',
        'defer_reply takes the message that is answered, not "no message"',
        'parent is a message, its uuid or "", not 7',
    ]


def test_deferred_questions_end_with_their_actor(grav: Grav, kind: str) -> None:
    deferred = collect(grav, "later.deferred")
    ref = grav.spawn(actors.Deferring, kind=kind)
    joins = [in_thread(lambda: ref.ask("later.get", 1, timeout=None)) for _ in range(3)]
    deferred.wait(3)
    ref.tell("later.crash")
    for join in joins:
        with pytest.raises(ActorStoppedError):
            join()


def test_deferred_questions_that_nobody_waits_for_do_not_pile_up(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Deferring, kind=kind)
    for number in range(20):
        with pytest.raises(AskTimeoutError):
            ref.ask("later.get", number, timeout=0.01)
    grav._pod.flush(LIMIT, settled=True)  # they are finished, though they were never answered


# Questions taken back


@pytest.mark.parametrize("actor_class", WAITING)
def test_running_handler_sees_that_nobody_waits(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    grav.spawn(actors.Gate, kind="thread")
    waited = collect(grav, "waited")
    ref = grav.spawn(actor_class, kind=kind)
    with pytest.raises(AskTimeoutError):
        ref.ask("wait", "in vain", timeout=0.2)
    assert grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT) == ["in vain"]
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert waited.wait(1)[0].data == ["in vain", True, False, 1]
    join = in_thread(lambda: ref.ask("wait", "awaited", timeout=LIMIT))
    grav.ask("gate.arrived", 2, to="gate", timeout=LIMIT)
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert join() == "awaited"
    assert waited.wait(2)[1].data == ["awaited", False, False, 1]


@pytest.mark.parametrize("actor_class", [actors.Waiting, actors.WaitingAsync])
def test_pending_question_is_taken_from_the_mailbox(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    grav.spawn(actors.Gate, kind="thread")
    waited = collect(grav, "waited")
    ref = grav.spawn(actor_class, kind=kind)
    ref.tell("wait", "first")
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    with pytest.raises(AskTimeoutError):
        ref.ask("wait", "in vain", timeout=0.01)
    ref.tell("wait", "second")
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert grav.ask("gate.arrived", 2, to="gate", timeout=LIMIT) == ["first", "second"]
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert [message.data[0] for message in waited.wait(2)] == ["first", "second"]


def test_many_questions_at_a_time(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Plain, kind=kind)
    results: list[object] = []
    lock = threading.Lock()

    def ask() -> None:
        for number in range(50):
            answer = ref.ask("echo", number, timeout=LIMIT)
            with lock:
                results.append(answer == ["hello", number])

    joins = [in_thread(ask) for _ in range(8)]
    for join in joins:
        join()
    assert results == [True] * 400
