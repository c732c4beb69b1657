"""Whoever waits serves the socket: which thread reads an answer, and what Ctrl-C in the middle of it does."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from grav_actors import Actor, Grav, GravError, Message, on_type
from grav_actors.pod.link import Link

LIMIT = 20.0
TRIES = 100


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
    receive = link._receive

    def note(now: float) -> Any:
        readers.append(threading.get_ident())
        return receive(now)

    other.ask("duty.ask", 0, to="echo")
    monkeypatch.setattr(link, "_receive", note)
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
    receive = link._receive

    def note(now: float) -> Any:
        readers.append(threading.get_ident())
        return receive(now)

    def handle(msg: Message) -> None:
        threads.append(threading.get_ident())
        is_handled.set()

    pod = other.connect()
    pod.on_type("duty.tick", handle)
    monkeypatch.setattr(link, "_receive", note)
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


class Courteous(Actor):
    """Answers in a loop of its own; what it is asked tells it how long to sleep first, or to block."""

    @on_type("duty.sleep")
    async def sleep(self, msg: Message) -> Any:
        """Let the loop run meanwhile."""
        await asyncio.sleep(msg.data)
        return msg.data

    @on_type("duty.block")
    async def block(self, msg: Message) -> Any:
        """Hold the loop up meanwhile."""
        threading.Event().wait(msg.data)
        return msg.data


def test_the_loop_that_asks_reads_its_own_answers(other: Grav, monkeypatch: pytest.MonkeyPatch) -> None:
    link = link_of(other)
    readers: list[int] = []
    receive = link._receive

    def note(now: float) -> Any:
        readers.append(threading.get_ident())
        return receive(now)

    async def main() -> None:
        await other.actor("echo").ask_async("duty.ask", 0)
        monkeypatch.setattr(link, "_receive", note)
        for number in range(50):
            assert await other.actor("echo").ask_async("duty.ask", number) == number

    asyncio.run(main())
    # On a busy machine the relief thread may help now and then.
    assert readers.count(threading.get_ident()) > len(readers) // 2


def test_loops_and_threads_that_ask_over_one_link_get_their_own_answers(other: Grav) -> None:
    echo = other.actor("echo")
    wrong: list[Any] = []

    def check(asked: Any, answer: Any) -> None:
        if answer != asked:
            wrong.append((asked, answer))

    def in_thread(who: str) -> None:
        for number in range(60):
            check([who, number], echo.ask("duty.ask", [who, number], timeout=LIMIT))

    async def ask_on(who: str) -> None:
        for number in range(30):
            check([who, number], await echo.ask_async("duty.ask", [who, number], timeout=LIMIT))

    async def ask_together(who: str) -> None:
        await asyncio.gather(*(ask_on(f"{who}.{task}") for task in range(8)))

    threads = [threading.Thread(target=in_thread, args=(f"thread {index}",)) for index in range(2)]
    threads += [threading.Thread(target=lambda: asyncio.run(ask_together("loop"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_question_that_is_cancelled_in_its_loop_is_taken_back_and_others_are_answered(
    node: Grav, other: Grav
) -> None:
    cancelled = threading.Event()
    is_asked = threading.Event()
    pod = node.connect()

    def look(msg: Message) -> None:
        is_asked.set()
        deadline = time.monotonic() + LIMIT
        while not msg.cancelled and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        if msg.cancelled:
            cancelled.set()

    pod.on_type("duty.patience", look)

    async def main() -> None:
        task = asyncio.create_task(other._pod.ask_async("duty.patience", timeout=LIMIT))
        assert await asyncio.to_thread(is_asked.wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await other.actor("echo").ask_async("duty.ask", "still") == "still"

    asyncio.run(main())
    assert cancelled.wait(LIMIT)
    pod.disconnect()


def test_a_link_whose_loop_has_ended_on_duty_is_served_on(node: Grav, other: Grav) -> None:
    got: list[Any] = []
    is_there = threading.Event()
    pod = other.connect()

    def take(msg: Message) -> None:
        got.append(msg.data)
        is_there.set()

    pod.on_type("duty.after", take)
    for number in range(3):
        asyncio.run(_ask_once(other, number))
        is_there.clear()
        node.publish("duty.after", number)
        assert is_there.wait(LIMIT)
    assert got == [0, 1, 2]
    pod.disconnect()


async def _ask_once(grav: Grav, number: int) -> None:
    assert await grav.actor("echo").ask_async("duty.ask", number) == number


@pytest.mark.parametrize("how", ["duty.sleep", "duty.block"])
def test_while_the_loop_of_an_actor_waits_or_is_held_up_its_link_is_served(how: str) -> None:
    with Grav() as grav:
        grav.spawn(Courteous, name="courteous", kind="thread")
        grav.spawn(Echo, name="echo-too", kind="thread")
        courteous, echo = grav.actor("courteous"), grav.actor("echo-too")
        for number in range(10):
            assert courteous.ask(how, 0) == 0
            assert echo.ask("duty.ask", number) == number
        outcome: list[Any] = []
        slow = threading.Thread(target=lambda: outcome.append(courteous.ask(how, 0.5, timeout=LIMIT)))
        slow.start()
        asked = 0
        while not outcome:
            assert echo.ask("duty.ask", asked, timeout=LIMIT) == asked
            asked += 1
        slow.join()
        assert outcome == [0.5]
        assert asked > 1  # it was served meanwhile


def test_stopping_a_node_in_its_own_loop_ends_what_waits_there(node: Grav) -> None:
    async def main() -> None:
        grav = Grav(bus=node.bus_endpoint)
        grav.connect().on_type("duty.never", lambda msg: None)
        echo = grav.actor("echo")
        assert await echo.ask_async("duty.ask", 1) == 1
        waiting = asyncio.create_task(grav._pod.ask_async("duty.nobody.at.all", timeout=None, to="echo"))
        await asyncio.sleep(0)
        grav.stop()
        with pytest.raises(GravError):
            await waiting

    asyncio.run(main())


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
    receive = link._receive
    asking: list[int] = []

    def interrupt(now: float) -> Any:
        if threading.get_ident() not in asking:
            return receive(now)
        try:
            link._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return receive(now)
        raise KeyboardInterrupt

    def ask_again_and_again() -> None:
        for _ in range(TRIES):  # on a busy machine another thread may read an answer
            other.ask("duty.ask", "lost", to="echo", timeout=LIMIT)

    def ask() -> None:
        asking.append(threading.get_ident())
        with pytest.raises(KeyboardInterrupt):
            ask_again_and_again()

    with monkeypatch.context() as patch:
        patch.setattr(link, "_receive", interrupt)
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
