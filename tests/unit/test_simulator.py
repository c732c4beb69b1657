"""The first half of the seeds that every check runs, and what the simulator itself promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.simulation.history import Ended, Handled, line
from support.simulation.seeds import failing
from support.simulation.simulate import Result, simulate

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


def test_a_report_names_the_seed_and_what_was_found() -> None:
    result = Result(3, simulate(3).history, [])
    assert result.report(2).splitlines()[0] == f"seed 3: 0 violations in {len(result.history)} events"
    assert result.report(2).splitlines()[-1] == line(result.history[-1])
