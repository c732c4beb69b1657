"""The limit on open descriptors: raised as far as the system allows, never lowered."""

from __future__ import annotations

import resource

import pytest

from grav_actors.descriptors import ENOUGH, allow_descriptors

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, UNLIMITED), (ENOUGH, UNLIMITED)),
        ((1024, 10 * ENOUGH), (ENOUGH, 10 * ENOUGH)),
        ((2 * ENOUGH, 10 * ENOUGH), None),
        ((UNLIMITED, UNLIMITED), None),
        ((4096, 4096), None),
    ],
)
def test_the_limit_is_raised_and_never_lowered(
    limits: tuple[int, int], expected: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, found: chosen.append(found))
    allow_descriptors()
    assert chosen == ([] if expected is None else [expected])


def test_a_system_that_refuses_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, UNLIMITED))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    allow_descriptors()
