"""Mistakes in a tree of supervisors show before anything of it starts."""

from __future__ import annotations

from typing import Any

import pytest

from grav_actors import Actor, Backoff, Child, ConfigError, Supervisor
from grav_actors.supervisor.tree import base_name, instance_names, names_below


class Worker(Actor):
    pass


class Other(Actor):
    pass


def make(name: str = "Mine", **members: Any) -> type[Supervisor]:
    return type(name, (Supervisor,), members)


def test_defaults() -> None:
    cls = make()
    assert (cls.children, cls.strategy, cls.max_restarts, cls.within) == ((), "one_for_one", 5, 30.0)
    assert cls.backoff == Backoff(first=0.2, max=30.0, factor=2.0, jitter=0.2)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (
            {"strategy": "one_for_al"},
            'Mine: strategy must be "one_for_one", "one_for_all" or "rest_for_one", not "one_for_al"; did you mean',
        ),
        ({"max_restarts": 0}, "Mine: max_restarts must be at least 1, not 0"),
        ({"max_restarts": -1}, "Mine: max_restarts must be at least 1, not -1"),
        ({"max_restarts": 1.5}, "Mine: max_restarts must be a whole number, not 1.5"),
        ({"within": 0}, "Mine: within must be more than 0 seconds, not 0"),
        ({"backoff": 1.0}, r"Mine: backoff must be a Backoff\(...\), not 1.0"),
        ({"children": Worker}, r"Mine: children must be a list of Child\(...\), not <class"),
        ({"children": [Worker]}, r"Mine: children of Mine must be Child\(...\), not <class"),
        (
            {"children": [Child(Worker, name="w"), Child(Other, name="w")]},
            "Mine: two actors would be called 'w', under Mine; give one of them another name",
        ),
        (
            {"children": [Child(Worker, name="w", instances=2), Child(Other, name="w-2")]},
            "Mine: two actors would be called 'w-2', under Mine",
        ),
    ],
)
def test_mistake_in_the_class(members: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make(**members)


def test_name_that_two_branches_have() -> None:
    left = make("Left", children=[Child(Worker)])
    right = make("Right", children=[Child(Worker)])
    text = "two actors would be called 'worker', under Top > Left and under Top > Right; give one of them another name"
    with pytest.raises(TypeError, match=text):
        make("Top", children=[Child(left), Child(right)])


def test_supervisor_below_itself() -> None:
    inner = make("Inner")
    outer = make("Outer", children=[Child(inner)])
    inner.children = [Child(outer)]
    with pytest.raises(ConfigError, match="a supervisor cannot supervise itself: Inner > Outer > Inner"):
        names_below([Child(inner)])


def test_children_of_one_class_are_numbered() -> None:
    cls = make(children=[Child(Worker), Child(Worker), Child(Other, instances=2)])
    assert list(names_below([Child(cls)])) == ["mine", "worker", "worker-2", "other", "other-1", "other-2"]


def test_names_of_children_and_instances() -> None:
    assert base_name(Child(Worker), set()) == "worker"
    assert base_name(Child(Worker), {"worker", "worker-2"}) == "worker-3"
    assert base_name(Child(Worker, name="me"), {"me"}) == "me"
    assert instance_names("w", 1) == ["w"]
    assert instance_names("w", 3) == ["w-1", "w-2", "w-3"]


def test_supervisor_has_one_instance() -> None:
    with pytest.raises(ConfigError, match="instances must be 1 for a supervisor, not 2"):
        Child(make(), instances=2)


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_significant_goes_with_what_may_end(restart: str) -> None:
    assert Child(Worker, significant=True, restart=restart).significant


def test_significant_permanent_child_is_refused() -> None:
    with pytest.raises(ConfigError, match='significant goes with restart = "transient" or "temporary"'):
        Child(Worker, significant=True)


def test_supervisor_has_the_time_that_its_children_may_take_too() -> None:
    inner = make("Inner", children=[Child(Worker, shutdown=2.0, start_timeout=3.0, instances=3)])
    outer = Child(make("Outer", children=[Child(inner, shutdown=1.0, start_timeout=10.0)]), shutdown=5.0)
    assert Child(Worker, shutdown=2.0).stop_patience == 2.0
    assert outer.stop_patience == 5 + 1 + 3 * 2
    assert outer.start_patience == 30 + 10 + 3 * 3


def test_subclass_inherits_what_it_does_not_say() -> None:
    base = make("Base", strategy="rest_for_one", children=[Child(Worker)])
    derived: Any = type("Derived", (base,), {"max_restarts": 2})
    assert (derived.strategy, len(derived.children)) == ("rest_for_one", 1)
