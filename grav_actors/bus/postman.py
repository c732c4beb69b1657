"""Routing and what becomes of each delivery: mailboxes, failures, dead letters, settling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grav_actors.bus.directory import Directory, Group
from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.receiver import RETRY_FIRST, RETRY_MAX, Failure, Receiver
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
    FAIL_REJECT,
    FLAG_GROUP,
    FLAG_RECEIPT,
    FLAG_REDELIVERED,
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


class Counts:
    """What happened on the bus since it started, in messages."""

    __slots__ = ("bad_frames", "deliveries", "duplicates", "garbled", "given_up", "handled", "late_answers",
                 "messages", "redeliveries", "runs")  # fmt: skip

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def to_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Postman:
    """Brings runs to mailboxes, and keeps count of each delivery until it is finished.

    Attributes:
        dirty: Receivers that may have something to be sent.
        dirty_groups: Groups whose members may have room.
        unacked: Senders whose watermarks have moved, with the time by which they must be told.
        unhealthy: Receivers whose failures have reached the limit; the core disconnects them.
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
            if len(receiver.priority) + len(receiver.in_flight) >= receiver.settings.mailbox_limit:
                self.counts.given_up += run.count
                continue
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
        if mailbox.used + delivery.hi - delivery.lo < mailbox.limit and not mailbox.is_full:
            mailbox.add(delivery)
        else:
            self._overflow(mailbox, delivery, now)

    def _overflow(self, mailbox: Mailbox, delivery: Delivery, now: float) -> None:
        if mailbox.overflow == "block":
            if mailbox.stuck:
                self.bury(delivery, "overflow", mailbox.name, now)
                return
            mailbox.add(delivery)
            if mailbox.is_full and delivery.run.sender is not self.own:
                if mailbox not in self.full:
                    self.full.add(mailbox)
                    mailbox.progress_at = now
                mailbox.blocked.add(delivery.run.sender)
                delivery.run.sender.blockers.add(mailbox)
        elif mailbox.overflow == "drop_oldest":
            mailbox.add(delivery)
            while mailbox.waiting and (mailbox.used > mailbox.limit or mailbox.is_full and mailbox.waiting_count > 1):
                excess = max(1, mailbox.used - mailbox.limit)
                oldest = mailbox.take(excess)
                mailbox.discard(oldest)
                self.bury(oldest, "overflow", mailbox.name, now)
        elif mailbox.overflow == "drop_newest":
            room = max(0, mailbox.limit - mailbox.used) if mailbox.used_bytes < HELD_BYTES else 0
            if room:
                mailbox.add(delivery.split(min(room, delivery.count)))
            if delivery.count:
                self.bury(delivery, "overflow", mailbox.name, now)
        else:
            mailbox.add(delivery)
            if mailbox.is_full:
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

    def share(self, group: Group) -> None:
        """Give a group's waiting messages to members with room, the least loaded first."""
        mailbox = group.mailbox
        while mailbox.waiting:
            head = mailbox.waiting[0]
            member, is_possible = group.choose(head.run.type, head.run.sender.uuid)
            if member is None:
                if is_possible:
                    return
                self._finish_group_head(mailbox, head)
                continue
            try:
                head.run.offsets()
            except MessageDecodeError:
                self._finish_group_head(mailbox, head)
                continue
            # One at a time while members are idle, so that a short run spreads over all of them.
            room = member.room() - member.mailbox.waiting_count
            piece = mailbox.take(max(1, room // len(group.members)))
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
        failures: tuple[tuple[int, int, str], ...] = ()
        highest = 0
        if type(handled) is not int:
            floor, ranges, failures = handled  # type: ignore[misc]
            for number, how, error in failures:
                self._fail(receiver, number, how, error, now)
            for first, last in ranges:
                for delivery, count in receiver.finish_range(first, last):
                    self._finish(receiver, delivery, count)
                    if not (delivery.flush or delivery.priority):
                        highest = max(highest, min(last, delivery.number + delivery.count - 1))
        else:
            floor = handled
        for delivery, count, number in receiver.finish_floor(floor):
            self._finish(receiver, delivery, count)
            if number > highest and not (delivery.flush or delivery.priority):
                highest = number
        mailbox = receiver.mailbox
        mailbox.progress_at = now
        if mailbox in self.full or mailbox.stuck:
            self.relieve(mailbox, now)
        if receiver.failed and highest:
            self._flush_failed(receiver, highest, now)
        if len(receiver.failed) >= 64:
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

    def _free_window(self, receiver: Receiver, delivery: Delivery, count: int) -> None:
        if not delivery.priority:
            size = delivery.run.unit * count
            receiver.window_used -= count
            receiver.window_bytes -= size
            receiver.mailbox.finished(count, size)

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

    def _fail(self, receiver: Receiver, number: int, how: int, error: str, now: float) -> None:
        delivery = receiver.find(number)
        if delivery is None:
            return
        delivery.marks = delivery.marks if delivery.marks is not None else set()
        delivery.marks.add(number)
        self._free_window(receiver, delivery, 1)
        index = delivery.lo + number - delivery.number
        failed = delivery.piece(index, index + 1)
        attempts = delivery.attempt
        failed.attempt = attempts + 1
        failed.flags |= FLAG_REDELIVERED
        failed.flush = True
        failed.group = ""  # it stays with the member that failed it
        if how == FAIL_REJECT:
            self.bury(failed, "rejected", receiver.label, now, attempts, error)
        elif delivery.run.kind in QUESTION_KINDS:
            self.settle(delivery.run, 1)  # the pod has answered it with the error
        elif attempts >= receiver.settings.max_deliver:
            self.bury(failed, "max_deliver", receiver.label, now, attempts, error)
        else:
            if not receiver.failed:
                receiver.retry_delay = RETRY_FIRST
                receiver.retry_at = now + RETRY_FIRST
            receiver.failed.append(Failure(failed, number, error))
            self.failing.add(receiver)

    def _flush_failed(self, receiver: Receiver, success: int, now: float) -> None:
        again = [failure.delivery for failure in receiver.failed if failure.after < success]
        if not again:
            return
        receiver.failed = [failure for failure in receiver.failed if failure.after >= success]
        self._deliver_again(receiver, again, now)

    def _deliver_again(self, receiver: Receiver, again: list[Delivery], now: float) -> None:
        receiver.mailbox.add_first(again)
        self.counts.redeliveries += len(again)
        receiver.retry_at = now + receiver.retry_delay
        if not receiver.failed:
            self.failing.discard(receiver)
        self.touch(receiver)

    def retry_failed(self, now: float) -> None:
        """Give idle pods their oldest failed message again when its time has come."""
        for receiver in list(self.failing):
            if receiver.failed and now >= receiver.retry_at:
                receiver.retry_delay = min(receiver.retry_delay * 2, RETRY_MAX)
                self._deliver_again(receiver, [receiver.failed.pop(0).delivery], now)

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
        else:
            self.shelf.add(DeadLetter(delivery.piece(delivery.lo, delivery.hi), reason, target, attempts, error))
            if not run.type.startswith("grav.sys."):
                data = {
                    "reason": reason, "target": target, "attempts": attempts, "error": error, "type": run.type,
                    "count": count,
                }  # fmt: skip
                self.announce("grav.sys.dead", data, now)
        self.settle(run, count)

    def give_up(self, receiver: Receiver, reason: str, now: float) -> None:
        """Empty a receiver that is gone for good; with the reason "" what it held is only counted."""
        self.return_to_group(receiver, now, died=reason == "pod_lost")
        self.full.discard(receiver.mailbox)
        self._unblock(receiver.mailbox, now)
        for mailbox in receiver.sender.blockers:
            if mailbox is not self:
                mailbox.blocked.discard(receiver.sender)
        self._starved.discard(receiver.sender)
        self.failing.discard(receiver)
        self.unacked.pop(receiver.sender, None)
        left = receiver.pop_in_flight() + receiver.mailbox.pop_waiting()
        failures, receiver.failed = receiver.failed, []
        self.abandon(left, reason, receiver.label, now)
        for failure in failures:
            attempts = failure.delivery.attempt - 1
            self.bury(failure.delivery, reason or "pod_lost", receiver.label, now, attempts, failure.error)
        for delivery in receiver.priority:
            self.settle(delivery.run, delivery.count)
        receiver.priority.clear()

    def abandon(self, deliveries: Iterable[Delivery], reason: str, target: str, now: float) -> None:
        """End deliveries that nobody will handle."""
        for delivery in deliveries:
            if delivery.priority:
                self.settle(delivery.run, delivery.count)
            elif reason or delivery.run.kind in QUESTION_KINDS:
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
                    del mailbox.waiting[position]
                    mailbox.waiting_count -= delivery.count
                    mailbox.discard(delivery)
                    pieces = [delivery.piece(delivery.lo, index), delivery.piece(index + 1, delivery.hi)]
                    for piece in (piece for piece in reversed(pieces) if piece.count):
                        mailbox.waiting.insert(position, piece)
                        mailbox.waiting_count += piece.count
                        mailbox.used += piece.count
                        mailbox.used_bytes += piece.size
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

    def return_to_group(self, receiver: Receiver, now: float, *, died: bool) -> None:
        """Put what a lost member was given in front of its group's mailbox."""
        group = self.directory.groups.get(receiver.settings.group)
        if group is None:
            return
        sent = self._take_back(receiver, now, died=died)
        own: list[Delivery] = []
        back: list[Delivery] = []
        for delivery in sent:
            (back if delivery.group else own).append(delivery)
            if delivery.group:
                receiver.mailbox.discard(delivery)
        for delivery in receiver.mailbox.pop_waiting():
            (back if delivery.group else own).append(delivery)
            if not delivery.group:
                receiver.mailbox.used += delivery.count
                receiver.mailbox.used_bytes += delivery.size
        receiver.mailbox.add_first((d for d in own if not d.priority), counted=True)
        for delivery in own:
            if delivery.priority:
                self.settle(delivery.run, delivery.count)
        group.mailbox.add_first(back)
        self.dirty_groups.add(group.name)

    def inherit(self, old: Receiver, new: Receiver, now: float) -> None:
        """Hand the mailbox of a dead incarnation to the next; its oldest open delivery is charged."""
        self.return_to_group(old, now, died=True)
        new.mailbox = old.mailbox
        new.failed = old.failed
        for failure in new.failed:
            failure.after = 0
        new.retry_at, new.retry_delay = old.retry_at, old.retry_delay
        new.replayed = old.replayed
        if new.failed:
            self.failing.discard(old)
            self.failing.add(new)
        pieces = self._take_back(old, now, died=True)
        self.abandon((piece for piece in pieces if piece.priority), "", old.label, now)
        own = [piece for piece in pieces if not piece.priority]
        self.counts.redeliveries += sum(piece.count for piece in own)
        new.mailbox.add_first(own, counted=True)
        new.mailbox.name = new.label
        self.touch(new)

    def _take_back(self, receiver: Receiver, now: float, *, died: bool) -> list[Delivery]:
        """Return what was in flight, as perhaps delivered; after a death its oldest message is charged."""
        pieces: list[Delivery] = []
        for piece in receiver.pop_in_flight():
            piece.flags |= FLAG_REDELIVERED
            if died and not piece.priority:
                died = False
                oldest = piece.split(1)
                if not self._charge_death(receiver, oldest, now):
                    pieces.append(oldest)
            if piece.count:
                pieces.append(piece)
        return pieces

    def _charge_death(self, receiver: Receiver, delivery: Delivery, now: float) -> bool:
        """Charge a delivery with the death of its process; return whether it ends here."""
        delivery.deaths += 1
        delivery.attempt += 1
        if delivery.run.kind not in QUESTION_KINDS and delivery.deaths < MAX_DEATHS:
            return False
        receiver.mailbox.discard(delivery)
        self.bury(delivery, "crashed", receiver.label, now, delivery.attempt - 1, "its process died")
        return True


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
