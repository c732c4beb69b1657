"""Bugs that are planted in the cores: the simulator must find each, by the checker that is meant for it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from grav_actors.bus.core import BusCore
from grav_actors.bus.dead_letters import DeadLetters
from grav_actors.bus.handling import Handling
from grav_actors.bus.handover import Handover
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.mailroom import Mailroom
from grav_actors.bus.postman import Postman
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.replay import ReplayRing
from grav_actors.bus.roster import RosterEntry
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.shelf import DeadLetter, Shelf
from grav_actors.pod.core import PodCore, State
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.outbox import Outbox
from grav_actors.pod.ranges import Ranges
from grav_actors.protocol import KIND_ASK_ANY, KIND_PUBLISH, KIND_REPLY
from support.simulation.pods import Post, SimPod
from support.simulation.programs import Fate, Program
from support.simulation.seeding import Limits
from support.simulation.simulate import simulate

pytestmark = pytest.mark.no_cover  # random histories would take three times as long when they are traced

SEEDS = 200
"""Seeds within which a planted bug must be found."""


def assert_found(
    plant: pytest.MonkeyPatch,
    checker: str,
    *troubles: str,
    text: str = "",
    base: type[Program] = Program,
    limits: Limits | None = None,
) -> None:
    """Assert that a checker finds what is planted, and that without it nothing is wrong with that history.

    Args:
        text: What the checker says of it, in part.
        base: The program, if it must be one that brings this about.
        limits: Others than those of the seeds.
    """
    program = type("Troubled", (base,), {"always": frozenset(troubles), "often": troubles[0] if troubles else ""})
    for seed in range(SEEDS):
        found = simulate(seed, program, limits).violations
        if any(violation.checker == checker and text in violation.text for violation in found):
            plant.undo()
            assert not simulate(seed, program, limits).violations
            return
    pytest.fail(f"{checker} has found nothing in {SEEDS} seeds")


def test_a_resend_that_is_settled_before_receivers_are_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def expect_nobody(self: BusCore, entries: Iterable[RosterEntry], now: float) -> None:
        pass

    monkeypatch.setattr(BusCore, "restore", expect_nobody)
    assert_found(monkeypatch, "conservation", "restarts")


def test_deduplication_by_a_watermark_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_below_the_highest(self: Ranges, number: int) -> bool:
        return number <= max(self.floor, *self._lasts, 0)

    monkeypatch.setattr(Ranges, "__contains__", is_below_the_highest)
    assert_found(monkeypatch, "conservation", "restarts", "deaths", "cuts", "failures")


def test_an_acknowledgement_ahead_of_its_handlers_output_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = PodCore.flush

    def hasty_flush(self: PodCore, now: float, *, force: bool = False) -> None:
        if self.state is State.JOINED:
            self._send_handled(now)
        flush(self, now, force=force)

    monkeypatch.setattr(PodCore, "flush", hasty_flush)
    assert_found(monkeypatch, "effects", "deaths")


def test_a_skipped_flush_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(self: Handling, receiver: Receiver, success: int, now: float) -> None:
        pass

    monkeypatch.setattr(Handling, "_flush_failed", keep)
    assert_found(monkeypatch, "flush", "failures")


def test_a_reordered_redelivery_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver_again: Any = Handling._deliver_again

    def backwards(self: Handling, receiver: Receiver, again: list[Any], now: float) -> None:
        deliver_again(self, receiver, again[::-1], now)

    monkeypatch.setattr(Handling, "_deliver_again", backwards)
    assert_found(monkeypatch, "redelivery_order", "failures")


def test_what_a_pod_held_that_has_left_and_nobody_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    give_up = Handover.give_up

    def forgetful(self: Handover, receiver: Receiver, reason: str, now: float) -> None:
        if receiver.mailbox.waiting and not reason:
            lost = receiver.mailbox.take(1)
            receiver.mailbox.discard(lost)
            self._ledger.settle(lost.run, lost.count)
        give_up(self, receiver, reason, now)

    monkeypatch.setattr(Handover, "give_up", forgetful)
    assert_found(monkeypatch, "conservation", "leaving")


def test_what_a_lost_pod_held_and_is_only_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    give_up = Handover.give_up

    def lenient(self: Handover, receiver: Receiver, reason: str, now: float) -> None:
        give_up(self, receiver, "" if reason == "pod_lost" else reason, now)

    monkeypatch.setattr(Handover, "give_up", lenient)
    assert_found(monkeypatch, "given_up", "deaths", text="nobody of that name has left")


def test_messages_that_are_given_up_and_not_all_counted_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    abandon = DeadLetters.abandon

    def miscounting(self: DeadLetters, deliveries: Iterable[Delivery], reason: str, *args: Any) -> None:
        given = list(deliveries)
        abandon(self, given, reason, *args)
        self._counts.given_up -= len(given) > 1 and not reason

    monkeypatch.setattr(DeadLetters, "abandon", miscounting)
    assert_found(monkeypatch, "accounting", "leaving", text="given up")


# Bounds, of messages as of bytes


class Sluggish(Program):
    """Nobody handles anything until all trouble has ended; mailboxes with wide limits hold back their senders."""

    overflow = "block"

    def settings(self, **fixed: Any) -> dict[str, Any]:
        wide = {"mailbox_limit": 65_536, "overflow": self.overflow, "stuck_after": None}
        return super().settings(**{**fixed, **wide})

    def __init__(self, rng: random.Random, limits: Limits) -> None:
        super().__init__(rng, limits)
        self.troubles = self.troubles - {"failures"}
        for pod in self.everybody():
            pod.paused = True
            self.hung[pod.label] = pod

    def wake(self) -> None:
        """Let nobody go on."""

    def run(self, steps: int) -> None:
        super().run(600)


class Dropping(Sluggish):
    """And every mailbox drops its oldest."""

    overflow = "drop_oldest"


class Responsive(Program):
    """Every message is replied to, twice."""

    def fate(self) -> Fate:
        return Fate("ok", 0, 0, 2)

    def echo(self, pod: SimPod, inbound: Inbound, record: list[Any]) -> Post:
        return Post(KIND_REPLY, "reply", inbound.sender, record[0], "echo")


KEEPING = Limits(window_bytes=1000, run_bytes=200, retained_bytes=200_000, ring_bytes=300)
"""Senders keep much, so that they do not stop for that."""


def test_a_mailbox_that_counts_no_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mailbox, "is_full", property(lambda box: box.used >= box.limit))
    limits = replace(KEEPING, mailbox_bytes=500)
    assert_found(monkeypatch, "bounds", text="bytes in mailbox", base=Sluggish, limits=limits)


def test_a_mailbox_that_drops_by_number_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    overflow = Mailroom._overflow

    def by_number(self: Mailroom, mailbox: Mailbox, delivery: Delivery, now: float) -> None:
        if mailbox.overflow == "drop_oldest" and mailbox.waiting_count + delivery.count <= mailbox.limit:
            mailbox.add(delivery)
        else:
            overflow(self, mailbox, delivery, now)

    monkeypatch.setattr(Mailroom, "_overflow", by_number)
    limits = replace(KEEPING, mailbox_bytes=500)
    assert_found(monkeypatch, "bounds", text="bytes in mailbox", base=Dropping, limits=limits)


def test_a_window_of_a_receiver_that_counts_no_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Receiver, "window_limit", property(lambda receiver: 1 << 40, lambda receiver, size: None))
    assert_found(monkeypatch, "bounds", "hangs", text="bytes in flight")


def test_a_sender_that_counts_no_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_number(outbox: Outbox) -> bool:
        return outbox.next_seq - 1 - outbox.accepted < 64

    monkeypatch.setattr(Outbox, "has_room", by_number)
    assert_found(monkeypatch, "bounds", text="bytes in the window")


def test_a_sender_that_keeps_any_number_of_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    has_room = Outbox.has_room

    def without_retention(outbox: Outbox) -> bool:
        kept, outbox.retained_bytes = outbox.retained_bytes, 0
        try:
            return has_room(outbox)
        finally:
            outbox.retained_bytes = kept

    monkeypatch.setattr(Outbox, "has_room", without_retention)
    limits = replace(KEEPING, retained_bytes=2000)
    assert_found(monkeypatch, "bounds", text="bytes kept by", base=Sluggish, limits=limits)


def test_a_shelf_that_counts_no_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Shelf.add

    def by_number(self: Shelf, letter: DeadLetter) -> None:
        size, self._bytes = self._bytes, -(1 << 40)
        add(self, letter)
        self._bytes += size + (1 << 40)

    monkeypatch.setattr(Shelf, "add", by_number)
    assert_found(monkeypatch, "bounds", "failures", text="bytes of dead letters")


def test_a_replay_ring_that_counts_no_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    push = ReplayRing.push

    def by_number(self: ReplayRing, run: Run) -> None:
        size, self._bytes = self._bytes, -(1 << 40)
        push(self, run)
        self._bytes += size + (1 << 40)

    monkeypatch.setattr(ReplayRing, "push", by_number)
    assert_found(monkeypatch, "bounds", text="bytes in the replay ring")


def test_answers_past_their_limit_in_bytes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    route_receipts = Postman._route_receipts

    def by_number(self: Postman, run: Run, now: float) -> None:
        sizes = {receiver: receiver.answer_bytes for receiver in self.directory}
        for receiver in sizes:
            receiver.answer_bytes = 0
        route_receipts(self, run, now)
        for receiver, size in sizes.items():
            receiver.answer_bytes += size

    monkeypatch.setattr(Postman, "_route_receipts", by_number)
    limits = replace(KEEPING, answer_bytes=100)
    assert_found(monkeypatch, "bounds", "stops", text="bytes of answers", base=Responsive, limits=limits)


def test_a_bus_that_gives_credit_whatever_it_holds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = Ledger.open

    def generous(self: Ledger, run: Run, *, is_working: bool = False) -> None:
        open_(self, run, is_working=True)

    monkeypatch.setattr(Ledger, "open", generous)
    limits = replace(KEEPING, held_bytes=2000)
    assert_found(monkeypatch, "bounds", text="bytes held for senders", base=Sluggish, limits=limits)


# Questions


class Doubtful(Program):
    """Half of what is published is asked, and much of that is taken back while it waits for pods that take one each."""

    def settings(self, **fixed: Any) -> dict[str, Any]:
        return super().settings(**{**fixed, "prefetch": 1, "overflow": "block"})

    def new_post(self, pod: SimPod) -> Post | None:
        post = super().new_post(pod)
        if post is not None and post.kind == KIND_PUBLISH and self.rng.random() < 0.5:
            post.kind = KIND_ASK_ANY
        return post

    def send(self) -> None:
        super().send()
        if self.rng.random() < 0.5:
            self.route()
            for wire in self.wires:
                self.down(wire)
            self.withdraw()

    def withdraw(self) -> None:
        for pod in self.everybody():
            for question in list(pod.questions):
                if pod.is_here and self.rng.random() < 0.5:
                    pod.cancel(question)


def test_a_question_that_was_taken_back_and_is_sent_to_a_new_bus_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox, "take_back", lambda outbox, seqs: None)
    assert_found(monkeypatch, "fifo", "hangs", "restarts", base=Doubtful)
