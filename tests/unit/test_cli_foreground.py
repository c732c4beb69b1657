"""A node in the foreground: what ends it, and with which exit code."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from grav_actors.cli import foreground
from grav_actors.cli.failure import Failure
from grav_actors.cli.foreground import Foreground
from grav_actors.errors import ActorStartError


class FakeNode:
    """Stands for a node; `stop` calls `on_stop`, and waits for `may_stop`."""

    def __init__(self) -> None:
        self.stops = 0
        self.on_stop: Callable[[], object] = lambda: None
        self.actors: list[dict[str, Any]] = []
        self.may_stop = threading.Event()
        self.may_stop.set()
        self.is_bus_killed = False

    def stop(self) -> None:
        self.stops += 1
        self.on_stop()
        assert self.may_stop.wait(10)

    def _actors(self) -> list[dict[str, Any]]:
        return self.actors

    def _kill_bus(self) -> None:
        self.is_bus_killed = True


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def front(said: list[str]) -> Foreground:
    return Foreground(said.append)


def send_to_itself(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_first_signal_stops_it(front: Foreground, node: FakeNode, said: list[str], number: int, code: int) -> None:
    before = signal.getsignal(number)
    assert front.run(lambda: node, lambda _: send_to_itself(number)) == code
    assert node.stops == 1
    assert said == [f"{signal.Signals(number).name}: stopping; once more ends it at once"]
    assert signal.getsignal(number) is before


def test_somebody_asked_for_its_end(front: Foreground, node: FakeNode) -> None:
    assert front.run(lambda: node, lambda _: front.end("")) == 0
    assert node.stops == 1


def test_it_gave_up(front: Foreground, node: FakeNode) -> None:
    with pytest.raises(Failure, match="gave up: too many restarts") as caught:
        front.run(lambda: node, lambda _: front.end("too many restarts"))
    assert caught.value.code == 1
    assert node.stops == 1


def test_first_cause_counts(front: Foreground, node: FakeNode) -> None:
    def fill(_: object) -> None:
        front.end("")
        front.end("too many restarts")

    assert front.run(lambda: node, fill) == 0
    assert node.stops == 1


def test_node_does_not_start(front: Foreground) -> None:
    def make() -> FakeNode:
        raise ActorStartError("no")

    with pytest.raises(ActorStartError):
        front.run(make, lambda _: None)


def test_actor_does_not_start_and_the_others_are_stopped(front: Foreground, node: FakeNode) -> None:
    def fill(_: object) -> None:
        raise ActorStartError("no")

    with pytest.raises(ActorStartError):
        front.run(lambda: node, fill)
    assert node.stops == 1


def test_signal_while_the_node_is_made(front: Foreground, node: FakeNode) -> None:
    def make() -> FakeNode:
        send_to_itself(signal.SIGINT)
        return node

    assert front.run(make, lambda _: None) == 130
    assert node.stops == 1


def test_signal_while_an_actor_starts_ends_the_start(front: Foreground, node: FakeNode) -> None:
    stopped = threading.Event()
    node.on_stop = stopped.set

    def fill(_: object) -> None:
        send_to_itself(signal.SIGINT)
        assert stopped.wait(10)
        raise ActorStartError("the node is stopping")

    assert front.run(lambda: node, fill) == 130


def test_error_while_it_stops_is_raised(front: Foreground, node: FakeNode) -> None:
    def stop() -> None:
        raise OSError("no")

    node.on_stop = stop
    with pytest.raises(OSError, match="no"):
        front.run(lambda: node, lambda _: front.end(""))


def test_second_signal_ends_at_once(said: list[str], node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    cleaned: list[bool] = []

    def exit_now(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", exit_now)
    node.may_stop.clear()
    front = Foreground(said.append, lambda: cleaned.append(node.is_bus_killed))

    def fill(_: object) -> None:
        send_to_itself(signal.SIGTERM)
        send_to_itself(signal.SIGINT)

    with pytest.raises(Ended):
        front.run(lambda: node, fill)
    node.may_stop.set()
    assert codes == [130]
    assert cleaned == [True]


def test_it_ends_when_no_actor_is_left(said: list[str], node: FakeNode) -> None:
    front = Foreground(said.append, until_idle=True)
    node.actors.append({"name": "a"})

    assert front.run(lambda: node, lambda _: node.actors.clear()) == 0
    assert node.stops == 1


# SIGHUP


def test_hangup_reloads_and_does_not_end_it(said: list[str], node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "_has_terminal", lambda: False)
    ended = threading.Event()
    front = Foreground(said.append, on_hangup=ended.set)
    before = signal.getsignal(signal.SIGHUP)

    def end() -> None:
        assert ended.wait(10)
        front.end("")

    helper = threading.Thread(target=end)

    def fill(_: object) -> None:
        # Behind the word that all has started, which follows this function.
        front._events.put(foreground.Started())
        send_to_itself(signal.SIGHUP)
        helper.start()

    assert front.run(lambda: node, fill) == 0
    helper.join()
    assert said == []
    assert signal.getsignal(signal.SIGHUP) is before


def test_hangup_before_all_has_started_reloads_nothing(
    said: list[str], node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreground, "_has_terminal", lambda: False)
    calls: list[str] = []
    has_spoken = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        has_spoken.set()

    front = Foreground(say, on_hangup=lambda: calls.append("reload"))

    def fill(_: object) -> None:
        send_to_itself(signal.SIGHUP)
        assert has_spoken.wait(10)
        front.end("")

    assert front.run(lambda: node, fill) == 0
    assert calls == []
    assert said == ["SIGHUP: the actors are still being started; nothing is reloaded"]


def test_hangup_of_a_terminal_that_is_gone_ends_it(
    said: list[str], node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreground, "_has_terminal", lambda: True)
    calls: list[str] = []
    front = Foreground(said.append, on_hangup=lambda: calls.append("reload"))
    monkeypatch.setattr(foreground, "_has_terminal", lambda: False)
    assert front.run(lambda: node, lambda _: send_to_itself(signal.SIGHUP)) == 0
    assert (calls, node.stops) == ([], 1)
    assert said == ["SIGHUP: stopping; once more ends it at once"]


def test_its_end_is_told_once_when_it_begins(said: list[str], node: FakeNode) -> None:
    told: list[int] = []
    front = Foreground(said.append, on_stopping=lambda: told.append(node.stops))

    def fill(_: object) -> None:
        front.end("")
        send_to_itself(signal.SIGTERM)

    assert front.run(lambda: node, fill) == 0
    assert told == [0]
