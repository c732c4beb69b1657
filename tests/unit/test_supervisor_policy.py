"""When a supervisor restarts, how long it waits before, and when it gives up."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.options import Backoff, RestartLimits
from grav_actors.supervisor.policy import GiveUp, Restart, RestartPolicy


def no_jitter() -> float:
    return 0.5


def decide(limits: RestartLimits, times: list[float]) -> list[float | None]:
    """Return the delay of each restart; None where the policy gives up."""
    policy = RestartPolicy(limits)
    decisions = [policy.failed(now, no_jitter) for now in times]
    return [decision.delay if isinstance(decision, Restart) else None for decision in decisions]


PLAIN = Backoff(first=1.0, max=30.0, factor=2.0, jitter=0.2)


@pytest.mark.parametrize(
    ("limits", "times", "delays"),
    [
        # The first restart is immediate, backoff begins with the second.
        (RestartLimits(5, 30, PLAIN), [0], [0]),
        (RestartLimits(5, 30, PLAIN), [0, 1, 2, 3, 4], [0, 1, 2, 4, 8]),
        # More than max_restarts within the window give up.
        (RestartLimits(2, 30, PLAIN), [0, 1, 2], [0, 1, None]),
        (RestartLimits(0, 30, PLAIN), [0], [None]),
        (RestartLimits(1, 30, PLAIN), [0, 29.9], [0, None]),
        # A restart counts for exactly `within` seconds; after a quiet window all begins anew.
        (RestartLimits(1, 30, PLAIN), [0, 30, 60], [0, 0, 0]),
        (RestartLimits(2, 30, PLAIN), [0, 20, 31, 40], [0, 1, 1, None]),
        (RestartLimits(5, 30, PLAIN), [0, 1, 2, 100, 101], [0, 1, 2, 0, 1]),
        # Giving up is no restart, and counts as none.
        (RestartLimits(1, 10, PLAIN), [0, 5, 10], [0, None, 0]),
        # The wait is capped.
        (RestartLimits(9, 30, Backoff(1, 5, 2, 0)), [0, 0, 0, 0, 0, 0], [0, 1, 2, 4, 5, 5]),
        (RestartLimits(9, 30, Backoff(1, 5, 1, 0)), [0, 0, 0, 0], [0, 1, 1, 1]),
        # No backoff: always at once.
        (RestartLimits(5, 30, Backoff(first=0)), [0, 0, 0, 0], [0, 0, 0, 0]),
        # A clock that steps back is a clock that stands still.
        (RestartLimits(2, 30, PLAIN), [100, 50, 101], [0, 1, None]),
        # Monotonic clocks may begin anywhere.
        (RestartLimits(1, 30, PLAIN), [-1000.0, -990.0, -970.0], [0, None, 0]),
    ],
)
def test_decisions(limits: RestartLimits, times: list[float], delays: list[float | None]) -> None:
    assert decide(limits, times) == delays


def test_giving_up_says_how_many_restarts_there_were_and_in_what_time() -> None:
    policy = RestartPolicy(RestartLimits(2, 30.0))
    policy.failed(0, no_jitter)
    policy.failed(1, no_jitter)
    assert policy.failed(2, no_jitter) == GiveUp(restarts=2, within=30.0)


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 8.0), (0.5, 10.0), (0.75, 11.0), (0.9999999, 12.0)])
def test_jitter_is_a_fraction_to_both_sides(chance: float, delay: float) -> None:
    policy = RestartPolicy(RestartLimits(5, 30, Backoff(first=10, max=10, jitter=0.2)))
    assert policy.failed(0, lambda: chance) == Restart(0.0)
    second = policy.failed(0, lambda: chance)
    assert isinstance(second, Restart)
    assert second.delay == pytest.approx(delay, rel=1e-6)


def test_chance_is_asked_only_when_there_is_a_wait() -> None:
    def never() -> float:
        raise AssertionError

    policy = RestartPolicy(RestartLimits(1, 30))
    assert policy.failed(0, never) == Restart(0.0)
    assert policy.failed(1, never) == GiveUp(1, 30)


def test_a_factor_that_leaves_the_floats_is_capped() -> None:
    backoff = Backoff(first=1e-300, max=7.0, factor=1e300, jitter=0)
    policy = RestartPolicy(RestartLimits(10_000, 30, backoff))
    decisions = [policy.failed(0, no_jitter) for _ in range(3000)]
    assert decisions[-1] == Restart(7.0)


def test_two_policies_of_the_same_limits_count_apart() -> None:
    limits = RestartLimits(1, 30)
    first, second = RestartPolicy(limits), RestartPolicy(limits)
    first.failed(0, no_jitter)
    assert second.failed(0, no_jitter) == Restart(0.0)


LIMITS = st.builds(
    RestartLimits,
    max_restarts=st.integers(0, 8),
    within=st.floats(0.1, 100),
    backoff=st.builds(
        Backoff,
        first=st.floats(0, 5),
        max=st.floats(5, 60),
        factor=st.floats(1, 10),
        jitter=st.floats(0, 1),
    ),
)
TIMES = st.lists(st.floats(0, 500), max_size=60).map(sorted)


@given(LIMITS, TIMES, st.integers(0, 2**32))
def test_no_window_ever_holds_more_than_max_restarts(limits: RestartLimits, times: list[float], seed: int) -> None:
    policy, chance = RestartPolicy(limits), random.Random(seed)
    restarts: list[float] = []
    for now in times:
        recent = [then for then in restarts if now - then < limits.within]
        decision = policy.failed(now, chance.random)
        if isinstance(decision, Restart):
            assert len(recent) < limits.max_restarts
            restarts.append(now)
        else:
            assert decision == GiveUp(limits.max_restarts, limits.within)
            assert len(recent) == limits.max_restarts


@given(LIMITS, TIMES, st.integers(0, 2**32))
def test_waits_stay_within_backoff_and_jitter(limits: RestartLimits, times: list[float], seed: int) -> None:
    policy, chance = RestartPolicy(limits), random.Random(seed)
    backoff = limits.backoff
    for now in times:
        decision = policy.failed(now, chance.random)
        if isinstance(decision, Restart) and decision.delay:
            assert backoff.first * (1 - backoff.jitter) <= decision.delay * (1 + 1e-9)
            assert decision.delay <= backoff.max * (1 + backoff.jitter) * (1 + 1e-9)


@given(LIMITS, TIMES)
def test_the_first_restart_after_a_quiet_window_is_immediate(limits: RestartLimits, times: list[float]) -> None:
    policy = RestartPolicy(limits)
    for now in times:
        policy.failed(now, no_jitter)
    later = (times[-1] if times else 0.0) + limits.within + 1
    if limits.max_restarts:
        assert policy.failed(later, no_jitter) == Restart(0.0)
