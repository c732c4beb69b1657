"""Mailboxes as deliveries come and go: overflow policies, held back senders, stuck receivers, groups."""

from __future__ import annotations

from collections.abc import Iterable

from grav_actors.bus.counts import Counts
from grav_actors.bus.dead_letters import DeadLetters
from grav_actors.bus.directory import Directory, Group
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailbox import MAILBOX_BYTES, Mailbox
from grav_actors.bus.ordered import OrderedSet
from grav_actors.bus.own_messages import OwnMessages
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Delivery
from grav_actors.bus.sender import Sender
from grav_actors.errors import MessageDecodeError
from grav_actors.protocol import FLAG_REDELIVERED, FLAG_RESENT, QUESTION_KINDS

SLOW_AFTER = 1.0
"""Seconds after which a mailbox that became full, and is not half empty again, makes its receiver a slow one."""


class Mailroom:
    """Puts deliveries into mailboxes, and takes out what moves on without having been sent.

    Attributes:
        dirty: Receivers that may have something to be sent.
        dirty_groups: Groups whose members may have room.
        turn: Counts the ends of drains. In each a receiver is given one frame at most before all else has come.
        full: Mailboxes with the policy `block` that hold back their senders.
        pressed: Mailboxes of any policy that became full and are not half empty again.
        unhealthy: Receivers to disconnect: too many failures.
        overflowed: Receivers to disconnect: their mailbox, or that of their group, is full and has that policy.
    """

    def __init__(
        self, directory: Directory, ledger: Ledger, dead_letters: DeadLetters, own_messages: OwnMessages, counts: Counts
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._own_messages = own_messages
        self._counts = counts
        self.turn = 1
        self.dirty: list[Receiver] = []
        self.dirty_groups: OrderedSet[str] = OrderedSet()
        self.full: OrderedSet[Mailbox] = OrderedSet()
        self.pressed: dict[Mailbox, None] = {}
        self.unhealthy: list[Receiver] = []
        self.overflowed: list[Receiver] = []

    def touch(self, receiver: Receiver) -> None:
        """Have what waits for a receiver looked at when the drain ends."""
        if not receiver.is_dirty:
            receiver.is_dirty = True
            self.dirty.append(receiver)

    def put(self, mailbox: Mailbox, delivery: Delivery, now: float) -> None:
        """Add a delivery, or apply the overflow policy."""
        run = delivery.run
        count = delivery.hi - delivery.lo
        run.pending += count
        if (
            mailbox.used + count < mailbox.limit
            and mailbox.used_bytes + run.unit * count < MAILBOX_BYTES
            and not mailbox.stuck
        ):
            mailbox.add(delivery)
        else:
            self._overflow(mailbox, delivery, now)

    def _overflow(self, mailbox: Mailbox, delivery: Delivery, now: float) -> None:
        run = delivery.run
        if mailbox not in self.pressed:
            self.pressed[mailbox] = None
            mailbox.pressed_at = now
        if run.sender is self._ledger.own and (mailbox.stuck or mailbox.is_full):
            # Nobody holds the bus itself back, and nobody misses its events in a full mailbox. Nor do they push
            # out what users sent: each would be told by another event.
            self._counts.given_up += delivery.count
            self._ledger.settle(run, delivery.count)
        elif mailbox.overflow == "block":
            if mailbox.stuck:
                self._dead_letters.bury(delivery, "overflow", mailbox.name, now)
            else:
                mailbox.add(delivery)
                if mailbox.is_full and run.sender is not self._ledger.own:
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
                self._dead_letters.bury(oldest, "overflow", mailbox.name, now)
        elif mailbox.overflow == "drop_newest":
            room = min(mailbox.limit - mailbox.used, (MAILBOX_BYTES - mailbox.used_bytes) // run.unit)
            if room > 0:
                mailbox.add(delivery.split(min(room, delivery.count)))
            if delivery.count:
                self._dead_letters.bury(delivery, "overflow", mailbox.name, now)
        else:
            mailbox.add(delivery)
            if mailbox.is_over:
                self.overflowed.extend(self.owners(mailbox))

    def owners(self, mailbox: Mailbox) -> list[Receiver]:
        """Return whose mailbox it is: a pod, or the members of a group."""
        group = self._directory.groups.get(mailbox.name)
        if group is not None and group.mailbox is mailbox:
            return list(group.members)
        return [receiver for receiver in self._directory if receiver.mailbox is mailbox]

    def relieve(self, mailbox: Mailbox, now: float) -> None:
        """Let go the senders that wait for a mailbox, if it has room again."""
        if mailbox.stuck and mailbox.is_half_empty:
            mailbox.stuck = False
        if mailbox.is_full:
            return
        self.full.discard(mailbox)
        self.unblock(mailbox, now)

    def unblock(self, mailbox: Mailbox, now: float) -> None:
        """Let go the senders that a mailbox holds back."""
        for sender in mailbox.blocked:
            sender.unblock(mailbox)
            self._ledger.note(sender, now)
        mailbox.blocked.clear()

    def check_stuck(self, now: float) -> None:
        """Call full mailboxes stuck that made no progress."""
        for mailbox in self.full:
            limit = mailbox.stuck_after
            if limit is not None and not mailbox.stuck and now - mailbox.progress_at >= limit:
                self.call_stuck(mailbox, now - mailbox.progress_at, now)

    def call_stuck(self, mailbox: Mailbox, seconds: float, now: float) -> None:
        """Let senders run on past a mailbox whose receiver has finished nothing for so many seconds."""
        mailbox.stuck = True
        self.unblock(mailbox, now)
        data = {"pod": mailbox.name, "waiting": mailbox.used, "seconds": seconds}
        self._own_messages.announce("grav.sys.pod.stuck", data)

    def check_slow(self, now: float) -> None:
        """Tell of receivers that became slow, each once, and of those that have recovered."""
        for mailbox in list(self.pressed):
            seconds = now - mailbox.pressed_at
            if mailbox.is_half_empty:
                del self.pressed[mailbox]
                if mailbox.slow:
                    mailbox.slow = False
                    self._own_messages.announce("grav.sys.pod.recovered", {"pod": mailbox.name, "seconds": seconds})
            elif not mailbox.slow and seconds >= SLOW_AFTER:
                mailbox.slow = True
                data = {
                    "pod": mailbox.name, "waiting": mailbox.used, "bytes": mailbox.used_bytes,
                    "limit": mailbox.limit, "overflow": mailbox.overflow, "seconds": seconds,
                    "senders": len(mailbox.blocked),
                }  # fmt: skip
                self._own_messages.announce("grav.sys.pod.slow", data)

    def forget(self, mailbox: Mailbox, now: float) -> None:
        """Hold nobody back for a mailbox whose receivers are gone."""
        self.full.discard(mailbox)
        self.pressed.pop(mailbox, None)
        self.unblock(mailbox, now)

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
            member, is_possible = self._directory.choose(group, head.run.type, head.run.sender.uuid)
            if member is None:
                if is_possible:
                    break
                self._bury_unwanted(group, head, now)
                continue
            try:
                head.run.offsets()
            except MessageDecodeError:
                mailbox.take(head.count)
                mailbox.discard(head)
                self._counts.garbled += head.count
                self._ledger.settle(head.run, head.count)
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

    def _bury_unwanted(self, group: Group, head: Delivery, now: float) -> None:
        """End what no member takes any more: those who wanted it have left, or only its own sender is there."""
        group.mailbox.take(head.count)
        group.mailbox.discard(head)
        if head.run.kind in QUESTION_KINDS:
            self._ledger.settle(head.run, head.count)  # the asker learns that nobody answers
        else:
            self._dead_letters.bury(head, "no_responders", group.name, now, head.attempt - 1)

    def drop_garbled(self, receiver: Receiver, delivery: Delivery) -> None:
        """End a delivery that was taken from its mailbox and cannot be cut out of its body."""
        self._counts.garbled += delivery.count
        if delivery.priority:
            receiver.answers -= delivery.count
            receiver.answer_bytes -= delivery.size
        else:
            receiver.mailbox.discard(delivery)
        self._ledger.settle(delivery.run, delivery.count)

    def cancel(self, sender: Sender, seqs: Iterable[int], now: float) -> dict[Receiver, list[int]]:
        """Take questions back: out of mailboxes, and return which pods hold which of them already.

        Each costs a few steps for each receiver that it was for, however much else waits; and that once: a question
        that is taken back again is not looked for.
        """
        holders: dict[Receiver, list[int]] = {}
        for seq in seqs:
            run = sender.take_back(seq)
            if run is None:
                continue
            index = seq - run.seq
            for holder, key in run.traces or ():
                if isinstance(holder, Mailbox):
                    if holder.remove(run, key, index):
                        self._ledger.settle(run, 1)
                        self._made_room(holder, now)
                elif isinstance(holder, Receiver) and holder.route and holder.has_in_flight(run, key, index):
                    holders.setdefault(holder, []).append(seq)
        return holders

    def _made_room(self, mailbox: Mailbox, now: float) -> None:
        if mailbox in self.full or mailbox.stuck:
            self.relieve(mailbox, now)
