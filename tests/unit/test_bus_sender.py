"""Watermarks of one sender on the bus."""

from __future__ import annotations

from typing import Any

from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.run import Run
from grav_actors.bus.sender import SCANNED_RUNS, SPARE_LISTED, Sender
from grav_actors.protocol import KIND_ASK, MAX_OPEN_RANGES, WINDOW_BYTES, WINDOW_MESSAGES


def take(sender: Sender, count: int = 1, *, is_open: bool = True, size: int = 10) -> Run:
    """Have the bus take a run, which is open until it is taken out of `sender.open`."""
    run = Run(sender, sender.received + 1, 0, "x", count, b"", size, None)
    sender.received += count
    if is_open:
        sender.open[run.seq] = run
    sender.taken(size)
    return run


def new(*runs: int) -> tuple[Sender, list[Run]]:
    sender = Sender(b"s" * 16)
    return sender, [take(sender, count) for count in runs]


def mailbox() -> Any:
    return Mailbox("m", 10, "block", 5.0)


def test_everything_is_settled_up_to_the_first_open_run() -> None:
    sender, runs = new(3, 2, 4)
    assert sender.settled() == 0
    del sender.open[runs[1].seq]
    assert sender.settled() == 0
    del sender.open[runs[0].seq]
    assert sender.settled() == 5
    del sender.open[runs[2].seq]
    assert sender.settled() == 9


def test_what_is_taken_is_accepted_unless_a_mailbox_is_full() -> None:
    sender, _ = new(3)
    assert sender.accepted == 3
    one, other = mailbox(), mailbox()
    sender.blockers |= {one, other}
    take(sender)
    assert sender.accepted == 3
    sender.unblock(one)
    assert sender.accepted == 3
    sender.unblock(other)
    assert sender.accepted == 4
    assert sender.urgent


def test_a_floor_that_moves_is_told_without_ranges() -> None:
    sender, runs = new(1, 1, 1)
    del sender.open[runs[0].seq]
    assert sender.ack() == (3, 1)


def test_a_floor_that_stands_is_told_with_the_open_ranges() -> None:
    sender, runs = new(2, 3, 1, 1)
    del sender.open[runs[1].seq]
    assert sender.ack() == (7, 0, 7, ((1, 2), (6, 7)))
    del sender.open[runs[3].seq]
    assert sender.ack() == (7, 0, 7, ((1, 2), (6, 6)))


def test_ranges_are_told_when_somebody_waits_for_one_message() -> None:
    sender, runs = new(1, 1, 1)
    del sender.open[runs[0].seq]
    sender.urgent = True
    assert sender.ack() == (3, 1, 3, ((2, 3),))
    assert not sender.urgent


def test_at_most_64_ranges_are_told_and_what_lies_behind_counts_as_open() -> None:
    sender, runs = new(*[1] * 300)
    for run in runs[1::2]:
        del sender.open[run.seq]
    accepted, floor, newest, ranges = sender.ack()
    assert (accepted, floor) == (300, 0)
    assert len(ranges) == MAX_OPEN_RANGES
    assert newest == 128


def test_at_most_so_many_runs_are_looked_at() -> None:
    sender, _ = new(*[1] * 5000)
    assert sender.ack() == (5000, 0, SCANNED_RUNS, ((1, SCANNED_RUNS),))


def test_a_sender_that_keeps_much_is_told_all_that_is_open() -> None:
    sender, runs = new(*[1] * 20_000)
    for run in runs[10_000:]:
        del sender.open[run.seq]
    assert sender.ack() == (20_000, 0, 20_000, ((1, 10_000),))


def test_an_acknowledgement_is_due_at_half_a_window() -> None:
    sender = Sender(b"s" * 16)
    take(sender, WINDOW_MESSAGES // 2 - 1, is_open=False)
    assert not sender.is_due()
    take(sender, 1, is_open=False)
    assert sender.is_due()
    sender.ack()
    assert not sender.is_due()
    take(sender, 1, size=WINDOW_BYTES // 2)
    assert sender.is_due()


def test_an_acknowledgement_is_due_when_half_a_window_was_settled() -> None:
    sender, (run,) = new(WINDOW_MESSAGES)
    sender.ack()
    assert not sender.is_due()
    del sender.open[run.seq]
    assert sender.is_due()


def test_a_run_within_what_was_sent_before_is_marked_as_sent_again() -> None:
    sender = Sender(b"s" * 16, 4)
    sender.resent_until = 6
    assert [take(sender).flags for _ in range(3)] == [8, 8, 0]


def ask(sender: Sender, count: int = 1) -> Run:
    """Have the bus take a run of questions."""
    run = Run(sender, sender.received + 1, KIND_ASK, "q", count, b"", 10, "a")
    sender.received += count
    sender.open[run.seq] = run
    return run


def test_a_question_that_is_taken_back_is_found_once_by_any_seq_of_its_run() -> None:
    sender, _ = new(2)
    first, second = ask(sender, 3), ask(sender, 2)
    assert sender.take_back(4) is first
    assert sender.take_back(7) is second
    assert sender.take_back(4) is None
    assert [sender.take_back(seq) for seq in (1, 2, 8, 100)] == [None] * 4, "no questions"
    third = ask(sender)
    del sender.open[first.seq]
    assert sender.take_back(3) is None, "settled"
    assert sender.take_back(8) is third


def test_settled_questions_are_not_listed_for_ever() -> None:
    sender, _ = new()
    hung = ask(sender)
    for _ in range(1000):
        run = ask(sender)
        assert sender.take_back(run.seq) is run
        del sender.open[run.seq]
    assert len(sender._listed) <= 2 + SPARE_LISTED + 1
    assert sender.take_back(hung.seq) is hung


def test_a_settled_question_is_not_remembered_as_taken_back() -> None:
    own, sender = Sender(b"o" * 16), Sender(b"s" * 16)
    ledger = Ledger(own)
    run = Run(sender, 1, KIND_ASK, "q", 3, b"", 30, "a")
    run.pending = sender.received = 3
    ledger.open(run)
    assert sender.take_back(2) is run
    ledger.settle(run, 3)
    assert sender.taken_back == set()


def test_a_sender_that_is_gone_keeps_no_list_of_its_questions_and_finds_them_when_it_is_back() -> None:
    ledger = Ledger(Sender(b"o" * 16))
    sender = Sender(b"s" * 16)
    for seq in range(1, 101):
        run = Run(sender, seq, KIND_ASK, "q", 1, b"", 10, "a")
        run.pending = 1
        sender.received = seq
        ledger.open(run)
    assert sender.take_back(1) is sender.open[1]
    ledger.forget(sender)
    assert sender._listed == []
    assert sender.take_back(1) is None
    assert sender.take_back(50) is sender.open[50]
