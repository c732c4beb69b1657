"""Each checker, over histories written by hand: one that it passes, and what it must find."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from grav_actors.filters import FilterWire
from grav_actors.ids import id_text
from support.simulation.checkers import Violation, violations
from support.simulation.history import (
    Accepted,
    Answered,
    BusKilled,
    BusStarted,
    Calmed,
    Dead,
    Delivered,
    Disturbed,
    Dropped,
    Ended,
    Entrusted,
    Event,
    Failed,
    FilterAsked,
    FilterConfirmed,
    Gap,
    Handled,
    Joined,
    Leaving,
    Lost,
    Measured,
    Quiet,
    Sent,
    Settled,
    Started,
    Struck,
    Taken,
    line,
)

ALL: FilterWire = (True, False, (), ())
NONE: FilterWire = (False, False, (), ())
ONLY_X: FilterWire = (True, True, (("x", True),), ())


def uuid(number: int) -> str:
    return id_text(number.to_bytes(16, "big"))


class Writer:
    """Writes a history, a second for each event."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seqs = count(1)
        self(BusStarted)

    def __call__(self, event: type[Event], /, *args: Any, **fields: Any) -> None:
        self.events.append(event(float(len(self.events)), *args, **fields))

    def pod(self, name: str, filters: FilterWire = ALL, **fields: Any) -> None:
        self(Started, name, fields.pop("account", name), filters, **fields)
        self(Joined, name)

    def send(self, number: int, pod: str = "s", message_type: str = "x", **fields: Any) -> None:
        self(Sent, pod, next(self.seqs), uuid(number), message_type, **fields)

    def give(self, number: int, pod: str = "r", message_type: str = "x", *, sender: str = "s", **fields: Any) -> None:
        self(Delivered, pod, uuid(number), sender, message_type, **fields)

    def handle(self, number: int, pod: str = "r", message_type: str = "x", **fields: Any) -> None:
        self.give(number, pod, message_type, **fields)
        self(Handled, pod, uuid(number))

    def fail(self, number: int, pod: str = "r", **fields: Any) -> None:
        self.give(number, pod, **fields)
        self(Failed, pod, uuid(number))

    def found(self) -> set[str]:
        return {violation.checker for violation in violations(self.events)}


@pytest.fixture
def write() -> Writer:
    """Return the writer of a history with a sender and a receiver of everything."""
    writer = Writer()
    writer.pod("s", NONE)
    writer.pod("r")
    return writer


def test_a_history_without_fault_passes(write: Writer) -> None:
    write.send(1)
    write.send(2)
    write(Taken, uuid(1))
    write(Taken, uuid(2))
    write(Accepted, uuid(2))
    write.fail(1)
    write.handle(2)
    write.handle(1, redelivered=True, attempt=2)
    write(Settled, uuid(1))
    write(Settled, uuid(2))
    write(Quiet)
    assert write.found() == set()


def test_a_message_without_an_end_is_found(write: Writer) -> None:
    write.send(1)
    write(Quiet)
    assert write.found() == {"conservation"}


def test_a_dead_letter_is_an_end(write: Writer) -> None:
    write.send(1)
    write(Dead, uuid(1), "rejected", "r")
    write(Quiet)
    assert write.found() == set()


def test_a_dead_letter_of_another_is_no_end(write: Writer) -> None:
    write.send(1)
    write(Dead, uuid(1), "rejected", "q")
    write(Quiet)
    assert write.found() == {"conservation"}


def test_nothing_is_open_while_the_history_goes_on(write: Writer) -> None:
    write.send(1)
    assert write.found() == set()


def test_a_refused_type_needs_no_end(write: Writer) -> None:
    write.pod("y", ONLY_X)
    write.send(1, message_type="y")
    write.handle(1, message_type="y")
    write(Quiet)
    assert write.found() == set()


def test_a_filter_counts_from_its_confirmation(write: Writer) -> None:
    write.pod("late", NONE)
    write(FilterAsked, "late", 1, ALL)
    write.send(1)
    write(FilterConfirmed, "late", 1)
    write.send(2)
    write.handle(1)
    write.handle(2)
    write(Quiet)
    assert [violation.text for violation in violations(write.events)] == [
        f"10: late never got, and nobody buried: {line(write.events[10])}"
    ]


def test_what_the_bus_keeps_for_a_stuck_pod_still_needs_an_end_when_it_is_settled(write: Writer) -> None:
    write.send(1)
    write(Entrusted, uuid(1))
    write(Settled, uuid(1))
    write(Quiet)
    assert write.found() == {"conservation"}


def test_what_the_bus_keeps_for_a_stuck_pod_needs_no_end_when_its_filter_refuses_it_since(write: Writer) -> None:
    write.send(1, message_type="y")
    write(Entrusted, uuid(1))
    write(Settled, uuid(1))
    write(FilterAsked, "r", 1, ONLY_X)
    write(Quiet)
    assert write.found() == set()


def test_a_filter_that_changes_after_a_message_was_settled_excuses_nothing(write: Writer) -> None:
    write.send(1, message_type="y")
    write(Settled, uuid(1))
    write(FilterAsked, "r", 1, ONLY_X)
    write(Quiet)
    assert write.found() == {"conservation"}


def test_what_a_pod_held_that_has_left_needs_no_end(write: Writer) -> None:
    write.send(1)
    write(Leaving, "r", "")
    write(Ended, "r", "left")
    write(Quiet)
    assert write.found() == set()


def test_what_the_bus_had_for_a_killed_pod_needs_an_end(write: Writer) -> None:
    write.send(1)
    write(Taken, uuid(1))
    write(Ended, "r", "killed")
    write(Quiet)
    assert write.found() == {"conservation"}


def test_what_the_bus_had_not_for_a_lost_pod_needs_no_end(write: Writer) -> None:
    write.send(1)
    write(Lost, "r")
    write(Taken, uuid(1))
    write(Quiet)
    assert write.found() == set()


def test_a_supervised_account_outlives_its_pod(write: Writer) -> None:
    write.pod("a0", account="a", supervised=True)
    write.send(1)
    write.handle(1)
    write(Ended, "a0", "killed")
    write.send(2)
    write.handle(2)
    write.pod("a1", account="a", supervised=True, incarnation=1)
    write(Quiet)
    assert len(violations(write.events)) == 2
    write.handle(1, "a1", redelivered=True)
    write.handle(2, "a1")
    assert write.found() == set()


def test_a_struck_account_is_for_nothing_more(write: Writer) -> None:
    write.pod("a0", account="a", supervised=True)
    write(Ended, "a0", "killed")
    write(Struck, "a")
    write.send(1)
    write.handle(1)
    write(Quiet)
    assert write.found() == set()


def test_one_member_of_a_group_is_enough(write: Writer) -> None:
    write.pod("g1", group="g")
    write.pod("g2", group="g")
    write.send(1)
    write.handle(1)
    write(Quiet)
    assert write.found() == {"conservation"}
    write.handle(1, "g2")
    assert write.found() == set()


def test_a_tell_ends_at_its_name_or_dead(write: Writer) -> None:
    write.pod("a", NONE, service="names")
    write.send(1, kind="tell", dest="a")
    write.send(2, kind="tell", dest="nobody")
    write.send(3, kind="tell", dest="names")
    write(Quiet)
    assert len(violations(write.events)) == 3
    write.handle(1, "a")
    write(Dead, uuid(2), "no_responders", "nobody")
    write.handle(3, "a")
    assert write.found() == set()


def test_what_was_accepted_outlives_its_sender(write: Writer) -> None:
    write.send(1)
    write(Accepted, uuid(1))
    write.send(2)
    write(Ended, "s", "killed")
    write(Quiet)
    assert [violation.text[:1] for violation in violations(write.events)] == ["5"]


def test_what_was_accepted_from_a_sender_that_is_gone_dies_with_the_bus(write: Writer) -> None:
    write.send(1)
    write(Accepted, uuid(1))
    write(Ended, "s", "killed")
    write(BusKilled)
    write(Quiet)
    assert write.found() == set()


def test_settled_before_it_is_handled_is_found(write: Writer) -> None:
    write.send(1)
    write(Settled, uuid(1))
    write.handle(1)
    write(Quiet)
    assert write.found() == {"settling"}


def test_never_settled_is_found(write: Writer) -> None:
    write.send(1)
    write.send(2)
    write.handle(1)
    write.handle(2)
    write(Settled, uuid(2))
    write(Quiet)
    assert write.found() == {"settling"}


def test_what_nobody_sent_is_found(write: Writer) -> None:
    write.handle(1)
    assert write.found() == {"invention"}


def test_what_was_changed_on_the_way_is_found(write: Writer) -> None:
    write.send(1, message_type="y")
    write.handle(1)
    assert write.found() == {"invention"}


def test_a_tell_to_somebody_else_is_found(write: Writer) -> None:
    write.send(1, kind="tell", dest="a")
    write.handle(1)
    assert write.found() == {"invention"}


def test_a_call_after_the_end_is_found(write: Writer) -> None:
    write.send(1)
    write(Ended, "r", "killed")
    write.handle(1)
    assert write.found() == {"invention"}


def test_an_echo_is_found(write: Writer) -> None:
    write.send(1, "r")
    write.handle(1, sender="r")
    assert write.found() == {"echo"}


def test_a_tell_to_oneself_is_no_echo(write: Writer) -> None:
    write.send(1, "r", kind="tell", dest="r")
    write.handle(1, sender="r")
    assert write.found() == set()


def test_what_the_filter_refuses_is_found(write: Writer) -> None:
    write.send(1, message_type="y")
    write(FilterAsked, "r", 1, ONLY_X)
    write.handle(1, message_type="y")
    assert write.found() == {"filters"}


def test_an_unmarked_repetition_is_found(write: Writer) -> None:
    write.send(1)
    write.handle(1)
    write.handle(1)
    assert write.found() == {"duplicates"}


def test_an_unmarked_repetition_in_a_group_is_found(write: Writer) -> None:
    write.pod("g1", group="g")
    write.pod("g2", group="g")
    write.send(1)
    write.handle(1, "g1")
    write.handle(1, "g2")
    assert write.found() == {"duplicates"}


@pytest.mark.parametrize("knows", [True, False])
def test_a_member_that_was_given_up_goes_on_unmarked_until_it_has_joined_again(write: Writer, knows: bool) -> None:
    write.pod("g1", group="g")
    write.pod("g2", group="g")
    write.send(1)
    write(Lost, "g2")
    write.handle(1, "g1", redelivered=True)
    if knows:
        write(Joined, "g2")
    write.handle(1, "g2")
    assert write.found() == ({"duplicates"} if knows else set())


def test_a_marked_repetition_passes(write: Writer) -> None:
    write.send(1)
    write.handle(1)
    write.handle(1, redelivered=True)
    assert write.found() == set()


def test_two_orders_are_found(write: Writer) -> None:
    write.pod("q")
    write.pod("t", NONE)
    write.send(1)
    write.send(2, "t")
    for pod, order in (("r", (1, 2)), ("q", (2, 1))):
        for number in order:
            write.handle(number, pod, sender="st"[number - 1])
    assert write.found() == {"total_order"}


def test_an_order_other_than_that_of_the_bus_is_found(write: Writer) -> None:
    write.pod("t", NONE)
    write.send(1)
    write.send(2, "t")
    write(Taken, uuid(1))
    write(Taken, uuid(2))
    write.handle(2, sender="t")
    write.handle(1)
    assert write.found() == {"total_order"}


def test_lives_of_the_bus_have_orders_of_their_own(write: Writer) -> None:
    write.pod("q")
    write.pod("t", NONE)
    write.send(1)
    write.send(2, "t")
    write.handle(1)
    write.handle(2, sender="t")
    write(BusKilled)
    write.handle(2, "q", sender="t")
    write.handle(1, "q")
    assert write.found() == set()


def test_a_late_first_delivery_of_one_sender_is_found_across_lives(write: Writer) -> None:
    write.send(1)
    write.send(2)
    write(BusKilled)
    write.handle(2)
    write.handle(1)
    assert write.found() == {"fifo"}


@pytest.mark.parametrize("is_lost", [True, False])
def test_what_came_to_a_bus_that_had_given_a_pod_up_comes_late_from_the_next(write: Writer, is_lost: bool) -> None:
    write.send(1)
    if is_lost:
        write(Lost, "r")
    write(Taken, uuid(1))
    if is_lost:
        write(Joined, "r")
    write.send(2)
    write(Taken, uuid(2))
    write.handle(2)
    write(BusKilled)
    write(Taken, uuid(1))
    write.handle(1)
    assert write.found() == (set() if is_lost else {"fifo"})


def test_a_question_that_ended_for_a_receiver_comes_late_when_the_bus_that_ended_it_has_died(write: Writer) -> None:
    write.send(1, kind="ask_any")
    write.send(2)
    write(Dropped, uuid(1), "overflow", "r")
    write.handle(2)
    write(BusKilled)
    write.handle(1)
    assert write.found() == set()


def test_a_question_that_ended_for_another_receiver_excuses_nobody(write: Writer) -> None:
    write.send(1, kind="ask_any")
    write.send(2)
    write(Dropped, uuid(1), "overflow", "q")
    write.handle(2)
    write(BusKilled)
    write.handle(1)
    assert write.found() == {"fifo"}


def test_what_waited_for_a_name_is_lost_with_an_incarnation_that_never_heard_it_had_joined(write: Writer) -> None:
    write.pod("a.1", account="a", supervised=True)
    write.send(1, kind="publish")
    write(BusKilled)
    write(Ended, "a.1", "killed")
    write(Started, "a.2", "a", ALL, supervised=True, incarnation=1)
    write(Ended, "a.2", "killed")
    write(Started, "a.3", "a", ALL, supervised=True, incarnation=2)
    write(Lost, "a.2")
    write.handle(1)
    write(Quiet)
    assert "conservation" not in write.found()


def lose_an_effect(write: Writer) -> None:
    """Have `a` handle what its service was told, and end before the bus has taken what it sent there."""
    write.pod("a", service="both", supervised=True)
    write.pod("b", service="both", supervised=True)
    write.send(1, kind="tell", dest="both")
    write(Taken, uuid(1))
    write.give(1, "a")
    write(Sent, "a", 1, uuid(2), "y", cause=uuid(1))
    write(Handled, "a", uuid(1))
    write(Ended, "a", "killed")


def test_an_effect_that_is_lost_with_its_pod_is_found(write: Writer) -> None:
    lose_an_effect(write)
    write(Quiet)
    assert write.found() == {"effects"}


def test_what_another_instance_of_a_service_is_told_again_makes_up_for_a_lost_effect(write: Writer) -> None:
    lose_an_effect(write)
    write(BusKilled)
    write.handle(1, "b")
    write(Quiet)
    assert write.found() == set()


def start_group(write: Writer) -> None:
    """Start `a` and `b`, of one group, and send a message that one of them shall have."""
    write.pod("a", group="g", supervised=True)
    write.pod("b", group="g", supervised=True)
    write.send(1)
    write(Taken, uuid(1))
    write.handle(1)


def lose_the_effect_of_a_member(write: Writer) -> None:
    """Have `a`, which has begun with the message, finish it, and end before the bus has taken what it sent there."""
    write(Sent, "a", 1, uuid(2), "y", cause=uuid(1))
    write(Handled, "a", uuid(1))
    write(Ended, "a", "overflow")
    write(Quiet)


@pytest.mark.parametrize("begins", ["before", "after"])
def test_what_a_member_that_was_given_up_sends_is_lost_where_another_was_given_the_same(
    write: Writer, begins: str
) -> None:
    start_group(write)
    if begins == "before":
        write.give(1, "a")
    write(Lost, "a")
    write.handle(1, "b", redelivered=True)
    if begins == "after":
        write.give(1, "a")
    lose_the_effect_of_a_member(write)
    assert write.found() == set()


def test_an_effect_of_a_member_that_was_given_up_is_found_where_nobody_else_was_given_the_same(write: Writer) -> None:
    start_group(write)
    write(Lost, "a")
    write.give(1, "a")
    lose_the_effect_of_a_member(write)
    assert write.found() == {"effects"}


def test_an_effect_is_found_where_another_had_the_message_before_its_member_was_given_up(write: Writer) -> None:
    start_group(write)
    write.handle(1, "b")
    write.give(1, "a", redelivered=True)
    write(Lost, "a")
    lose_the_effect_of_a_member(write)
    assert write.found() == {"effects"}


def test_an_effect_of_a_member_that_was_given_up_is_found_when_it_got_the_message_since(write: Writer) -> None:
    start_group(write)
    write(Lost, "a")
    write.handle(1, "b", redelivered=True)
    write(Joined, "a")
    write.give(1, "a", redelivered=True)
    lose_the_effect_of_a_member(write)
    assert write.found() == {"effects"}


@pytest.mark.parametrize("announced", [True, False])
def test_a_lost_effect_is_excused_once_the_share_of_its_cause_was_announced_as_a_gap(
    write: Writer, announced: bool
) -> None:
    start_group(write)
    write.give(1, "a")
    write(Sent, "a", 1, uuid(2), "y", cause=uuid(1))
    write(Handled, "a", uuid(1))
    write(Ended, "a", "killed")
    if announced:
        write(Gap, uuid(1), "g", "given up")
    write(Quiet)
    assert ("effects" in write.found()) is not announced


def test_a_gap_for_a_pod_that_was_given_up_and_then_left_is_right(write: Writer) -> None:
    write(Lost, "r")
    write(Leaving, "r", "")
    write.send(1, kind="tell", dest="r")
    write(Taken, uuid(1))
    write(Gap, uuid(1), "r", "given up")
    assert write.found() == set()


def test_a_gap_for_a_pod_that_was_only_given_up_is_found(write: Writer) -> None:
    write(Lost, "r")
    write.send(1, kind="tell", dest="r")
    write(Taken, uuid(1))
    write(Gap, uuid(1), "r", "given up")
    assert write.found() == {"given_up"}


def test_two_at_a_time_are_found(write: Writer) -> None:
    write.send(1)
    write.send(2)
    write.give(1)
    write.give(2)
    assert write.found() == {"one_at_a_time"}


def test_an_attempt_without_a_failure_is_found(write: Writer) -> None:
    write.send(1)
    write.handle(1, attempt=2, redelivered=True)
    assert write.found() == {"attempts"}


def test_one_failure_too_many_is_found(write: Writer) -> None:
    write.send(1)
    for attempt in range(1, 7):
        write.fail(1, attempt=attempt, redelivered=attempt > 1)
    assert write.found() == {"attempts"}


def test_a_call_after_the_64th_failure_is_found(write: Writer) -> None:
    for number in range(65):
        write.send(number)
    for number in range(64):
        write.fail(number)
    assert write.found() == set()
    write.fail(64)
    assert write.found() == {"health"}


def test_a_question_without_an_outcome_is_found(write: Writer) -> None:
    write.send(1, kind="ask", dest="r")
    write(Quiet)
    assert write.found() == {"answers"}
    write(Answered, "s", uuid(1), "answer")
    assert write.found() == set()
    write(Answered, "s", uuid(1), "none")
    assert write.found() == {"answers"}


def test_a_question_that_comes_twice_is_found(write: Writer) -> None:
    write.send(1, kind="ask", dest="r")
    write.handle(1)
    write.handle(1, redelivered=True)
    assert write.found() == {"answers"}


def late_retry(write: Writer) -> None:
    write.send(1)
    write.send(2)
    write.fail(1)
    write.handle(2)
    for number in range(3, 8):
        write(Measured, f"{number}", 0, 1)


def test_a_failed_message_that_waits_in_spite_of_a_success_is_found(write: Writer) -> None:
    late_retry(write)
    write.handle(1, redelivered=True, attempt=2)
    assert write.found() == {"flush"}


def test_a_disturbed_pod_may_be_late(write: Writer) -> None:
    write(Disturbed, "r", "connection")
    late_retry(write)
    write(Calmed, "r", "connection")
    write.handle(1, redelivered=True, attempt=2)
    assert write.found() == set()


def test_failures_that_change_their_order_are_found(write: Writer) -> None:
    for number in (1, 2, 3):
        write.send(number)
    write.fail(1)
    write.fail(2)
    write.handle(3)
    write.handle(2, redelivered=True, attempt=2)
    write.handle(1, redelivered=True, attempt=2)
    assert write.found() == {"redelivery_order"}


def test_more_than_fits_is_found(write: Writer) -> None:
    write(Measured, "mailbox of r", 11, 10)
    assert [str(violation) for violation in violations(write.events)] == [
        "bounds: 5: mailbox of r held 11, allowed are 10"
    ]


def test_a_violation_says_who_found_it() -> None:
    assert str(Violation("echo", "text")) == "echo: text"


def test_an_event_is_one_line_without_its_defaults() -> None:
    assert line(Sent(1.5, "s", 1, uuid(1), "x")) == (
        f"     1.500 Sent            pod='s' seq=1 uuid='{uuid(1)}' type='x'"
    )
