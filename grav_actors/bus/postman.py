"""Routing and what becomes of each delivery: mailboxes, failures, dead letters, settling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grav_actors.bus.directory import Directory, Group
from grav_actors.bus.mailbox import MAILBOX_BYTES, Mailbox
from grav_actors.bus.receiver import (
    ANSWERS_BYTES,
    ANSWERS_LIMIT,
    RETRY_FIRST,
    RETRY_MAX,
    Failure,
    Receiver,
)
from grav_actors.bus.replay import ReplayRing
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.bus.shelf import DeadLetter, Shelf
from grav_actors.codec import join_body, pack_record, record_ids
from grav_actors.errors import MessageDecodeError
from grav_actors.filters import FilterSet, is_framework_type
from grav_actors.ids import id_text, new_id
from grav_actors.message import Message
from grav_actors.protocol import (
    ACK_DELAY,
    ERROR_TYPE,
    FAIL_CRASH,
    FAIL_REJECT,
    FAILED_LIMIT,
    FLAG_GROUP,
    FLAG_RECEIPT,
    FLAG_REDELIVERED,
    FLAG_RESENT,
    KIND_ANSWER,
    KIND_ASK,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    QUESTION_KINDS,
    Handled,
)

HELD_BYTES = 256 * 1024 * 1024
"""Bytes of unsettled runs at which no sender is given credit, until a quarter of them is gone."""
MAX_DEATHS = 3
"""Deaths in the handler of one message that send it to the dead letters."""
OWN_MESSAGE_LIMIT = 16 * 1024 * 1024


@dataclass(slots=True)
class Counts:
    """What happened on the bus since it started, in messages (but for `bad_frames` and `runs`).

    Attributes:
        bad_frames: Frames that were malformed, or came from a route that is ignored.
        deliveries: Sent to pods, once for each; a repetition after a broken connection is not counted.
        duplicates: Came again although the bus had them.
        garbled: Could not be delivered, as the body was not what its header said.
        given_up: Held by a pod that left, or the bus's own to a pod that takes nothing.
        handled: Reported as handled, once for each receiver.
        late_answers: Answers to a pod that is gone.
        messages: Taken from pods.
        missing: Jumped over by the numbers of a sender, which no pod of this package does.
        redeliveries: Given again, after a failure or the death of a pod.
        runs: Taken from pods.
    """

    bad_frames: int = 0
    deliveries: int = 0
    duplicates: int = 0
    garbled: int = 0
    given_up: int = 0
    handled: int = 0
    late_answers: int = 0
    messages: int = 0
    missing: int = 0
    redeliveries: int = 0
    runs: int = 0


class Postman:
    """Brings runs to mailboxes, and keeps count of each delivery until it is finished.

    Attributes:
        dirty: Receivers that may have something to be sent.
        dirty_groups: Groups whose members may have room.
        unacked: Senders whose watermarks have moved, with the time by which they must be told.
        full: Mailboxes with the policy `block` that hold back their senders.
        failing: Receivers with failures that wait.
        overflowed: Receivers to disconnect: too many failures, or a full mailbox with that policy.
    """

    def __init__(self, directory: Directory, replay_limit: int) -> None:
        self.directory = directory
        self.ring = ReplayRing(replay_limit)
        self.shelf = Shelf()
        self.counts = Counts()
        self.own = Sender(new_id())
        self.dirty: list[Receiver] = []
        self.dirty_groups: set[str] = set()
        self.unacked: dict[Sender, float] = {}
        self.full: set[Mailbox] = set()
        self.failing: set[Receiver] = set()
        self.overflowed: list[Receiver] = []
        self.held_bytes = 0
        self._starved: set[Sender] = set()

    # Routing

    def route(self, run: Run, source: Receiver | None, now: float) -> None:
        """Bring a run to everybody whom it is for."""
        kind = run.kind
        sender = run.sender
        if kind in (KIND_TELL, KIND_ASK):
            self._route_named(run, now)
        elif kind == KIND_ANSWER:
            self._route_receipts(run, now)
        else:
            plan = self.directory.plan(run.type)
            for receiver in plan.receivers:
                if receiver is not source:
                    for delivery in _wanted(run, receiver.filters):
                        self._enqueue(receiver.mailbox, delivery, now)
                        if not receiver.is_dirty:
                            receiver.is_dirty = True
                            self.dirty.append(receiver)
            for group in plan.groups:
                if group.choose(run.type, sender.uuid)[1]:
                    delivery = Delivery(run, 0, run.count, FLAG_GROUP)
                    delivery.group = group.name
                    self._enqueue(group.mailbox, delivery, now)
                    self.dirty_groups.add(group.name)
            if kind == KIND_PUBLISH:
                if not is_framework_type(run.type):
                    self.ring.push(run)
            elif kind == KIND_REPLY:
                self._route_receipts(run, now)
        if run.pending:
            sender.open[run.seq] = run
            self._hold(run)
        elif kind in QUESTION_KINDS:
            sender.urgent = True  # nobody handles it, and the asker should know at once
        self.note(sender, now)

    def _route_named(self, run: Run, now: float) -> None:
        receiver = self.directory.named(run.dest)
        delivery = Delivery(run, 0, run.count)
        if receiver is not None:
            self._enqueue(receiver.mailbox, delivery, now)
            self.touch(receiver)
        elif run.kind == KIND_TELL:
            run.pending += run.count
            self.bury(delivery, "no_responders", run.dest, now)

    def _route_receipts(self, run: Run, now: float) -> None:
        # Past filter and window: a handler may be blocked waiting for just this.
        if len(run.dest) == 8:
            receivers = self.directory.of_process(run.dest)
        else:
            receiver = self.directory.by_uuid.get(run.dest)
            receivers = [receiver] if receiver is not None else []
        if not receivers:
            self.counts.late_answers += run.count
        for receiver in receivers:
            if receiver.answers >= ANSWERS_LIMIT or receiver.answer_bytes >= ANSWERS_BYTES:
                self.counts.given_up += run.count
                continue
            receiver.answers += run.count
            receiver.answer_bytes += run.unit * run.count
            delivery = Delivery(run, 0, run.count, FLAG_RECEIPT)
            delivery.priority = True
            run.pending += run.count
            receiver.priority.append(delivery)
            self.touch(receiver)

    def replay(self, receiver: Receiver, now: float) -> None:
        """Give a pod what the ring holds of what it wants and did not send."""
        for run, skipped in self.ring:
            if run.sender.uuid == receiver.uuid or not receiver.filters.allows_type(run.type):
                continue
            for delivery in _wanted(run, receiver.filters, skipped):
                self._enqueue(receiver.mailbox, delivery, now)
        self.touch(receiver)

    def send_own(self, message: Message, kind: int, dest: Any, now: float) -> None:
        """Send a message of the bus itself."""
        body = join_body([pack_record(message, OWN_MESSAGE_LIMIT)])
        self.own.received += 1
        run = Run(self.own, self.own.received, kind, message.type, 1, body, len(body), dest)
        self.route(run, None, now)

    def announce(self, event: str, data: dict[str, Any], now: float) -> None:
        """Publish an event if anybody listens."""
        plan = self.directory.plan(event)
        if plan.receivers or plan.groups:
            self.send_own(Message._framework(event, data), KIND_PUBLISH, None, now)

    def answer_error(self, delivery: Delivery, code: str, text: str, now: float) -> None:
        """Tell the askers of these questions that no answer will come."""
        run = delivery.run
        try:
            ids = record_ids(bytes(run.body), run.count)
        except MessageDecodeError:
            return
        for question in ids[delivery.lo : delivery.hi]:
            data = {"code": code, "error": text, "traceback": ""}
            message = Message._framework(ERROR_TYPE, data, reply_to=id_text(question))
            self.send_own(message, KIND_ANSWER, run.sender.uuid, now)

    # Mailboxes

    def touch(self, receiver: Receiver) -> None:
        """Have what waits for a receiver looked at when the drain ends."""
        if not receiver.is_dirty:
            receiver.is_dirty = True
            self.dirty.append(receiver)

    def note(self, sender: Sender, now: float) -> None:
        """Have a sender told its watermarks, soon."""
        if sender not in self.unacked:
            self.unacked[sender] = now + ACK_DELAY

    def _enqueue(self, mailbox: Mailbox, delivery: Delivery, now: float) -> None:
        run = delivery.run
        run.pending += delivery.hi - delivery.lo
        if (
            mailbox.used + delivery.hi - delivery.lo < mailbox.limit
            and mailbox.used_bytes + delivery.size < MAILBOX_BYTES
            and not mailbox.stuck
        ):
            mailbox.add(delivery)
        else:
            self._overflow(mailbox, delivery, now)

    def _overflow(self, mailbox: Mailbox, delivery: Delivery, now: float) -> None:
        run = delivery.run
        if mailbox.overflow == "block":
            if run.sender is self.own and (mailbox.stuck or mailbox.is_full):
                # Nobody holds the bus itself back, and nobody misses its events in a full mailbox.
                self.counts.given_up += delivery.count
                self.settle(run, delivery.count)
            elif mailbox.stuck:
                self.bury(delivery, "overflow", mailbox.name, now)
            else:
                mailbox.add(delivery)
                if mailbox.is_full and run.sender is not self.own:
                    if mailbox not in self.full:
                        self.full.add(mailbox)
                        mailbox.progress_at = now
                    mailbox.blocked.add(run.sender)
                    run.sender.blockers.add(mailbox)
        elif mailbox.overflow == "drop_oldest":
            # What is in flight cannot be dropped any more: the limit is for what waits.
            mailbox.add(delivery)
            while mailbox.waiting_count > mailbox.limit or (
                mailbox.waiting_count > 1 and mailbox.used_bytes > MAILBOX_BYTES
            ):
                oldest = mailbox.take(max(1, mailbox.waiting_count - mailbox.limit))
                mailbox.discard(oldest)
                self.bury(oldest, "overflow", mailbox.name, now)
        elif mailbox.overflow == "drop_newest":
            room = min(mailbox.limit - mailbox.used, (MAILBOX_BYTES - mailbox.used_bytes) // run.unit)
            if room > 0:
                mailbox.add(delivery.split(min(room, delivery.count)))
            if delivery.count:
                self.bury(delivery, "overflow", mailbox.name, now)
        else:
            mailbox.add(delivery)
            if mailbox.is_over:
                self.overflowed.extend(self._owners(mailbox))

    def _owners(self, mailbox: Mailbox) -> list[Receiver]:
        group = self.directory.groups.get(mailbox.name)
        if group is not None and group.mailbox is mailbox:
            return list(group.members)
        return [receiver for receiver in self.directory if receiver.mailbox is mailbox]

    def relieve(self, mailbox: Mailbox, now: float) -> None:
        """Let go the senders that wait for a mailbox, if it has room again."""
        if mailbox.stuck and mailbox.is_half_empty:
            mailbox.stuck = False
        if mailbox.is_full:
            return
        self.full.discard(mailbox)
        self._unblock(mailbox, now)

    def _unblock(self, mailbox: Mailbox, now: float) -> None:
        for sender in mailbox.blocked:
            sender.unblock(mailbox)
            self.note(sender, now)
        mailbox.blocked.clear()

    def check_stuck(self, now: float) -> list[Mailbox]:
        """Call full mailboxes stuck that made no progress; return those that became so."""
        stuck: list[Mailbox] = []
        for mailbox in self.full:
            limit = mailbox.stuck_after
            if limit is not None and not mailbox.stuck and now - mailbox.progress_at >= limit:
                mailbox.stuck = True
                stuck.append(mailbox)
                self._unblock(mailbox, now)
        for mailbox in stuck:
            data = {"pod": mailbox.name, "waiting": mailbox.used, "seconds": now - mailbox.progress_at}
            self.announce("grav.sys.pod.stuck", data, now)
        return stuck

    def share(self, group: Group, now: float) -> None:
        """Give a group's waiting messages to members with room, the least loaded first."""
        mailbox = group.mailbox
        while mailbox.waiting:
            head = mailbox.waiting[0]
            limit = head.count
            if head.flags & FLAG_RESENT and not head.flags & FLAG_REDELIVERED:
                if group.missing:
                    break
                claimant, limit = group.claimant(head)
                if claimant is not None:
                    self._hand_over(mailbox, claimant, limit)
                    continue
            member, is_possible = group.choose(head.run.type, head.run.sender.uuid)
            if member is None:
                if is_possible:
                    break
                self._finish_group_head(mailbox, head)
                continue
            try:
                head.run.offsets()
            except MessageDecodeError:
                self._finish_group_head(mailbox, head)
                continue
            # One at a time while members are idle, so that a short run spreads over all of them.
            room = member.room() - member.mailbox.waiting_count
            self._hand_over(mailbox, member, min(limit, max(1, room // len(group.members))))
        if mailbox in self.full or mailbox.stuck:
            self.relieve(mailbox, now)

    def _hand_over(self, mailbox: Mailbox, member: Receiver, count: int) -> None:
        piece = mailbox.take(count)
        mailbox.discard(piece)
        member.mailbox.add(piece)
        self.touch(member)

    def _finish_group_head(self, mailbox: Mailbox, head: Delivery) -> None:
        # Garbled, or only its own sender is left in the group.
        mailbox.take(head.count)
        mailbox.discard(head)
        self.settle(head.run, head.count)

    # Finishing

    def handled(self, receiver: Receiver, handled: Handled, now: float) -> None:
        """Apply a pod's watermark; the caller has checked it."""
        highest = finished = 0
        if type(handled) is not int:
            floor, ranges, failures = handled  # type: ignore[misc]
            for number, how, error in failures:
                finished += self._fail(receiver, number, how, error, now)
            for first, last in ranges:
                for delivery, count, number in receiver.finish_range(first, last):
                    self._finish(receiver, delivery, count)
                    finished += count
                    if number > highest and not (delivery.flush or delivery.priority):
                        highest = number
        else:
            floor = handled
        for delivery, count, number in receiver.finish_floor(floor):
            self._finish(receiver, delivery, count)
            finished += count
            if number > highest and not (delivery.flush or delivery.priority):
                highest = number
        if not finished:
            return  # nothing that is new, and so no sign of progress
        mailbox = receiver.mailbox
        mailbox.progress_at = now
        if mailbox in self.full or mailbox.stuck:
            self.relieve(mailbox, now)
        if highest:
            receiver.retry_delay = RETRY_FIRST
            if receiver.failed:
                self._flush_failed(receiver, highest, now)
        if len(receiver.failed) >= FAILED_LIMIT:
            self.overflowed.append(receiver)
        if receiver.settings.group:
            group = self.directory.groups.get(receiver.settings.group)
            if group is not None:
                group.mailbox.progress_at = now
                self.dirty_groups.add(group.name)
        self.touch(receiver)

    def _finish(self, receiver: Receiver, delivery: Delivery, count: int) -> None:
        if count:
            self._free_window(receiver, delivery, count)
            self.counts.handled += count
            self.settle(delivery.run, count)

    @staticmethod
    def _free_window(receiver: Receiver, delivery: Delivery, count: int) -> None:
        size = delivery.run.unit * count
        if delivery.priority:
            receiver.answers -= count
            receiver.answer_bytes -= size
        else:
            receiver.window_used -= count
            receiver.window_bytes -= size
            receiver.mailbox.finished(count, size)

    def drop_garbled(self, receiver: Receiver, delivery: Delivery) -> None:
        """End a delivery that was taken from its mailbox and cannot be cut out of its body."""
        self.counts.garbled += delivery.count
        if delivery.priority:
            receiver.answers -= delivery.count
            receiver.answer_bytes -= delivery.size
        else:
            receiver.mailbox.discard(delivery)
        self.settle(delivery.run, delivery.count)

    def settle(self, run: Run, count: int) -> None:
        """Note that `count` deliveries of a run need nothing more."""
        run.pending -= count
        if run.pending == 0:
            sender = run.sender
            if sender.open.pop(run.seq, None) is not None:
                self._free(run)
            if run.kind in QUESTION_KINDS:
                sender.urgent = True
            if sender not in self.unacked:
                self.unacked[sender] = 0.0  # the time is set when the drain ends

    def _hold(self, run: Run) -> None:
        self.held_bytes += run.size
        if self.held_bytes > HELD_BYTES and run.sender is not self.own:
            run.sender.blockers.add(self)
            self._starved.add(run.sender)

    def _free(self, run: Run) -> None:
        self.held_bytes -= run.size
        if self._starved and self.held_bytes < HELD_BYTES * 3 // 4:
            for sender in self._starved:
                sender.unblock(self)
                self.unacked.setdefault(sender, 0.0)
            self._starved.clear()

    def _fail(self, receiver: Receiver, number: int, how: int, error: str, now: float) -> int:
        """Note that a handler raised; return how many messages that finishes."""
        delivery = receiver.find(number)
        if delivery is None or delivery.priority:
            return 0
        if how == FAIL_CRASH:
            receiver.suspects.add((delivery.run, delivery.lo + number - delivery.number))
            return 0
        delivery.marks = delivery.marks if delivery.marks is not None else set()
        delivery.marks.add(number)
        self._free_window(receiver, delivery, 1)
        index = delivery.lo + number - delivery.number
        failed = delivery.piece(index, index + 1)
        attempts = delivery.attempt
        failed.attempt = attempts + 1
        failed.flags |= FLAG_REDELIVERED
        failed.group = ""  # it stays with the member that failed it
        if how == FAIL_REJECT:
            self.bury(failed, "rejected", receiver.label, now, attempts, error)
        elif delivery.run.kind in QUESTION_KINDS:
            self.settle(delivery.run, 1)  # the pod has answered it with the error
        elif attempts >= receiver.settings.max_deliver:
            self.bury(failed, "max_deliver", receiver.label, now, attempts, error)
        else:
            if not receiver.failed:
                receiver.retry_at = now + receiver.retry_delay
            receiver.failed.append(Failure(failed, number, error))
            self.failing.add(receiver)
        return 1

    def _flush_failed(self, receiver: Receiver, success: int, now: float) -> None:
        again = [failure.delivery for failure in receiver.failed if failure.after < success]
        receiver.failed = [failure for failure in receiver.failed if failure.after >= success]
        for delivery in again:
            delivery.flush = True
        self._deliver_again(receiver, again, now)

    def _deliver_again(self, receiver: Receiver, again: list[Delivery], now: float) -> None:
        receiver.mailbox.add_first(again)
        self.counts.redeliveries += len(again)
        receiver.retry_at = now + receiver.retry_delay
        if not receiver.failed:
            self.failing.discard(receiver)
        self.touch(receiver)

    def retry_failed(self, now: float) -> None:
        """Give idle pods their oldest failed message again when its time has come.

        If that succeeds it counts as any success, and brings the others back.
        """
        for receiver in list(self.failing):
            if now >= receiver.retry_at and not receiver.mailbox.used:
                receiver.retry_delay = min(receiver.retry_delay * 2, RETRY_MAX)
                delivery = receiver.failed.pop(0).delivery
                delivery.flush = False
                self._deliver_again(receiver, [delivery], now)

    # Ends

    def bury(
        self, delivery: Delivery, reason: str, target: str, now: float, attempts: int = 0, error: str = ""
    ) -> None:
        """End a delivery as a dead letter; a question ends in an error for its asker instead."""
        run = delivery.run
        count = delivery.count
        if run.kind in QUESTION_KINDS:
            code = "overflow" if reason == "overflow" else "stopped"
            self.answer_error(delivery, code, f"{target}: {reason}", now)
        elif run.kind == KIND_ANSWER:
            self.counts.late_answers += count
        elif run.type.startswith("grav.sys."):
            self.counts.given_up += count  # never a dead letter of a dead letter
        else:
            self.shelf.add(DeadLetter(delivery.piece(delivery.lo, delivery.hi), reason, target, attempts, error))
            data = {
                "reason": reason, "target": target, "attempts": attempts, "error": error, "type": run.type,
                "count": count,
            }  # fmt: skip
            self.announce("grav.sys.dead", data, now)
        self.settle(run, count)

    def give_up(self, receiver: Receiver, reason: str, now: float) -> None:
        """Empty a receiver that is gone for good; with the reason "" what it held is only counted."""
        self.take_back(receiver, now, died=reason == "pod_lost")
        self.full.discard(receiver.mailbox)
        self._unblock(receiver.mailbox, now)
        self._forget_sender(receiver.sender)
        self.failing.discard(receiver)
        self.abandon(receiver.mailbox.pop_waiting(), reason, receiver.label, now)
        failures, receiver.failed = receiver.failed, []
        for failure in failures:
            attempts = failure.delivery.attempt - 1
            self.bury(failure.delivery, reason or "pod_lost", receiver.label, now, attempts, failure.error)
        self._drop_answers(receiver)

    def _forget_sender(self, sender: Sender) -> None:
        """Hold nothing back for a sender that is gone; what it sent goes on."""
        for mailbox in sender.blockers:
            if mailbox is not self:
                mailbox.blocked.discard(sender)
        sender.blockers.clear()
        sender.accepted = sender.received
        self._starved.discard(sender)
        self.unacked.pop(sender, None)

    def _drop_answers(self, receiver: Receiver) -> None:
        """End the answers that wait for a pod which is gone."""
        for delivery in receiver.priority:
            self.counts.late_answers += delivery.count
            self.settle(delivery.run, delivery.count)
        receiver.priority.clear()
        receiver.answers = receiver.answer_bytes = 0

    def abandon(self, deliveries: Iterable[Delivery], reason: str, target: str, now: float) -> None:
        """End deliveries that nobody will handle."""
        for delivery in deliveries:
            if reason or delivery.run.kind in QUESTION_KINDS:
                self.bury(delivery, reason or "stopping", target, now, delivery.attempt - 1)
            else:
                self.counts.given_up += delivery.count
                self.settle(delivery.run, delivery.count)

    def cancel(self, sender: Sender, seq: int, now: float) -> list[tuple[Receiver, tuple[int, ...]]]:
        """Take a question back: out of mailboxes, and return the pods that hold it already."""
        run = next((run for first, run in sender.open.items() if first <= seq < first + run.count), None)
        if run is None or run.kind not in QUESTION_KINDS:
            return []
        index = seq - run.seq
        for mailbox in self._mailboxes():
            for position, delivery in enumerate(mailbox.waiting):
                if delivery.run is run and delivery.lo <= index < delivery.hi:
                    mailbox.replace(position, [piece for piece, is_it in delivery.parted({index}) if not is_it])
                    self.settle(run, 1)
                    break
        return [
            (receiver, (seq,))
            for receiver in self.directory
            if receiver.route
            and any(d.run is run and d.lo <= index < d.hi for d in receiver.in_flight if not d.priority)
        ]

    def _mailboxes(self) -> Iterable[Mailbox]:
        yield from (receiver.mailbox for receiver in self.directory)
        yield from (group.mailbox for group in self.directory.groups.values())

    def charge(self, receiver: Receiver, handling: Iterable[tuple[bytes, int]], now: float) -> None:
        """Note that a pod which has died was handling these messages, each by sender and seq, and no others.

        What is in flight is charged when it is taken back, which may have been done already.
        """
        if receiver.is_charged:
            return
        receiver.is_charged = True
        group = self.directory.groups.get(receiver.settings.group)
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

    def take_back(self, receiver: Receiver, now: float, *, died: bool, is_told_later: bool = False) -> None:
        """Put what is in flight to a pod that is gone in front of its mailbox, or of that of its group.

        It may have been delivered. If the pod has died, the messages that were in its handlers are charged with
        that, and questions end with an error: they are never given twice. Where nobody can say what was in its
        handlers, its oldest message is charged, which perhaps was.

        Args:
            is_told_later: Somebody will say it, with `charge`.
        """
        group = self.directory.groups.get(receiver.settings.group)
        own: list[Delivery] = []
        back: list[Delivery] = []
        suspects = receiver.suspects if died else set()
        is_guess = died and not (receiver.is_charged or is_told_later or suspects)
        for piece in receiver.pop_in_flight():
            if piece.priority:
                self._free_window(receiver, piece, piece.count)
                self.counts.late_answers += piece.count
                self.settle(piece.run, piece.count)
                continue
            receiver.mailbox.discard(piece)
            piece.flags |= FLAG_REDELIVERED
            target = back if group is not None and piece.group else own
            if is_guess:
                is_guess = False
                suspects = {(piece.run, piece.lo)}
            if died and piece.run.kind in QUESTION_KINDS:
                self.bury(piece, "crashed", receiver.label, now)
                continue
            self.counts.redeliveries += piece.count
            for part, is_suspect in piece.parted({index for run, index in suspects if run is piece.run}):
                if is_suspect and self._charge_death(part):
                    self._bury_crashed(receiver, part, now)
                else:
                    target.append(part)
        if suspects:
            receiver.is_charged = True
        if group is not None:
            for delivery in receiver.mailbox.pop_waiting():
                (back if delivery.group else own).append(delivery)
            group.mailbox.add_first(back)
            self.dirty_groups.add(group.name)
        receiver.mailbox.add_first(own)

    def inherit(self, old: Receiver, new: Receiver, now: float) -> None:
        """Hand the mailbox of a dead incarnation to the next."""
        self.take_back(old, now, died=True)
        self._drop_answers(old)
        self._forget_sender(old.sender)
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
            self.failing.discard(old)
            self.failing.add(new)
        self.relieve(mailbox, now)
        self.touch(new)

    @staticmethod
    def _charge_death(delivery: Delivery) -> bool:
        """Charge a delivery with the death of its process; return whether that was one too many."""
        delivery.deaths += 1
        delivery.attempt += 1
        return delivery.deaths >= MAX_DEATHS

    def _bury_crashed(self, receiver: Receiver, delivery: Delivery, now: float) -> None:
        self.bury(delivery, "crashed", receiver.label, now, delivery.attempt - 1, "its process died")


def _wanted(run: Run, filters: FilterSet, skip: int = 0) -> list[Delivery]:
    """Return the deliveries of a run that a filter lets through: one, unless uuids are refused."""
    if not filters.uuids:
        return [Delivery(run, skip, run.count)]
    try:
        ids = record_ids(bytes(run.body), run.count)
    except MessageDecodeError:
        return []
    pieces: list[Delivery] = []
    for index in range(skip, run.count):
        if not filters.allows_uuid(ids[index]):
            continue
        if pieces and pieces[-1].hi == index:
            pieces[-1].hi += 1
        else:
            pieces.append(Delivery(run, index, index + 1))
    return pieces
