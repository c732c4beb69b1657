"""A supervisor that hangs or dies holds up nobody, and nothing of what it runs outlives it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from grav_actors import Child, Grav
from support import crew
from support.collecting import LIMIT
from support.nodes import collect, hosting_node, wait_restarts
from support.processes import descendants, wait_dead


@pytest.fixture
def grav() -> Iterator[Grav]:
    with hosting_node(timeout=3.0) as node:
        yield node


def pid_of(grav: Grav, name: str) -> int:
    pid: int = grav.ask("pid", to=name, timeout=LIMIT)
    return pid


def start(grav: Grav, **options: object) -> set[int]:
    """Start the tree, and return all processes of it, fork servers and hosts too, but for the supervisor's own."""
    grav.spawn(Child(crew.Mixed, name="top", **options))  # type: ignore[arg-type]
    below = descendants(pid_of(grav, "top"))
    assert {pid_of(grav, name) for name in ("process", "thread", "a", "b", "c")} <= below
    return below


def hang(grav: Grav) -> None:
    """Have the handler of the supervisor hang."""
    log = collect(grav, "crew")
    grav.actor("top").tell("end", "hang")
    log.wait(1)


def test_supervisor_whose_handler_hangs_still_says_what_it_runs_and_ends_with_its_node(grav: Grav) -> None:
    below = start(grav, shutdown=0.5)
    hang(grav)
    rows = {row["name"]: row for row in grav._overview.look().rows}
    assert {rows[name]["state"] for name in ("process", "thread", "a", "b", "c")} == {"ready"}
    grav.stop(1.0)
    wait_dead(below)


def test_supervisor_that_is_stopped_by_a_signal_holds_up_neither_ps_nor_the_end(grav: Grav) -> None:
    below = start(grav, shutdown=0.5)
    beside = grav.spawn(Child(crew.Hand, name="beside", kind="thread"))
    os.kill(pid_of(grav, "top"), signal.SIGSTOP)
    rows = {row["name"]: row for row in grav._overview.look().rows}
    assert rows["top"]["error"].startswith("what it runs is not known")
    assert rows["beside"]["state"] == "ready"
    assert beside.ask("echo", 1, timeout=LIMIT) == 1
    grav.stop(1.0)
    wait_dead(below)


def test_hung_supervisor_is_killed_with_all_below_it_and_started_again(grav: Grav) -> None:
    below = start(grav, handler_timeout=0.5)
    before = pid_of(grav, "top")
    hang(grav)
    wait_restarts(grav, grav.actor("top"), 1)
    wait_dead({before, *below})
    assert "its handler of end" in grav._runner.inspect("top")["report"]
    after = {pid_of(grav, name) for name in ("top", "process", "thread", "inner", "a", "b", "c")}
    assert not after & {before, *below}


@pytest.mark.parametrize("victim", ["top", "inner"])
def test_all_below_a_killed_supervisor_or_host_is_gone_and_started_again(grav: Grav, victim: str) -> None:
    start(grav)
    killed = pid_of(grav, victim)  # that of `inner` is the host of the thread children
    below = descendants(killed)
    assert {pid_of(grav, name) for name in "abc"} <= below
    log = collect(grav, "crew")
    os.kill(killed, signal.SIGKILL)
    wait_dead({killed, *below})
    log.wait_for(lambda messages: [item.data[:2] for item in messages].count(["c", "start"]) == 1)
    assert not {pid_of(grav, name) for name in ("thread", "inner", "a", "b", "c")} & {killed, *below}


def test_all_processes_of_a_killed_fork_server_are_replaced(grav: Grav) -> None:
    start(grav)
    top = pid_of(grav, "top")
    (server,) = {pid for pid in descendants(os.getpid()) if top in descendants(pid)}
    below = descendants(server)
    os.kill(server, signal.SIGKILL)
    wait_dead({server, *below})
    wait_restarts(grav, grav.actor("top"), 1)
    assert not {pid_of(grav, name) for name in ("top", "process", "thread", "a", "b", "c")} & below
