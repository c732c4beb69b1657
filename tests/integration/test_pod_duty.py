"""Whoever waits serves the socket: which thread reads an answer, and what Ctrl-C in the middle of it does."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from grav_actors import Actor, Grav, Message, on_type
from grav_actors.pod.link import Link

LIMIT = 20.0


class Echo(Actor):
    """Answers with what it was asked."""

    @on_type("duty.ask")
    def answer(self, msg: Message) -> Any:
        """Return the data."""
        return msg.data


@pytest.fixture(scope="module")
def node() -> Iterator[Grav]:
    with Grav() as grav:
        grav.spawn(Echo, name="echo", kind="thread")
        yield grav


@pytest.fixture
def other(node: Grav) -> Iterator[Grav]:
    """A second link to the same bus: the answers do not come from threads beside it."""
    with Grav(bus=node.bus_endpoint) as grav:
        yield grav


def link_of(grav: Grav) -> Link:
    assert grav._link is not None
    return grav._link


def test_the_thread_that_asks_reads_its_own_answer(other: Grav, monkeypatch: pytest.MonkeyPatch) -> None:
    link = link_of(other)
    readers: list[int] = []
    drain = link._drain

    def note(now: float) -> Any:
        readers.append(threading.get_ident())
        return drain(now)

    other.ask("duty.ask", 0, to="echo")
    monkeypatch.setattr(link, "_drain", note)
    # One or two of many may have been read by the thread that served before the first question was asked.
    for number in range(50):
        assert other.ask("duty.ask", number, to="echo") == number
    assert readers.count(threading.get_ident()) >= 40


def test_the_thread_of_a_handler_reads_its_own_messages(
    node: Grav, other: Grav, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = link_of(other)
    threads: list[int] = []
    readers: list[int] = []
    is_handled = threading.Event()
    drain = link._drain

    def note(now: float) -> Any:
        readers.append(threading.get_ident())
        return drain(now)

    def handle(msg: Message) -> None:
        threads.append(threading.get_ident())
        is_handled.set()

    pod = other.connect()
    pod.on_type("duty.tick", handle)
    monkeypatch.setattr(link, "_drain", note)
    for _ in range(20):
        is_handled.clear()
        node.publish("duty.tick")
        assert is_handled.wait(LIMIT)
    assert set(threads) <= set(readers)
    pod.disconnect()


def test_a_question_in_a_handler_is_answered_while_its_thread_is_the_only_one(other: Grav) -> None:
    answers: list[Any] = []
    is_done = threading.Event()
    pod = other.connect()

    def handle(msg: Message) -> None:
        answers.append(pod.ask("duty.ask", msg.data, to="echo"))
        if msg.data == 19:
            is_done.set()

    pod.on_type("duty.number", handle)
    for number in range(20):
        other.publish("duty.number", number)
    assert is_done.wait(LIMIT)
    assert answers == list(range(20))
    pod.disconnect()


def test_many_threads_that_ask_at_once_get_their_own_answers(other: Grav) -> None:
    wrong: list[Any] = []

    def ask(first: int) -> None:
        for number in range(first, first + 40):
            answer = other.ask("duty.ask", number, to="echo", timeout=LIMIT)
            if answer != number:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Once:
    """Calls a function, and raises KeyboardInterrupt the first time that it is called with what is looked for."""

    def __init__(self, function: Any, *, after: bool) -> None:
        self._function = function
        self._after = after
        self.has_raised = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self.has_raised:
            return self._function(*args, **options)
        if self._after:
            self._function(*args, **options)
        self.has_raised = True
        raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True])
def test_ctrl_c_between_the_frames_of_what_is_sent_loses_nothing(
    node: Grav, other: Grav, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    got: list[Any] = []
    receiver = node.connect()
    receiver.on_type("duty.kept", lambda msg: got.append(msg.data))
    pod = other.connect()
    pod.publish("duty.kept", 0)
    pod.flush(LIMIT, settled=True)
    link = link_of(other)
    once = Once(link._send_part, after=after)
    monkeypatch.setattr(link, "_send_part", once)
    pod._core.sync()
    with pytest.raises(KeyboardInterrupt), link.lock:
        link.send_out(pod)
    for number in range(1, 10):
        pod.publish("duty.kept", number)
    pod.flush(LIMIT, settled=True)
    assert got == list(range(10))
    assert other.ask("duty.ask", "still", to="echo") == "still"
    for one in (receiver, pod):
        one.disconnect()


def test_ctrl_c_while_frames_are_taken_loses_no_message(
    node: Grav, other: Grav, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Any] = []
    pod = other.connect()
    pod.on_type("duty.taken", lambda msg: got.append(msg.data))
    link = link_of(other)
    drain = link._drain
    asking: list[int] = []

    def interrupt(now: float) -> Any:
        if threading.get_ident() not in asking:
            return drain(now)
        link._socket.recv()  # half of what there is
        raise KeyboardInterrupt

    def ask() -> None:
        asking.append(threading.get_ident())
        with pytest.raises(KeyboardInterrupt):
            other.ask("duty.ask", "lost", to="echo", timeout=LIMIT)

    with monkeypatch.context() as patch:
        patch.setattr(link, "_drain", interrupt)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive()
    for number in range(10):
        node.publish("duty.taken", number)
    node._pod.flush(LIMIT, settled=True)
    assert got == list(range(10))
    assert other.ask("duty.ask", "again", to="echo", timeout=LIMIT) == "again"
    pod.disconnect()
