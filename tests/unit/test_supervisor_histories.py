"""Random histories of a supervisor: `Family` holds every step against what must hold always."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grav_actors.options import Backoff, RestartLimits
from grav_actors.supervisor.effects import How, MemberState
from grav_actors.supervisor.place import Rules
from support.family import Family

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
HOWS = st.sampled_from(How)
OPTIONS = st.fixed_dictionaries({
    "restart": st.sampled_from(("permanent", "transient", "temporary")),
    "significant": st.sampled_from((False, False, False, False, True)),
    "shutdown": st.sampled_from((0.0, 1.0, 5.0)),
    "is_lasting": st.booleans(),
})  # fmt: skip


class Histories(RuleBasedStateMachine):
    """Children start, die and are stopped in any order; requests come at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.next_name = 0
        self.requests = 0

    @initialize(
        strategy=st.sampled_from(STRATEGIES),
        max_restarts=st.integers(0, 6),
        first=st.sampled_from((0.0, 1.0, 5.0)),
    )
    def make(self, strategy: str, max_restarts: int, first: float) -> None:
        self.family = Family(strategy, RestartLimits(max_restarts, 30.0, Backoff(first, 30.0, 2.0, 0.0)))

    # Requests

    @rule(count=st.integers(1, 4), options=OPTIONS)
    def start(self, count: int, options: dict[str, Any]) -> None:
        self.next_name += 1
        self.requests += 1
        self.family.start([Rules(f"c{self.next_name}.{number}", **options) for number in range(count)])

    @rule(count=st.integers(1, 3), options=OPTIONS)
    def start_pool(self, count: int, options: dict[str, Any]) -> None:
        self.next_name += 1
        self.requests += 1
        pool = f"p{self.next_name}"
        self.family.start([Rules(f"{pool}-{number}", pool, **options) for number in range(1, count + 1)])

    @precondition(lambda self: self.family.core.places)
    @rule(data=st.data(), event=st.sampled_from(("start_again", "restart", "stop_child", "remove")))
    def by_hand(self, data: st.DataObject, event: str) -> None:
        self.requests += 1
        getattr(self.family, event)(data.draw(st.sampled_from(list(self.family.core.places))))

    @precondition(lambda self: self.family.core.pool_names())
    @rule(data=st.data(), count=st.integers(0, 4))
    def scale(self, data: st.DataObject, count: int) -> None:
        self.requests += 1
        self.family.scale(data.draw(st.sampled_from(self.family.core.pool_names())), count)

    # What happens to lives

    def starting(self) -> list[str]:
        return [name for name in self.family.alive if name not in self.family.ready_ones | self.family.told.keys()]

    @precondition(lambda self: self.starting())
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        self.family.ready(data.draw(st.sampled_from(self.starting())))

    @precondition(lambda self: self.starting())
    @rule()
    def all_ready(self) -> None:
        while names := self.starting():
            self.family.ready(names[0])

    @precondition(lambda self: self.family.alive)
    @rule(data=st.data(), how=HOWS)
    def end(self, data: st.DataObject, how: How) -> None:
        self.family.end(data.draw(st.sampled_from(list(self.family.alive))), how, "boom")

    @precondition(lambda self: self.family.alive)
    @rule(data=st.data(), how=HOWS)
    def end_together(self, data: st.DataObject, how: How) -> None:
        alive = st.sets(st.sampled_from(list(self.family.alive)), min_size=1)
        names = data.draw(alive)
        displaced = data.draw(alive) - names
        self.family.end_together(" ".join(sorted(names)), how, "boom", " ".join(sorted(displaced)))

    @precondition(lambda self: self.family.told)
    @rule()
    def obey(self) -> None:
        self.family.obey()

    @rule(seconds=st.sampled_from((0.1, 1.0, 5.0, 40.0)))
    def wait(self, seconds: float) -> None:
        self.family.wait(seconds)

    # The end

    @precondition(lambda self: self.next_name > 3)
    @rule(limit=st.sampled_from((0.0, 3.0, 100.0)))
    def stop(self, limit: float) -> None:
        self.family.stop(limit)

    @precondition(lambda self: self.next_name > 3)
    @rule()
    def abort(self) -> None:
        self.family.abort()

    @invariant()
    def what_is_told_in_vain_is_killed_in_the_end(self) -> None:
        if hasattr(self, "family") and self.family.told:
            waits = self.family.core.deadline() is not None
            assert waits or "kill" in self.family.told.values()

    def teardown(self) -> None:
        if not hasattr(self, "family"):
            return
        family = self.family
        settle(family)
        assert len(family.answers) == self.requests, "every request is answered"
        states = {place.state for place in family.core.places.values()}
        assert states <= {MemberState.READY, MemberState.FAILED, MemberState.STOPPED}
        family.stop()
        family.obey()
        assert family.over is not None
        assert {place.state for place in family.core.places.values()} <= {MemberState.FAILED, MemberState.STOPPED}
        assert family.core.deadline() is None


def settle(family: Family) -> None:
    """Have all go well until nothing is to be done any more."""
    for _ in range(1000):
        starting = [name for name in family.alive if name not in family.ready_ones | family.told.keys()]
        if family.told:
            family.end(next(iter(family.told)))
        elif starting:
            family.ready(starting[0])
        elif (due := family.core.deadline()) is not None:
            family.wait(due - family.now)
        else:
            return
    raise AssertionError("there is no end to it")


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


LIMITS = st.builds(RestartLimits, max_restarts=st.integers(0, 5), within=st.just(30.0))


@given(st.sampled_from(STRATEGIES), LIMITS, st.lists(st.tuples(st.integers(0, 4), st.floats(0, 20)), max_size=20))
def test_permanent_children_run_unless_their_supervisor_gave_up(
    strategy: str, limits: RestartLimits, crashes: list[tuple[int, float]]
) -> None:
    family = Family(strategy, limits)
    family.run("a b c d e")
    for number, pause in crashes:
        name = "abcde"[number]
        if name in family.alive and not family.told:
            family.crash(name)
        settle(family)
        family.wait(pause)
    if family.over is None:
        assert family.states() == dict.fromkeys("abcde", "ready")
    else:
        assert family.over.has_failed
        assert list(family.states().values()).count("failed") == 1


@given(st.sampled_from(STRATEGIES), LIMITS, st.lists(st.sets(st.sampled_from("abcde"), min_size=1), max_size=8))
def test_lives_that_end_together_are_one_failure_however_many(
    strategy: str, limits: RestartLimits, deaths: list[set[str]]
) -> None:
    family = Family(strategy, limits)
    family.run("a b c d e")
    for names in deaths[: limits.max_restarts]:
        family.end_together(" ".join(sorted(names)))
        settle(family)
    assert family.states() == dict.fromkeys("abcde", "ready")
    assert len(family.failures) == min(len(deaths), limits.max_restarts)


@given(st.sampled_from(STRATEGIES), st.sets(st.sampled_from("abcde"), min_size=1), st.integers(1, 20))
def test_displaced_lives_are_followed_by_others_however_often(strategy: str, names: set[str], times: int) -> None:
    family = Family(strategy, RestartLimits(0, 30.0))
    family.run("a b c d e")
    before = dict(family.alive)
    for _ in range(times):
        family.end_together("", displaced=" ".join(sorted(names)))
        settle(family)
    assert family.states() == dict.fromkeys("abcde", "ready")
    assert {name for name, life in family.alive.items() if before[name] != life} == names


@given(st.sampled_from(STRATEGIES), st.integers(0, 4))
def test_who_lives_on_is_told_by_the_strategy(strategy: str, number: int) -> None:
    family = Family(strategy)
    family.run("a b c d e")
    before = dict(family.alive)
    family.crash("abcde"[number])
    settle(family)
    spared = {
        "one_for_one": {name for name in "abcde" if name != "abcde"[number]},
        "one_for_all": set(),
        "rest_for_one": set("abcde"[:number]),
    }[strategy]
    assert {name for name, life in family.alive.items() if before[name] == life} == spared


@given(st.sampled_from(STRATEGIES), st.lists(st.sampled_from("abcde"), unique=True, max_size=4))
def test_order_of_the_stop_is_the_reverse_of_the_start_whatever_is_down(strategy: str, down: list[str]) -> None:
    family = Family(strategy)
    family.run("a b c d e")
    for name in down:
        family.end(name)
    family.take()
    family.stop()
    family.obey()
    stops = [text.split()[1] for text in family.take() if text.startswith("stop")]
    assert stops == [name for name in "edcba" if name not in down]
