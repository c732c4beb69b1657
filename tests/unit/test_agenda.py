"""The agenda of a supervisor: what is due is done in order, by one thread."""

import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from grav_actors.supervisor.agenda import Agenda

LIMIT = 10.0


@pytest.fixture
def agenda() -> Iterator[Agenda]:
    made = Agenda("test-agenda")
    yield made
    made.close()


def test_jobs_are_done_when_they_are_due_in_order(agenda: Agenda) -> None:
    done: SimpleQueue[str] = SimpleQueue()
    may_begin = threading.Event()
    agenda.add(0.0, lambda: print(may_begin.wait(LIMIT)))  # noqa: T201  (a job returns nothing)
    agenda.add(0.02, lambda: done.put("last"))
    agenda.add(0.0, lambda: done.put("first"))
    agenda.add(0.0, lambda: done.put("second"))
    may_begin.set()
    assert [done.get(timeout=LIMIT) for _ in range(3)] == ["first", "second", "last"]


def test_job_that_raises_is_logged_and_the_next_is_done(agenda: Agenda, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no")

    done = threading.Event()
    with caplog.at_level(logging.ERROR):
        agenda.add(0.0, fail)
        agenda.add(0.0, done.set)
        assert done.wait(LIMIT)
    assert "test-agenda met an error" in caplog.text


def test_nothing_is_done_after_close(agenda: Agenda) -> None:
    done: list[int] = []
    agenda.add(3600.0, lambda: done.append(1))
    agenda.close()
    agenda.add(0.0, lambda: done.append(2))
    agenda.close()
    assert done == []


def test_close_waits_for_the_job_that_runs(agenda: Agenda) -> None:
    done: list[int] = []
    runs, may_end = threading.Event(), threading.Event()

    def job() -> None:
        runs.set()
        assert may_end.wait(LIMIT)
        done.append(1)

    agenda.add(0.0, job)
    assert runs.wait(LIMIT)
    threading.Timer(0.01, may_end.set).start()
    agenda.close()
    assert done == [1]


def test_job_may_close_its_agenda(agenda: Agenda) -> None:
    done = threading.Event()

    def job() -> None:
        agenda.close()
        done.set()

    agenda.add(0.0, job)
    assert done.wait(LIMIT)


def test_agenda_without_jobs_has_no_thread() -> None:
    before = threading.active_count()
    agenda = Agenda("unused")
    assert threading.active_count() == before
    agenda.close()
