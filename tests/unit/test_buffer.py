"""MessageBuffer: bounded, going round, removing nothing."""

import threading

import pytest

from grav_actors.buffer import MessageBuffer
from grav_actors.message import Message


def fill(limit: int, count: int) -> MessageBuffer:
    buffer = MessageBuffer(limit)
    for number in range(count):
        buffer.push(Message("n", number))
    return buffer


def held(buffer: MessageBuffer) -> list[int]:
    return [message.data for message in buffer]


@pytest.mark.parametrize("limit", [1.5, "3", None, True])
def test_a_limit_is_a_whole_number(limit: object) -> None:
    with pytest.raises(TypeError, match="whole number"):
        MessageBuffer(limit)  # type: ignore[arg-type]


def following(buffer: MessageBuffer) -> int:
    message = buffer.next()
    assert message is not None
    number: int = message.data
    return number


@pytest.mark.parametrize("limit", [0, -1])
def test_a_buffer_holds_at_least_one(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MessageBuffer(limit)


@pytest.mark.parametrize(("limit", "count"), [(3, 0), (3, 2), (3, 3), (3, 4), (3, 8), (1, 5)])
def test_the_oldest_goes_first(limit: int, count: int) -> None:
    buffer = fill(limit, count)
    assert held(buffer) == list(range(count))[-limit:]
    assert len(buffer) == min(limit, count)


def test_one_uuid_pushed_twice_is_held_twice() -> None:
    buffer = MessageBuffer(3)
    message = Message()
    buffer.push(message)
    buffer.push(message)
    assert list(buffer) == [message, message]


def test_next_of_an_empty_buffer_is_none() -> None:
    assert MessageBuffer(2).next() is None


def test_next_goes_round_and_removes_nothing() -> None:
    buffer = fill(3, 3)
    assert [following(buffer) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert len(buffer) == 3


def test_next_goes_on_to_what_was_pushed_after_the_newest_was_read() -> None:
    buffer = fill(3, 1)
    assert following(buffer) == 0
    buffer.push(Message("n", 1))
    assert following(buffer) == 1
    assert following(buffer) == 0


def test_next_skips_what_was_dropped() -> None:
    buffer = fill(2, 2)
    assert following(buffer) == 0
    for number in (2, 3, 4):
        buffer.push(Message("n", number))
    assert [following(buffer) for _ in range(3)] == [3, 4, 3]


def test_iter_calls_for_each_held_at_the_start_even_if_the_function_pushes() -> None:
    buffer = fill(3, 3)
    seen = []

    def see(message: Message) -> None:
        seen.append(message.data)
        buffer.push(message)

    buffer.iter(see)
    assert seen == [0, 1, 2]


def test_a_for_loop_goes_over_a_snapshot() -> None:
    buffer = fill(2, 2)
    for message in buffer:
        buffer.push(Message("n", message.data + 10))
    assert held(buffer) == [10, 11]


def test_threads_may_share_a_buffer() -> None:
    buffer = MessageBuffer(50)

    def work() -> None:
        for number in range(500):
            buffer.push(Message("n", number))
            assert buffer.next() is not None
            assert len(list(buffer)) <= 50

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(buffer) == 50
    assert repr(buffer) == "<MessageBuffer 50 of 50>"
