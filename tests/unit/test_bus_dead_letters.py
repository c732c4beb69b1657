"""Dead letters: the events that tell of them, the questions about them, and giving them once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grav_actors import dead_letters as public
from grav_actors.bus import dead_letter_inquiry, dead_letters
from grav_actors.bus.dead_letter_log import LOGGED, SUMMARY_INTERVAL
from grav_actors.bus.shelf import REASONS, SHELF_MESSAGES
from grav_actors.codec import pack_value
from grav_actors.dead_letters import DeadLetter, Retried
from grav_actors.errors import ConfigError, DeadLetterNotFoundError, HandlerError
from grav_actors.ids import id_text
from grav_actors.message import Message
from grav_actors.protocol import BUS_NAME, KIND_PUBLISH, KIND_TELL, VERB_SEND, pack
from support.busnet import Got, Net, Rejected, TestPod

ALL: dict[str, Any] = {"reason": None, "type": None}


def asking(net: Net) -> public.Ask:
    """Return what asks the bus of a net, as `Grav` asks its own."""
    pod = net.pod()

    def ask(question: str, data: Any) -> Any:
        uuid = pod.ask(BUS_NAME, question, data)
        net.settle()
        answer = pod.answers.pop(uuid)
        if answer.type == "grav.error":
            raise HandlerError(answer.data["error"])
        return answer.data

    return ask


def find(net: Net, uuid: str | None = None, **choice: Any) -> list[DeadLetter]:
    return public.find(asking(net), uuid, **{**ALL, **choice})


def retry(net: Net, uuid: str | None = None, *, all: bool = False, **choice: Any) -> Retried:
    outcome = public.retry(asking(net), uuid, **{**ALL, **choice}, all=all)
    net.settle()
    return outcome


def purge(net: Net, uuid: str | None = None, *, all: bool = False, **choice: Any) -> int:
    return public.purge(asking(net), uuid, **{**ALL, **choice}, all=all)


def rejecting(*data: Any) -> Callable[[Got], None]:
    def handler(got: Got) -> None:
        if got.data in data:
            raise Rejected(f"no {got.data}")

    return handler


def raising(got: Got) -> None:
    raise ValueError(f"no {got.data}")


# Events


def test_each_dead_letter_has_its_event_with_all_that_is_known_of_it() -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    net.pod("picky", "x", handler=rejecting(2, 3))
    message = Message("x", 2, parent_id=id_text(b"p" * 16), headers={"h": "v"})
    sender.publish("x", 1)
    sender.send_message(KIND_PUBLISH, message, None)
    sender.publish("x", 3)
    net.settle()
    assert [got.data["message"]["data"] for got in listener.got] == [2, 3]
    assert listener.got[0].data == {
        "reason": "rejected",
        "target": "picky",
        "attempts": 1,
        "error": "Rejected: no 2",
        "type": "x",
        "message": {
            "uuid": message.uuid,
            "type": "x",
            "data": 2,
            "parent_id": message.parent_id,
            "reply_to": "",
            "timestamp": message.timestamp,
            "headers": {"h": "v"},
            "sender": id_text(sender.uuid),
        },
    }
    net.check_quiet()


def test_a_run_that_ends_together_has_an_event_for_each_message() -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    sender.tell("nobody", "x", *range(500))
    net.settle()
    assert [got.data["message"]["data"] for got in listener.got] == list(range(500))


def test_events_are_made_a_few_at_a_time_so_that_others_need_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "EVENTS_PER_DRAIN", 10)
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    sender.tell("nobody", "x", *range(25))
    sender.push()
    net.up(sender.wire)
    made: list[int] = []
    for _ in range(3):
        assert net.bus.tick(net.now) == (net.now if len(made) < 2 else pytest.approx(net.now, abs=1.0))
        net._collect()
        net.down(listener.wire)
        listener.handle()
        made.append(len(listener.got))
    assert made == [10, 20, 25]
    assert not net.bus.dead_letters.untold


def test_no_body_is_opened_for_events_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "unpack_body", None)
    net = Net()
    sender = net.pod()
    sender.tell("nobody", "x", *range(25))
    net.settle()
    assert not net.bus.dead_letters.untold
    assert len(net.dead()) == 25


def test_events_past_the_bound_are_not_made_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "UNTOLD_MESSAGES", 10)
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    for number in range(25):
        sender.tell("nobody", f"x{number}", number)
    net.settle()
    assert [got.data["message"]["data"] for got in listener.got] == list(range(10))
    assert net.bus.postman.counts.untold == 15
    assert len(net.dead()) == 25
    sender.tell("nobody", "x", "later")
    net.settle()
    assert listener.got[-1].data["message"]["data"] == "later", "there is room again"


def test_large_messages_travel_in_events_of_their_own_frames() -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    for _ in range(4):
        sender.tell("nobody", "x", bytes(1_048_576))
    sender.push()
    net.up(sender.wire)
    net.route()
    assert max(len(body) for _, body in listener.wire.down) < net.bus.max_body + 256 * 1024
    net.settle()
    assert [len(got.data["message"]["data"]) for got in listener.got] == [1_048_576] * 4


def nested(depth: int) -> Any:
    data: Any = "bottom"
    for _ in range(depth):
        data = [data]
    return data


def test_data_that_is_nested_as_deep_as_may_be_stands_packed() -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    sender.tell("nobody", "x", nested(30))
    sender.tell("nobody", "x", nested(32))
    net.settle()
    flat, deep = (got.data["message"] for got in listener.got)
    assert flat["data"] == nested(30)
    assert "data" not in deep
    assert deep["packed"] == pack_value(nested(32))
    letters = find(net, with_messages=True)
    assert [letter.message.data for letter in letters if letter.message] == [nested(30), nested(32)]


def test_floats_that_grow_when_they_are_written_again_are_left_out() -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    count = 100_000
    short = b"\x91\x96\xc4\x10" + b"u" * 16 + b"\xc4\x00\xc4\x00\x00\xdd" + count.to_bytes(4, "big")
    body = short + b"\xca\x3f\x80\x00\x00" * count + b"\xc0"
    header = pack(VERB_SEND, sender.slot, 1, None, [(KIND_TELL, "x", 1, len(body), "nobody")])
    net.bus.receive(sender.wire.route, header, body, net.now)
    net.settle()
    (got,) = listener.got
    assert got.data["message"]["uuid"] == id_text(b"u" * 16)
    assert "data" not in got.data["message"]
    (letter,) = find(net, with_messages=True)
    assert letter.message is not None
    assert letter.message.data == [1.0] * count


@pytest.mark.parametrize(
    "body",
    [b"", b"\x91\xc1", b"\x91\x93\x01\x02\x03", b"\x91\x96\xc4\x10" + b"u" * 16 + b"\xc4\x00\xc4\x00\x00\xc1\xc0"],
    ids=["empty", "reserved", "short", "data"],
)
def test_a_garbled_message_is_a_dead_letter_like_others(body: bytes) -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    body = body or b"\xc1"
    header = pack(VERB_SEND, sender.slot, 1, None, [(KIND_TELL, "x", 1, len(body), "nobody")])
    net.bus.receive(sender.wire.route, header, body, net.now)
    net.settle()
    (got,) = listener.got
    assert (got.data["reason"], got.data["type"], got.data["message"]) == ("no_responders", "x", None)
    (letter,) = find(net, with_messages=True)
    assert letter.message is None
    assert retry(net, all=True).kept == {"nobody is not on the bus": 1}
    assert purge(net, all=True) == 1


def test_a_message_of_a_time_that_python_does_not_know_has_none() -> None:
    net = Net()
    sender, listener = net.pod(), net.pod("", "grav.sys.dead")
    body = b"\x91\x96\xc4\x10" + b"u" * 16 + b"\xc4\x00\xc4\x00\xcf" + b"\xff" * 8 + b"\x07\xc0"
    header = pack(VERB_SEND, sender.slot, 1, None, [(KIND_TELL, "x", 1, len(body), "nobody")])
    net.bus.receive(sender.wire.route, header, body, net.now)
    net.settle()
    assert [got.data["message"]["data"] for got in listener.got] == [7]


# Log


def test_the_first_dead_letters_are_logged_and_the_others_summed_up() -> None:
    net = Net()
    sender = net.pod()
    for _ in range(LOGGED + 3):
        sender.tell("nobody", "x", *range(100))
        net.settle()
    log = net.bus.dead_letters.log
    assert log.lines[0] == "dead letter: 100 messages of type x for nobody: no_responders"
    assert len(log.lines) == LOGGED + 1
    net.advance(SUMMARY_INTERVAL + 1)
    assert log.lines[-1] == "300 more messages became dead letters in 10 s: 300 no_responders for nobody"


# Listing


def test_letters_are_listed_with_what_is_known_of_them_oldest_first() -> None:
    net = Net()
    sender = net.pod()
    net.pod("picky", "x", handler=rejecting(2))
    message = Message("x", 2)
    sender.send_message(KIND_PUBLISH, message, None)
    net.settle()
    net.advance(7)
    sender.tell("nobody", "y.z", 1)
    net.settle()
    first, second = find(net)
    assert (first.uuid, first.type, first.reason, first.target) == (message.uuid, "x", "rejected", "picky")
    assert (first.attempts, first.error, first.group, first.number) == (1, "Rejected: no 2", "", 1)
    assert (second.type, second.reason, second.target, second.attempts) == ("y.z", "no_responders", "nobody", 0)
    assert 7 <= first.age < 8
    assert first.message is second.message is None


def test_letters_are_chosen_by_reason_type_and_uuid() -> None:
    net = Net()
    sender = net.pod()
    net.pod("picky", "x.*", handler=rejecting(1))
    sender.publish("x.a", 1)
    sender.publish("x.b", 1)
    sender.tell("nobody", "x.a", 2)
    net.settle()
    letters = {(letter.reason, letter.type): letter for letter in find(net)}
    assert {letter.type for letter in find(net, reason="rejected")} == {"x.a", "x.b"}
    assert {letter.reason for letter in find(net, type="x.a")} == {"rejected", "no_responders"}
    assert len(find(net, type="x.>", reason="no_responders")) == 1
    assert find(net, type="y") == find(net, reason="expired") == []
    wanted = letters["rejected", "x.b"]
    assert [letter.uuid for letter in find(net, wanted.uuid)] == [wanted.uuid]
    assert [letter.uuid for letter in find(net, wanted.uuid[-6:].upper())] == [wanted.uuid]
    with pytest.raises(DeadLetterNotFoundError, match="no dead letter"):
        find(net, wanted.uuid, reason="expired")


def test_a_part_of_a_uuid_that_may_mean_several_is_refused_naming_some() -> None:
    net = Net()
    net.pod().tell("nobody", "x", *range(5))
    net.settle()
    first = find(net)[0]
    with pytest.raises(ConfigError, match=rf"may mean 5 dead letters \({first.uuid}, .*, \.\.\.\); give more"):
        find(net, first.uuid[:8])


def test_a_uuid_names_the_letters_of_all_receivers_of_its_message() -> None:
    net = Net()
    sender = net.pod()
    for name in ("a", "b"):
        net.pod(name, "x", handler=rejecting(1))
    sender.publish("x", 1)
    net.settle()
    uuid = find(net)[0].uuid
    assert [letter.target for letter in find(net, uuid)] == ["a", "b"]


def no_bus(question: str, data: Any) -> Any:
    pytest.fail(f"asked {question}")


@pytest.mark.parametrize("choice", [{"reason": "overfow"}, {"uuid": ""}])
def test_a_wrong_choice_is_refused_before_the_bus_is_asked(choice: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        public.find(
            lambda question, data: pytest.fail(question), choice.get("uuid"), reason=choice.get("reason"), type=None
        )


def test_a_full_shelf_comes_in_pages_that_fit_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    net.pod("picky", "x", handler=raising, max_deliver=1)
    sender = net.pod()
    sender.publish("x", *("é" * 3000 for _ in range(SHELF_MESSAGES)))
    pages: list[int] = []
    net.settle()
    ask = asking(net)

    def counted(question: str, data: Any) -> Any:
        page = ask(question, data)
        pages.append(len(pack_value(page)))
        return page

    letters = public.find(counted, None, reason=None, type=None)
    assert len(letters) == SHELF_MESSAGES
    assert [letter.number for letter in letters] == sorted({letter.number for letter in letters})
    assert len(pages) > 1
    assert max(pages) < 2 * dead_letter_inquiry.PAGE_BYTES


def test_a_message_is_shown_as_it_was_sent() -> None:
    net = Net()
    sender = net.pod()
    message = Message("x", {"a": [1, b"raw"]}, parent_id=id_text(b"p" * 16), headers={"k": "v"})
    sender.send_message(KIND_TELL, message, "nobody")
    net.settle()
    (letter,) = find(net, message.uuid, with_messages=True)
    assert letter.message == message


@pytest.mark.parametrize(
    "data",
    [None, 7, [], {"uid": "a"}, {"uuid": 1}, {"reason": "none"}, {"type": "a..b"}, {"after": "x"}, {"after": True}],
)
@pytest.mark.parametrize("question", [dead_letter_inquiry.LIST, dead_letter_inquiry.RETRY, dead_letter_inquiry.PURGE])
def test_a_selection_that_is_none_is_answered_with_an_error(question: str, data: Any) -> None:
    net = Net()
    net.pod().tell("nobody", "x", 1)
    net.settle()
    with pytest.raises(HandlerError):
        asking(net)(question, data)
    assert len(net.dead()) == 1


def test_a_number_that_nothing_has_shows_nothing() -> None:
    ask = asking(Net())
    assert ask(dead_letter_inquiry.SHOW, 7) is None
    with pytest.raises(HandlerError, match="number"):
        ask(dead_letter_inquiry.SHOW, "7")


# Purging


def test_what_is_purged_is_forgotten_and_stays_counted() -> None:
    net = Net()
    sender = net.pod()
    sender.tell("nobody", "x", 1, 2)
    sender.tell("nobody", "y", 3)
    net.settle()
    uuid = find(net)[0].uuid
    assert purge(net, uuid) == 1
    assert purge(net, type="y") == 1
    assert [data for _, _, data in net.dead()] == [2]
    assert purge(net, reason="expired") == 0
    assert purge(net, all=True) == 1
    assert net.dead() == []
    assert net.bus.describe(net.now)["dead_letters"] == {"no_responders": 3}
    assert net.bus.describe(net.now)["shelf"] == 0


@pytest.mark.parametrize("change", [retry, purge])
def test_nothing_is_changed_by_mistake(change: Callable[..., Any]) -> None:
    net = Net()
    net.pod().tell("nobody", "x", 1)
    net.settle()
    with pytest.raises(ConfigError, match="say which"):
        change(net)
    with pytest.raises(ConfigError, match="not both"):
        change(net, all=True, type="x")
    with pytest.raises(DeadLetterNotFoundError):
        change(net, "none")  # no hexadecimal digits: those of a message may be any
    assert len(net.dead()) == 1


# Retrying


def test_a_retried_message_goes_to_its_target_alone_anew_and_as_redelivered() -> None:
    net = Net()
    sender, other = net.pod(), net.pod("other", "x")
    picky = net.pod("picky", "x", handler=raising, max_deliver=2)
    sender.publish("x", 1)
    net.settle()
    net.advance(6)
    assert net.dead() == [("max_deliver", "picky", 1)]
    picky.got.clear()
    picky.handler = None
    assert retry(net, all=True) == Retried(1, {})
    assert [(got.data, got.redelivered, got.attempt, got.sender) for got in picky.got] == [(1, True, 1, sender.uuid)]
    assert other.data == [1]
    assert net.dead() == []
    net.check_quiet()


def test_several_are_given_again_in_the_order_in_which_they_died() -> None:
    net = Net()
    sender = net.pod()
    picky = net.pod("picky", ">", handler=rejecting(*range(30)))
    for number in range(30):
        sender.publish(f"t{number % 3}", number)
    net.settle()
    picky.handler = None
    picky.got.clear()
    assert retry(net, reason="rejected").count == 30
    assert picky.data == list(range(30))
    net.check_quiet()


def test_what_fails_again_is_a_new_dead_letter() -> None:
    net = Net()
    net.pod("picky", "x", handler=rejecting(1))
    net.pod().publish("x", 1)
    net.settle()
    (first,) = find(net)
    assert retry(net, first.uuid).count == 1
    (second,) = find(net)
    assert (second.uuid, second.attempts) == (first.uuid, 1)
    assert second.number > first.number
    net.check_quiet()


def test_what_was_told_to_nobody_waits_until_somebody_has_the_name() -> None:
    net = Net()
    net.pod().tell("late", "x", 1)
    net.settle()
    assert retry(net, all=True) == Retried(0, {"late is not on the bus": 1})
    late = net.actor("late")
    assert retry(net, reason="no_responders") == Retried(1, {})
    assert [(got.data, got.redelivered) for got in late.got] == [(1, True)]
    net.check_quiet()


def test_a_service_is_given_again_what_was_told_to_it() -> None:
    net = Net()
    net.pod().tell("s", "x", 1, 2)
    net.settle()
    instances = [net.actor(f"s-{n}", service="s") for n in range(2)]
    assert retry(net, all=True).count == 2
    assert [pod.data for pod in instances] == [[1], [2]]


def test_the_next_incarnation_of_an_actor_is_given_what_the_last_one_failed() -> None:
    net = Net()
    supervisor, sender = net.pod("node"), net.pod()
    first = net.actor("a", "x", supervisor=supervisor.uuid, handler=rejecting(1))
    sender.publish("x", 1)
    net.settle()
    net.kill(first)
    assert retry(net, all=True).count == 1, "its name and mailbox are still there"
    heir = net.actor("a", "x", supervisor=supervisor.uuid, incarnation=1)
    net.settle()
    assert heir.data == [1]


def test_a_pod_without_a_name_is_found_by_its_uuid_while_it_is_there() -> None:
    net = Net()
    pod = net.pod("", "x", handler=rejecting(1, 2))
    sender = net.pod()
    sender.publish("x", 1, 2)
    net.settle()
    pod.handler = None
    uuid = find(net)[0].uuid
    assert retry(net, uuid).count == 1
    pod.leave()
    net.settle()
    assert retry(net, all=True).kept == {f"{id_text(pod.uuid)} is not on the bus": 1}


def test_a_name_that_several_pods_share_is_not_guessed() -> None:
    net = Net()
    first = net.pod("worker", "x", handler=rejecting(1))
    net.pod().publish("x", 1)
    net.settle()
    net.pod("worker")
    kept = retry(net, all=True).kept
    assert kept == {"2 pods are called worker, and it is not known which one it was": 1}
    first.leave()
    net.settle()
    net.pods[-1].listen()
    assert retry(net, type="x").kept == {"worker does not listen to x any more": 1}


def test_a_pod_is_not_given_what_its_filter_no_longer_lets_through() -> None:
    net = Net()
    pod = net.pod("pod", "x", handler=rejecting(1))
    sender = net.pod()
    sender.publish("x", 1)
    net.settle()
    pod.listen("y")
    net.settle()
    assert retry(net, all=True).kept == {"pod does not listen to x any more": 1}
    pod.listen("x", handler=lambda got: None)
    net.settle()
    assert retry(net, all=True).count == 1


def test_what_was_told_to_an_actor_needs_no_filter() -> None:
    net = Net()
    actor = net.actor("a", handler=rejecting(1))
    net.pod().tell("a", "x", 1)
    net.settle()
    actor.handler = None
    assert retry(net, all=True).count == 1
    assert actor.data == [1, 1]


def test_what_came_through_a_group_goes_to_the_group() -> None:
    net = Net()
    sender = net.pod()
    one = net.actor("one", "x", group="g", handler=rejecting(1, 2))
    sender.publish("x", 1, 2)
    net.settle()
    assert [(letter.target, letter.group) for letter in find(net)] == [("one", "g")] * 2
    other = net.actor("other", "x", group="g")
    one.leave()
    net.settle()
    assert retry(net, all=True).count == 2
    assert [(got.data, got.redelivered, got.attempt) for got in other.got] == [(1, True, 1), (2, True, 1)]
    other.leave()
    net.settle()
    net.check_quiet()


def test_a_group_without_members_or_without_a_taker_keeps_its_letters() -> None:
    net = Net()
    sender = net.pod()
    member = net.actor("m", "x", group="g", handler=rejecting(1))
    sender.publish("x", 1)
    net.settle()
    member.listen("y")
    net.settle()
    assert retry(net, all=True).kept == {"no member of the group g takes x": 1}
    member.leave()
    net.settle()
    assert retry(net, all=True).kept == {"no member of the group g is on the bus": 1}


def test_what_was_told_to_a_member_goes_to_that_member() -> None:
    net = Net()
    member = net.actor("m", "x", group="g", handler=rejecting(1))
    other = net.actor("o", "x", group="g")
    net.pod().tell("m", "x", 1)
    net.settle()
    member.handler = None
    assert find(net)[0].group == ""
    assert retry(net, all=True).count == 1
    assert (member.data, other.data) == ([1, 1], [])


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest", "disconnect"])
def test_a_full_mailbox_is_not_filled_further(overflow: str) -> None:
    net = Net()
    sender = net.pod()
    actor = net.actor("a", "x", mailbox_limit=4, prefetch=2, overflow=overflow, handler=rejecting(*range(6)))
    for number in range(6):
        sender.tell("a", "x", number)
        net.settle()
    actor.handler = None
    actor.paused = True
    outcome = retry(net, all=True)
    assert outcome == Retried(4, {"the mailbox of a is full": 2})
    assert net.bus.directory.by_name["a"].mailbox.used == 4
    actor.paused = False
    net.settle()
    assert retry(net, all=True) == Retried(2, {})
    assert actor.data[6:] == list(range(6))
    net.check_quiet()


def test_a_stuck_receiver_is_given_nothing_again() -> None:
    net = Net()
    sender = net.pod()
    actor = net.actor("a", mailbox_limit=4, prefetch=2, stuck_after=1.0)
    actor.paused = True
    sender.tell("a", "x", *range(4))
    net.settle()
    net.advance(3)
    sender.tell("a", "x", 4)
    net.settle()
    assert retry(net, all=True).kept == {"the mailbox of a is full": 1}


def test_retrying_leaves_the_watermarks_of_the_sender_alone() -> None:
    net = Net()
    sender = net.pod()
    actor = net.actor("a", handler=rejecting(1))
    sender.tell("a", "x", 1)
    net.settle()
    sender.tell("a", "x", 2)
    net.settle()
    actor.handler = None
    actor.paused = True
    floor = sender.core.outbox.floor()
    assert retry(net, all=True).count == 1
    assert not net.sender(sender).open
    assert sender.core.outbox.floor() == floor == 2
    actor.paused = False
    net.settle()
    assert sender.core.outbox.is_all_settled
    net.check_quiet()


def test_a_retried_message_says_nothing_of_what_else_its_sender_has_settled() -> None:
    """Else its receiver would take what is still open for done, and drop it when a new bus brings it."""
    net = Net()
    sender = net.pod()
    busy, actor = net.actor("busy"), net.actor("a", "x", handler=rejecting(1))
    busy.paused = True
    sender.tell("busy", "x", 0)
    sender.push()
    sender.tell("a", "x", 1)
    net.settle()
    actor.handler = None
    assert retry(net, all=True).count == 1
    memory = actor.core._memories.of(sender.uuid)
    assert memory.floor == 0


def test_the_reply_to_a_retried_message_finds_who_sent_it() -> None:
    net = Net()
    asker = net.pod()
    question = Message("x", 1)
    asker.expect_reply(question)
    actor = net.actor("a", handler=rejecting(1))
    asker.send_message(KIND_TELL, question, "a")
    net.settle()
    actor.handler = None
    actor.got.clear()
    retry(net, all=True)
    actor.reply(question, actor.got[0].sender, "yes")
    net.settle()
    assert asker.answers[question._record[0]].data == "yes"


def test_what_a_pod_leaves_when_it_is_lost_can_be_given_to_who_has_its_name_then() -> None:
    net = Net()
    sender = net.pod()
    lost = net.pod("reader", "x", prefetch=1)
    lost.paused = True
    sender.publish("x", *range(10))
    net.settle()
    net.kill(lost)
    net.advance(8)
    assert {letter.reason for letter in find(net)} == {"pod_lost"}
    again: TestPod = net.pod("reader", "x")
    assert retry(net, reason="pod_lost").count == 10
    assert again.data == list(range(10))
    net.check_quiet()


def test_every_reason_may_be_chosen() -> None:
    net = Net()
    for reason in REASONS:
        assert find(net, reason=reason) == []
