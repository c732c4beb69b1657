"""Mailboxes: order and bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grav_actors.bus.mailbox import MAILBOX_BYTES, Mailbox
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender

SENDER = Sender(b"s" * 16)


def delivery(count: int, seq: int = 1, size: int | None = None) -> Delivery:
    return Delivery(Run(SENDER, seq, 0, "x", count, b"", size or count * 10, None), 0, count)


def mailbox(limit: int = 10) -> Mailbox:
    return Mailbox("m", limit, "block", 5.0)


def test_what_was_added_first_is_taken_first() -> None:
    box = mailbox()
    box.add(delivery(2, 1))
    box.add(delivery(3, 3))
    assert [(one.run.seq, one.lo, one.hi) for one in (box.take(5), box.take(5))] == [(1, 0, 2), (3, 0, 3)]
    assert not box.waiting


def test_a_delivery_is_cut_only_when_it_must_be() -> None:
    box = mailbox()
    box.add(delivery(5))
    assert (box.take(2).hi, box.waiting_count) == (2, 3)
    rest = box.take(3)
    assert (rest.lo, rest.hi, box.waiting_count) == (2, 5, 0)


def test_what_is_in_flight_still_counts() -> None:
    box = mailbox(4)
    box.add(delivery(4))
    assert box.is_full
    taken = box.take(4)
    assert box.is_full
    box.finished(1, taken.run.unit)
    assert (box.used, box.used_bytes, box.is_full) == (3, 30, False)
    box.discard(taken.piece(1, 4))
    assert (box.used, box.used_bytes) == (0, 0)


def test_it_is_full_by_bytes_too() -> None:
    box = mailbox()
    box.add(delivery(1, size=MAILBOX_BYTES))
    assert box.is_full
    assert not box.is_over
    box.add(delivery(1, size=1))
    assert box.is_over


def test_it_is_half_empty_when_at_most_half_is_used() -> None:
    box = mailbox(4)
    box.add(delivery(3))
    assert not box.is_half_empty
    box.finished(1, 10)
    assert box.is_half_empty


def test_what_came_back_before_stays_in_front_when_nothing_more_comes_back() -> None:
    box = mailbox()
    first = delivery(1, 1)
    first.flush = True
    box.add_again([first])
    box.add_again([])
    box.add(delivery(1, 2))
    second = delivery(1, 3)
    box.add_again([second])
    assert [one.run.seq for one in box.waiting] == [1, 3, 2]
    assert [one.place for one in box.waiting] == sorted({one.place for one in box.waiting})


def test_what_is_put_in_front_keeps_its_order() -> None:
    box = mailbox()
    box.add(delivery(1, 9))
    box.add_first([delivery(1, 1), delivery(2, 2)])
    assert [one.run.seq for one in box.waiting] == [1, 2, 9]
    assert (box.used, box.waiting_count) == (4, 4)


@given(st.lists(st.tuples(st.sampled_from("aftdp"), st.integers(1, 5)), max_size=40))
def test_its_accounts_are_even_after_any_history(steps: list[tuple[str, int]]) -> None:
    box = mailbox()
    flying: list[Delivery] = []
    for step, count in steps:
        if step == "a":
            box.add(delivery(count))
        elif step == "f":
            box.add_first([delivery(count), delivery(1)])
        elif step == "t" and box.waiting:
            flying.append(box.take(count))
        elif step == "d" and flying:
            box.discard(flying.pop())
        elif step == "p" and count == 5:
            box.pop_waiting()
        waiting = sum(one.count for one in box.waiting)
        assert box.waiting_count == waiting
        assert box.used == waiting + sum(one.count for one in flying)
        assert box.used_bytes == 10 * box.used
