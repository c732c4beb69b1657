"""Hosts: under `up` the thread actors of a supervisor live in one process, which is replaced when one of them hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grav_actors import ActorStartError, Child, Grav
from grav_actors.supervisor import handle
from support import crew
from support.collecting import LIMIT, Collector
from support.nodes import collect, hosting_node, wait_restarts


@pytest.fixture
def grav() -> Iterator[Grav]:
    """A node as of `up`, which gives up at the second failure."""
    with hosting_node(max_restarts=1) as node:
        yield node


@pytest.fixture
def grav_with_lines() -> Iterator[Grav]:
    """The same, with a terminal."""
    with hosting_node(on_line=lambda *line: None) as node:
        yield node


def hands(grav: Grav, names: str = "abc", **options: object) -> Collector:
    """Start thread actors, and return what collects what they tell."""
    log = collect(grav, "crew")
    for name in names:
        grav.spawn(Child(crew.Hand, name=name, kind="thread", **options))  # type: ignore[arg-type]
    log.wait(len(names))
    return log


def pids(grav: Grav, names: Iterable[str] = "abc") -> set[int]:
    """Return the processes that actors are in, each asked for its own."""
    return {grav.ask("pid", to=name, timeout=LIMIT) for name in names}


def restarts(grav: Grav) -> list[int]:
    return [row["restarts"] for row in grav._runner.rows()]


def wait_dead(pid: int) -> None:
    deadline = time.monotonic() + LIMIT
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"{pid} lives"


def told(log: Collector, name: str) -> list[list[Any]]:
    return [item.data[1:] for item in log.messages if item.data[0] == name]


# Where threads live


def test_thread_actors_of_one_supervisor_share_a_process_that_is_not_its_own(grav: Grav) -> None:
    hands(grav)
    (host,) = pids(grav)
    assert host != os.getpid()
    assert {row["pid"] for row in grav._runner.rows()} == {host}
    assert {row["kind"] for row in grav._runner.rows()} == {"thread"}


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_nested_supervisors_have_hosts_of_their_own(grav: Grav, kind: str) -> None:
    grav.spawn(Child(crew.Hand, name="beside", kind="thread"))
    grav.spawn(crew.AloneInThreads, name="top", kind=kind)
    (host,) = pids(grav)
    top, beside = grav.ask("pid", to="top", timeout=LIMIT), grav.ask("pid", to="beside", timeout=LIMIT)
    assert host not in {top, beside, os.getpid()}
    assert (top == beside) == (kind == "thread")


def test_actor_in_a_host_starts_others_on_the_node(grav: Grav) -> None:
    grav.spawn(Child(crew.Recruiter, name="recruiter", kind="thread"))
    assert grav.ask("recruit", "thread", to="recruiter", timeout=LIMIT) == "recruited"
    assert pids(grav, ["recruiter", "recruited"]) == {row["pid"] for row in grav._runner.rows()}


# Starts that fail


def test_constructor_or_hook_that_raises_harms_nobody_else_in_the_host(grav: Grav) -> None:
    hands(grav, "a")
    with pytest.raises(ActorStartError, match="actor 'b' did not start: ValueError: no start") as caught:
        grav.spawn(Child(crew.Hand, name="b", kind="thread", kwargs={"fails": "start"}))
    assert "tell_crew" in caught.value.remote_traceback
    assert pids(grav, "a") == {grav._runner.rows()[0]["pid"]}
    assert restarts(grav) == [0]


def test_arguments_that_cannot_travel_are_refused_with_what_helps(grav: Grav) -> None:
    with pytest.raises(ActorStartError, match="cannot be carried to the process of its thread: .*; pass plain data$"):
        grav.spawn(Child(crew.Hand, name="b", kind="thread", kwargs={"fails": lambda: None}))


def test_arguments_that_are_too_large_are_refused_with_their_size(grav: Grav, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "MAX_ORDER", 2_000)
    hands(grav, "a")
    with pytest.raises(ActorStartError, match="the arguments of actor 'b' take 3,... bytes; at most"):
        grav.spawn(Child(crew.Hand, name="b", kind="thread", kwargs={"fails": "x" * 3_000}))
    assert restarts(grav) == [0]


def test_start_that_takes_too_long_has_the_host_replaced(grav: Grav, caplog: pytest.LogCaptureFixture) -> None:
    hands(grav, "a")
    before = pids(grav, "a")
    with pytest.raises(ActorStartError, match="actor 'b' did not finish on_start within 0.3 s"):
        grav.spawn(Child(crew.NeverStarts, name="b", kind="thread", start_timeout=0.3))
    wait_restarts(grav, grav.actor("a"), 1)
    assert not pids(grav, "a") & before
    assert "actor b did not finish on_start in time; its host" in caplog.text


def test_lines_of_actors_in_a_host_carry_their_names() -> None:
    lines: list[tuple[str, str, str]] = []
    with hosting_node(on_line=lambda *line: lines.append(line)) as grav:
        for actor_class, name in ((crew.Talker, "a"), (crew.AsyncTalker, "b"), (crew.TalkerInPool, "c")):
            grav.spawn(Child(actor_class, name=name, kind="thread"))
        for name in "abc":
            grav.ask("say", "well\ndone", to=name, timeout=LIMIT)
    for name in "abc":
        own = [line for line in lines if line[0] == name]
        assert [line for line in own if line[1] == "stdout"] == [
            (name, "stdout", "started"),
            (name, "stdout", "well"),
            (name, "stdout", "done"),
            (name, "stdout", "no end"),
        ]
        assert (name, "stderr", f"WARNING grav_actors.actor.{name}: careful") in own
    assert {line[0] for line in lines} == {*"abc"}


def test_report_of_a_thread_has_what_it_wrote_last(grav_with_lines: Grav) -> None:
    grav = grav_with_lines
    for name in "ab":
        grav.spawn(Child(crew.Talker, name=name, kind="thread"))
    for name in "ab":
        grav.ask("say", "well", to=name, timeout=LIMIT)
    grav.actor("a").tell("end", "segv")
    for name in "ab":
        wait_restarts(grav, grav.actor(name), 1)
        report = grav._runner.inspect(name)["report"]
        assert f"WARNING grav_actors.actor.{name}: careful" in report
        assert "Fatal Python error: Segmentation fault" in report
        assert f"grav_actors.actor.{'b' if name == 'a' else 'a'}:" not in report


# A host that dies


@pytest.mark.parametrize(
    ("how", "cause"), [("kill", "signal SIGKILL"), ("segv", "signal SIGSEGV"), ("os_exit", "exit code 3")]
)
def test_host_that_dies_is_one_failure_and_each_actor_has_its_report(
    grav: Grav, how: str, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = hands(grav)
    (before,) = pids(grav)
    grav.actor("b").tell("end", how)
    log.wait(3 + 6)
    (after,) = pids(grav)
    assert after != before
    assert [told(log, name)[1][0] for name in "abc"] == ["restart"] * 3
    assert all(text.startswith(cause) for name in "abc" for _, text in told(log, name)[1:2])
    assert restarts(grav) == [1, 1, 1]
    for name in "abc":
        report = grav._runner.inspect(name)["report"]
        assert report.startswith(f"actor {name} crashed: {cause}")
        assert ("it was handling end" in report) == (name == "b"), "only what was in a handler is charged"
    grav._pod.flush(LIMIT, settled=True)
    assert grav.stats()["dead_letters"] == {}


def test_poison_message_of_a_thread_ends_alone_after_its_third_death() -> None:
    with hosting_node(max_restarts=10) as grav:
        log = hands(grav)
        grav.actor("b").tell("poison", "kill")
        grav.actor("a").tell("echo", "safe")
        grav.actor("b").tell("echo", "behind")
        log.wait_for(lambda messages: sum(item.data[1] == "echo" for item in messages) >= 2)
        grav._pod.flush(LIMIT, settled=True)
        (letter,) = grav.dead_letters()
        assert (letter.reason, letter.target, letter.attempts) == ("crashed", "b", 3)
        assert restarts(grav) == [3, 3, 3]


def test_host_that_is_told_to_end_from_outside_drains_and_is_one_failure(grav: Grav) -> None:
    log = hands(grav)
    (before,) = pids(grav)
    os.kill(before, signal.SIGSTOP)
    for number in range(100):
        for name in "abc":
            grav.actor(name).tell("echo", number)
    os.kill(before, signal.SIGTERM)
    os.kill(before, signal.SIGCONT)
    log.wait(3 + 300 + 9)
    assert pids(grav) != {before}
    for name in "abc":
        said = told(log, name)
        assert [text for event, text in said if event == "echo"] == list(range(100))
        assert ["stop", "shutdown"] in said
        assert ["restart", "a signal has told it to end"] in said
    assert restarts(grav) == [1, 1, 1]


def test_actors_of_a_host_end_for_good_when_it_is_interrupted(grav: Grav) -> None:
    log = hands(grav)
    (host,) = pids(grav)
    os.kill(host, signal.SIGINT)
    log.wait(6)
    assert [told(log, name)[-1] for name in "abc"] == [["stop", "stop"]] * 3
    wait_dead(host)
    hands(grav, "d")
    assert pids(grav, "d") != {host}


# A host that is replaced


def test_hung_handler_has_its_host_replaced_and_only_its_actor_is_charged(
    grav: Grav, caplog: pytest.LogCaptureFixture
) -> None:
    log = hands(grav, handler_timeout=0.5)
    (before,) = pids(grav)
    grav.actor("b").tell("end", "hang")
    log.wait(3 + 1 + 2 + 6)
    (after,) = pids(grav)
    assert after != before
    assert "actor b hangs: its handler of end" in caplog.text
    assert f"its host, process {before}, is replaced; a, c restart with it" in caplog.text
    assert told(log, "b")[2][1].startswith("its handler of end")
    for name in "ac":
        said = told(log, name)
        assert said[1] == ["stop", "shutdown"], "the others end in order"
        assert said[2][1].startswith("actor b hangs: its handler of end")
        assert grav._runner.inspect(name)["report"] == ""
    report = grav._runner.inspect("b")["report"]
    assert "it was handling end" in report
    wait_dead(before)


def test_messages_of_the_others_are_redelivered_and_not_charged(grav: Grav) -> None:
    log = hands(grav, "a")
    grav.spawn(Child(crew.Hand, name="b", kind="thread", handler_timeout=0.5))
    for name in "ab":  # both hang, but only b may not
        grav.actor(name).tell("attempt", 60)
    grav.actor("a").tell("echo", "behind")
    log.wait_for(lambda messages: ["a", "echo", "behind"] in [item.data for item in messages])
    log.wait_for(lambda messages: sum(item.data[1] == "attempt" for item in messages) >= 4)
    assert [text for event, text in told(log, "a") if event == "attempt"] == [[1, False], [1, True]]
    assert [text for event, text in told(log, "b") if event == "attempt"] == [[1, False], [2, True]]


@pytest.mark.parametrize("order", ["stop_child", "restart_child"])
def test_thread_that_does_not_stop_in_time_has_its_host_replaced(
    grav: Grav, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = hands(grav, "ac")
    grav.spawn(Child(crew.Hand, name="b", kind="thread", shutdown=0.2))
    (before,) = pids(grav)
    grav.actor("b").tell("end", "hang")
    log.wait_for(lambda messages: ["b", "hang", ""] in [item.data for item in messages])
    if order == "stop_child":
        grav._runner.stop_child("b")
        left = "ac"
    else:
        grav._runner.restart_child("b")
        left = "abc"
    for name in "ac":
        wait_restarts(grav, grav.actor(name), 1)
    (after,) = pids(grav, left)
    assert after != before
    assert "actor b has not stopped in time; its host" in caplog.text
    wait_dead(before)


def test_handler_that_is_left_behind_in_a_pool_has_the_host_replaced(
    grav: Grav, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = hands(grav, "a")
    grav.spawn(Child(crew.SeveralHands, name="b", kind="thread", shutdown=20.0))
    (before,) = pids(grav, "ab")
    grav.actor("b").tell("end", "hang")
    log.wait_for(lambda messages: ["b", "hang", ""] in [item.data for item in messages])
    grav._runner.stop_child("b")
    wait_restarts(grav, grav.actor("a"), 1)
    assert pids(grav, "a") != {before}
    assert "actor b has ended, and a thread of it has not; its host" in caplog.text


def test_node_that_ends_leaves_the_others_their_time_when_one_thread_hangs(caplog: pytest.LogCaptureFixture) -> None:
    with hosting_node() as grav:
        outside = Grav(bus=grav.bus_endpoint)
        log = collect(outside, "crew")
        for name in "abc":
            grav.spawn(Child(crew.Hand, name=name, kind="thread", shutdown=0.2 if name == "c" else 5.0))
        grav.actor("c").tell("end", "hang")
        log.wait(4)
        (host,) = {row["pid"] for row in grav._runner.rows()}
        grav._runner.stop(LIMIT)
        log.wait(6)
        outside.stop()
    assert [item.data for item in log.messages][-2:] == [["b", "stop", "shutdown"], ["a", "stop", "shutdown"]]
    assert "actor c has not stopped in time; it ends with its host" in caplog.text
    wait_dead(host)


# Strategies


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_strategy_takes_the_actors_of_other_processes_with_a_host(strategy: str) -> None:
    with hosting_node(max_restarts=1, strategy=strategy) as grav:
        log = collect(grav, "crew")
        kinds = {"a": "process", "b": "thread", "c": "process", "d": "thread"}
        for name, kind in kinds.items():
            grav.spawn(Child(crew.Hand, name=name, kind=kind))
        log.wait(4)
        before = {name: pids(grav, name) for name in kinds}
        os.kill(before["b"].copy().pop(), signal.SIGKILL)
        spared = {"one_for_one": "ac", "one_for_all": "", "rest_for_one": "a"}[strategy]
        for name in kinds:
            wait_restarts(grav, grav.actor(name), int(name not in spared))
        assert {name for name in kinds if pids(grav, name) == before[name]} == set(spared)
