"""Actors whose processes die: only what was in a handler is charged, and all else is handled."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from grav_actors import (
    Actor,
    ActorStartError,
    ActorStoppedError,
    Backoff,
    Child,
    ConnectionClosedError,
    Grav,
    Message,
)
from grav_actors.actor.keeping import new_runtime
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.supervisor import lives
from grav_actors.supervisor.life import Life
from support import actors, deadly
from support.collecting import LIMIT, Collector, in_thread, settle
from support.nodes import collect, wait_dead_letters, wait_gone, wait_restarts

pytestmark = pytest.mark.timeout(120)

WAYS = ["segfault", "os_exit", "sigkill"]


@pytest.fixture
def grav() -> Iterator[Grav]:
    """A node whose actors may die often."""
    with Grav(max_restarts=1000, backoff=Backoff(first=0, max=0)) as node:
        yield node


def all_of(grav: Grav, collector: Collector) -> list[Message]:
    """Return what came to a collector of `loaded`, all that was sent until now."""
    grav.publish("loaded", "end")
    collector.wait_for(lambda messages: messages[-1].data == "end")
    return collector.messages[:-1]


def check_loads(messages: list[Message], loads: list[int]) -> None:
    """Each load was handled, none of them was charged, and at most the first time was not flagged."""
    told = [tuple(message.data[1:]) for message in messages]
    assert {load for load, _, _ in told} == set(loads)
    assert {attempt for _, _, attempt in told} == {1}
    unflagged = Counter(load for load, redelivered, _ in told if not redelivered)
    assert not unflagged or max(unflagged.values()) == 1


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("actor_class", [deadly.Loader, deadly.AsyncLoader])
def test_poison_message_ends_alone_after_its_third_death(
    grav: Grav, actor_class: type[Actor], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    loaded, bystander = collect(grav, "loaded"), collect(grav, "load")
    ref = grav.spawn(actor_class, name="loader")
    one, other = grav.connect(), grav.connect()
    for number in range(200):
        one.publish("load", number)
        other.publish("load", 1000 + number)
    uuid = one.publish("load", how).uuid
    for number in range(200, 400):
        one.publish("load", number)
        other.publish("load", 1000 + number)
    settle(one, other)
    loads = [*range(400), *range(1000, 1400)]
    check_loads(all_of(grav, loaded), loads)
    assert len(bystander.messages) == 801
    assert wait_dead_letters(grav, 1) == {"crashed": 1}
    wait_restarts(grav, ref, 3)
    reports = [text for record in caplog.records if "actor loader crashed" in (text := record.getMessage())]
    handling = [re.findall(r"it was handling load (\S+) \(attempt (\d)\)", report) for report in reports]
    assert handling == [[(uuid, "1")], [(uuid, "2")], [(uuid, "3")]]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("actor_class", [deadly.Pool, deadly.Tasks])
def test_what_is_handled_beside_a_poison_message_does_not_end_with_it(
    grav: Grav, actor_class: type[Actor], how: str
) -> None:
    loaded = collect(grav, "loaded")
    grav.spawn(actors.Gate, kind="thread")
    grav.spawn(actor_class)
    sender = grav.connect()
    for load in ("wait", how, *range(100)):
        sender.publish("load", load)
    grav.ask("gate.arrived", 3, to="gate", timeout=LIMIT)  # it was in a handler at two deaths, and is alone now
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    settle(sender)
    told = {message.data[1]: message.data[3] for message in all_of(grav, loaded)}
    assert set(told) == {"wait", *range(100)}
    assert told["wait"] == 3
    assert wait_dead_letters(grav, 1) == {"crashed": 1}


def test_several_poison_messages_end_and_nothing_with_them(grav: Grav) -> None:
    loaded = collect(grav, "loaded")
    grav.spawn(deadly.Loader)
    sender = grav.connect()
    for number in range(300):
        sender.publish("load", number)
        if number % 100 == 50:
            sender.publish("load", WAYS[number // 100])
    settle(sender)
    check_loads(all_of(grav, loaded), list(range(300)))
    assert wait_dead_letters(grav, 3) == {"crashed": 3}


@pytest.mark.parametrize("how", WAYS)
def test_poison_message_of_a_group_ends_alone(grav: Grav, how: str) -> None:
    loaded = collect(grav, "loaded")
    grav.spawn(Child(deadly.Crew, name="crew", instances=2))
    sender = grav.connect()
    for number in range(200):
        sender.publish("load", number)
        if number == 100:
            sender.publish("load", how)
    settle(sender)
    check_loads(all_of(grav, loaded), list(range(200)))
    assert wait_dead_letters(grav, 1) == {"crashed": 1}
    assert sum(row["restarts"] for row in grav._runner.rows()) == 3
    assert {message.data[0] for message in loaded.messages[:-1]} == {"crew-1", "crew-2"}


def test_crash_charges_the_message_in_its_handler_and_no_other(grav: Grav, kind: str) -> None:
    loaded = collect(grav, "loaded")
    grav.spawn(deadly.Loader, kind=kind)
    sender = grav.connect()
    for number in range(200):
        sender.publish("load", number)
        if number == 100:
            sender.publish("load", "crash")
    settle(sender)
    check_loads(all_of(grav, loaded), list(range(200)))
    assert wait_dead_letters(grav, 1) == {"crashed": 1}


@pytest.mark.parametrize("how", ["crash", "sigkill"])
def test_message_that_waits_for_its_answer_is_not_charged_with_another_ones_death(
    grav: Grav, kind: str, how: str
) -> None:
    if kind == "thread" and how != "crash":
        pytest.skip("would end the test")
    kept, survived = collect(grav, "kept"), collect(grav, "survived")
    ref = grav.spawn(deadly.Postponer, kind=kind)
    ref.tell("keep")
    kept.wait(1)
    ref.tell("die", how)
    assert survived.wait(1)[0].data == 2
    assert [message.data for message in kept.wait(2)] == [[False, 1], [True, 1]]


def test_crash_of_one_of_several_handlers_charges_only_its_message(grav: Grav, kind: str) -> None:
    hooks = collect(grav, "hook")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.CrashingPool, kind=kind)
    ref.tell("wait")
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    ref.tell("end", "crash")  # and not a second time, when it is charged
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    hooks.wait(4)
    settle(grav._pod)
    assert hooks.data == ["start", "waited", "stop crash", "start"]
    assert grav.stats()["dead_letters"] == {}


def pid_of(grav: Grav, name: str) -> int:
    """Return the process id of an actor, as soon as it has a process."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        pid = next(row["pid"] for row in grav._runner.rows() if row["name"] == name)
        if pid is not None:
            return int(pid)
    raise AssertionError(f"{name} has no process")


@pytest.mark.parametrize("actor_class", [actors.WaitingPool, actors.WaitingTasks])
def test_kill_charges_what_was_in_handlers_and_nothing_that_waited(grav: Grav, actor_class: type[Actor]) -> None:
    waited = collect(grav, "waited")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actor_class, name="waiting")
    for number in range(6):
        ref.tell("wait", number)
    assert sorted(grav.ask("gate.arrived", 3, to="gate", timeout=LIMIT)) == [0, 1, 2]
    os.kill(pid_of(grav, "waiting"), signal.SIGKILL)
    grav.ask("gate.arrived", 6, to="gate", timeout=LIMIT)
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    grav.ask("gate.arrived", 9, to="gate", timeout=LIMIT)
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    told = {message.data[0]: message.data[3] for message in waited.wait(6)}
    assert told == {0: 2, 1: 2, 2: 2, 3: 1, 4: 1, 5: 1}


def test_kill_between_handlers_charges_nobody(grav: Grav) -> None:
    waited = collect(grav, "waited")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.Waiting, name="waiting")
    for number in range(1, 5):  # as often as would be too much for one message
        ref.tell("wait", number)
        grav.ask("gate.arrived", number, to="gate", timeout=LIMIT)
        grav.ask("gate.open", to="gate", timeout=LIMIT)
        waited.wait(number)
        settle(grav._pod)
        os.kill(pid_of(grav, "waiting"), signal.SIGKILL)
        ref.tell("free")
        settle(grav._pod)
    assert grav.stats()["dead_letters"] == {}
    assert all(message.data[3] == 1 for message in waited.messages)


def test_starts_that_fail_charge_nobody(grav: Grav, kind: str) -> None:
    loaded = collect(grav, "loaded")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(deadly.BadStart, kind=kind, name="bad")
    ref.tell("load", "crash")
    for number in range(10):
        ref.tell("load", number)
    for arrived in range(1, 5):
        grav.ask("gate.arrived", arrived, to="gate", timeout=LIMIT)
        grav.ask("gate.open", "fail" if arrived < 4 else None, to="gate", timeout=LIMIT)
    told = [tuple(message.data[1:]) for message in loaded.wait(11)]
    assert told[0] == ("crash", True, 2)
    assert [(load, attempt) for load, _, attempt in told[1:]] == [(number, 1) for number in range(10)]


def test_process_that_a_thread_keeps_from_ending_is_killed_and_started_again(
    grav: Grav, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lives, "KILL_LIMIT", 0.2)
    hooks = collect(grav, "hook")
    ref = grav.spawn(deadly.KeptByThread)
    ref.tell("end")
    hooks.wait(2)
    wait_restarts(grav, ref, 1)
    assert "has not ended after it said so; it is killed" in caplog.text
    monkeypatch.undo()
    ref.stop()
    wait_gone(grav, ref)


def test_end_that_is_noted_twice_is_followed_by_one_life(grav: Grav, monkeypatch: pytest.MonkeyPatch) -> None:
    over = grav._runner._lives.over

    def note_twice(lives: list[Life]) -> None:
        over(lives)
        over(lives)

    monkeypatch.setattr(grav._runner._lives, "over", note_twice)
    hooks = collect(grav, "hook")
    ref = grav.spawn(actors.Hooked)

    def wait_starts(count: int) -> None:
        # What a process has not sent yet is lost when it is killed.
        hooks.wait_for(lambda messages: [message.data for message in messages].count("start") == count)

    for restarts in (1, 2):
        wait_starts(restarts)
        with pytest.raises(ActorStoppedError):
            ref.ask("end", "kill", timeout=LIMIT)
        wait_restarts(grav, ref, restarts)
    wait_starts(3)
    ref.stop()
    wait_gone(grav, ref)
    hooks.wait_for(lambda messages: messages[-1].data == "stop stop")
    assert hooks.data.count("start") == 3


def test_node_that_stops_while_a_thread_actor_is_made_ends_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    grav = Grav()
    joins: list[Callable[[], Any]] = []

    def make_late(*args: Any) -> ActorRuntime:
        joins.append(in_thread(grav.stop))
        while not grav._runner._is_stopping:
            os.sched_yield()
        return new_runtime(*args)

    monkeypatch.setattr(lives, "new_runtime", make_late)
    with suppress(ActorStartError, ConnectionClosedError):
        grav.spawn(actors.Plain, kind="thread")
    joins[0]()
    assert "has not stopped in time" not in caplog.text


def test_actor_that_waits_for_its_restart_has_no_process_id() -> None:
    with Grav(backoff=Backoff(first=3600, max=3600)) as grav:
        ref = grav.spawn(actors.Plain)
        os.kill(pid_of(grav, "plain"), signal.SIGKILL)
        wait_restarts(grav, ref, 1)  # at once; the next one would be in an hour
        os.kill(pid_of(grav, "plain"), signal.SIGKILL)
        deadline = time.monotonic() + LIMIT
        while grav._runner.rows()[0]["state"] != "backoff" and time.monotonic() < deadline:
            grav.stats()
        assert [row["pid"] for row in grav._runner.rows()] == [None]


def test_what_waits_for_an_actor_in_backoff_ends_when_the_actor_is_stopped(kind: str) -> None:
    with Grav(backoff=Backoff(first=60, max=60)) as grav:
        ref = grav.spawn(deadly.Loader, kind=kind)
        sender = grav.connect()
        sender.publish("load", "crash")  # twice: the first restart is at once
        while [row["state"] for row in grav._runner.rows()] != ["backoff"]:
            grav.stats()
        sender.publish("load", 1)
        grav._runner.stop_child(ref.name)
        sender.flush(LIMIT, settled=True)
        assert wait_dead_letters(grav, 2) == {"stopping": 2}
