"""What a pod leaves when it ends: to its next incarnation, its group, the dead letters, or nobody."""

from __future__ import annotations

from collections.abc import Iterable

from grav_actors.bus.counts import Counts
from grav_actors.bus.dead_letters import DeadLetters
from grav_actors.bus.directory import Directory
from grav_actors.bus.handling import Handling
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.mailroom import Mailroom
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Delivery
from grav_actors.protocol import BYE_STOPPING, FLAG_REDELIVERED, FLAG_SUSPECT, QUESTION_KINDS

MAX_DEATHS = 3
"""Deaths in the handler of one message that send it to the dead letters."""


class Handover:
    """Moves or ends what dead and departed pods held."""

    def __init__(
        self,
        directory: Directory,
        ledger: Ledger,
        dead_letters: DeadLetters,
        mailroom: Mailroom,
        handling: Handling,
        counts: Counts,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._mailroom = mailroom
        self._handling = handling
        self._counts = counts

    def give_up(self, receiver: Receiver, reason: str, now: float) -> None:
        """Empty a receiver that is gone for good; with the reason "" what it held is only counted."""
        self.take_back(receiver, now, died=reason == "pod_lost", has_left=reason in ("", BYE_STOPPING))
        self._mailroom.forget(receiver.mailbox, now)
        self._ledger.forget(receiver.sender)
        self._handling.failing.discard(receiver)
        self._dead_letters.abandon(receiver.mailbox.pop_waiting(), reason, receiver.label, now)
        failures, receiver.failed = receiver.failed, []
        for failure in failures:
            attempts = failure.delivery.attempt - 1
            self._dead_letters.bury_of(receiver, failure.delivery, reason or "pod_lost", now, attempts, failure.error)
        self._drop_answers(receiver)

    def _drop_answers(self, receiver: Receiver) -> None:
        """End the answers that wait for a pod which is gone."""
        for delivery in receiver.priority:
            self._counts.late_answers += delivery.count
            self._ledger.settle(delivery.run, delivery.count)
        receiver.priority.clear()
        receiver.answers = receiver.answer_bytes = 0

    def charge(self, receiver: Receiver, handling: Iterable[tuple[bytes, int]], now: float) -> None:
        """Note that a pod which has died was handling these messages, each by sender and seq, and no others.

        What is in flight is charged when it is taken back, which may have been done already.
        """
        if receiver.is_charged:
            return
        receiver.is_charged = True
        group = self._directory.groups.get(receiver.settings.group)
        mailboxes = [receiver.mailbox] if group is None else [receiver.mailbox, group.mailbox]
        for sender, seq in handling:
            if not receiver.suspect(sender, seq):
                any(self._charge_waiting(receiver, mailbox, sender, seq, now) for mailbox in mailboxes)

    def _charge_waiting(self, receiver: Receiver, mailbox: Mailbox, sender: bytes, seq: int, now: float) -> bool:
        """Charge a message that was taken back, if it waits here; return whether it does."""
        for position, delivery in enumerate(mailbox.waiting):
            index = seq - delivery.run.seq
            if (
                delivery.run.sender.uuid == sender
                and delivery.lo <= index < delivery.hi
                and delivery.flags & FLAG_REDELIVERED
            ):
                parts = list(delivery.parted({index}))
                dead = [piece for piece, is_it in parts if is_it and self._charge_death(piece)]
                mailbox.replace(position, [piece for piece, _ in parts if piece not in dead])
                for piece in dead:
                    self._bury_crashed(receiver, piece, now)
                return True
        return False

    def take_back(
        self, receiver: Receiver, now: float, *, died: bool, has_left: bool = True, is_told_later: bool = False
    ) -> None:
        """Put what is in flight to a pod that is gone in front of its mailbox, or of that of its group.

        It may have been delivered. If the pod has died, the messages that were in its handlers are charged with
        that, and questions end with an error: they are never given twice. Where nobody can say what was in its
        handlers, its oldest message is charged, which perhaps was.

        Args:
            has_left: It ended by itself, and told before what it has handled, and which questions are in a handler
                or wait for a deferred answer: these end with an error. Else all that are in flight do: they may be.
            is_told_later: Somebody will say it, with `charge`.
        """
        group = self._directory.groups.get(receiver.settings.group)
        own: list[Delivery] = []
        back: list[Delivery] = []
        suspects = receiver.suspects if died else set()
        is_guess = died and not (receiver.is_charged or is_told_later or suspects)
        for piece in receiver.pop_in_flight():
            if piece.priority:
                receiver.free_window(piece, piece.count)
                self._counts.late_answers += piece.count
                self._ledger.settle(piece.run, piece.count)
                continue
            receiver.mailbox.discard(piece)
            piece.flags |= FLAG_REDELIVERED
            target = back if group is not None and piece.group else own
            if is_guess:
                is_guess = False
                suspects = {(piece.run, piece.lo)}
            is_question = piece.run.kind in QUESTION_KINDS
            if is_question and (died or not has_left):
                self._dead_letters.bury_of(receiver, piece, "crashed", now)
                continue
            self._counts.redeliveries += piece.count
            named = receiver.suspects if is_question else suspects
            for part, is_named in piece.parted({index for run, index in named if run is piece.run}):
                if is_named and is_question:
                    self._dead_letters.bury_of(receiver, part, "stopping", now)
                elif is_named and self._charge_death(part):
                    self._bury_crashed(receiver, part, now)
                else:
                    target.append(part)
        if suspects:
            receiver.is_charged = True
        if group is not None:
            for delivery in receiver.mailbox.pop_waiting():
                (back if delivery.group else own).append(delivery)
            group.mailbox.add_first(back)
            self._mailroom.dirty_groups.add(group.name)
        receiver.mailbox.add_first(own)

    def inherit(self, old: Receiver, new: Receiver, now: float) -> None:
        """Hand the mailbox of a dead incarnation to the next."""
        self.take_back(old, now, died=True)
        self._drop_answers(old)
        self._ledger.forget(old.sender)
        new.mailbox = mailbox = old.mailbox
        mailbox.name = new.label
        mailbox.limit = new.settings.mailbox_limit
        mailbox.overflow = new.settings.overflow
        mailbox.stuck_after = new.settings.stuck_after
        new.failed, old.failed = old.failed, []
        for failure in new.failed:
            failure.after = 0
        new.retry_at, new.retry_delay = old.retry_at, old.retry_delay
        new.replayed = old.replayed
        if new.failed:
            self._handling.failing.discard(old)
            self._handling.failing.add(new)
        self._mailroom.relieve(mailbox, now)
        self._mailroom.touch(new)

    @staticmethod
    def _charge_death(delivery: Delivery) -> bool:
        """Charge a delivery with the death of its process; return whether that was one too many."""
        delivery.deaths += 1
        delivery.attempt += 1
        if delivery.deaths == MAX_DEATHS - 1:
            delivery.flags |= FLAG_SUSPECT
        return delivery.deaths >= MAX_DEATHS

    def _bury_crashed(self, receiver: Receiver, delivery: Delivery, now: float) -> None:
        self._dead_letters.bury_of(receiver, delivery, "crashed", now, delivery.attempt - 1, "its process died")
