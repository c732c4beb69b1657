"""ActorRef: a value that can reach its actor while it has a port."""

import asyncio
import copy
import pickle
from typing import Any

import pytest

from grav_actors.errors import ActorStartError, ConnectionClosedError
from grav_actors.reference import ActorRef, check_actor_name
from grav_actors.timeouts import Timeout


class FakePort:
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def tell(self, to: str, type: str, data: Any) -> None:
        self.calls.append(("tell", to, type, data))

    def ask(self, to: str, type: str, data: Any, timeout: Timeout) -> Any:
        self.calls.append(("ask", to, type, data, timeout))
        return 1

    async def ask_async(self, to: str, type: str, data: Any, timeout: Timeout) -> Any:
        self.calls.append(("ask_async", to, type, data, timeout))
        return 2

    def stop_actor(self, name: str) -> None:
        self.calls.append(("stop", name))

    def is_actor_alive(self, name: str) -> bool:
        self.calls.append(("alive", name))
        return True


def test_references_are_equal_by_name_whatever_their_port() -> None:
    assert ActorRef("a") == ActorRef("a", FakePort())
    assert ActorRef("a") != ActorRef("b")
    assert ActorRef("a") != "a"
    assert len({ActorRef("a"), ActorRef("a", FakePort()), ActorRef("b")}) == 2
    assert repr(ActorRef("a")) == "ActorRef('a')"


def test_a_reference_does_not_change() -> None:
    ref = ActorRef("a")
    with pytest.raises(AttributeError, match="'name' cannot be set"):
        ref.name = "b"
    with pytest.raises(AttributeError, match="'name' cannot be deleted"):
        del ref.name


def test_methods_go_through_the_port() -> None:
    port = FakePort()
    ref = ActorRef("a", port)
    ref.tell("t.x", 1)
    assert ref.ask("t.y", 2, timeout=None) == 1
    assert asyncio.run(ref.ask_async("t.z")) == 2
    ref.stop()
    assert ref.is_alive()
    assert port.calls == [
        ("tell", "a", "t.x", 1),
        ("ask", "a", "t.y", 2, None),
        ("ask_async", "a", "t.z", None, 5.0),
        ("stop", "a"),
        ("alive", "a"),
    ]


@pytest.mark.parametrize(
    "use", [lambda r: r.tell("t"), lambda r: r.ask("t"), lambda r: r.stop(), lambda r: r.is_alive()]
)
def test_without_a_port_the_error_says_what_to_do(use: Any) -> None:
    with pytest.raises(ConnectionClosedError, match=r"grav\.actor\('a'\)"):
        use(ActorRef("a"))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda ref: pickle.loads(pickle.dumps(ref))])
def test_copies_keep_the_name_and_lose_the_port(duplicate: Any) -> None:
    twin = duplicate(ActorRef("a", FakePort()))
    assert twin == ActorRef("a")
    with pytest.raises(ConnectionClosedError):
        twin.stop()


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800", None, 5, b"a"])
def test_a_reference_needs_a_name(name: Any) -> None:
    with pytest.raises(ValueError, match="no actor can be called"):
        ActorRef(name)


@pytest.mark.parametrize("name", ["a", "temp-1", "A.b_c", "x" * 64, "grav", "gravity"])
def test_actor_names_that_are_allowed(name: str) -> None:
    assert check_actor_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "é", "a\n", "x" * 65, "grav.hub", "a/b", None, 5, b"a"])
def test_actor_names_that_are_refused(name: Any) -> None:
    with pytest.raises(ActorStartError, match="bad actor name"):
        check_actor_name(name)
