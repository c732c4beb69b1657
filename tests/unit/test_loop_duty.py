"""An event loop serves the socket of a link while its coroutines wait, and gives it up to whoever comes before it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from grav_actors.ids import new_id
from grav_actors.pod.loop_duty import LoopServer
from grav_actors.pod.replies import Heading
from grav_actors.pod.waiter import LATE, LoopQuestion, waker_of
from grav_actors.protocol import KIND_ASK
from support.line import LIMIT, Asker, Line, until


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_in_loop(line: Line, timeout: float | None = LIMIT) -> LoopQuestion:
    """Have the running loop serve, and return what to wait at."""
    loop = asyncio.get_running_loop()
    waker = waker_of(loop)
    question = LoopQuestion(1, new_id(), Heading(KIND_ASK, "x", "a"), waker.expect(loop, timeout))
    question.waker, question.later = waker, line.duty.later
    with line.lock:
        line.duty.serve_in(loop)
    return question


async def outcome_of(question: LoopQuestion) -> Any:
    try:
        return await question.waiter
    finally:
        forget(question)


def forget(question: LoopQuestion) -> None:
    """Have the loop wait for it no longer."""
    del waker_of(asyncio.get_running_loop()).waiting[question.waiter]


async def until_async(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + LIMIT
    while not condition():
        assert monotonic() < deadline
        await asyncio.sleep(0.001)  # it is another thread that does it


def in_thread(run: Callable[[], Awaitable[Any]]) -> threading.Thread:
    async def main() -> None:
        await run()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    return thread


def is_served_by_a_loop(line: Line) -> bool:
    return isinstance(line.duty._holder, LoopServer)


def test_the_loop_of_a_coroutine_that_waits_serves_itself(line: Line) -> None:
    async def main() -> tuple[Any, list[int]]:
        threads: list[int] = []
        question = wait_in_loop(line)

        def resolve() -> None:
            threads.append(threading.get_ident())
            question.resolve("answer")

        line.give(resolve)
        return await outcome_of(question), threads

    assert asyncio.run(main()) == ("answer", [threading.get_ident()])


def test_an_error_ends_the_wait_of_a_coroutine(line: Line) -> None:
    async def main() -> None:
        question = wait_in_loop(line)
        line.give(lambda: question.fail(KeyError("stopped")))
        with pytest.raises(KeyError, match="stopped"):
            await outcome_of(question)

    asyncio.run(main())


def test_a_coroutine_is_told_that_its_time_is_up(line: Line) -> None:
    async def main() -> Any:
        return await outcome_of(wait_in_loop(line, 0.001))

    assert asyncio.run(main()) is LATE


def test_while_the_loop_runs_something_else_the_relief_thread_serves(line: Line) -> None:
    async def main() -> Any:
        question = wait_in_loop(line)
        await asyncio.sleep(0)
        assert is_served_by_a_loop(line)
        assert line.served_by() == line.duty._thread.ident  # blocks the loop meanwhile
        line.give(lambda: question.resolve("late"))
        return await outcome_of(question)

    assert asyncio.run(main()) == "late"


def test_the_loop_takes_the_duty_again_with_its_next_question(line: Line) -> None:
    async def main() -> None:
        first = wait_in_loop(line)
        await asyncio.sleep(0)
        line.served_by()
        line.give(lambda: first.resolve(None))
        await outcome_of(first)
        second = wait_in_loop(line)
        assert is_served_by_a_loop(line)
        line.give(lambda: second.resolve(None))
        await outcome_of(second)

    asyncio.run(main())


def test_a_thread_that_waits_takes_the_duty_from_a_loop_and_serves_its_coroutines(line: Line) -> None:
    async def main() -> Any:
        question = wait_in_loop(line)
        asker = Asker(line)
        await until_async(lambda: line.duty._holder is asker.waiter)
        line.give(lambda: question.resolve("from the thread"))
        answer = await outcome_of(question)
        line.give(lambda: asker.waiter.resolve(None))
        asker.join()
        return answer

    assert asyncio.run(main()) == "from the thread"


def test_a_loop_on_which_nobody_waits_leaves_the_duty(line: Line) -> None:
    async def main() -> None:
        question = wait_in_loop(line)
        line.give(lambda: question.resolve(None))
        await outcome_of(question)
        with line.lock:
            line.duty.wake()
        while is_served_by_a_loop(line):
            await asyncio.sleep(0.005)
            with line.lock:
                line.duty.wake()

    before = open_descriptors()
    asyncio.run(main())
    assert open_descriptors() == before


def test_the_relief_thread_follows_a_loop_that_has_ended_on_duty(line: Line) -> None:
    async def main() -> None:
        wait_in_loop(line)

    before = open_descriptors()
    asyncio.run(main())
    assert line.served_by() == line.duty._thread.ident
    until(lambda: open_descriptors() == before)


def test_several_loops_get_their_own_outcomes(line: Line) -> None:
    answers: dict[int, Any] = {}
    questions: dict[int, LoopQuestion] = {}

    def serve(number: int) -> Callable[[], Awaitable[None]]:
        async def main() -> None:
            questions[number] = wait_in_loop(line)
            answers[number] = await outcome_of(questions[number])

        return main

    threads = [in_thread(serve(number)) for number in range(3)]
    until(lambda: len(questions) == 3)
    for number, question in questions.items():
        line.give(lambda number=number, question=question: question.resolve(number))  # type: ignore[misc]
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert answers == {0: 0, 1: 1, 2: 2}


def test_closing_takes_the_duty_from_a_loop_and_leaves_no_descriptor() -> None:
    before = open_descriptors()

    async def main() -> None:
        line = Line()
        question = wait_in_loop(line)
        await asyncio.sleep(0)
        line.close()
        forget(question)

    asyncio.run(main())
    assert open_descriptors() == before


def test_an_interrupted_loop_leaves_a_torn_link_and_its_duty(line: Line) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        question = wait_in_loop(line)
        line.give(interrupt)
        await outcome_of(question)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert line.is_torn
    assert line.served_by() == line.duty._thread.ident


def test_a_loop_that_cannot_watch_descriptors_leaves_the_duty_to_the_relief_thread(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError

    async def main() -> Any:
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        question = wait_in_loop(line)
        assert not is_served_by_a_loop(line)
        line.give(lambda: question.resolve("relieved"))
        return await outcome_of(question)

    assert asyncio.run(main()) == "relieved"
