"""How long handlers are at one message."""

from grav_actors.actor.slate import Handling
from grav_actors.supervisor.hangs import HandlerClock

SENDER = bytes(16)


def message(seq: int, attempt: int = 1) -> Handling:
    return Handling(SENDER, seq, seq.to_bytes(16, "big"), "work", attempt)


def test_a_handler_is_hung_when_it_is_at_one_message_for_the_limit() -> None:
    clock = HandlerClock(2.0)
    assert clock.look([message(1)], 10.0) == []
    assert clock.look([message(1)], 11.9) == []
    assert clock.look([message(1)], 12.0) == [message(1)]


def test_a_handler_that_goes_on_to_other_messages_is_not_hung() -> None:
    clock = HandlerClock(2.0)
    for number in range(100):
        assert clock.look([message(number)], number * 1.9) == []


def test_the_next_attempt_of_a_message_begins_anew() -> None:
    clock = HandlerClock(2.0)
    assert clock.look([message(1)], 0.0) == []
    assert clock.look([message(1, attempt=2)], 2.0) == []
    assert clock.look([message(1, attempt=2)], 4.0) == [message(1, attempt=2)]


def test_idle_time_does_not_count() -> None:
    clock = HandlerClock(2.0)
    assert clock.look([message(1)], 0.0) == []
    assert clock.look([], 1.0) == []
    assert clock.look([message(1)], 3.0) == []


def test_each_hung_handler_is_told_once() -> None:
    clock = HandlerClock(2.0)
    clock.look([message(1), message(2)], 0.0)
    assert clock.look([message(1), message(3)], 2.0) == [message(1)]
    assert clock.look([message(1), message(3)], 4.0) == [message(3)]
    assert clock.look([message(1), message(3)], 6.0) == []


def test_it_looks_four_times_within_the_limit() -> None:
    assert HandlerClock(2.0).interval == 0.5
