"""Timers of an actor, with a clock that is set by hand and threads that wait for events only."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from queue import SimpleQueue
from typing import Any

import pytest

from grav_actors import Message
from grav_actors.actor import timers as timers_module
from grav_actors.actor.timers import SPARE_CANCELLED, Schedule, Timer, Timers
from grav_actors.codec import pack_record
from grav_actors.errors import BusBusyError, ConnectionClosedError, MessageEncodeError

LIMIT = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def entry(schedule: Schedule, name: str, due: float) -> Timer:
    timer = Timer(schedule, 1.0, name, None, repeats=False)
    schedule.add(timer, due)
    return timer


def take_all(schedule: Schedule, now: float) -> list[str]:
    taken: list[str] = []
    while (timer := schedule.take(now)) is not None:
        taken.append(timer.type)
    return taken


def test_schedule_gives_what_is_due_in_order() -> None:
    schedule = Schedule()
    assert schedule.rest(0.0) is None
    for name, due in (("late", 3.0), ("early", 1.0), ("first of two", 2.0), ("second of two", 2.0)):
        entry(schedule, name, due)
    assert take_all(schedule, 0.5) == []
    assert schedule.rest(0.5) == 0.5
    assert take_all(schedule, 2.0) == ["early", "first of two", "second of two"]
    assert schedule.rest(2.5) == 0.5
    assert schedule.rest(9.0) == 0.0
    assert take_all(schedule, 9.0) == ["late"]


def test_schedule_skips_what_was_cancelled() -> None:
    schedule = Schedule()
    kept, cancelled = entry(schedule, "kept", 1.0), entry(schedule, "cancelled", 1.0)
    cancelled.cancel()
    cancelled.cancel()
    assert (kept.is_cancelled, cancelled.is_cancelled) == (False, True)
    assert take_all(schedule, 1.0) == ["kept"]


def test_cancelled_timers_do_not_pile_up() -> None:
    schedule = Schedule()
    entry(schedule, "kept", 5000.0)
    for _ in range(10_000):
        entry(schedule, "cancelled", 6000.0).cancel()
        assert len(schedule) <= 2 * SPARE_CANCELLED + 3
    assert take_all(schedule, 9000.0) == ["kept"]


def test_clear_forgets_all() -> None:
    schedule = Schedule()
    entry(schedule, "one", 1.0)
    schedule.clear()
    assert (len(schedule), schedule.rest(0.0)) == (0, None)


MakeTimers = Callable[..., Timers]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_timers(clock: Clock) -> Iterator[MakeTimers]:
    made: list[Timers] = []

    def make(send: Callable[[Message], object], is_settled: Callable[[int], bool] = lambda number: False) -> Timers:
        def send_numbered(message: Message) -> int:
            send(message)
            return 7

        made.append(Timers("test", lambda message: pack_record(message, 1000), send_numbered, is_settled, clock))
        return made[-1]

    yield make
    for timers in made:
        timers.close()
        timers.join(LIMIT)


def pass_time(timers: Timers, clock: Clock, seconds: float) -> None:
    with timers._changed:
        clock.now += seconds
        timers._changed.notify()


def test_after_sends_once(make_timers: MakeTimers, clock: Clock) -> None:
    sent: SimpleQueue[Message] = SimpleQueue()
    timers = make_timers(sent.put)
    timers.after(2.0, "tick", {"n": 1})
    assert sent.empty()
    pass_time(timers, clock, 2.0)
    message = sent.get(timeout=LIMIT)
    assert (message.type, message.data) == ("tick", {"n": 1})
    assert not timers.under_way
    pass_time(timers, clock, 100.0)
    timers.after(0, "end", None)
    assert sent.get(timeout=LIMIT).type == "end"


def test_every_counts_from_the_end_of_the_last_handling(make_timers: MakeTimers, clock: Clock) -> None:
    sent: SimpleQueue[Message] = SimpleQueue()
    timers = make_timers(sent.put)
    timers.every(1.0, "tick", None)
    pass_time(timers, clock, 1.0)
    first = sent.get(timeout=LIMIT)
    pass_time(timers, clock, 50.0)
    assert timers.under_way
    assert timers._schedule.rest(clock.now) is None
    timers.handled(first._record[0])
    assert timers._schedule.rest(clock.now) == 1.0
    timers.handled(first._record[0])
    assert len(timers._schedule) == 1
    pass_time(timers, clock, 1.0)
    assert sent.get(timeout=LIMIT).uuid != first.uuid


def test_every_ends_when_it_is_cancelled_while_handled(make_timers: MakeTimers, clock: Clock) -> None:
    sent: SimpleQueue[Message] = SimpleQueue()
    timers = make_timers(sent.put)
    timer = timers.every(1.0, "tick", None)
    pass_time(timers, clock, 1.0)
    message = sent.get(timeout=LIMIT)
    timer.cancel()
    timers.handled(message._record[0])
    assert (len(timers._schedule), len(timers.under_way)) == (0, 0)


def test_every_goes_on_when_its_message_was_a_dead_letter(
    make_timers: MakeTimers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers_module, "LOOK_INTERVAL", 0.001)
    sent: SimpleQueue[Message] = SimpleQueue()
    settled: list[int] = []
    looked = threading.Event()

    def is_settled(number: int) -> bool:
        looked.set()
        return number in settled

    timers = make_timers(sent.put, is_settled)
    timers.every(1.0, "tick", None)
    pass_time(timers, clock, 1.0)
    sent.get(timeout=LIMIT)
    assert looked.wait(LIMIT)
    assert len(timers._schedule) == 0
    settled.append(7)
    with timers._changed:
        assert timers._changed.wait_for(lambda: len(timers._schedule) == 1, LIMIT)
    pass_time(timers, clock, 1.0)
    assert sent.get(timeout=LIMIT).type == "tick"


def test_data_is_that_of_the_call(make_timers: MakeTimers, clock: Clock) -> None:
    sent: SimpleQueue[Message] = SimpleQueue()
    timers = make_timers(sent.put)
    data = [1]
    timers.after(1.0, "tick", data)
    data.append(2)
    pass_time(timers, clock, 1.0)
    assert sent.get(timeout=LIMIT).data == [1]


@pytest.mark.parametrize(
    ("seconds", "type", "data", "error"),
    [
        (-1, "tick", None, ValueError),
        ("1", "tick", None, ValueError),
        (float("nan"), "tick", None, ValueError),
        (1, "a b", None, MessageEncodeError),
        (1, "tick", {1, 2}, MessageEncodeError),
        (1, "tick", datetime(2020, 1, 1), MessageEncodeError),  # noqa: DTZ001  (naive on purpose)
        (1, "tick", b"x" * 2000, ValueError),
    ],
)
def test_mistakes_raise_at_the_call(
    make_timers: MakeTimers, seconds: Any, type: str, data: Any, error: type[Exception]
) -> None:
    timers = make_timers(lambda message: None)
    for start in (timers.after, timers.every):
        with pytest.raises(error):
            start(seconds, type, data)
    assert timers._thread is None


def test_every_needs_time_between(make_timers: MakeTimers) -> None:
    timers = make_timers(lambda message: None)
    with pytest.raises(ValueError, match="more than 0"):
        timers.every(0, "tick", None)


def test_busy_bus_is_tried_again(make_timers: MakeTimers, clock: Clock) -> None:
    sent: SimpleQueue[Message] = SimpleQueue()
    refused = threading.Event()

    def send(message: Message) -> None:
        if not refused.is_set():
            refused.set()
            raise BusBusyError("busy")
        sent.put(message)

    timers = make_timers(send)
    timers.every(1.0, "tick", None)
    pass_time(timers, clock, 1.0)
    assert refused.wait(LIMIT)
    while sent.empty():
        pass_time(timers, clock, 1.0)
    assert sent.get(timeout=LIMIT).type == "tick"
    assert len(timers.under_way) == 1


def test_timers_end_with_their_pod(make_timers: MakeTimers, clock: Clock) -> None:
    def send(message: Message) -> None:
        raise ConnectionClosedError("gone")

    timers = make_timers(send)
    timers.after(0, "tick", None)
    timers.join(LIMIT)
    assert timers._thread is not None
    assert not timers._thread.is_alive()
    timers.after(0, "tick", None)
    assert len(timers._schedule) == 0


def test_close_does_not_wait_for_what_is_being_sent(make_timers: MakeTimers) -> None:
    is_sending, may_end = threading.Event(), threading.Event()

    def send(message: Message) -> None:
        is_sending.set()
        assert may_end.wait(LIMIT)

    timers = make_timers(send)
    timers.after(0, "tick", None)
    assert is_sending.wait(LIMIT)
    timers.close()
    may_end.set()
    timers.join(LIMIT)
    assert timers._thread is not None
    assert not timers._thread.is_alive()
