"""Bugs that are planted in the cores: the simulator must find each, by the checker that is meant for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from grav_actors.bus.core import BusCore
from grav_actors.bus.handling import Handling
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.roster import RosterEntry
from grav_actors.pod.core import PodCore, State
from grav_actors.pod.ranges import Ranges
from support.simulation.programs import Program
from support.simulation.simulate import simulate

SEEDS = 200
"""Seeds within which a planted bug must be found."""


def assert_found(plant: pytest.MonkeyPatch, checker: str, *troubles: str) -> None:
    """Assert that a checker finds what is planted, and that without it nothing is wrong with that history."""
    program = type("Troubled", (Program,), {"always": frozenset(troubles), "often": troubles[0]})
    for seed in range(SEEDS):
        if any(violation.checker == checker for violation in simulate(seed, program).violations):
            plant.undo()
            assert not simulate(seed, program).violations
            return
    pytest.fail(f"{checker} has found nothing in {SEEDS} seeds")


def test_a_resend_that_is_settled_before_receivers_are_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def expect_nobody(self: BusCore, entries: Iterable[RosterEntry], now: float) -> None:
        pass

    monkeypatch.setattr(BusCore, "restore", expect_nobody)
    assert_found(monkeypatch, "conservation", "restarts")


def test_deduplication_by_a_watermark_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_below_the_highest(self: Ranges, number: int) -> bool:
        return number <= max(self.floor, *self._lasts, 0)

    monkeypatch.setattr(Ranges, "__contains__", is_below_the_highest)
    assert_found(monkeypatch, "conservation", "restarts", "deaths", "cuts", "failures")


def test_an_acknowledgement_ahead_of_its_handlers_output_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = PodCore.flush

    def hasty_flush(self: PodCore, now: float, *, force: bool = False) -> None:
        if self.state is State.JOINED:
            self._send_handled(now)
        flush(self, now, force=force)

    monkeypatch.setattr(PodCore, "flush", hasty_flush)
    assert_found(monkeypatch, "effects", "deaths")


def test_a_skipped_flush_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(self: Handling, receiver: Receiver, success: int, now: float) -> None:
        pass

    monkeypatch.setattr(Handling, "_flush_failed", keep)
    assert_found(monkeypatch, "flush", "failures")


def test_a_reordered_redelivery_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver_again: Any = Handling._deliver_again

    def backwards(self: Handling, receiver: Receiver, again: list[Any], now: float) -> None:
        deliver_again(self, receiver, again[::-1], now)

    monkeypatch.setattr(Handling, "_deliver_again", backwards)
    assert_found(monkeypatch, "redelivery_order", "failures")
