"""What a supervisor does about each event, on paper. The rules are those of docs/supervision.md."""

import pytest

from grav_actors.options import Backoff, RestartLimits
from grav_actors.supervisor.core import ASKED_RESTART
from grav_actors.supervisor.effects import Answer, Changed, Exit, How, MemberState, Over
from grav_actors.supervisor.lifecycle import LEAST_PATIENCE, TERMINATE_PATIENCE
from grav_actors.supervisor.place import Rules
from support.family import Family, rules

STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


def instances(pool: str, count: int, **options: object) -> list[Rules]:
    return [Rules(f"{pool}-{number}", pool, **options) for number in range(1, count + 1)]  # type: ignore[arg-type]


# Starting


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_children_start_in_order_each_when_the_one_before_is_ready(strategy: str) -> None:
    family = Family(strategy)
    request = family.start(rules("a b c"))
    assert family.take() == ["start a 0"]
    family.ready("a")
    assert family.take() == ["start b 0"]
    family.ready("b")
    assert family.take() == ["start c 0"]
    assert request not in family.answers
    family.ready("c")
    assert family.take() == ["answer"]
    assert family.states() == {"a": "ready", "b": "ready", "c": "ready"}


def test_two_requests_start_side_by_side() -> None:
    family = Family()
    family.start(rules("a b"))
    family.start(rules("c d"))
    assert family.take() == ["start a 0", "start c 0"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_start_that_fails_stops_those_before_it_and_is_answered_when_they_have_ended(strategy: str) -> None:
    family = Family(strategy)
    family.run("old")
    family.start(rules("a b c d"))
    family.ready("a")
    family.ready("b")
    family.take()
    family.crash("c", "no file")
    assert family.take() == ["c: ended", "gone c forgotten", "gone d forgotten", "stop b stop 5"]
    family.end("b")
    assert family.take() == ["b: stopped", "gone b forgotten", "stop a stop 5"]
    family.end("a")
    assert family.take() == ["a: stopped", "gone a forgotten", "answer c: no file"]
    assert family.states() == {"old": "ready"}


def test_names_of_children_and_pools_are_taken_once() -> None:
    family = Family()
    family.run("a")
    family.start(instances("p", 2))
    for taken in ("a", "p", "p-1"):
        with pytest.raises(ValueError, match=f"the name '{taken}' is taken"):
            family.core.start(99, [Rules(taken)], 0.0)
    with pytest.raises(ValueError, match="the name 'b' is taken"):
        family.core.start(99, [Rules("b"), Rules("b")], 0.0)
    assert set(family.core.taken_names()) == {"a", "p", "p-1", "p-2"}


def test_nothing_to_start_is_done_at_once() -> None:
    family = Family()
    assert family.answers[family.start([])] == Answer(1)


def test_dead_sibling_is_restarted_while_others_still_start_for_the_first_time() -> None:
    family = Family()
    request = family.start(rules("a b c"))
    family.ready("a")
    family.take()
    family.crash("a")
    assert family.take() == ["a: restart 1 in 0", "start a 1 (boom)"]
    family.ready("b")
    family.ready("a")
    family.ready("c")
    assert family.answers[request].error == ""


def test_first_start_begins_anew_with_a_group_that_a_dead_sibling_takes_with_it() -> None:
    family = Family("one_for_all")
    request = family.start(rules("a b! c"))
    family.ready("a")
    family.take()
    family.crash("a")
    assert family.take() == ["a: restart 1 in 0", "kill b"]
    family.end("b", How.CRASHED)
    assert family.take() == ["b: restart 0 in 0", "start a 1 (boom)"]
    for name in ("a", "b", "c"):
        family.ready(name)
    assert family.take() == ["start b 1 (actor a failed: boom)", "start c 0", "answer"]
    assert family.answers[request].error == ""


# Which end is followed by a restart


@pytest.mark.parametrize(
    ("name", "how", "said", "state"),
    [
        ("a", How.CRASHED, ["a: restart 1 in 0", "start a 1 (boom)"], "starting"),
        ("a", How.WELL, ["a: restart 1 in 0", "start a 1 (boom)"], "starting"),
        ("a", How.ASKED, ["a: ended", "gone a"], "stopped"),
        ("a?", How.CRASHED, ["a: restart 1 in 0", "start a 1 (boom)"], "starting"),
        ("a?", How.WELL, ["a: ended", "gone a"], "stopped"),
        ("a?", How.ASKED, ["a: ended", "gone a"], "stopped"),
        ("a!", How.CRASHED, ["a: ended", "gone a"], "failed"),
        ("a!", How.WELL, ["a: ended", "gone a"], "stopped"),
        ("a!", How.ASKED, ["a: ended", "gone a"], "stopped"),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_permanent_transient_and_temporary(strategy: str, name: str, how: How, said: list[str], state: str) -> None:
    family = Family(strategy)
    family.run(name)
    family.end("a", how, "boom")
    assert family.take() == said
    assert family.states() == {"a": state}


def test_child_that_is_not_lasting_is_forgotten_and_its_name_is_free() -> None:
    family = Family()
    family.run("a", is_lasting=False)
    family.end("a")
    assert family.take() == ["a: ended", "gone a forgotten"]
    assert family.states() == {}
    family.run("a")


@pytest.mark.parametrize(
    ("strategy", "dies", "stopped"),
    [
        ("one_for_one", "b", ""),
        ("one_for_all", "a", "d c b"),
        ("one_for_all", "b", "d c a"),
        ("one_for_all", "d", "c b a"),
        ("rest_for_one", "a", "d c b"),
        ("rest_for_one", "b", "d c"),
        ("rest_for_one", "d", ""),
    ],
)
def test_strategy_says_who_else_is_stopped_the_last_first(strategy: str, dies: str, stopped: str) -> None:
    family = Family(strategy)
    family.run("a b c d")
    family.crash(dies)
    family.obey()
    assert [text for text in family.take() if text.startswith("stop")] == [
        f"stop {name} restart 5" for name in stopped.split()
    ]


@pytest.mark.parametrize(("strategy", "started"), [("one_for_all", "a b c d"), ("rest_for_one", "b c d")])
def test_group_is_started_again_in_order_when_all_of_it_has_ended(strategy: str, started: str) -> None:
    family = Family(strategy)
    family.run("a b c d")
    family.crash("b")
    assert family.take() == ["b: restart 1 in 0", "stop d restart 5"]
    family.obey()
    family.take()
    for name in started.split():
        assert list(family.alive)[-1] == name
        family.ready(name)
    assert family.states() == {"a": "ready", "b": "ready", "c": "ready", "d": "ready"}


def test_temporary_sibling_is_stopped_and_not_started_again() -> None:
    family = Family("one_for_all")
    family.run("a b! c")
    family.crash("c")
    family.obey()
    assert "stop b shutdown 5" in family.take()
    family.ready("a")
    family.ready("c")
    assert family.states() == {"a": "ready", "b": "stopped", "c": "ready"}


@pytest.mark.parametrize("name", ["b", "b?", "b!"])
def test_child_that_has_ended_for_good_stays_so_when_its_siblings_are_restarted(name: str) -> None:
    family = Family("one_for_all")
    family.run(f"a {name} c")
    family.end("b")
    family.crash("a")
    family.obey()
    family.ready("a")
    family.ready("c")
    assert family.states() == {"a": "ready", "b": "stopped", "c": "ready"}


def test_sibling_that_dies_before_it_is_told_to_stop_is_no_failure_of_its_own() -> None:
    family = Family("one_for_all", RestartLimits(1, 30.0))
    family.run("a b c")
    family.crash("a")
    assert family.take() == ["a: restart 1 in 0", "stop c restart 5"]
    family.crash("b", "too")
    assert family.take() == ["b: restart 1 in 0"]
    family.end("c")
    assert family.take()[-1] == "start a 1 (boom)"
    assert family.over is None


def test_sibling_that_is_ready_only_after_its_group_failed_is_stopped_in_order() -> None:
    family = Family("one_for_all")
    family.run("a b")
    family.start(rules("c d"))
    family.ready("c")
    family.crash("a")
    family.take()
    family.crash("d", "killed")
    family.end("c")
    assert family.take() == ["d: restart 0 in 0", "stop c restart 5", "c: restart 1 in 0", "stop b restart 5"]


def test_death_of_an_earlier_child_widens_what_is_being_restarted() -> None:
    family = Family("rest_for_one")
    family.run("a b c d")
    family.crash("c")
    assert family.take() == ["c: restart 1 in 0", "stop d restart 5"]
    family.crash("a")
    assert family.take() == ["a: restart 1 in 1"]
    family.end("d")
    assert family.take() == ["d: restart 1 in 1", "stop b restart 5"]
    family.obey()
    family.wait(1)
    for name in ("a", "b", "c", "d"):
        assert list(family.alive) == [*"abcd"[: "abcd".index(name)], name]
        family.ready(name)


def test_start_that_fails_in_a_restart_is_a_failure_like_any_other() -> None:
    family = Family("rest_for_one")
    family.run("a b c")
    family.crash("a")
    family.obey()
    family.ready("a")
    family.take()
    family.crash("b", "port in use")
    assert family.take() == ["b: restart 2 in 1"]
    assert family.states() == {"a": "ready", "b": "backoff", "c": "backoff"}
    family.wait(1)
    assert family.take() == ["start b 2 (port in use)"]


# Backoff and giving up


def test_first_restart_is_at_once_and_the_next_ones_wait_ever_longer() -> None:
    family = Family()
    family.run("a b")
    family.crash("a")
    family.ready("a")
    family.crash("b")
    assert family.take() == ["a: restart 1 in 0", "start a 1 (boom)", "b: restart 1 in 1"]
    assert family.states() == {"a": "ready", "b": "backoff"}
    family.wait(0.9)
    assert family.take() == []
    family.wait(0.1)
    assert family.take() == ["start b 1 (boom)"]
    family.crash("b")
    assert family.take() == ["b: restart 2 in 2"]


def test_group_waits_out_the_longest_backoff_of_its_members() -> None:
    family = Family("one_for_all")
    family.run("a b")
    for _ in range(3):  # at once, after 1 s, after 2 s
        family.crash("a")
        family.obey()
        family.wait(2)
        if "b" not in family.alive:
            family.ready("a")
            family.ready("b")
    family.take()
    family.crash("b")
    family.obey()
    assert family.core.deadline() == pytest.approx(family.now + 4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_failure_too_many_stops_all_children_and_fails_the_supervisor(strategy: str) -> None:
    family = Family(strategy, RestartLimits(0, 30.0))
    family.run("a b c")
    family.crash("b", "boom")
    assert family.take() == ["b: give up", "gone b", "stop c shutdown 5"]
    assert family.states() == {"a": "ready", "b": "failed", "c": "draining"}
    assert family.core.is_degraded
    family.end("c")
    assert family.take() == ["c: stopped", "gone c", "stop a shutdown 5"]
    family.end("a")
    text = "actor b failed once more after 0 restarts within 30 s (last: boom)"
    assert family.take() == ["a: stopped", "gone a", f"over failed {text}"]
    assert family.states() == {"a": "stopped", "b": "failed", "c": "stopped"}


def test_all_children_of_a_supervisor_count_together() -> None:
    family = Family("one_for_one", RestartLimits(2, 30.0, Backoff(first=0)))
    family.run("a b c")
    for name in ("a", "b", "c"):
        family.crash(name)
    assert family.core.is_closing


def test_failures_that_lie_far_apart_do_not_add_up() -> None:
    family = Family("one_for_one", RestartLimits(1, 30.0))
    family.run("a")
    for _ in range(5):
        family.crash("a")
        family.ready("a")
        family.wait(30)
    assert family.states() == {"a": "ready"}
    assert family.core.places["a"].restarts == 5


def test_give_up_fails_what_is_being_started_on_request() -> None:
    family = Family("one_for_one", RestartLimits(0, 30.0))
    family.run("a")
    request = family.start(rules("b c"))
    family.crash("a")
    assert family.take()[-1] == "kill b"
    family.end("b", How.CRASHED)
    assert family.answers[request].error.startswith("actor a failed once more")
    assert family.over == Over(family.answers[request].error, True)


def test_child_that_waits_for_its_restart_is_not_started_when_the_supervisor_gives_up() -> None:
    family = Family("one_for_one", RestartLimits(2, 30.0, Backoff(10.0, 10.0, 1.0, 0.0)))
    family.run("a b c")
    family.crash("a")
    family.crash("b")
    family.ready("a")
    family.take()
    family.crash("a")
    family.obey()
    assert family.over is not None
    family.wait(100)
    assert family.states() == {"a": "failed", "b": "stopped", "c": "stopped"}


# Significant children


@pytest.mark.parametrize(
    ("name", "how", "has_failed"),
    [("b?", How.WELL, False), ("b?", How.ASKED, False), ("b!", How.WELL, False), ("b!", How.CRASHED, True)],
)
def test_end_of_a_significant_child_ends_its_supervisor(name: str, how: How, has_failed: bool) -> None:
    family = Family()
    family.run("a")
    family.run(name, significant=True)
    family.run("c")
    family.end("b", how, "done")
    assert family.take()[-1] == "stop c shutdown 5"
    family.obey()
    assert family.over is not None
    assert family.over.has_failed == has_failed
    assert family.over.text.startswith("actor b has ended, which its supervisor depends on")


def test_crash_of_a_significant_child_that_is_restarted_ends_nothing() -> None:
    family = Family()
    family.run("a?", significant=True)
    family.crash("a")
    assert not family.core.is_closing


def test_significant_child_that_is_stopped_by_hand_or_with_its_siblings_ends_nothing() -> None:
    family = Family("one_for_all")
    family.run("a")
    family.run("b!", significant=True)
    family.stop_child("b")
    family.obey()
    assert not family.core.is_closing
    family.start_again("b")
    family.ready("b")
    family.crash("a")
    family.obey()
    assert not family.core.is_closing
    assert family.states()["b"] == "stopped"


# Stopping


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_children_are_stopped_in_reverse_order_each_when_the_one_behind_has_ended(strategy: str) -> None:
    family = Family(strategy)
    family.run("a b c")
    family.stop()
    assert family.take() == ["stop c shutdown 5"]
    family.end("c")
    assert family.take() == ["c: stopped", "gone c", "stop b shutdown 5"]
    family.end("b")
    assert family.take() == ["b: stopped", "gone b", "stop a shutdown 5"]
    family.end("a")
    assert family.take() == ["a: stopped", "gone a", "over well"]
    assert family.core.is_over


def test_life_that_overruns_is_terminated_then_killed() -> None:
    family = Family()
    family.run("a", shutdown=3.0)
    family.stop()
    family.wait(2.9)
    assert family.take() == ["stop a shutdown 3"]
    family.wait(0.1)
    assert family.take() == ["terminate a"]
    family.wait(TERMINATE_PATIENCE)
    assert family.take() == ["kill a"]
    assert family.core.deadline() is None


def test_shutdown_of_0_kills_at_once() -> None:
    family = Family()
    family.run("a", shutdown=0.0)
    family.stop()
    assert family.take() == ["kill a"]


def test_what_has_not_started_is_killed() -> None:
    family = Family()
    request = family.start(rules("a b"))
    family.take()
    family.stop()
    assert family.take() == ["gone b", "kill a"]
    family.end("a", How.CRASHED)
    assert family.answers[request].error == "its supervisor is stopping"
    assert family.states() == {"a": "stopped", "b": "stopped"}


def test_limit_of_the_supervisor_cuts_the_time_of_each_child_but_leaves_a_little() -> None:
    family = Family()
    family.run("a b c")
    family.stop(limit=6.0)
    assert family.take() == ["stop c shutdown 5"]
    family.wait(4.5)
    family.end("c")
    assert family.take()[-1] == "stop b shutdown 1.5"
    family.wait(2)
    family.end("b")
    assert family.take()[-1] == f"stop a shutdown {LEAST_PATIENCE:g}"


def test_second_stop_shortens_the_first() -> None:
    family = Family()
    family.run("a", shutdown=60.0)
    family.stop(100.0)
    family.stop(2.0)
    family.wait(2.0)
    assert family.take()[-1] == "terminate a"


def test_limit_of_the_supervisor_also_cuts_the_time_of_a_child_that_was_told_to_end_before() -> None:
    family = Family()
    family.run("a", shutdown=60.0)
    family.stop_child("a")
    family.stop(2.0)
    family.wait(2.0)
    assert family.take()[-1] == "terminate a"


def test_abort_kills_all_at_once_the_last_first() -> None:
    family = Family()
    family.run("a b c")
    family.stop()
    family.take()
    family.abort()
    assert family.take() == ["kill c", "kill b", "kill a"]
    family.obey()
    assert family.over == Over("", False)


def test_abort_needs_no_stop_before() -> None:
    family = Family()
    family.run("a b")
    family.abort()
    family.obey()
    assert family.core.is_over


def test_supervisor_without_children_ends_at_once() -> None:
    family = Family()
    family.stop()
    assert family.take() == ["over well"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stop_while_children_wait_for_their_restart_or_are_being_stopped_for_it(strategy: str) -> None:
    family = Family(strategy)
    family.run("a b c")
    family.crash("b")
    family.stop()
    family.obey()
    assert family.over == Over("", False)
    assert set(family.states().values()) == {"stopped"}


def test_crash_of_a_child_that_was_told_to_stop_is_told_and_no_failure() -> None:
    family = Family("one_for_one", RestartLimits(0, 30.0))
    family.run("a")
    family.stop_child("a")
    family.crash("a", "in on_stop")
    assert not family.core.is_closing
    assert family.ends[-1].exit.cause == "in on_stop"
    assert family.states() == {"a": "stopped"}


def test_requests_to_a_supervisor_that_ends_are_refused() -> None:
    family = Family()
    family.run("a b")
    family.start(instances("p", 1))
    family.stop()
    refused = [family.start(rules("x")), family.start_again("a"), family.restart("a"), family.scale("p", 3)]
    assert {family.answers[number].error for number in refused} == {"its supervisor is stopping"}


# By hand


def test_child_that_was_stopped_by_hand_is_not_restarted_until_it_is_started_by_hand() -> None:
    family = Family("one_for_all")
    family.run("a b c")
    stop = family.stop_child("b")
    assert family.take() == ["stop b stop 5"]
    assert stop not in family.answers
    family.end("b")
    assert family.take() == ["b: stopped", "gone b", "answer"]
    start = family.start_again("b")
    assert family.take() == ["start b 1"]
    family.ready("b")
    assert family.answers[start].error == ""
    assert family.states() == {"a": "ready", "b": "ready", "c": "ready"}


def test_start_by_hand_that_fails_is_told_and_not_tried_again() -> None:
    family = Family()
    family.run("a")
    family.stop_child("a")
    family.obey()
    family.take()
    family.start_again("a")
    family.crash("a", "no file")
    assert family.take() == ["start a 1", "a: ended", "gone a", "answer a: no file"]
    assert family.states() == {"a": "failed"}
    assert family.core.is_degraded


def test_start_by_hand_ends_the_wait_for_a_restart() -> None:
    family = Family()
    family.run("a b")
    family.crash("a")
    family.ready("a")
    family.crash("b")
    family.take()
    assert family.answers[family.start_again("b")].error == ""
    assert family.take() == ["answer", "start b 1 (boom)"]


def test_start_by_hand_of_one_that_runs_does_nothing() -> None:
    family = Family()
    family.run("a")
    family.start_again("a")
    assert family.take() == ["answer"]


def test_start_by_hand_of_one_that_is_still_ending() -> None:
    family = Family()
    family.run("a")
    stop = family.stop_child("a")
    start = family.start_again("a")
    family.take()
    family.end("a")
    assert family.answers[stop].error == ""
    assert "start a 1" in family.take()
    family.ready("a")
    assert family.answers[start].error == ""


def test_restart_by_hand_counts_as_no_failure_and_concerns_no_sibling() -> None:
    family = Family("one_for_all", RestartLimits(0, 30.0))
    family.run("a b c")
    request = family.restart("b")
    assert family.take() == ["stop b restart 5"]
    family.end("b")
    assert family.take() == ["b: restart 0 in 0", f"start b 1 ({ASKED_RESTART})"]
    family.ready("b")
    assert family.answers[request].error == ""
    assert family.core.places["b"].restarts == 0


def test_stop_by_hand_of_one_that_waits_for_its_restart() -> None:
    family = Family()
    family.run("a b")
    family.crash("a")
    family.ready("a")
    family.crash("b")
    family.take()
    family.stop_child("b")
    assert family.take() == ["gone b", "answer"]
    family.wait(100)
    assert family.states() == {"a": "ready", "b": "stopped"}


def test_stop_by_hand_of_one_that_is_starting_fails_whoever_waits_for_it() -> None:
    family = Family()
    start = family.start(rules("a b"))
    family.ready("a")
    stop = family.stop_child("b")
    family.obey()
    assert family.answers[start].error == "actor b was stopped"
    assert family.answers[stop].error == ""
    assert family.states() == {}


def test_stop_by_hand_of_one_that_is_down_is_done_at_once() -> None:
    family = Family()
    family.run("a")
    family.end("a")
    family.take()
    family.stop_child("a")
    assert family.take() == ["answer"]


@pytest.mark.parametrize("event", ["start_again", "restart", "stop_child", "remove", "scale"])
def test_unknown_name(event: str) -> None:
    core = Family().core
    with pytest.raises(KeyError):
        core.scale(1, "nobody", 1, 0.0) if event == "scale" else getattr(core, event)(1, "nobody", 0.0)


# Removing


def test_removed_child_is_stopped_and_forgotten_though_it_is_lasting() -> None:
    family = Family("one_for_all")
    family.run("a")
    family.run("b")
    request = family.remove("a")
    assert request not in family.answers
    family.obey()
    assert family.answers[request].error == ""
    assert family.states() == {"b": "ready"}
    family.run("a")


def test_removed_child_that_is_down_is_forgotten_at_once() -> None:
    family = Family()
    family.run("a")
    family.end("a")
    assert family.states() == {"a": "stopped"}
    request = family.remove("a")
    assert family.answers[request].error == ""
    assert family.states() == {}


def test_removed_pool_goes_with_all_its_instances_and_its_name() -> None:
    family = Family()
    family.start(instances("p", 3))
    for number in (1, 2, 3):
        family.ready(f"p-{number}")
    family.end("p-2")
    request = family.remove("p")
    family.obey()
    assert family.answers[request].error == ""
    assert set(family.core.taken_names()) == set()


def test_removed_pool_of_none_frees_its_name() -> None:
    family = Family()
    family.start(instances("p", 1))
    family.ready("p-1")
    family.scale("p", 0)
    family.obey()
    assert family.answers[family.remove("p")].error == ""
    assert set(family.core.taken_names()) == set()


# Pools


def test_scale_up_starts_the_lowest_free_numbers_behind_the_others_of_the_pool() -> None:
    family = Family()
    family.start(instances("p", 2))
    family.ready("p-1")
    family.ready("p-2")
    family.run("z")
    family.take()
    request = family.scale("p", 4)
    family.ready("p-3")
    family.ready("p-4")
    assert family.take() == ["start p-3 0", "start p-4 0", "answer"]
    assert family.answers[request].error == ""
    assert list(family.states()) == ["p-1", "p-2", "p-3", "p-4", "z"]


def test_scale_down_stops_the_highest_numbers_first_and_forgets_them() -> None:
    family = Family()
    family.start(instances("p", 10))
    for number in range(1, 11):
        family.ready(f"p-{number}")
    family.take()
    family.scale("p", 8)
    family.obey()
    assert [text for text in family.take() if text.startswith("stop")] == ["stop p-10 stop 5", "stop p-9 stop 5"]
    assert list(family.states()) == [f"p-{number}" for number in range(1, 9)]


def test_pool_of_none_can_be_scaled_up_again() -> None:
    family = Family()
    family.start(instances("p", 1))
    family.ready("p-1")
    family.scale("p", 0)
    family.obey()
    assert family.states() == {}
    family.scale("p", 1)
    family.ready("p-1")
    assert family.states() == {"p-1": "ready"}


def test_scale_up_starts_first_what_is_down() -> None:
    family = Family()
    family.start(instances("p", 2))
    family.ready("p-1")
    family.ready("p-2")
    family.end("p-1")
    family.take()
    family.scale("p", 3)
    family.ready("p-1")
    family.ready("p-3")
    assert family.take() == ["start p-1 1", "start p-3 0", "answer"]


def test_scale_up_that_fails_leaves_what_was_there() -> None:
    family = Family()
    family.start(instances("p", 1))
    family.ready("p-1")
    family.take()
    family.scale("p", 3)
    family.ready("p-2")
    family.crash("p-3", "no room")
    family.obey()
    assert family.take()[-1] == "answer p-3: no room"
    assert family.states() == {"p-1": "ready"}


def test_scale_to_what_there_is_does_nothing() -> None:
    family = Family()
    family.start(instances("p", 1))
    family.ready("p-1")
    family.take()
    family.scale("p", 1)
    assert family.take() == ["answer"]


def test_scale_below_nothing() -> None:
    family = Family()
    family.start(instances("p", 1))
    with pytest.raises(ValueError, match="cannot have -1 instances"):
        family.core.scale(9, "p", -1, 0.0)


def test_pool_that_did_not_start_or_has_ended_leaves_its_name() -> None:
    family = Family()
    family.start(instances("p", 2))
    family.crash("p-1")
    assert not family.core.taken_names()
    family.start(instances("p", 1, is_lasting=False))
    family.ready("p-1")
    family.end("p-1")
    assert not family.core.taken_names()


# What is told


def test_changes_of_state_are_told_once_each() -> None:
    family = Family()
    core = family.core
    effects = core.start(1, [Rules("a")], 0.0)
    effects += core.ready(1, 0.0)
    effects += core.ended(1, Exit(How.CRASHED, "boom"), 0.0)
    effects += core.ready(2, 0.0)
    effects += core.stop(0.0, 10.0)
    changes = [(effect.state, effect.incarnation, effect.cause) for effect in effects if isinstance(effect, Changed)]
    assert changes == [
        (MemberState.READY, 0, ""),
        (MemberState.STARTING, 0, "boom"),
        (MemberState.READY, 1, "boom"),
        (MemberState.DRAINING, 1, "boom"),
    ]


def test_news_of_a_life_that_is_long_over_is_ignored() -> None:
    family = Family()
    family.run("a")
    life = family.alive["a"]
    family.crash("a")
    assert family.core.ended(life, family.ends[-1].exit, 0.0) == []
    assert family.core.ready(life, 0.0) == []
    assert family.core.ready(family.alive["a"] + 1, 0.0) == []


# Lives that share a process


def test_lives_that_end_together_have_one_wait_and_each_its_restart() -> None:
    family = Family()
    family.run("a b c")
    family.crash("a")
    family.ready("a")
    family.take()
    family.end_together("a b c", cause="SIGKILL")
    assert family.take() == ["a: restart 2 in 1", "b: restart 1 in 1", "c: restart 1 in 1"]
    family.wait(1)
    assert family.take() == ["start a 2 (SIGKILL)", "start b 1 (SIGKILL)", "start c 1 (SIGKILL)"]


def test_lives_that_end_together_once_too_often_are_one_last_straw() -> None:
    family = Family(limits=RestartLimits(0, 30.0))
    family.run("a b")
    family.end_together("a b")
    assert family.take() == [
        "a: give up",
        "gone a",
        "b: stopped",
        "gone b",
        "over failed actor a failed once more after 0 restarts within 30 s (last: boom)",
    ]


def test_first_of_those_that_end_together_decides_who_is_behind_it() -> None:
    family = Family("rest_for_one")
    family.run("a b c d")
    family.end_together("d b")
    assert family.take() == ["b: restart 1 in 0", "d: restart 1 in 0", "stop c restart 5"]
    family.end("c")
    assert family.take() == ["c: restart 1 in 0", "start b 1 (boom)"]


def test_displaced_life_is_followed_by_another_at_once_whatever_the_strategy() -> None:
    for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
        family = Family(strategy, RestartLimits(0, 30.0))
        family.run("a b")
        family.end_together("", displaced="a")
        assert family.take() == ["a: restart 1 in 0", "start a 1 (replaced)"]


def test_displaced_lives_wait_with_the_one_to_blame_when_the_strategy_takes_them() -> None:
    family = Family("one_for_all")
    family.run("a b c")
    family.crash("c")
    family.end("b")
    family.end("a")
    for name in "abc":
        family.ready(name)
    family.take()
    family.end_together("b", displaced="c")
    assert family.take() == ["b: restart 2 in 1", "c: restart 2 in 1", "stop a restart 5"]


def test_displaced_temporary_child_is_stopped_and_ends_no_supervisor() -> None:
    family = Family()
    family.run("a! b", significant=False)
    family.end_together("", displaced="a")
    assert family.take() == ["a: stopped", "gone a"]
    assert family.states() == {"a": "stopped", "b": "ready"}


def test_displaced_first_start_is_made_again_and_its_request_goes_on_waiting() -> None:
    family = Family()
    number = family.start(rules("a"))
    family.end_together("", displaced="a")
    assert number not in family.answers
    family.ready("a")
    assert family.answers[number] == Answer(number)
    assert family.core.places["a"].restarts == 0


def test_life_that_was_told_to_end_and_is_displaced_meanwhile_ends_as_it_was_told() -> None:
    family = Family()
    family.run("a b")
    number = family.stop_child("a")
    family.end_together("", displaced="a b")
    assert family.answers[number] == Answer(number)
    assert family.states() == {"a": "stopped", "b": "starting"}
