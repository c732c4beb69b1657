"""Actors that keep their state by `snapshot` and `restore`, over deaths of every kind."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from grav_actors import ActorRef, ActorStoppedError, Backoff, Child, Grav, Supervisor
from support.collecting import LIMIT, Collector
from support.keeping import AsyncLedger, Brittle, Ledger, Picky
from support.nodes import hosting_node, wait_gone, wait_restarts

QUICK = Backoff(first=0, max=0)


def node() -> Grav:
    return Grav(max_restarts=1000, backoff=QUICK)


def look(ledger: ActorRef) -> tuple[list[Any], list[str], int]:
    """Return its numbers, what has been called in its present life, and its process."""
    while True:
        try:
            numbers, order, pid = ledger.ask("ledger.list", timeout=LIMIT)
        except ActorStoppedError:
            continue  # it was in the hands of a life that ended
        return numbers, order, pid


@pytest.mark.parametrize("ledger_class", [Ledger, AsyncLedger])
def test_a_killed_process_goes_on_with_all_that_was_acknowledged(ledger_class: type[Ledger]) -> None:
    with node() as grav:
        ledger = grav.spawn(ledger_class)
        assert [ledger.ask("ledger.add", number) for number in range(5)] == [1, 2, 3, 4, 5]
        os.kill(look(ledger)[2], signal.SIGKILL)
        wait_restarts(grav, ledger, 1)
        assert look(ledger)[0] == [0, 1, 2, 3, 4]


def test_restore_comes_after_on_restart_and_on_start(kind: str) -> None:
    with node() as grav:
        ledger = grav.spawn(Ledger, kind=kind)
        ledger.tell("ledger.add", 1)
        assert look(ledger)[1] == ["init", "start"]
        ledger.tell("ledger.crash")
        wait_restarts(grav, ledger, 1)
        assert look(ledger)[1] == ["init", "restart", "start", "restore"]


def test_without_a_handled_message_there_is_nothing_to_restore(kind: str) -> None:
    with node() as grav:
        ledger = grav.spawn(Ledger, kind=kind)
        ledger.tell("ledger.crash")
        wait_restarts(grav, ledger, 1)
        assert look(ledger)[1][:3] == ["init", "restart", "start"]


def test_what_the_handler_did_that_crashed_the_actor_is_not_in_the_state(kind: str) -> None:
    with node() as grav:
        ledger = grav.spawn(Ledger, kind=kind)
        for number in range(3):
            ledger.tell("ledger.add", number)
        ledger.tell("ledger.crash", "gone with the first life, done in the second")
        ledger.tell("ledger.add", 3)
        wait_restarts(grav, ledger, 1)
        assert look(ledger)[0] == [0, 1, 2, "crashed", 3]


def test_over_kills_at_any_moment_the_state_holds_each_message_once_and_in_order() -> None:
    total = 3000
    with node() as grav:
        ledger = grav.spawn(Ledger)
        seen = Collector()
        grav.connect().on_type("ledger.added", seen)
        pod = grav.connect()
        for number in range(total):
            pod.publish("ledger.add", number)
            if number % 500 == 250:
                seen.wait(1 + number // 10)  # it is in the middle of them
                os.kill(next(row["pid"] for row in grav._actors()), signal.SIGKILL)
                wait_restarts(grav, ledger, 1 + number // 500)
        pod.flush(LIMIT, settled=True)
        assert look(ledger)[0] == list(range(total))


@pytest.mark.parametrize("how", ["restart", "sibling"])
def test_one_that_is_restarted_in_order_goes_on_with_its_state(how: str, kind: str) -> None:
    class Family(Supervisor):
        strategy = "one_for_all"
        backoff = QUICK
        children = (Child(Ledger, name="kept", kind=kind), Child(Ledger, name="other", kind="thread"))

    with node() as grav:
        grav.spawn(Family, kind="thread")
        kept = grav.actor("kept")
        kept.tell("ledger.add", 1)
        if how == "restart":
            grav._overview.order("restart", "kept", 0)
        else:
            grav.actor("other").tell("ledger.crash")
        while (found := look(kept))[1] == ["init", "start"]:
            continue
        assert found[:2] == ([1], ["init", "restart", "start", "restore"])


def test_one_that_is_stopped_and_started_by_hand_begins_afresh(kind: str) -> None:
    with node() as grav:
        grav._launch(Child(Ledger, name="ledger", kind=kind))
        ledger = grav.actor("ledger")
        ledger.tell("ledger.add", 1)
        assert look(ledger)[0] == [1]
        grav._runner.stop_child("ledger")
        grav._runner.start_child("ledger")
        assert look(ledger)[:2] == ([], ["init", "start"])


def test_an_answer_that_cannot_be_sent_fails_its_message_and_not_the_actor(kind: str) -> None:
    with node() as grav:
        ledger = grav.spawn(Ledger, kind=kind)
        with pytest.raises(Exception, match="MessageEncodeError"):
            ledger.ask("ledger.unsendable")
        assert look(ledger)[1] == ["init", "start"]


class TestErrors:
    def test_a_state_that_cannot_be_kept_fails_the_actor_and_charges_the_message_alone(self, kind: str) -> None:
        """The third death ends it: the other messages, before and behind, are handled once each."""
        with node() as grav:
            dead = Collector()
            grav.connect().on_type("grav.sys.dead", dead)
            brittle = grav.spawn(Brittle, kind=kind)
            for number in range(10):
                brittle.tell("ledger.add", number)
            brittle.tell("brittle.break")
            for number in range(10, 20):
                brittle.tell("ledger.add", number)
            (letter,) = dead.wait(1)
            assert letter.data["reason"] == "crashed"
            assert letter.data["type"] == "brittle.break"
            assert look(brittle)[0] == list(range(20))
            report = grav._runner.inspect(brittle.name)["report"]
            assert "SnapshotError: snapshot() of brittle has no state that can be kept" in report

    def test_a_state_above_the_limit_of_a_message_is_refused_with_both_numbers(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Grav(max_message=10_000, max_restarts=1000, backoff=QUICK) as grav:
            dead = Collector()
            grav.connect().on_type("grav.sys.dead", dead)
            ledger = grav.spawn(Ledger, kind="thread")
            for text in ("x" * 6000, "y" * 6000):
                ledger.tell("ledger.add", text)
            dead.wait(1)
            assert "at most 10000 are kept (max_message)" in caplog.text
            assert look(ledger)[0] == ["x" * 6000]

    def test_a_restore_that_raises_is_a_failed_restart_with_its_traceback(
        self, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Small(Supervisor):
            max_restarts = 2
            backoff = QUICK
            children = (Child(Picky, name="picky", kind=kind),)

        with Grav(max_restarts=1, backoff=QUICK) as grav:
            events = Collector()
            grav.connect().on_type("grav.sys.actor.*", events)
            grav.spawn(Child(Small, kind="thread", restart="temporary"))
            grav.actor("picky").ask("ledger.list")  # what was handled leaves a state
            grav.actor("picky").tell("ledger.crash")
            events.wait_for(lambda seen: seen[-1].type == "grav.sys.actor.failed" and seen[-1].data["name"] == "small")
            assert "SnapshotError: restore() of picky raised KeyError: 'no such thing'" in caplog.text

    def test_a_first_start_never_calls_restore(self, kind: str) -> None:
        with Grav() as grav:
            assert grav.spawn(Picky, kind=kind).ask("ledger.list")[1] == ["init", "start"]

    def test_a_state_that_cannot_be_kept_at_a_restart_is_reported(
        self, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with node() as grav:
            brittle = grav.spawn(Brittle, kind=kind)
            brittle.tell("ledger.add", 1)
            brittle.ask("brittle.break_later")
            grav._runner.restart_child(brittle.name)
            assert look(brittle)[0] == [1]
            assert "SnapshotError: snapshot() of brittle has no state that can be kept" in caplog.text


def test_the_states_of_threads_outlive_the_host_that_they_share() -> None:
    """One is killed by a handler of the other; the room of one that has ended goes to the next."""
    with hosting_node(max_restarts=1000) as grav:
        first, second = (grav.spawn(Ledger, name=name, kind="thread") for name in ("first", "second"))
        for number in range(3):
            first.tell("ledger.add", number)
            second.tell("ledger.add", -number)
        assert look(first)[2] == look(second)[2]
        os.kill(look(second)[2], signal.SIGKILL)
        for ledger in (first, second):
            wait_restarts(grav, ledger, 1)
        assert look(first)[:2] == ([0, 1, 2], ["init", "restart", "start", "restore"])
        assert look(second)[0] == [0, -1, -2]
        first.stop()
        wait_gone(grav, first)
        third = grav.spawn(Ledger, name="third", kind="thread")
        third.tell("ledger.crash")
        wait_restarts(grav, third, 1)
        assert look(third)[1][:3] == ["init", "restart", "start"]
