"""Who serves the socket of a link: whoever waits, one at a time, and the relief thread while nobody does."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from grav_actors.pod.callbacks import Callbacks
from grav_actors.pod.duty import POSTS
from grav_actors.pod.waiter import Waiter
from support.line import LIMIT, Asker, Line, until


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


class FakePod:
    """What a callback thread needs of a pod."""

    name = label = "fake"
    _gate = None

    def __init__(self, line: Line) -> None:
        self._link = line


class Idle(Callbacks):
    """A callback thread that notes who it is, and does nothing else."""

    def __init__(self, line: Line) -> None:
        super().__init__(cast("Any", FakePod(line)))

    def _flush(self, now: float, is_idle: bool) -> None:
        pass


def call(line: Line, callbacks: Idle) -> int:
    """Have a callback thread called; return which it is."""
    found: list[int] = []
    is_called = threading.Event()

    def job() -> None:
        found.append(threading.get_ident())
        is_called.set()

    with line.lock:
        callbacks.put(job)
    assert is_called.wait(LIMIT)
    return found[0]


def stop(line: Line, callbacks: Idle) -> None:
    with line.lock:
        callbacks.stop()
    assert callbacks.join(LIMIT)


def test_the_relief_thread_serves_while_nobody_waits(line: Line) -> None:
    assert line.served_by() == line.duty._thread.ident


def test_a_thread_that_waits_serves_itself(line: Line) -> None:
    asker = Asker(line)
    until(lambda: line.duty._holder is asker.waiter)
    assert line.served_by() == asker.ident
    line.give(lambda: asker.waiter.resolve("answer"))
    asker.join()
    assert asker.result
    assert asker.waiter.result() == "answer"


def test_the_relief_thread_takes_over_when_the_wait_is_over(line: Line) -> None:
    asker = Asker(line)
    until(lambda: line.duty._holder is asker.waiter)
    line.give(lambda: asker.waiter.resolve(None))
    asker.join()
    assert line.served_by() == line.duty._thread.ident


def test_an_outcome_that_another_thread_gives_ends_the_wait(line: Line) -> None:
    asker = Asker(line, None)
    until(lambda: line.duty._holder is asker.waiter)
    with line.lock:
        asker.waiter.fail(KeyError("stopped"))
    asker.join()
    assert asker.result


def test_of_many_that_wait_one_serves_and_is_followed_by_another(line: Line) -> None:
    askers = [Asker(line) for _ in range(8)]
    until(lambda: len(line.duty._waiting) == 7)
    while askers:
        until(lambda: any(line.duty._holder is asker.waiter for asker in askers))
        serving = next(asker for asker in askers if line.duty._holder is asker.waiter)
        line.give(lambda serving=serving: serving.waiter.resolve(None))  # type: ignore[misc]
        serving.join()
        assert serving.result
        askers.remove(serving)
    assert line.served_by() == line.duty._thread.ident


def test_those_that_wait_while_another_serves_get_their_outcomes_from_it(line: Line) -> None:
    first = Asker(line)
    until(lambda: line.duty._holder is first.waiter)
    others = [Asker(line) for _ in range(4)]
    until(lambda: len(line.duty._waiting) == 4)
    for other in others:
        line.give(lambda other=other: other.waiter.resolve(None))  # type: ignore[misc]
        other.join()
        assert other.result
    line.give(lambda: first.waiter.resolve(None))
    first.join()


@pytest.mark.parametrize("is_serving", [True, False])
def test_a_limit_ends_the_wait_and_the_duty(line: Line, is_serving: bool) -> None:
    holder = None if is_serving else Asker(line)
    if holder is not None:
        until(lambda: line.duty._holder is holder.waiter)
    asker = Asker(line, 0.02)
    asker.join()
    assert asker.result is False
    if holder is not None:
        line.give(lambda: holder.waiter.resolve(None))
        holder.join()
    assert line.served_by() == line.duty._thread.ident


def test_a_callback_thread_with_nothing_to_do_serves(line: Line) -> None:
    callbacks = Idle(line)
    ident = call(line, callbacks)
    until(lambda: line.duty._holder is callbacks)
    assert line.served_by() == ident
    stop(line, callbacks)
    assert line.served_by() == line.duty._thread.ident


def test_a_callback_thread_leaves_the_duty_to_one_that_waits_and_is_still_called(line: Line) -> None:
    callbacks = Idle(line)
    ident = call(line, callbacks)
    until(lambda: line.duty._holder is callbacks)
    asker = Asker(line)
    until(lambda: line.duty._holder is asker.waiter)
    assert line.served_by() == asker.ident
    assert call(line, callbacks) == ident
    line.give(lambda: asker.waiter.resolve(None))
    asker.join()
    stop(line, callbacks)


def test_a_callback_thread_that_is_called_again_and_again_takes_the_duty_from_an_idle_one(line: Line) -> None:
    idle, busy = Idle(line), Idle(line)
    call(line, idle)
    until(lambda: line.duty._holder is idle)
    call(line, busy)
    until(lambda: busy.is_resting)
    while line.duty._holder is idle:
        call(line, busy)
        until(lambda: busy.is_resting or line.duty._holder is busy)
    assert line.duty._holder is busy
    for callbacks in (idle, busy):
        stop(line, callbacks)


def test_while_a_callback_runs_the_relief_thread_serves(line: Line) -> None:
    callbacks = Idle(line)
    is_in, is_over = threading.Event(), threading.Event()

    def job() -> None:
        is_in.set()
        is_over.wait(LIMIT)

    with line.lock:
        callbacks.put(job)
    assert is_in.wait(LIMIT)
    assert line.served_by() == line.duty._thread.ident
    is_over.set()
    stop(line, callbacks)


def test_an_interrupted_thread_leaves_a_torn_link_and_its_duty() -> None:
    line = Line()
    asker_error: list[BaseException] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def ask() -> None:
        try:
            line.duty.wait(waiter, LIMIT)
        except KeyboardInterrupt as exc:
            asker_error.append(exc)

    waiter = Waiter()
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: line.duty._holder is waiter)
    line.give(interrupt)
    thread.join(LIMIT)
    assert asker_error
    assert line.is_torn
    assert line.served_by() == line.duty._thread.ident
    line.close()


def test_a_call_that_was_put_off_is_made_although_its_thread_is_interrupted_before_it(line: Line) -> None:
    made: list[int] = []
    errors: list[BaseException] = []

    def call() -> None:
        made.append(len(made))
        if len(made) == 1:
            raise KeyboardInterrupt  # as if it came right before the call

    def ask() -> None:
        try:
            line.duty.wait(waiter, LIMIT)
        except KeyboardInterrupt as exc:
            errors.append(exc)

    waiter = Waiter()
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: line.duty._holder is waiter)

    def put_off() -> None:
        line.duty.later(call)
        line.duty.later(lambda: made.append(9))

    line.give(put_off)
    thread.join(LIMIT)
    assert errors
    assert made == [0, 1, 9]
    assert not line.is_torn, "it had done with the link"


def test_many_callback_threads_and_askers_leave_no_post_behind(line: Line) -> None:
    many = [Idle(line) for _ in range(2 * POSTS)]
    for _ in range(20):
        for callbacks in many:
            call(line, callbacks)
        asker = Asker(line)
        line.give(lambda asker=asker: asker.waiter.resolve(None))  # type: ignore[misc]
        asker.join()
        assert asker.result
    for callbacks in many:
        stop(line, callbacks)
    until(lambda: len(line.duty._spare) == POSTS - 1)


def test_closing_ends_every_wait() -> None:
    line = Line()
    askers = [Asker(line, None) for _ in range(3)]
    until(lambda: len(line.duty._waiting) == 2)
    line.close()
    for asker in askers:
        asker.join()
        assert not asker.result
