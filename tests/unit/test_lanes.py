"""Lanes: in order for one name, side by side for others."""

import threading

import pytest

from grav_actors.supervisor.lanes import Lanes

LIMIT = 30.0


def test_jobs_of_one_name_are_done_in_order_and_one_at_a_time() -> None:
    lanes = Lanes("test")
    gate = threading.Event()
    done: list[int] = []

    def job(number: int) -> None:
        assert gate.wait(LIMIT)
        done.append(number)

    for number in range(50):
        lanes.add("a", lambda number=number: job(number))  # type: ignore[misc]
    gate.set()
    assert lanes.join(LIMIT)
    assert done == list(range(50))


def test_job_that_waits_holds_up_no_other_name() -> None:
    lanes = Lanes("test")
    gate, passed = threading.Event(), threading.Event()

    def wait() -> None:
        gate.wait(LIMIT)

    lanes.add("slow", wait)
    lanes.add("fast", passed.set)
    assert passed.wait(LIMIT)
    assert not lanes.join(0)
    gate.set()
    assert lanes.join(LIMIT)


def test_what_a_job_raises_is_logged_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    lanes = Lanes("test")
    passed = threading.Event()

    def fail() -> None:
        raise ValueError("no")

    lanes.add("a", fail)
    lanes.add("a", passed.set)
    assert lanes.join(LIMIT)
    assert passed.is_set()
    assert "test-a met an error" in caplog.text


def test_job_may_add_another_and_wait_for_none_of_its_own() -> None:
    lanes = Lanes("test")
    done: list[str] = []

    def first() -> None:
        lanes.add("a", lambda: done.append("second"))
        assert lanes.join(0)  # not for itself
        done.append("first")

    lanes.add("a", first)
    assert lanes.join(LIMIT)
    assert done == ["first", "second"]
