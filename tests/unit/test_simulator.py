"""The first half of the seeds that every check runs, and what the simulator itself promises."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from grav_actors.filters import FilterSet
from grav_actors.protocol import KIND_PUBLISH, PodSettings
from support.simulation.history import Answered, Ended, Handled, line
from support.simulation.pods import Post, SimPod
from support.simulation.seeding import Limits, seeded_ids
from support.simulation.seeds import failing
from support.simulation.simulate import Result, simulate
from support.simulation.wards import Ward
from support.simulation.world import World

pytestmark = pytest.mark.no_cover  # random histories would take three times as long when they are traced

TESTS = Path(__file__).resolve().parents[1]
PRINT_HISTORY = """
import sys
from support.simulation.history import line
from support.simulation.simulate import simulate
for event in simulate(int(sys.argv[1])).history:
    print(line(event))
"""


@pytest.mark.parametrize("first", range(0, 500, 25))
def test_every_promise_holds(first: int) -> None:
    assert failing(range(first, first + 25)) == []


@pytest.mark.parametrize("seed", [1, 7, 42])
def test_a_seed_gives_the_same_history_again(seed: int) -> None:
    histories = [[line(event) for event in simulate(seed).history] for _ in range(2)]
    assert histories[0] == histories[1]


def test_a_seed_gives_the_same_history_in_another_process() -> None:
    histories = set[str]()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-c", PRINT_HISTORY, "7"]
        histories.add(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    assert len(histories) == 1
    assert "Handled" in histories.pop()


def test_histories_differ_and_reach_what_they_are_meant_to_reach() -> None:
    results = [simulate(seed) for seed in range(20)]
    kinds = {type(event).__name__ for result in results for event in result.history}
    assert {"BusKilled", "Dead", "Disturbed", "FilterAsked", "Leaving", "Lost", "Struck", "Failed", "Quiet"} <= kinds
    assert {"answer", "cancelled"} <= {getattr(event, "how", "") for result in results for event in result.history}
    ends = {event.how for result in results for event in result.history if isinstance(event, Ended)}
    assert {"left", "killed", "overflow"} <= ends
    assert len({sum(isinstance(event, Handled) for event in result.history) for result in results}) > 10


def test_a_supervisor_s_word_passes_its_own_shut_window() -> None:
    with seeded_ids(lambda: 0.0), Limits(window=4).applied():
        world = World(random.Random(1))
        supervisor = world.spawn(world.new_wire(), "supervisor", PodSettings(), FilterSet())
        full = PodSettings(mailbox_limit=1, stuck_after=None)
        world.spawn(world.new_wire(), "full", full, FilterSet(listening=True)).paused = True

        def start(incarnation: int) -> SimPod:
            settings = PodSettings(actor=True, supervisor=supervisor.uuid, incarnation=incarnation)
            return world.spawn(world.new_wire(), "a", settings, FilterSet())

        ward = Ward("a", start)
        world.flow(until_quiet=False)
        while supervisor.post(Post(KIND_PUBLISH, "x")):
            world.flow(until_quiet=False)
        world.kill(ward.pod)
        ward.ended(world, "killed", delay=0.0, gives_up=True, tells=False)
        ward.look(world, supervisor)
        world.flow(until_quiet=False)
        assert not supervisor.post(Post(KIND_PUBLISH, "x"))
    assert [event.how for event in world.history if isinstance(event, Answered)] == ["answer"]


def test_a_report_names_the_seed_and_what_was_found() -> None:
    result = Result(3, simulate(3).history, [])
    assert result.report(2).splitlines()[0] == f"seed 3: 0 violations in {len(result.history)} events"
    assert result.report(2).splitlines()[-1] == line(result.history[-1])
