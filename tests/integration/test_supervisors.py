"""Supervisors over processes and threads: strategies, escalation, nesting, and what is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grav_actors import (
    ActorStartError,
    Backoff,
    Child,
    ConfigError,
    ConnectionClosedError,
    Grav,
    NoRespondersError,
    Supervisor,
)
from support import crew
from support.collecting import LIMIT, Collector
from support.nodes import collect, hosting_node, wait_restarts

SUPERVISORS = {
    ("one_for_one", "process"): crew.Alone,
    ("one_for_all", "process"): crew.Together,
    ("rest_for_one", "process"): crew.Rest,
    ("one_for_one", "thread"): crew.AloneInThreads,
    ("one_for_all", "thread"): crew.TogetherInThreads,
    ("rest_for_one", "thread"): crew.RestInThreads,
}
STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]
UP = [["a", "start", ""], ["b", "start", ""], ["c", "start", ""]]


@pytest.fixture
def grav() -> Iterator[Grav]:
    with Grav() as node:
        yield node


def pid_of(grav: Grav, name: str) -> int:
    pid: int = grav.ask("pid", to=name, timeout=LIMIT)
    return pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_dead(*pids: int) -> None:
    deadline = time.monotonic() + LIMIT
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"of {pids} some live"


def told(log: Collector, count: int) -> list[list[str]]:
    """Return what the crew has told, without what stands in brackets behind a cause."""
    return [
        [name, event, str(text).partition(" (")[0]] for name, event, text in (item.data for item in log.wait(count))
    ]


# Strategies


def expected(strategy: str, cause: str, stop: list[list[str]]) -> list[list[str]]:
    """Return what the crew tells when b has ended by a cause; `stop` is what b itself still says."""
    by_b = f"actor b failed: {cause}"
    b = [["b", "restart", cause], ["b", "start", ""]]
    c = [["c", "restart", by_b], ["c", "start", ""]]
    if strategy == "one_for_one":
        return [*stop, *b]
    if strategy == "rest_for_one":
        return [*stop, ["c", "stop", "shutdown"], *b, *c]
    a = [["a", "restart", by_b], ["a", "start", ""]]
    return [*stop, ["c", "stop", "shutdown"], ["a", "stop", "shutdown"], *a, *b, *c]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("how", "cause", "reason"),
    [
        ("kill", "signal SIGKILL", ""),
        ("segv", "signal SIGSEGV", ""),
        ("term", "a signal has told it to end", "shutdown"),
        ("os_exit", "exit code 3", ""),
        ("exit", "Crash: SystemExit: 3", "crash"),
        ("crash", "Crash: told to", "crash"),
    ],
)
def test_strategy_with_processes(grav: Grav, strategy: str, how: str, cause: str, reason: str) -> None:
    log = collect(grav, "crew")
    grav.spawn(SUPERVISORS[strategy, "process"], name="top")
    log.wait(4)  # what c has said in its start may still be on its way when spawn is back
    grav.actor("b").tell("end", how)
    news = expected(strategy, cause, [["b", "stop", reason]] if reason else [])
    assert told(log, 4 + len(news))[4:] == news
    for name in "abc":
        assert grav.ask("echo", 1, to=name, timeout=LIMIT) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("top", ["process", "thread"])
def test_strategy_with_threads(grav: Grav, strategy: str, top: str) -> None:
    log = collect(grav, "crew")
    grav.spawn(SUPERVISORS[strategy, "thread"], name="top", kind=top)
    assert (pid_of(grav, "b") == os.getpid()) == (top == "thread")
    grav.actor("b").tell("end", "crash")
    news = expected(strategy, "Crash: told to", [["b", "stop", "crash"]])
    assert told(log, 4 + len(news))[4:] == news
    assert pid_of(grav, "b") == pid_of(grav, "top")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("hook", ["constructor", "on_start", "on_restart", "on_stop", "crash_on"])
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_strategy_when_a_hook_raises(strategy: str, hook: str, kind: str, tmp_path: Path) -> None:
    with hosting_node(strategy=strategy) as grav:
        grav.spawn(Child(crew.Hand, name="a", kind="thread"))
        lives = str(tmp_path / "lives")
        grav.spawn(Child(crew.Faulty, name="b", kind=kind, args=(hook, lives)))
        grav.spawn(Child(crew.Hand, name="c", kind=kind))
        if hook == "crash_on":
            grav.actor("b").tell("refuse")
        else:
            grav.actor("b").tell("end", "crash")
        fails_again = hook in ("constructor", "on_start", "on_restart")
        failures = 2 if fails_again else 1
        expected = {
            "one_for_one": {"a": 0, "b": failures, "c": 0},
            "rest_for_one": {"a": 0, "b": failures, "c": 1},
            "one_for_all": {"a": failures, "b": failures, "c": 1},
        }[strategy]
        for name, count in expected.items():
            wait_restarts(grav, grav.actor(name), count)
        assert {row["name"]: row["restarts"] for row in grav._runner.rows()} == expected
        for name in "abc":
            assert grav.ask("echo", 1, to=name, timeout=LIMIT) == 1
        report = grav._runner.inspect("b")["report"]
        cause = {"crash_on": "Refused: told to", "on_stop": "Crash: told to"}.get(hook, f"ValueError: no {hook}")
        assert cause in report.splitlines()[0]
        assert Path(lives).read_text(encoding="utf-8").count("life") == failures + 1


# Starting and stopping


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_children_start_after_their_supervisor_and_stop_before_it_in_reverse(kind: str, grav: Grav) -> None:
    log = collect(grav, "crew")
    with Grav(bus=grav.bus_endpoint) as other:
        other.spawn(crew.TogetherInThreads, name="top", kind=kind)
    assert told(log, 8) == [
        ["top", "start", ""],
        *UP,
        *([name, "stop", "shutdown"] for name in "cba"),
        ["top", "stop", "shutdown"],
    ]


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_child_that_does_not_start_ends_the_start_of_its_supervisor(grav: Grav, kind: str) -> None:
    log = collect(grav, "crew")
    with pytest.raises(ActorStartError, match="'top' did not start.*'b' did not start: ValueError: no start"):
        grav.spawn(crew.Unlucky, name="top", kind=kind)
    assert told(log, 4) == [["top", "start", ""], *UP[:2], ["a", "stop", "shutdown"]]
    assert grav._runner.rows() == []
    with pytest.raises(NoRespondersError):
        grav.ask("echo", to="a", timeout=LIMIT)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_supervisor_that_is_stopped_takes_its_children_with_it(grav: Grav, kind: str) -> None:
    log = collect(grav, "crew")
    top = grav.spawn(crew.Together, name="top", kind=kind)
    pids = [pid_of(grav, name) for name in "abc"]
    top.stop()
    assert told(log, 8)[4:] == [*([name, "stop", "shutdown"] for name in "cba"), ["top", "stop", "stop"]]
    wait_dead(*pids)


def test_children_die_with_a_killed_supervisor_and_are_started_again_with_it(grav: Grav) -> None:
    log = collect(grav, "crew")
    grav.spawn(crew.Together, name="top")
    before = [pid_of(grav, name) for name in "abc"]
    os.kill(pid_of(grav, "top"), signal.SIGKILL)
    assert told(log, 9)[4:] == [["top", "restart", "signal SIGKILL"], ["top", "start", ""], *UP]
    wait_dead(*before)
    assert not {pid_of(grav, name) for name in "abc"} & set(before)


def test_mailbox_of_a_child_outlives_its_supervisor(grav: Grav) -> None:
    log = collect(grav, "crew")
    grav.spawn(crew.Together, name="top")
    told(log, 4)
    os.kill(pid_of(grav, "b"), signal.SIGSTOP)
    for number in range(20):
        grav.actor("b").tell("echo", str(number))
    grav._pod.flush(LIMIT)
    os.kill(pid_of(grav, "top"), signal.SIGKILL)
    echoes = [text for _, event, text in told(log, 9 + 20) if event == "echo"]
    assert echoes == [str(number) for number in range(20)]
    assert grav.stats()["dead_letters"] == {}


def test_what_waits_for_an_actor_survives_sigterm(grav: Grav) -> None:
    log = collect(grav, "crew")
    grav.spawn(crew.Hand, name="b")
    told(log, 1)
    pid = pid_of(grav, "b")
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGTERM)
    for number in range(20_000):  # more than its prefetch
        grav.actor("b").tell("echo", str(number))
    os.kill(pid, signal.SIGCONT)
    echoes = [text for _, event, text in told(log, 1 + 20_000 + 3) if event == "echo"]
    assert echoes == [str(number) for number in range(20_000)]
    assert grav.stats()["dead_letters"] == {}


# Escalation


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_supervisor_that_gives_up_is_restarted_by_the_one_above(grav: Grav, kind: str) -> None:
    log = collect(grav, "crew")
    grav.spawn(crew.Strict, name="strict", kind=kind)
    told(log, 3)
    for count in (1, 2):
        grav.actor("a").tell("end", "crash")
        if count == 1:
            told(log, 6)
    cause = "Crash: actor a failed once more after 1 restart within 30 s"
    assert told(log, 13)[6:] == [
        ["a", "stop", "crash"],
        ["b", "stop", "shutdown"],
        ["strict", "stop", "crash"],
        ["strict", "restart", cause],
        ["strict", "start", ""],
        *UP[:2],
    ]


def test_storm_of_restarts_reaches_the_root_and_ends_the_node(caplog: pytest.LogCaptureFixture) -> None:
    with Grav(max_restarts=1, backoff=Backoff(first=0)) as grav:
        log = collect(grav, "crew")
        grav.spawn(crew.Deep, name="deep")
        starts = 0
        control = grav._control
        assert control is not None
        while not control.wait(0):
            now = [item for item in log.messages if item.data[:2] == ["a", "start"]]
            if len(now) > starts:
                starts = len(now)
                try:
                    grav.actor("a").tell("end", "crash")
                except ConnectionClosedError:
                    break
        assert control.wait(LIMIT)
    assert starts == 8  # 2 lives at each of 3 levels
    assert "the node ends: actor deep failed once more after 1 restart within 30 s" in caplog.text


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_significant_child_ends_its_supervisor_in_order(grav: Grav, kind: str) -> None:
    log = collect(grav, "crew")
    grav.spawn(crew.Job, name="job", kind=kind)
    told(log, 3)
    grav.actor("work").tell("end", "stop")
    assert told(log, 6)[3:] == [["work", "stop", "stop"], ["a", "stop", "shutdown"], ["job", "stop", "stop"]]


# Mistakes


class Looped(Supervisor):
    pass


def test_supervisor_below_itself_starts_nothing(grav: Grav, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Looped, "children", [Child(Looped, name="again", kind="thread")])
    with pytest.raises(ConfigError, match="a supervisor cannot supervise itself: Looped > Looped"):
        grav.spawn(Looped, kind="thread")
    assert grav._runner.rows() == []


def test_name_below_a_supervisor_is_taken(grav: Grav) -> None:
    grav.spawn(crew.TogetherInThreads, name="top", kind="thread")
    for name in ("a", "top"):
        with pytest.raises(ActorStartError, match=f"an actor named '{name}' runs on this node already"):
            grav.spawn(crew.Hand, name=name, kind="thread")


# By hand


def test_stop_start_and_restart_by_hand(grav: Grav) -> None:
    log = collect(grav, "crew")
    runner = grav._runner
    runner.spawn(Child(crew.Hand, name="a"), is_lasting=True)
    runner.stop_child("a")
    assert [row["state"] for row in runner.rows()] == ["stopped"]
    with pytest.raises(NoRespondersError):
        grav.ask("echo", 1, to="a", timeout=LIMIT)
    runner.start_child("a")
    runner.restart_child("a")
    assert grav.ask("echo", 1, to="a", timeout=LIMIT) == 1
    assert [row["restarts"] for row in runner.rows()] == [0]
    assert told(log, 6)[:6] == [
        ["a", "start", ""], ["a", "stop", "stop"], ["a", "start", ""],
        ["a", "stop", "shutdown"], ["a", "restart", "a restart was asked for"], ["a", "start", ""],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_scale(grav: Grav, kind: str) -> None:
    runner = grav._runner
    pool = grav.spawn(Child(crew.Hand, name="p", kind=kind, instances=2))
    runner.scale("p", 4)
    assert [row["name"] for row in runner.rows()] == ["p-1", "p-2", "p-3", "p-4"]
    assert {pool.ask("echo", 1, timeout=LIMIT) for _ in range(8)} == {1}
    runner.scale("p", 1)
    assert [row["name"] for row in runner.rows()] == ["p-1"]
    with pytest.raises(NoRespondersError):
        grav.ask("echo", 1, to="p-2", timeout=LIMIT)
    assert pool.ask("echo", 1, timeout=LIMIT) == 1
