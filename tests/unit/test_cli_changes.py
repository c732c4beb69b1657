"""The difference between two configurations of a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from grav_actors import Actor, Child
from grav_actors.cli.changes import Changes, difference


class Worker(Actor):
    """Does nothing."""


class Other(Worker):
    """Neither does this."""


def child(name: str, **options: Any) -> Child:
    return Child(Worker, name=name, **options)


def test_equal_configurations_differ_in_nothing() -> None:
    actors = [child("a", kwargs={"site": "roof"}), child("b", instances=3)]
    assert difference(actors, [replace(actor) for actor in actors]) == Changes()


def test_new_and_missing_actors_are_added_and_removed() -> None:
    changes = difference([child("a"), child("b")], [child("c"), child("b")])
    assert changes == Changes(removed=("a",), added=(child("c"),))


@pytest.mark.parametrize(
    "other",
    [
        child("a", kwargs={"site": "cellar"}),
        child("a", kind="thread"),
        child("a", restart="transient"),
        child("a", shutdown=1.0),
        child("a", instances=2),
        Child(Other, name="a"),
    ],
)
def test_actor_that_is_made_otherwise_is_replaced(other: Child) -> None:
    assert difference([child("a"), child("b")], [other, child("b")]) == Changes(replaced=(other,))


def test_pool_of_another_number_is_scaled() -> None:
    assert difference([child("a", instances=2)], [child("a", instances=5)]) == Changes(scaled=(("a", 5),))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_one_instance_is_no_pool_and_is_replaced(before: int, after: int) -> None:
    changes = difference([child("a", instances=before)], [child("a", instances=after)])
    assert changes == Changes(replaced=(child("a", instances=after),))


def test_pool_that_differs_in_more_than_its_number_is_replaced() -> None:
    other = child("a", instances=3, kind="thread")
    assert difference([child("a", instances=2)], [other]) == Changes(replaced=(other,))
