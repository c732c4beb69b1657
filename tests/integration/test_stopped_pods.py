"""Pods that stand still: a stopped process, one that reads nothing, a handler that hangs. Silence is never death."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from grav_actors import Grav
from support import actors, deadly
from support.collecting import LIMIT, Collector, in_thread, settle
from support.nodes import collect

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """Process ids that were sent SIGSTOP; they go on after the test, whatever it does."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def row_of(grav: Grav, name: str) -> dict[str, Any]:
    return next(row for row in grav._runner.rows() if row["name"] == name)


def pod_row(grav: Grav, name: str) -> dict[str, Any]:
    rows = grav.ask("grav.sys.bus.pods", to="grav.bus", timeout=LIMIT)
    row: dict[str, Any] = next(row for row in rows if row["name"] == name)
    return row


@pytest.mark.parametrize("seconds", [2.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_stopped_process_is_not_lost_and_has_everything_once(grav: Grav, stopped: list[int], seconds: float) -> None:
    counted, bystander = collect(grav, "counted"), collect(grav, "number")
    grav.spawn(deadly.Counter, name="counter")
    sender = grav.connect()
    for number in range(1000):
        sender.publish("number", number)
    counted.wait(10)
    pid = row_of(grav, "counter")["pid"]
    stopped.append(pid)
    os.kill(pid, signal.SIGSTOP)
    for number in range(1000, 3000):
        sender.publish("number", number)
    bystander.wait(3000)  # the others go on
    threading.Event().wait(seconds)  # what is tested is that time does nothing
    assert pod_row(grav, "counter")["connected"]
    os.kill(pid, signal.SIGCONT)
    settle(sender)
    grav.publish("counted", "end")
    counted.wait_for(lambda messages: messages[-1].data == "end")
    told = [message.data for message in counted.messages[:-1]]
    assert [number for _, number, _, _ in told] == list(range(3000))
    assert not any(redelivered for _, _, redelivered, _ in told)
    assert (row_of(grav, "counter")["restarts"], row_of(grav, "counter")["pid"]) == (0, pid)
    assert grav.stats()["dead_letters"] == {}


def test_stopped_process_is_not_lost_while_the_bus_is_killed(stopped: list[int]) -> None:
    with Grav(max_restarts=100) as grav:
        counted = collect(grav, "counted")
        grav.spawn(deadly.Counter, name="counter")
        sender = grav.connect()
        pid = row_of(grav, "counter")["pid"]
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)
        for number in range(500):
            sender.publish("number", number)
        sender.flush(LIMIT)
        assert grav._bus is not None
        assert grav._bus.pid is not None
        os.kill(grav._bus.pid, signal.SIGKILL)
        for number in range(500, 1000):
            sender.publish("number", number)
        sender.flush(LIMIT)
        os.kill(pid, signal.SIGCONT)
        settle(sender)
        grav.publish("counted", "end")
        counted.wait_for(lambda messages: messages[-1].data == "end")
        assert [message.data[1] for message in counted.messages[:-1]] == list(range(1000))


def test_hung_handler_is_reported_as_stuck_and_others_go_on(grav: Grav, kind: str) -> None:
    stuck = collect(grav, "grav.sys.pod.stuck")
    seen = collect(grav, "wait")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(deadly.Hangs, kind=kind, name="hangs")
    sender = grav.connect()
    sender.publish("wait", 0)
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    sending = in_thread(lambda: [sender.publish("wait", number) for number in range(1, 10_000)])
    assert stuck.wait(1)[0].data["pod"] == "hangs"
    sending()
    seen.wait(10_000)
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    settle(sender)
    letters = grav.stats()["dead_letters"]
    assert ref.ask("handled", timeout=LIMIT) + letters["overflow"] == 10_000
    assert set(letters) == {"overflow"}


def test_pod_that_reads_nothing_holds_up_nobody_for_long(grav: Grav, stopped: list[int]) -> None:
    stuck, seen = collect(grav, "grav.sys.pod.stuck"), Collector()
    grav.spawn(deadly.Narrow, name="narrow")
    pid = row_of(grav, "narrow")["pid"]
    stopped.append(pid)
    os.kill(pid, signal.SIGSTOP)
    other, sender = grav.connect(), grav.connect()
    other.on_type("number", seen)
    for number in range(10_000):
        sender.publish("number", number)
    assert [message.data["pod"] for message in stuck.wait(1)] == ["narrow"]
    seen.wait(10_000)
    os.kill(pid, signal.SIGCONT)
    settle(sender)
    assert seen.data == list(range(10_000))
    stats = grav.stats()
    handled = grav.actor("narrow").ask("handled", timeout=LIMIT)
    assert handled + stats["dead_letters"]["overflow"] == 10_000
