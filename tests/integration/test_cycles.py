"""Up and down under load, in every way there is to end a node. `scripts/cycles` has the long form."""

import tempfile
from pathlib import Path

import pytest

from support.collecting import LIMIT
from support.cycles import Cycles


@pytest.mark.timeout(300)
def test_ten_cycles_leave_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="grav-") as name:
        tally = Cycles(Path(name), LIMIT).run(10)
    assert tally.cycles == 10
    assert not tally.problems, "\n".join(tally.problems)
