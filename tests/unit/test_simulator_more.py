"""The second half of the seeds that every check runs: a file of its own, so that two workers share them."""

from __future__ import annotations

import pytest

from support.simulation.seeds import failing

pytestmark = pytest.mark.no_cover  # random histories would take three times as long when they are traced


@pytest.mark.parametrize("first", range(500, 1000, 25))
def test_every_promise_holds(first: int) -> None:
    assert failing(range(first, first + 25)) == []
