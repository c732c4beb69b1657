"""Each scenario once; `scripts/parity` runs them many times."""

import pytest

from support.parity_scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_count_holds(scenario: Scenario) -> None:
    scenario.run()
