"""Kill storms: a random actor or the bus is killed every second under load. `scripts/storm` has the long form."""

import os
import random
import signal
from pathlib import Path

import pytest

from grav_actors import ConnectionClosedError, Grav
from support import actors
from support.collecting import LIMIT
from support.nodes import wait_restarts
from support.storm.storm import Storm


@pytest.mark.timeout(300)
def test_a_storm_of_kills_loses_doubles_and_reorders_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    report = Storm(tmp_path, rate=300, seed=seed).run(seconds=15)
    assert sum(report.kills.values()) >= 5, report
    assert report.redelivered > 0, "no kill has hit anything"
    assert not report.problems, f"seed {seed}: {report}\n" + "\n".join(report.problems[:20])


def test_the_default_limits_give_up_at_the_sixth_death_within_half_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    grav = Grav()
    try:
        pod = grav.connect()
        ref = grav.spawn(actors.Plain)
        for death in range(6):
            wait_restarts(grav, ref, death)
            os.kill(grav._runner.rows()[0]["pid"], signal.SIGKILL)
        with pytest.raises(ConnectionClosedError):
            pod.wait_until(LIMIT, lambda message: None)
        assert "actor plain failed once more after 5 restarts within 30 s" in caplog.text
    finally:
        grav.stop()
