"""Mistakes in an actor class raise when it is made."""

from collections.abc import Callable
from typing import Any

import pytest

from grav_actors import Actor, Message, on_type
from grav_actors.actor.actor import RESERVED, check_options
from grav_actors.errors import ConnectionClosedError


def make(**members: Any) -> type[Actor]:
    return type("Mine", (Actor,), members)


def handler(*types: str) -> Callable[..., Any]:
    def handle(self: Any, msg: Any) -> None: ...

    return on_type(*types)(handle)


def test_two_handlers_for_one_type() -> None:
    with pytest.raises(TypeError, match="Mine: first and second both handle 'a'; one type has one handler"):
        make(first=handler("a"), second=handler("a"))


def test_one_type_twice_on_one_method() -> None:
    with pytest.raises(TypeError, match="Mine: first handle"):
        make(first=handler("a", "a"))


@pytest.mark.parametrize(
    "function",
    [
        lambda self: None,
        lambda: None,
        lambda self, msg, more: None,
        lambda self, *, msg: None,
        lambda self, msg, *, more: None,
    ],
)
def test_handler_that_takes_no_message(function: Any) -> None:
    with pytest.raises(TypeError, match="Mine.handle.* cannot be a handler: it is called with self and one message"):
        make(handle=on_type("a")(function))


@pytest.mark.parametrize(
    "function", [lambda self, msg: None, lambda *args: None, lambda self, msg, more=1, **rest: None]
)
def test_handler_that_takes_a_message(function: Any) -> None:
    make(handle=on_type("a")(function))


def test_override_that_takes_no_message() -> None:
    base = make(handle=handler("a"))
    with pytest.raises(TypeError, match="cannot be a handler"):
        type("Derived", (base,), {"handle": lambda self: None})
    with pytest.raises(TypeError, match="replaces one of its base class"):
        type("Derived", (base,), {"handle": None})


def test_generator_as_handler() -> None:
    def handle(self: Any, msg: Any) -> Any:
        yield msg

    async def handle_async(self: Any, msg: Any) -> Any:
        yield msg

    for function in (handle, handle_async):
        with pytest.raises(TypeError, match="holds a yield"):
            make(handle=on_type("a")(function))


@pytest.mark.parametrize("wrapper", [staticmethod, classmethod])
def test_handler_that_is_no_method_of_the_object(wrapper: Any) -> None:
    with pytest.raises(TypeError, match="must be a method of the object"):
        make(handle=wrapper(handler("a")))


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("on_start", lambda self, more: None),
        ("on_stop", lambda self: None),
        ("on_restart", lambda self: None),
        ("on_start", None),
    ],
)
def test_hook_with_wrong_arguments(name: str, hook: Any) -> None:
    with pytest.raises(TypeError, match=f"Mine.{name} cannot be the hook: write `def {name}"):
        make(**{name: hook})


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_attribute_overwritten(name: str) -> None:
    with pytest.raises(TypeError, match=f"Mine overwrites {name}, which an Actor needs; choose other names"):
        make(**{name: 1})


def test_reserved_attribute_overwritten_by_a_mixin() -> None:
    class Mixin:
        def publish(self) -> None: ...

    with pytest.raises(TypeError, match="overwrites publish"):
        type("Mine", (Mixin, Actor), {})


def test_everything_public_is_reserved_or_meant_to_be_set() -> None:
    options = {"group", "replay", "prefetch", "concurrency", "mailbox_limit", "overflow", "stuck_after", "max_deliver",
               "crash_on"}  # fmt: skip
    hooks = {"on_start", "on_stop", "on_restart"}
    public = {name for name in vars(Actor) if not name.startswith("_")}
    assert public - RESERVED == options | hooks


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"replay": True, "group": "g"}, "replay cannot be combined with group"),
        ({"replay": 1}, "replay must be true or false"),
        ({"group": "a b"}, "group must be a name"),
        ({"group": None}, "group must be a name"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"concurrency": 1.5}, "concurrency must be a whole number"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"mailbox_limit": -1}, "mailbox_limit must be at least 1"),
        ({"overflow": "drop_old"}, "overflow must be .*; did you mean"),
        ({"stuck_after": 0}, "stuck_after must be more than 0"),
        ({"max_deliver": 0}, "max_deliver must be at least 1"),
        ({"crash_on": ValueError}, "crash_on must be a tuple of exception classes"),
        ({"crash_on": ("ValueError",)}, "crash_on must be a tuple of exception classes"),
    ],
)
def test_bad_options(members: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=f"Mine: {text}"):
        make(**members)


def test_option_of_a_base_counts() -> None:
    base = make(group="g")
    with pytest.raises(TypeError, match="replay cannot be combined with group"):
        type("Derived", (base,), {"replay": True})


def test_window_of_a_group_is_narrow() -> None:
    assert check_options(make(group="g")).window(grouped=True) == 4
    assert check_options(make(group="g", concurrency=3)).window(3, grouped=True) == 12
    assert check_options(make()).window() == 4096


def test_actor_made_by_hand_says_so() -> None:
    actor = make()()
    with pytest.raises(ConnectionClosedError, match="made by hand and is on no bus"):
        actor.publish("a")
    with pytest.raises(ConnectionClosedError, match="Grav.spawn"):
        _ = actor.name


class TestKeptState:
    def test_both_hooks_make_a_class_keep_its_state(self) -> None:
        class Keeper(Actor):
            def snapshot(self) -> object:
                return None

            def restore(self, state: object) -> None:
                return None

        assert Keeper._grav_handlers.keeps_state
        assert not Actor._grav_handlers.keeps_state

    def test_one_hook_without_the_other_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"has snapshot and no restore.*write `def restore\(self, state\)`"):

            class Half(Actor):
                def snapshot(self) -> object:
                    return None

    def test_a_hook_with_other_arguments_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"restore cannot be the hook: write `def restore\(self, state\)`"):

            class Odd(Actor):
                def snapshot(self) -> object:
                    return None

                def restore(self) -> None:
                    return None

    def test_handlers_of_these_names_are_no_hooks(self) -> None:
        class Camera(Actor):
            @on_type("camera.snapshot")
            def snapshot(self, msg: Message) -> object:
                return None

        assert not Camera._grav_handlers.keeps_state

    def test_state_cannot_be_kept_while_several_handlers_run(self) -> None:
        with pytest.raises(TypeError, match="keeps its state and has concurrency = 2"):

            class Busy(Actor):
                concurrency = 2

                def snapshot(self) -> object:
                    return None

                def restore(self, state: object) -> None:
                    return None
