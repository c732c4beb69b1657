"""The bus is killed while actors work, wait for their restart, or share a group: nothing is lost or given twice."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grav_actors import Backoff, Child, Grav
from support import actors, deadly
from support.collecting import LIMIT, Collector, in_thread, settle
from support.nodes import collect, wait_restarts

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def grav() -> Iterator[Grav]:
    """A node whose bus and actors may be killed often."""
    with Grav(max_restarts=1000, backoff=Backoff(first=0, max=0)) as node:
        yield node


def bus_pid(grav: Grav) -> int:
    assert grav._bus is not None
    assert grav._bus.pid is not None
    return grav._bus.pid


def kill_bus(grav: Grav) -> None:
    """Kill the bus, and return when another one answers."""
    killed = bus_pid(grav)
    os.kill(killed, signal.SIGKILL)
    grav.ask("grav.sys.bus.stats", to="grav.bus", timeout=LIMIT)
    assert bus_pid(grav) != killed


def kill_actor(grav: Grav, name: str) -> None:
    """Kill the process of an actor, the next one if it is just being started again."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        life = grav._runner._members[name].life
        if life is not None and life.vessel is not None and life.vessel.is_alive:
            life.vessel.kill()
            return
    raise AssertionError(f"{name} has no process")


def counted_until_now(grav: Grav, counted: Collector, numbers: range, times: int = 1) -> list[list[Any]]:
    """Return what a collector of `counted` was told, all that was sent until now, and so many different reports."""
    grav.publish("counted", "end")
    counted.wait_for(lambda messages: any(message.data == "end" for message in messages))
    # What another has sent may overtake what an actor sends again to a new bus.
    counted.wait_for(lambda messages: len({reported(message.data) for message in messages}) > times * len(numbers))
    return [message.data for message in counted.messages if message.data != "end"]


def reported(data: Any) -> Any:
    """Return the number that was counted, and whether by the counter or by one of the crew."""
    return data if data == "end" else (data[0].split("-")[0], data[1])


def check_counted(told: list[list[Any]], numbers: range) -> None:
    """Every number was counted, and no more than once without a flag."""
    assert {number for _, number, _, _ in told} == set(numbers)
    unflagged = Counter(number for _, number, redelivered, _ in told if not redelivered)
    assert not unflagged or max(unflagged.values()) == 1


def publish(grav: Grav, numbers: range) -> Callable[[], Any]:
    sender = grav.connect()

    def send() -> None:
        for number in numbers:
            sender.publish("number", number)
        settle(sender)

    return in_thread(send)


def test_actors_in_processes_count_on_when_the_bus_is_killed(grav: Grav) -> None:
    counted = collect(grav, "counted")
    grav.spawn(deadly.Counter)
    numbers = range(20_000)
    sending = publish(grav, numbers)
    for kill in range(1, 4):
        counted.wait(len(numbers) * kill // 5)
        kill_bus(grav)
    sending()
    told = counted_until_now(grav, counted, numbers)
    check_counted(told, numbers)
    assert {attempt for _, _, _, attempt in told} == {1}
    unflagged = [number for _, number, redelivered, _ in told if not redelivered]
    assert unflagged == sorted(unflagged)


def test_group_counts_on_when_the_bus_is_killed(grav: Grav) -> None:
    counted = collect(grav, "counted")
    grav.spawn(Child(deadly.CountingCrew, name="crew", instances=3))
    numbers = range(5_000)
    sending = publish(grav, numbers)
    for kill in range(1, 4):
        counted.wait(len(numbers) * kill // 5)
        kill_bus(grav)
    sending()
    check_counted(counted_until_now(grav, counted, numbers), numbers)


def test_bus_and_actors_are_killed_by_turns(grav: Grav) -> None:
    counted, bystander = collect(grav, "counted"), collect(grav, "number")
    grav.spawn(deadly.Counter, name="counter")
    grav.spawn(Child(deadly.CountingCrew, name="crew", instances=2))
    numbers = range(4_000)
    sending = publish(grav, numbers)
    for turn in range(1, 5):
        counted.wait(len(numbers) * turn // 4)
        # Not at one time: what the bus had accepted from an actor that is gone dies with it.
        if turn % 2:
            kill_bus(grav)
        else:
            kill_actor(grav, "counter")
            kill_actor(grav, f"crew-{turn // 2}")
    sending()
    told = counted_until_now(grav, counted, numbers, times=2)
    check_counted([item for item in told if item[0] == "counter"], numbers)
    check_counted([item for item in told if item[0] != "counter"], numbers)
    assert bystander.data == list(numbers)
    assert not any(message.redelivered for message in bystander.messages)
    assert grav.stats()["dead_letters"] == {}


def test_actor_that_waits_for_its_restart_keeps_its_mailbox_when_the_bus_is_killed() -> None:
    with Grav(max_restarts=1000, backoff=Backoff(first=1.0, max=1.0, jitter=0)) as grav:
        counted = collect(grav, "counted")
        ref = grav.spawn(deadly.Counter, name="counter")
        ref.tell("end", "sigkill")
        wait_restarts(grav, ref, 1)
        ref.tell("end", "sigkill")
        for _ in range(100_000):
            if grav._runner.rows()[0]["state"] == "backoff":
                break
            grav.stats()
        sender = grav.connect()
        for number in range(100):
            sender.publish("number", number)
        sender.flush(LIMIT)
        os.kill(bus_pid(grav), signal.SIGKILL)
        for number in range(100, 200):
            sender.publish("number", number)
        settle(sender)
        told = counted_until_now(grav, counted, range(200))
        assert [number for _, number, _, _ in told] == list(range(200))
        wait_restarts(grav, ref, 2)


def test_killed_actor_holds_up_nobody_else(grav: Grav) -> None:
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.StartsSlowlyAgain, name="slow")
    waiting = grav.connect()
    kill_actor(grav, "slow")
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    seen = Collector()
    other = grav.connect()
    other.on_type("number", seen)
    for number in range(10_000):
        waiting.publish("number", number)
    settle(waiting)
    assert seen.data == list(range(10_000))
    answer = in_thread(lambda: ref.ask("echo", 1, timeout=LIMIT))
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert answer() == 1
