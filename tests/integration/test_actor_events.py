"""What a node publishes of its actors: each start, crash, restart and end, once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from grav_actors import Backoff, Child, ConnectionClosedError, Grav, Message
from support import crew
from support.collecting import LIMIT, Collector, settle


@pytest.fixture
def grav() -> Iterator[Grav]:
    with Grav() as node:
        yield node


def listen(grav: Grav) -> Collector:
    log = Collector()
    grav.connect().on_type("grav.sys.actor.*", log)
    return log


def told(messages: list[Message], name: str) -> list[str]:
    """Return the last tokens of the events of one actor."""
    return [message.type.rpartition(".")[2] for message in messages if message.data["name"] == name]


def test_life_of_an_actor_is_told_event_by_event(grav: Grav) -> None:
    log = listen(grav)
    reference = grav.spawn(crew.Hand, name="hand")
    (started,) = log.wait(1)
    assert started.type == "grav.sys.actor.started"
    assert started.data["kind"] == "process"
    assert started.data["pid"] == grav.ask("pid", to="hand", timeout=LIMIT)
    reference.tell("end", "kill")
    crashed, restarting, again = log.wait(4)[1:]
    assert told([crashed, restarting, again], "hand") == ["crashed", "restarting", "started"]
    assert crashed.data["pid"] == restarting.data["pid"] == started.data["pid"]
    assert "signal SIGKILL" in crashed.data["error"]
    assert "it was handling" in crashed.data["report"]
    assert crashed.data["next"] == restarting.data["next"] == "restart 1 at once"
    assert (restarting.data["reason"], restarting.data["delay"]) == ("crash", 0.0)
    assert [message.data["incarnation"] for message in log.messages] == [0, 0, 0, 1]
    assert again.data["restarts"] == 1
    assert again.data["pid"] != started.data["pid"]
    reference.stop()
    stopped = log.wait(5)[4]
    assert stopped.type == "grav.sys.actor.stopped"
    assert stopped.data["reason"] == "stop"
    settle(grav._pod)
    assert len(log.messages) == 5


def test_temporary_actor_that_crashes_has_failed(grav: Grav) -> None:
    log = listen(grav)
    grav.spawn(Child(crew.Hand, name="hand", kind="thread", restart="temporary"))
    grav.actor("hand").tell("end", "crash")
    log.wait(3)
    settle(grav._pod)
    assert told(log.messages, "hand") == ["started", "crashed", "failed"]
    assert log.data[2]["reason"] == "crash"
    assert log.data[2]["pid"] == os.getpid()


def test_children_of_nested_supervisors_are_told_with_their_supervisor(grav: Grav) -> None:
    log = listen(grav)
    grav.spawn(crew.TogetherInThreads, name="crew")
    log.wait(4)
    # In no order: each process publishes what happens below it.
    supervisors = {message.data["name"]: message.data["supervisor"] for message in log.messages}
    assert supervisors == {"a": "crew", "b": "crew", "c": "crew", "crew": ""}
    grav.actor("b").tell("end", "crash")
    log.wait_for(lambda messages: told(messages, "c") == ["started", "restarting", "started"])
    assert told(log.messages, "b") == ["started", "crashed", "restarting", "started"]
    assert told(log.messages, "a") == ["started", "restarting", "started"]


def test_giving_up_is_told_as_the_failure_of_who_was_the_last_straw() -> None:
    with Grav(max_restarts=1, backoff=Backoff(first=0)) as grav:
        log = listen(grav)
        grav.spawn(crew.Hand, name="hand", kind="thread")
        for count in (1, 2):
            grav.actor("hand").tell("end", "crash")
            log.wait_for(lambda messages, count=count: told(messages, "hand").count("crashed") >= count)  # type: ignore[misc]
        log.wait_for(lambda messages: told(messages, "hand")[-1] == "failed")
        assert told(log.messages, "hand") == ["started", "crashed", "restarting", "started", "crashed", "failed"]
        assert log.data[-2]["next"] == "that was too often: giving up"


def test_actors_of_a_node_that_stops_are_told_as_stopped_before_its_bus_ends(grav: Grav) -> None:
    log = listen(grav)
    grav.spawn(crew.Hand, name="hand", kind="thread")
    grav.stop()
    assert told(log.messages, "hand") == ["started", "stopped"]
    assert log.data[-1]["reason"] == "shutdown"
    with pytest.raises(ConnectionClosedError):
        grav.publish("x")
