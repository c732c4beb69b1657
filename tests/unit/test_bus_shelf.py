"""The dead letters: the last 1,000, all of them counted."""

from __future__ import annotations

from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.bus.shelf import SHELF_BYTES, SHELF_MESSAGES, DeadLetter, Shelf


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
