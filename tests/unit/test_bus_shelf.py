"""The dead letters: the last 1,000, all of them counted."""

from __future__ import annotations

from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.bus.shelf import SHELF_BYTES, SHELF_MESSAGES, DeadLetter, Shelf
from grav_actors.codec import join_body, pack_record, unpack_body
from grav_actors.message import Message
from grav_actors.reference import ActorRef


def letter(seq: int, count: int = 1, size: int = 10, reason: str = "overflow") -> DeadLetter:
    run = Run(Sender(b"s" * 16), seq, 0, "x", count, b"", max(size, count), None)
    return DeadLetter(Delivery(run, 0, count), reason, "target", 0, "")


def held(shelf: Shelf) -> list[int]:
    return [
        one.delivery.run.seq + index for one in shelf.letters() for index in range(one.delivery.lo, one.delivery.hi)
    ]


def test_letters_are_kept_in_order_and_counted_by_reason() -> None:
    shelf = Shelf()
    shelf.add(letter(1))
    shelf.add(letter(2, 3, reason="rejected"))
    assert held(shelf) == [1, 2, 3, 4]
    assert shelf.counts == {"overflow": 1, "rejected": 3}
    assert len(shelf) == 4


def test_the_oldest_messages_leave_first_one_by_one() -> None:
    shelf = Shelf()
    shelf.add(letter(1, 10))
    shelf.add(letter(11, SHELF_MESSAGES - 5))
    assert held(shelf) == list(range(6, SHELF_MESSAGES + 6))
    assert len(shelf) == SHELF_MESSAGES
    assert shelf.dropped == 5
    assert shelf.counts.total() == SHELF_MESSAGES + 5


def test_it_is_bounded_in_bytes() -> None:
    shelf = Shelf()
    for seq in range(1, 5):
        shelf.add(letter(seq, size=SHELF_BYTES // 2))
    assert held(shelf) == [3, 4]
    assert shelf.dropped == 2


def test_a_letter_that_is_larger_than_the_shelf_is_only_counted() -> None:
    shelf = Shelf()
    shelf.add(letter(1, size=SHELF_BYTES + 1))
    assert held(shelf) == []
    assert (len(shelf), shelf.dropped, shelf.counts.total()) == (0, 1, 1)
    assert shelf._bytes == 0


def test_many_letters_of_many_sizes_never_exceed_the_bounds() -> None:
    shelf = Shelf()
    total = 0
    for seq in range(1, 3000, 7):
        shelf.add(letter(seq, 7, size=100_000))
        total += 7
        assert len(shelf) == len(held(shelf)) <= SHELF_MESSAGES
        assert shelf._bytes <= SHELF_BYTES
        assert len(shelf) + shelf.dropped == total


def real_letter(messages: list[Message], lo: int = 0, hi: int | None = None) -> DeadLetter:
    body = join_body([pack_record(message, 1 << 20) for message in messages])
    run = Run(Sender(b"s" * 16), 1, 0, "x", len(messages), body, len(body), None)
    return DeadLetter(Delivery(run, lo, len(messages) if hi is None else hi), "overflow", "target", 0, "")


def data_of(letter: DeadLetter) -> list[object]:
    delivery = letter.delivery
    records = unpack_body(delivery.run.body, delivery.run.count, ActorRef)
    return [record[4] for record in records[delivery.lo : delivery.hi]]


def test_a_few_messages_of_a_large_run_take_the_room_of_a_few() -> None:
    shelf = Shelf()
    messages = [Message("x", bytes(100_000)) for _ in range(10)]
    for index in range(10):
        for _ in range(10):
            shelf.add(real_letter(messages, index, index + 1))
    assert (len(shelf), shelf.dropped) == (100, 0), "with their runs they would take 100 MB"
    assert shelf._bytes == sum(letter.delivery.run.size for letter in shelf.letters()) < 100 * 101_000


def test_letters_are_numbered_by_message_and_keep_their_numbers() -> None:
    shelf = Shelf()
    shelf.add(letter(1, 10))
    shelf.add(letter(11, SHELF_MESSAGES - 5))
    assert [one.number for one in shelf.letters()] == [6, 11]


def test_singles_are_the_same_messages_one_by_one() -> None:
    shelf = Shelf()
    messages = [Message("x", number) for number in range(6)]
    shelf.add(real_letter(messages, 1, 5))
    shelf.add(real_letter([Message("x", "last")]))
    singles = shelf.singles()
    assert [data_of(one) for one in singles] == [[1], [2], [3], [4], ["last"]]
    assert [one.uuid for one in singles[:4]] == [message.uuid for message in messages[1:5]]
    assert [one.number for one in singles] == [1, 2, 3, 4, 5]
    assert [one.delivery.run.seq for one in singles] == [2, 3, 4, 5, 1]
    assert len(shelf) == 5
    assert shelf._bytes == sum(one.delivery.run.size for one in singles)
    assert shelf.singles() == singles


def test_single_letters_can_be_removed_and_give_their_room_back() -> None:
    shelf = Shelf()
    shelf.add(real_letter([Message("x", number) for number in range(5)]))
    shelf.singles()
    shelf.remove({1, 3, 5})
    assert [data_of(one) for one in shelf.letters()] == [[1], [3]]
    assert len(shelf) == 2
    shelf.remove({2, 4})
    assert (len(shelf), shelf._bytes, shelf.dropped, shelf.counts.total()) == (0, 0, 0, 5)


def test_a_run_that_cannot_be_cut_leaves_when_somebody_looks() -> None:
    shelf = Shelf()
    shelf.add(letter(1, 5))
    shelf.add(letter(6))
    assert [one.number for one in shelf.singles()] == [6]
    assert (len(shelf), shelf.dropped) == (1, 5)
