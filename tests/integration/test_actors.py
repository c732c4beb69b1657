"""Actors as users write them: handlers, hooks, what they send, names. Each in a thread and in a process."""

import os

import pytest

from grav_actors import (
    Actor,
    ActorStartError,
    ActorStoppedError,
    Child,
    ConfigError,
    Grav,
    Message,
    NoRespondersError,
)
from support import actors
from support.collecting import LIMIT, Collector
from support.nodes import collect, wait_dead_letters, wait_gone

# Handlers


@pytest.mark.parametrize("actor_class", [actors.Plain, actors.Asynchronous])
def test_plain_and_asynchronous_handlers(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    ref = grav.spawn(actor_class, kind=kind)
    assert ref.ask("echo", 1, timeout=LIMIT) == ["hello", 1]
    assert ref.ask("echo.sub", None, timeout=LIMIT) == ["hello", None]


@pytest.mark.parametrize("actor_class", [actors.Plain, actors.Asynchronous])
def test_arguments_reach_the_constructor(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    first = grav.spawn(actor_class, "good day", kind=kind)
    second = grav.spawn(actor_class, greeting="good night", kind=kind)
    assert first.ask("echo", 1, timeout=LIMIT) == ["good day", 1]
    assert second.ask("echo", 1, timeout=LIMIT) == ["good night", 1]


def test_kind_is_a_thread_or_a_process(grav: Grav, kind: str) -> None:
    pid = grav.spawn(actors.Plain, kind=kind).ask("where", timeout=LIMIT)[0]
    assert (pid == os.getpid()) == (kind == "thread")


def test_actor_knows_name_reference_and_log(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Plain, name="me.too", kind=kind)
    assert ref.ask("where", timeout=LIMIT)[1:] == ["me.too", ref, "grav_actors.actor.me.too"]


def test_headers_reach_the_handler(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Plain, kind=kind)
    receipt = grav.publish("headers", headers={"a": "b"})
    assert receipt.result(LIMIT).data == {"a": "b"}


def test_one_message_at_a_time_in_order(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.Waiting, kind=kind)
    waited = collect(grav, "waited")
    for number in range(5):
        ref.tell("wait", number)
    for number in range(5):
        assert grav.ask("gate.arrived", number + 1, to="gate", timeout=LIMIT) == list(range(number + 1))
        grav.ask("gate.open", to="gate", timeout=LIMIT)
    waited.wait(5)
    assert [data[0] for data in waited.data] == list(range(5))


@pytest.mark.parametrize("actor_class", [actors.WaitingPool, actors.WaitingTasks])
def test_concurrency_is_that_many_at_a_time(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actor_class, kind=kind)
    waited = collect(grav, "waited")
    for number in range(7):
        ref.tell("wait", number)
    arrived = 0
    while arrived < 7:
        arrived = min(arrived + 3, 7)
        came = grav.ask("gate.arrived", arrived, to="gate", timeout=LIMIT)
        assert len(came) == arrived
        assert grav.ask("gate.open", to="gate", timeout=LIMIT) == (3 if arrived < 7 else 1)
    waited.wait(7)
    assert sorted(data[0] for data in waited.data) == list(range(7))
    assert grav.stats()["dead_letters"] == {}


# Hooks


HOOKED = [actors.Hooked, actors.HookedAsync]


@pytest.mark.parametrize("actor_class", HOOKED)
def test_hooks_of_a_stop_that_the_actor_asks_for(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    hooks = collect(grav, "hook")
    ref = grav.spawn(actor_class, kind=kind)
    ref.tell("end", "stop")
    hooks.wait(2 + (actor_class is actors.Hooked))
    assert [name for name in hooks.data if name != "init"] == ["start", "stop stop"]
    wait_gone(grav, ref)


@pytest.mark.parametrize("actor_class", HOOKED)
def test_hooks_of_a_stop_by_reference(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    hooks = collect(grav, "hook")
    ref = grav.spawn(actor_class, kind=kind)
    ref.stop()
    hooks.wait(2 + (actor_class is actors.Hooked))
    assert hooks.data[-1] == "stop stop"
    wait_gone(grav, ref)
    assert grav.spawn(actor_class, kind=kind) == ref


@pytest.mark.parametrize("actor_class", HOOKED)
def test_hooks_of_a_crash(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    hooks = collect(grav, "hook")
    grav.spawn(actor_class, kind=kind).tell("end", "crash")
    hooks.wait(4 + 2 * (actor_class is actors.Hooked))
    assert [name for name in hooks.data if name != "init"][:4] == ["start", "stop crash", "restart Crash", "start"]


@pytest.mark.parametrize("actor_class", HOOKED)
def test_sys_exit_in_a_handler_is_a_crash(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    hooks = collect(grav, "hook")
    ref = grav.spawn(actor_class, kind=kind)
    with pytest.raises(ActorStoppedError):
        ref.ask("end", "exit", timeout=LIMIT)
    hooks.wait(4 + 2 * (actor_class is actors.Hooked))
    assert [name for name in hooks.data if name != "init"][:4] == ["start", "stop crash", "restart Crash", "start"]


def test_hooks_at_the_end_of_the_node(grav: Grav, kind: str) -> None:
    hooks = collect(grav, "hook")
    with Grav(bus=grav.bus_endpoint) as other:
        other.spawn(actors.Hooked, name="first", kind=kind)
        other.spawn(actors.HookedAsync, name="second", kind=kind)
    assert [message.data for message in hooks.wait(5)] == ["init", "start", "start", "stop shutdown", "stop shutdown"]


def test_kill_calls_no_on_stop(grav: Grav) -> None:
    hooks = collect(grav, "hook")
    ref = grav.spawn(actors.Hooked, kind="process")
    ref.tell("end", "kill")
    hooks.wait(5)
    assert hooks.data[:5] == ["init", "start", "init", "restart signal SIGKILL (9)", "start"]


class Last(Actor):
    def __init__(self, number: int) -> None:
        self.number = number

    def on_stop(self, reason: str) -> None:
        self.publish("hook", self.number)


def test_stop_order_is_reversed(grav: Grav, kind: str) -> None:
    ends = Collector()
    grav.connect().on_type("hook", ends)
    with Grav(bus=grav.bus_endpoint) as other:
        for number in range(4):
            other.spawn(Last, number, name=f"n{number}", kind="thread")
            other.spawn(actors.Plain, kind=kind)
    assert [message.data for message in ends.wait(4)] == [3, 2, 1, 0]


# What actors send


def test_parents(grav: Grav, kind: str) -> None:
    effects = collect(grav, "effect")
    grav.spawn(actors.Witness, kind=kind)
    grav.spawn(actors.Family, kind=kind)
    other = Message("other").uuid
    receipt = grav.publish("cause", other)
    cause = receipt.uuid
    assert receipt.result(LIMIT).data == cause  # the parent of an ask
    *published, told = effects.wait(5)
    parents = {message.data: message.parent_id for message in published}
    assert (parents["default"], parents["none"], parents["uuid"]) == (cause, "", other)
    assert parents["message"] not in (cause, "", other)
    assert told.data == ["tell", cause]


def test_answer_has_the_question_as_its_parent(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Plain, kind=kind)
    receipt = grav.publish("echo", 1)
    answer = receipt.result(LIMIT)
    assert (answer.type, answer.reply_to, answer.parent_id) == ("grav.reply", receipt.uuid, receipt.uuid)


def test_what_an_actor_publishes_does_not_come_back_but_what_it_tells_itself_does(grav: Grav, kind: str) -> None:
    talk = collect(grav, "talk")
    ref = grav.spawn(actors.Talker, kind=kind)
    assert ref.ask("heard", timeout=LIMIT) == []
    ref.ask("say", "published", timeout=LIMIT)
    ref.ask("say.self", "told", timeout=LIMIT)
    assert [message.data for message in talk.wait(1)] == ["published"]
    assert ref.ask("heard", timeout=LIMIT) == ["told"]


def test_tell_by_name_and_by_reference(grav: Grav, kind: str) -> None:
    talker = grav.spawn(actors.Talker, kind=kind)
    teller = grav.spawn(actors.Asker, kind=kind)
    teller.ask("tell", ["talker", "talk", 1], timeout=LIMIT)
    teller.ask("tell", [talker, "talk", 2], timeout=LIMIT)
    talker.tell("talk", 3)
    grav.actor("talker").tell("talk", 4)
    assert talker.ask("heard", timeout=LIMIT) == [1, 2, 3, 4]


def test_tell_to_nobody_is_a_dead_letter(grav: Grav, kind: str) -> None:
    grav.actor("nobody").tell("talk", 1)
    grav.spawn(actors.Asker, kind=kind).tell("tell", ["nobody", "talk", 2])
    assert wait_dead_letters(grav, 2) == {"no_responders": 2}


def test_tell_of_an_unhandled_type_is_a_dead_letter(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Plain, kind=kind).tell("unknown")
    assert wait_dead_letters(grav, 1) == {"rejected": 1}


@pytest.mark.parametrize("to", ["", "x" * 256])
def test_nobody_can_be_called_so(grav: Grav, to: str) -> None:
    ref = grav.spawn(actors.Asker, kind="thread")
    assert ref.ask("ask", [to, "echo", 1, 5.0], timeout=LIMIT)[0] == "ValueError"
    with pytest.raises(ValueError, match="no actor can be called"):
        grav.ask("echo", to=to)


# Names and references


def test_names_by_default(grav: Grav, kind: str) -> None:
    names = [grav.spawn(actors.Plain, kind=kind).name for _ in range(3)]
    assert names == ["plain", "plain-2", "plain-3"]


def test_taken_name(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Plain, name="me", kind=kind)
    with pytest.raises(ActorStartError, match="named 'me' runs on this node already; choose another name"):
        grav.spawn(actors.Plain, name="me", kind=kind)
    assert ref.ask("echo", 1, timeout=LIMIT)


def test_name_that_another_node_on_the_bus_has(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Plain, name="me", kind=kind)
    with Grav(bus=grav.bus_endpoint) as other:
        with pytest.raises(ActorStartError, match="named 'me' is on this bus already; choose another name"):
            other.spawn(actors.Plain, name="me", kind=kind)
        assert other.actor("me").ask("echo", 1, timeout=LIMIT)
    assert ref.ask("echo", 1, timeout=LIMIT)


def test_bad_name(grav: Grav, kind: str) -> None:
    with pytest.raises(ActorStartError, match="bad actor name"):
        grav.spawn(actors.Plain, name="a b", kind=kind)


def test_name_is_free_again_after_a_start_that_failed(grav: Grav, kind: str) -> None:
    with pytest.raises(ActorStartError):
        grav.spawn(actors.Unready, "on_start", name="me", kind=kind)
    assert grav.spawn(actors.Plain, name="me", kind=kind).ask("echo", 1, timeout=LIMIT)


def test_instances_have_numbers_and_are_asked_in_turn(grav: Grav, kind: str) -> None:
    ref = grav.spawn(Child(actors.Plain, name="temp", kwargs={"greeting": "hi"}, kind=kind, instances=2))
    assert ref.name == "temp"
    names = [ref.ask("where", timeout=LIMIT)[1] for _ in range(4)]
    assert sorted(names[:2]) == ["temp-1", "temp-2"]
    assert names[:2] == names[2:]
    assert grav.actor("temp-2").ask("echo", 1, timeout=LIMIT) == ["hi", 1]
    for taken in ("temp", "temp-1"):
        with pytest.raises(ActorStartError, match="runs on this node already"):
            grav.spawn(actors.Plain, name=taken, kind="thread")


def test_stop_of_the_shared_name_ends_all_instances(grav: Grav, kind: str) -> None:
    ref = grav.spawn(Child(actors.Plain, name="temp", kwargs={"greeting": "hi"}, kind=kind, instances=3))
    ref.stop()
    wait_gone(grav, ref)
    assert [grav.actor(f"temp-{n}").is_alive() for n in (1, 2, 3)] == [False, False, False]


def test_instances_do_not_take_the_name_of_another(grav: Grav) -> None:
    grav.spawn(actors.Plain, name="temp", kind="thread")
    with pytest.raises(ActorStartError, match="'temp' runs on this node already"):
        grav.spawn(Child(actors.Plain, name="temp", kind="thread", instances=2))


def test_one_instance_that_does_not_start_stops_the_others(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Plain, name="taken", kind=kind)
    with Grav(bus=grav.bus_endpoint) as other:
        other.spawn(actors.Plain, name="temp-2", kind="thread")
        with pytest.raises(ActorStartError, match="'temp-2' is on this bus already"):
            grav.spawn(Child(actors.Plain, name="temp", kind=kind, instances=3))
        assert other.actor("temp-2").ask("echo", 1, timeout=LIMIT)
    with pytest.raises(NoRespondersError):
        grav.ask("echo", to="temp-1", timeout=LIMIT)
    assert [row["name"] for row in grav._runner.rows()] == ["taken"]


def test_child_carries_all_that_spawn_takes(grav: Grav, kind: str) -> None:
    ref = grav.spawn(Child(actors.Plain, name="me", args=("one",), kind=kind))
    assert ref.ask("echo", 1, timeout=LIMIT) == ["one", 1]
    with pytest.raises(ConfigError, match="takes nothing else"):
        grav.spawn(Child(actors.Plain), "more")


def test_constructor_may_take_any_name(grav: Grav, kind: str) -> None:
    ref = grav.spawn(Child(actors.Named, kwargs={"name": "a", "kind": "b", "actor_class": "c"}, kind=kind))
    assert ref.ask("names", timeout=LIMIT) == ["a", "b", "c"]


def test_reference_in_a_message_is_used_by_the_receiver(grav: Grav, kind: str) -> None:
    plain = grav.spawn(actors.Plain, kind=kind)
    asker = grav.spawn(actors.Asker, kind=kind)
    assert asker.ask("ask.ref", plain, timeout=LIMIT) == ["hello", "by reference"]


def test_reference_as_an_argument_is_used_by_the_actor(grav: Grav, kind: str) -> None:
    plain = grav.spawn(actors.Plain, kind=kind)
    holder = grav.spawn(actors.Holder, plain, {"x": grav.actor("else")}, kind=kind)
    assert holder.ask("hold", timeout=LIMIT) == [["hello", 1], "else"]


def test_is_alive(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Plain, kind=kind)
    assert ref.is_alive()
    ref.stop()
    wait_gone(grav, ref)
    assert not ref.is_alive()
    assert not grav.actor("nobody").is_alive()


def test_stop_comes_after_what_was_told_before(grav: Grav, kind: str) -> None:
    talk = collect(grav, "talk")
    ref = grav.spawn(actors.Talker, kind=kind)
    for number in range(100):
        ref.tell("say", number)
    ref.stop()
    assert [message.data for message in talk.wait(100)] == list(range(100))
    wait_gone(grav, ref)


def test_what_comes_after_the_end_is_a_dead_letter(grav: Grav, kind: str) -> None:
    ref = grav.spawn(actors.Talker, kind=kind)
    ref.stop()
    wait_gone(grav, ref)
    ref.tell("talk", 1)
    assert wait_dead_letters(grav, 1) == {"no_responders": 1}
    with pytest.raises(NoRespondersError):
        ref.ask("heard", timeout=LIMIT)


# Starting others


@pytest.mark.parametrize("child_kind", ["thread", "process"])
def test_actor_starts_another(grav: Grav, kind: str, child_kind: str) -> None:
    spawner = grav.spawn(actors.Spawner, kind=kind)
    ref = spawner.ask("spawn", ["young", child_kind], timeout=LIMIT)
    assert ref == grav.actor("young")
    assert ref.ask("echo", 1, timeout=LIMIT) == ["from spawner", 1]
    assert spawner.ask("spawn.child", ["twin", child_kind], timeout=LIMIT).name == "twin"
    assert {grav.ask("where", to="twin", timeout=LIMIT)[1] for _ in range(2)} == {"twin-1", "twin-2"}


def test_actor_is_told_why_another_does_not_start(grav: Grav, kind: str) -> None:
    spawner = grav.spawn(actors.Spawner, kind=kind)
    error, text, traceback = spawner.ask("spawn.bad", "on_start", timeout=LIMIT)
    assert error == "ActorStartError"
    assert text == "actor 'unready' did not start: ValueError: not ready"
    assert 'raise ValueError("not ready")' in traceback


def test_actors_that_start_others_before_they_are_ready_do_not_wait_for_each_other(grav: Grav) -> None:
    ref = grav.spawn(actors.SpawnsAtStart, 9, kind="process")
    assert ref.ask("depth", timeout=LIMIT) == 9
    assert len(grav._runner.rows()) == 10
