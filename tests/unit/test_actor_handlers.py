"""Which method handles which type."""

from typing import Any

import pytest

from grav_actors import Actor, on_type
from grav_actors.actor.handlers import FOUND_LIMIT, HandlerTable
from grav_actors.errors import MessageEncodeError


def table_of(actor_class: type[Actor]) -> HandlerTable:
    return actor_class._grav_handlers


def test_exact_type_comes_before_patterns() -> None:
    class Mine(Actor):
        @on_type(">")
        def all(self, msg: Any) -> None: ...

        @on_type("a.*")
        def some(self, msg: Any) -> None: ...

        @on_type("a.b")
        def one(self, msg: Any) -> None: ...

    table = table_of(Mine)
    assert table.find("a.b") == "one"
    assert table.find("a.c") == "all"


def test_patterns_in_order_of_definition() -> None:
    class Narrow(Actor):
        @on_type("a.*")
        def some(self, msg: Any) -> None: ...

        @on_type(">")
        def all(self, msg: Any) -> None: ...

    assert table_of(Narrow).find("a.c") == "some"
    assert table_of(Narrow).find("b") == "all"


def test_type_without_handler() -> None:
    class Mine(Actor):
        @on_type("a.*")
        def some(self, msg: Any) -> None: ...

    assert table_of(Mine).find("a") is None
    assert table_of(Mine).find("a.b.c") is None


def test_framework_types_need_their_own_pattern() -> None:
    class Mine(Actor):
        @on_type(">")
        def all(self, msg: Any) -> None: ...

        @on_type("grav.sys.dead")
        def dead(self, msg: Any) -> None: ...

    table = table_of(Mine)
    assert table.find("grav.sys.dead") == "dead"
    assert table.find("grav.sys.node.up") is None
    assert table.find("grav.default") == "all"


def test_several_types_on_one_method() -> None:
    class Mine(Actor):
        @on_type("a", "b.*")
        @on_type("c")
        def several(self, msg: Any) -> None: ...

    table = table_of(Mine)
    assert [table.find(name) for name in ("a", "b.x", "c", "d")] == ["several", "several", "several", None]


def test_subclass_replaces_the_handler_of_the_same_type() -> None:
    class Base(Actor):
        @on_type("a")
        def old(self, msg: Any) -> None: ...

        @on_type("b")
        def kept(self, msg: Any) -> None: ...

    class Derived(Base):
        @on_type("a")
        def new(self, msg: Any) -> None: ...

    assert table_of(Derived).find("a") == "new"
    assert table_of(Derived).find("b") == "kept"
    assert table_of(Base).find("a") == "old"


def test_replaced_pattern_keeps_its_place() -> None:
    class Base(Actor):
        @on_type("a.*")
        def first(self, msg: Any) -> None: ...

        @on_type(">")
        def rest(self, msg: Any) -> None: ...

    class Derived(Base):
        @on_type("a.*")
        def better(self, msg: Any) -> None: ...

    assert table_of(Derived).find("a.x") == "better"
    assert table_of(Derived).find("x") == "rest"


def test_method_defined_anew_without_mark_keeps_its_types() -> None:
    class Base(Actor):
        @on_type("a")
        def handle(self, msg: Any) -> None: ...

    class Derived(Base):
        def handle(self, msg: Any) -> None: ...

    assert table_of(Derived).find("a") == "handle"


def test_method_defined_anew_with_another_type_has_only_that() -> None:
    class Base(Actor):
        @on_type("a")
        def handle(self, msg: Any) -> None: ...

    class Derived(Base):
        @on_type("b")
        def handle(self, msg: Any) -> None: ...

    assert table_of(Derived).find("a") is None
    assert table_of(Derived).find("b") == "handle"


def test_handlers_of_a_mixin() -> None:
    class Mixin:
        @on_type("a")
        def mixed(self, msg: Any) -> None: ...

    class Mine(Mixin, Actor):
        pass

    assert table_of(Mine).find("a") == "mixed"


def test_filter_lets_through_just_what_is_handled() -> None:
    class Mine(Actor):
        @on_type("a", "b.>")
        def some(self, msg: Any) -> None: ...

    filters = table_of(Mine).filters()
    assert [filters.allows_type(name) for name in ("a", "b.c", "b", "c")] == [True, True, False, False]


def test_actor_without_handlers_is_routed_nothing() -> None:
    class Mine(Actor):
        pass

    assert not table_of(Mine).filters().allows_type("a")


@pytest.mark.parametrize("name", ["on_start", "on_stop", "on_restart", "handle"])
def test_one_coroutine_makes_the_actor_asynchronous(name: str) -> None:
    async def coroutine(self: Any, argument: Any = None) -> None: ...

    def plain(self: Any, msg: Any) -> None: ...

    members = {"handle": on_type("a")(plain), name: on_type("b")(coroutine)}
    assert table_of(type("Mine", (Actor,), members)).is_async


def test_plain_actor_is_not_asynchronous() -> None:
    class Mine(Actor):
        @on_type("a")
        def handle(self, msg: Any) -> None: ...

    assert not table_of(Mine).is_async


def test_memory_of_found_types_is_bounded() -> None:
    class Mine(Actor):
        @on_type("a.*")
        def some(self, msg: Any) -> None: ...

    table = table_of(Mine)
    for number in range(FOUND_LIMIT + 10):
        assert table.find(f"a.{number}") == "some"
    assert len(table._found) == FOUND_LIMIT


@pytest.mark.parametrize("bad", ["", "a..b", "a.>.b", "a b"])
def test_what_is_no_type_is_refused_at_once(bad: str) -> None:
    with pytest.raises(MessageEncodeError):
        on_type(bad)


def test_mark_without_brackets_is_refused() -> None:
    def handle(self: Any, msg: Any) -> None: ...

    with pytest.raises(TypeError, match=r'@on_type\("sensor.temp"\)'):
        on_type(handle)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="in brackets"):
        on_type()


def test_mark_on_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="marks methods"):
        on_type("a")(property(lambda self: None))  # type: ignore[type-var]
