"""One outcome, once, for threads and for coroutines."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from grav_actors.ids import new_id
from grav_actors.pod.replies import Heading
from grav_actors.pod.waiter import LATE, LoopQuestion, Waiter, waker_of
from grav_actors.protocol import KIND_ASK

LIMIT = 5.0


def test_the_first_outcome_counts() -> None:
    waiter = Waiter()
    waiter.resolve(1)
    waiter.resolve(2)
    waiter.fail(ValueError("late"))
    assert waiter.wait(0)
    assert waiter.result() == 1


def test_an_error_is_raised_by_result() -> None:
    waiter = Waiter()
    waiter.fail(KeyError("gone"))
    assert waiter.wait(None)
    with pytest.raises(KeyError, match="gone"):
        waiter.result()


def test_zero_looks_once() -> None:
    waiter = Waiter()
    assert not waiter.wait(0)
    waiter.resolve(None)
    assert waiter.wait(0)


def test_a_thread_is_woken() -> None:
    waiter = Waiter()
    thread = threading.Thread(target=lambda: waiter.resolve("x"))
    thread.start()
    assert waiter.wait(LIMIT)
    thread.join()
    assert waiter.result() == "x"


def test_it_can_be_waited_for_again_after_a_limit_has_passed() -> None:
    waiter = Waiter()
    assert not waiter.wait(0.001)
    waiter.resolve(7)
    assert waiter.wait(0.001)
    assert waiter.wait(LIMIT)


def test_a_coroutine_is_woken_from_another_thread() -> None:
    async def scenario() -> list[int]:
        waiters = [Waiter() for _ in range(100)]

        def resolve_all() -> None:
            for number, waiter in enumerate(waiters):
                waiter.resolve(number)

        thread = threading.Thread(target=resolve_all)
        waits = [asyncio.ensure_future(waiter.wait_async(LIMIT)) for waiter in waiters]
        await asyncio.sleep(0)  # lets the waits begin
        thread.start()
        assert all(await asyncio.gather(*waits))
        thread.join()
        return [waiter.result() for waiter in waiters]

    assert asyncio.run(scenario()) == list(range(100))


def test_an_outcome_before_the_wait_is_seen_in_a_coroutine() -> None:
    waiter = Waiter()
    waiter.resolve(None)
    assert asyncio.run(waiter.wait_async(None))


def test_a_coroutine_waits_no_longer_than_its_limit() -> None:
    assert not asyncio.run(Waiter().wait_async(0.001))


def test_an_outcome_after_the_loop_is_closed_is_kept() -> None:
    waiter = Waiter()
    assert not asyncio.run(waiter.wait_async(0.001))
    waiter.resolve(3)
    assert waiter.result() == 3


def test_a_shorter_limit_that_comes_later_ends_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[list[str]]:
        loop = asyncio.get_running_loop()
        now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now)
        ended: list[str] = []

        async def wait(name: str, limit: float) -> None:
            assert not await Waiter().wait_async(limit)
            ended.append(name)

        limits = {"long": 300.0, "short": 200.0, "shorter": 100.0}
        tasks = [asyncio.create_task(wait(name, limit)) for name, limit in limits.items()]
        seen: list[list[str]] = []
        for _ in range(4):
            for _ in range(5):
                await asyncio.sleep(0)
            seen.append(list(ended))
            now += 101.0
        await asyncio.gather(*tasks)
        return seen

    assert asyncio.run(scenario()) == [[], ["shorter"], ["shorter", "short"], ["shorter", "short", "long"]]


def test_what_wakes_the_loop_can_be_put_off_and_wakes_for_all() -> None:
    async def scenario() -> list[Any]:
        loop = asyncio.get_running_loop()
        calls: list[Callable[[], None]] = []
        waker = waker_of(loop)
        heading = Heading(KIND_ASK, "x", "a")
        futures = [waker.expect(loop, LIMIT) for _ in range(3)]
        for number, future in enumerate(futures):
            question = LoopQuestion(number + 1, new_id(), heading, future)
            question.waker, question.later = waker, calls.append
            question.resolve(number)
        await asyncio.sleep(0.01)
        assert not any(future.done() for future in futures)
        (call,) = calls
        call()
        return list(await asyncio.gather(*futures))

    assert asyncio.run(scenario()) == [0, 1, 2]


def test_a_blocked_thread_that_is_called_comes_back_without_an_outcome_and_can_block_again() -> None:
    waiter = Waiter()
    waiter.call()
    assert waiter.block(LIMIT)
    assert waiter.take_call()
    assert not waiter.is_done
    assert not waiter.block(0.001)
    assert not waiter.take_call()
    waiter.resolve(1)
    assert waiter.block(LIMIT)
    assert waiter.result() == 1


def test_an_outcome_that_follows_a_call_is_not_lost() -> None:
    waiter = Waiter()
    waiter.call()
    waiter.resolve(1)
    assert waiter.block(LIMIT)
    assert waiter.take_call()
    assert waiter.is_done


def test_a_wait_that_ends_while_it_is_looked_who_is_late_keeps_nobody_else_waiting() -> None:
    class Due(float):
        """A time at whose comparison a coroutine is closed that nobody has any more: as the garbage collector may."""

        def __le__(self, other: float) -> bool:
            waker.waiting.pop(gone, None)
            return True

    async def scenario() -> None:
        for future in futures:
            waker.waiting[future] = Due(0)
        waker.waiting[gone] = 0.0
        waker._expire()
        assert [await future for future in futures] == [LATE, LATE]
        assert set(waker.waiting) == set(futures)

    loop = asyncio.new_event_loop()
    waker = waker_of(loop)
    gone, *futures = [waker.expect(loop, LIMIT) for _ in range(3)]
    loop.run_until_complete(scenario())
    loop.close()
