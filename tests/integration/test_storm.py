"""Kill storms: a random actor or the bus is killed every second under load. `scripts/storm` has the long form."""

import random
from pathlib import Path

import pytest

from support.storm.storm import Storm


@pytest.mark.timeout(300)
def test_a_storm_of_kills_loses_doubles_and_reorders_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    report = Storm(tmp_path, rate=300, seed=seed).run(seconds=15)
    assert sum(report.kills.values()) >= 5, report
    assert report.redelivered > 0, "no kill has hit anything"
    assert not report.problems, f"seed {seed}: {report}\n" + "\n".join(report.problems[:20])
