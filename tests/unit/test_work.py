"""No change makes a path slow unseen: its work is counted, which no busy machine changes, and held to a baseline."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.work.counting import BASELINE, TOLERANCE, Counts, excesses, python_version, read_baseline

TESTS = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    python_version() not in read_baseline(),
    reason=f"{BASELINE.name} lacks Python {python_version()}; `scripts/work --python PATH --write` adds it",
)


def counted(*arguments: str) -> Counts:
    """Count in a process of its own: coverage, and what other tests have left in caches, would count too."""
    command = [sys.executable, "-m", "support.work.counting", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=TESTS, env=environment, check=True, stdout=subprocess.PIPE, timeout=50)
    counts: Counts = json.loads(done.stdout)
    return counts


@pytest.fixture(scope="module")
def counts() -> Counts:
    return counted()


def test_no_path_does_a_tenth_more_than_the_baseline_says(counts: Counts) -> None:
    baseline = read_baseline()[python_version()]
    too_much = excesses(counts, baseline)
    assert not too_much, (
        "\n".join(too_much) + "\nIf the work pays for itself, say so in the commit and run `scripts/work --write`."
    )
    assert set(baseline) == set(counts)


@pytest.mark.parametrize("what", ["calls a run", "calls of the socket a run", "bytecodes a run"])
def test_a_run_costs_the_bus_the_same_beside_pods_that_do_not_want_it(counts: Counts, what: str) -> None:
    assert counts[f"crowd, bus: {what}"] == pytest.approx(counts[f"stream, bus: {what}"], rel=0.01)


def test_counting_twice_gives_the_same(counts: Counts) -> None:
    again = counted("--only", "single")
    assert {name: value for name, value in again.items() if "bytes at" not in name}.items() <= counts.items()


@pytest.mark.parametrize(("plant", "scene"), [("sender", "stream"), ("bus", "crowd"), ("receiver", "stream")])
def test_a_planted_slow_change_is_caught(counts: Counts, plant: str, scene: str) -> None:
    # Beside what is counted now, not the baseline: that may be higher, after a path has become quicker.
    too_much = excesses(counted("--plant", plant, "--only", scene), counts)
    assert too_much
    assert {sentence.partition(":")[0] for sentence in too_much} == {f"{scene}, {plant}"}


def test_what_is_within_a_tenth_is_let_through() -> None:
    assert excesses({"a": 100 * (1 + TOLERANCE)}, {"a": 100}) == []
    assert excesses({"a": 111.0, "b": 1.0}, {"a": 100}) == [
        "a: 111, allowed are 110 (a tenth over the baseline, 100)",
        "b: 1, and the baseline does not have it",
    ]
