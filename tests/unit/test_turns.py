"""Events of a hub: one at a time, in order, on whichever thread has the turn."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from grav_actors.mesh.turns import Turns

PATIENCE = 20.0


class Diary:
    """Notes what is done, and on which thread."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, int]] = []
        self.finishes = 0
        self.ticked = threading.Event()
        self.turns = Turns("turns", self._finish, self._tick, logging.getLogger(__name__))

    def _finish(self, now: float) -> None:
        self.finishes += 1

    def _tick(self, now: float) -> None:
        self.ticked.set()

    def note(self, name: Any) -> Any:
        return lambda now: self.done.append((name, threading.get_ident()))

    def names(self) -> list[Any]:
        return [name for name, _ in self.done]

    def settle(self) -> None:
        """Return when everything that was put before is done."""
        over = threading.Event()
        self.turns.put(lambda now: over.set())
        assert over.wait(PATIENCE)


@pytest.fixture
def diary() -> Iterator[Diary]:
    diary = Diary()
    diary.turns.start()
    yield diary
    diary.turns.stop()


def hold(diary: Diary) -> threading.Event:
    """Keep the turn until the event that is returned is set."""
    held, release = threading.Event(), threading.Event()

    def keep(now: float) -> None:
        held.set()
        release.wait(PATIENCE)

    diary.turns.put(keep)
    assert held.wait(PATIENCE)
    return release


def test_event_is_done_at_once_on_the_thread_on_which_it_comes(diary: Diary) -> None:
    before = diary.finishes
    assert diary.turns.act(diary.note("now"))
    assert diary.done == [("now", threading.get_ident())]
    assert diary.finishes > before


def test_event_that_comes_while_others_are_done_is_left_to_the_caller(diary: Diary) -> None:
    release = hold(diary)
    assert not diary.turns.act(diary.note("now"))
    diary.turns.put(diary.note("first"))
    diary.turns.put(diary.note("second"))
    release.set()
    diary.settle()

    assert diary.names() == ["first", "second"]
    assert {thread for _, thread in diary.done} != {threading.get_ident()}


def test_event_goes_past_none_that_waits() -> None:
    diary = Diary()
    diary.turns.put(diary.note("waits"))
    assert not diary.turns.act(diary.note("now")), "it has not begun"
    diary.turns.start()
    diary.settle()
    diary.turns.stop()

    assert diary.names() == ["waits"]


def test_event_that_raises_ends_nothing(diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    def fail(now: float) -> None:
        raise ValueError("no good")

    assert diary.turns.act(fail)
    diary.turns.put(fail)
    diary.settle()
    assert diary.turns.act(diary.note("next"))
    assert caplog.text.count("an event of the mesh failed") == 2


def test_events_of_many_threads_are_done_one_at_a_time_each_once(diary: Diary) -> None:
    inside = 0

    def enter(thread: int, number: int) -> Any:
        def event(now: float) -> None:
            nonlocal inside
            inside += 1
            assert inside == 1
            diary.done.append((thread, number))
            inside -= 1

        return event

    def work(thread: int) -> None:
        for number in range(300):
            event = enter(thread, number)
            if not diary.turns.act(event):
                diary.turns.put(event)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    diary.settle()

    for index in range(4):
        assert [number for one, number in diary.done if one == index] == list(range(300))


def test_time_is_passed_on(diary: Diary) -> None:
    assert diary.ticked.wait(PATIENCE)


def test_nothing_is_done_after_the_end() -> None:
    diary = Diary()
    diary.turns.start()
    diary.turns.put(diary.note("last"))
    diary.turns.stop()
    assert not diary.turns.act(diary.note("late"))

    assert diary.names() == ["last"]
