"""Events of a supervisor's children: in order, bounded, and nobody waits for them."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from grav_actors import Actor, Child, ConnectionClosedError
from grav_actors.supervisor import announcer
from grav_actors.supervisor.announcer import Announcer
from grav_actors.supervisor.effects import Ended, Exit, How, MemberState, Verdict
from grav_actors.supervisor.life import Life
from grav_actors.supervisor.member import Member

LIMIT = 10.0


class Worker(Actor):
    """Does nothing."""


def make_life() -> Life:
    member = Member("worker", Child(Worker, name="worker", kind="thread"), "")
    member.life = Life(member, 1, 3, "")
    return member.life


class Bus:
    """Takes events when it may."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.is_asked = threading.Event()
        self.may_take = threading.Event()
        self.may_take.set()
        self.error: Exception | None = None

    def publish(self, event: str, data: dict[str, Any]) -> None:
        self.is_asked.set()
        assert self.may_take.wait(LIMIT)
        if self.error is not None:
            raise self.error
        self.events.append((event, data))


def test_events_come_in_order_and_say_what_happened() -> None:
    bus = Bus()
    life = make_life()
    told = Announcer("crew", bus.publish)
    told.changed(life.member, life, MemberState.READY, "")
    life.reason = "crash"
    life.member.restarts = 1
    told.crashed(life, "a report", "restart 1 in 0.2 s")
    end = Ended("worker", 1, Exit(How.CRASHED, "boom"), Verdict.RESTART, 0.2, 1, was_leaving=False)
    told.restarting(life, end, "restart 1 in 0.2 s")
    told.changed(life.member, life, MemberState.FAILED, "boom")
    assert told.close(LIMIT)
    assert [event for event, _ in bus.events] == [
        announcer.STARTED,
        announcer.CRASHED,
        announcer.RESTARTING,
        announcer.FAILED,
    ]
    common = {"name": "worker", "kind": "thread", "supervisor": "crew", "incarnation": 3, "pid": None}
    assert all(common.items() <= data.items() for _, data in bus.events)
    assert [data["restarts"] for _, data in bus.events] == [0, 1, 1, 1]
    assert bus.events[1][1]["report"] == "a report"
    assert bus.events[2][1]["delay"] == 0.2
    assert bus.events[2][1]["next"] == "restart 1 in 0.2 s"
    assert (bus.events[3][1]["reason"], bus.events[3][1]["error"]) == ("crash", "boom")


def test_nobody_waits_for_a_bus_that_takes_nothing_and_the_oldest_events_go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcer, "MAX_WAITING", 2)
    bus = Bus()
    bus.may_take.clear()
    told = Announcer("", bus.publish)
    life = make_life()
    told.changed(life.member, life, MemberState.READY, "")
    assert bus.is_asked.wait(LIMIT)
    with caplog.at_level(logging.WARNING):
        for restarts in range(1, 6):
            life.member.restarts = restarts
            told.changed(life.member, life, MemberState.READY, "")
    bus.may_take.set()
    assert told.close(LIMIT)
    assert [data["restarts"] for _, data in bus.events] == [0, 4, 5]
    assert told.dropped == 3
    assert len(caplog.records) == 1


def test_what_the_bus_does_not_take_is_counted() -> None:
    bus = Bus()
    bus.error = ConnectionClosedError("it has ended")
    told = Announcer("", bus.publish)
    life = make_life()
    told.changed(life.member, life, MemberState.READY, "")
    assert told.close(LIMIT)
    assert (bus.events, told.dropped) == ([], 1)


def test_long_texts_are_cut_at_the_front() -> None:
    bus = Bus()
    told = Announcer("", bus.publish)
    life = make_life()
    told.crashed(life, "x" * announcer.MAX_TEXT + "the end", "")
    assert told.close(LIMIT)
    report = bus.events[0][1]["report"]
    assert len(report) == announcer.MAX_TEXT
    assert report.endswith("the end")
