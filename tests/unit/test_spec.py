"""Child: what a supervisor is told of an actor."""

import re
from typing import Any

import pytest

from grav_actors import Actor, Child
from grav_actors.errors import ActorStartError, ConfigError
from grav_actors.supervisor.spec import as_child


class Plain(Actor):
    pass


class Replayed(Actor):
    replay = True


def test_defaults() -> None:
    child = Child(Plain)
    assert (child.name, child.args, child.kwargs, child.kind, child.instances) == (None, (), {}, "process", 1)
    assert (child.group, child.restart, child.significant) == (None, "permanent", False)
    assert (child.start_timeout, child.shutdown, child.handler_timeout) == (30.0, 5.0, None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "fork"}, 'kind must be "process" or "thread"'),
        ({"restart": "always"}, "restart must be"),
        ({"instances": 0}, "instances must be at least 1"),
        ({"group": "a b"}, "group must be a name"),
        ({"significant": 1}, "significant must be true or false"),
        ({"start_timeout": 0}, "start_timeout must be more than 0"),
        ({"shutdown": -1}, "shutdown must be 0 or more"),
        ({"handler_timeout": 0}, "handler_timeout must be more than 0"),
        ({"args": "abc"}, "args must be a tuple or list"),
        ({"kwargs": {1: 2}}, "kwargs must be a map with names as keys"),
        ({"kwargs": [("a", 1)]}, "kwargs must be a map"),
    ],
)
def test_bad_values(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Child(Plain, **options)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "grav.bus", 7])
def test_bad_names(name: Any) -> None:
    with pytest.raises(ActorStartError, match="bad actor name"):
        Child(Plain, name=name)


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (Plain(), "this Plain is made already; give the class"),
        (object, "is no Actor; write `class object(Actor)`"),
        ("module:Class", '"module:Class" is a text; import the class'),
        (None, "None is no Actor; write `class Mine"),
    ],
)
def test_what_is_no_actor_class(thing: Any, text: str) -> None:
    with pytest.raises(ActorStartError, match=re.escape(text)):
        Child(thing)


def test_group_of_a_child_does_not_go_with_replay() -> None:
    with pytest.raises(ConfigError, match="replay cannot be combined with group"):
        Child(Replayed, group="g")


def test_arguments_of_spawn_as_a_child() -> None:
    assert as_child(Plain, (1,), {"a": 2}, "me", "thread") == Child(
        Plain, name="me", args=(1,), kwargs={"a": 2}, kind="thread"
    )
    child = Child(Plain)
    assert as_child(child, (), {}, None, "process") is child


@pytest.mark.parametrize(
    ("args", "kwargs", "name", "kind"),
    [
        ((1,), {}, None, "process"),
        ((), {"a": 1}, None, "process"),
        ((), {}, "me", "process"),
        ((), {}, None, "thread"),
    ],
)
def test_nothing_stands_beside_a_child(args: Any, kwargs: Any, name: str | None, kind: str) -> None:
    with pytest.raises(ConfigError, match="takes nothing else"):
        as_child(Child(Plain), args, kwargs, name, kind)
