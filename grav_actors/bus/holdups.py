"""Receivers that hold up senders although their mailboxes are not full: what the senders keep is bounded as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from grav_actors.bus.dead_letters import DeadLetters
from grav_actors.bus.directory import Directory
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.mailroom import Mailroom
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.protocol import QUESTION_KINDS

PATIENCE = 1.0
"""Seconds that a receiver which lets messages be dropped may hold up somebody."""


class HoldUps:
    """Lets senders run on past receivers that finish nothing.

    A sender is held up when it keeps as much as it may, or when the bus gives it no credit as it holds too much. Each
    mailbox with messages that count for that is looked at, full or not: otherwise handlers that send more than they
    get would wait for one another for ever.
    """

    def __init__(self, directory: Directory, ledger: Ledger, dead_letters: DeadLetters, mailroom: Mailroom) -> None:
        self._directory = directory
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._mailroom = mailroom
        self._since: dict[Mailbox, float] = {}
        self._cramped: set[Sender] = set()

    def check(self, now: float) -> None:
        """Look for senders that are held up, and make room for them; call it once a second."""
        self._cramped = {receiver.sender for receiver in self._directory if receiver.sender.is_cramped()}
        if not self._cramped and not self._ledger.starved:
            self._since.clear()
            return
        receivers = [receiver for receiver in self._directory if receiver.mailbox.used]
        boxes = {one.mailbox: one for one in receivers if any(map(self._holds_up, _all_of(one)))}
        groups = [group.mailbox for group in self._directory.groups.values()]
        shared = [mailbox for mailbox in groups if any(map(self._holds_up, mailbox.waiting))]
        self._since = {mailbox: self._since.get(mailbox, now) for mailbox in (*boxes, *shared)}
        idle = [mailbox for mailbox in self._since if self._is_due(mailbox, now)]
        done = [mailbox for mailbox in idle if not self._make_room(mailbox, now)]
        self._entrust([boxes[mailbox] for mailbox in done if mailbox in boxes], now)

    def _holds_up(self, delivery: Delivery) -> bool:
        """Return whether somebody is held up by this delivery among others."""
        run = delivery.run
        return run.seq in run.sender.open and (bool(self._ledger.starved) or run.sender in self._cramped)

    def _is_due(self, mailbox: Mailbox, now: float) -> bool:
        """Return whether room is to be made in a mailbox; call it stuck, or have its pod disconnected, if so."""
        since = self._since[mailbox]
        idle = now - max(since, mailbox.progress_at)
        if mailbox.overflow in ("drop_oldest", "drop_newest"):
            # Where only the bus as a whole holds too much, it is not for those who go on to give way.
            return (now - since if self._cramped else idle) >= PATIENCE
        is_idle = mailbox.stuck_after is not None and idle >= mailbox.stuck_after
        if mailbox.overflow == "disconnect":
            if is_idle:
                self._mailroom.overflowed.extend(self._mailroom.owners(mailbox))
            return False
        if is_idle and not mailbox.stuck:
            self._mailroom.call_stuck(mailbox, idle, now)
        return mailbox.stuck

    def _make_room(self, mailbox: Mailbox, now: float) -> bool:
        """End half of what waits in a mailbox by its policy; return whether anything waits there that is in the way."""
        if not any(map(self._holds_up, mailbox.waiting)):
            return False
        half = (mailbox.waiting_count + 1) // 2
        ends = (
            mailbox.take_oldest(half)
            if mailbox.overflow == "drop_oldest"
            else mailbox.cut(mailbox.waiting_count - half)
        )
        for delivery in ends:
            sender = delivery.run.sender
            self._dead_letters.bury(delivery, "overflow", mailbox.name, now)
            sender.urgent = True
            self._ledger.note(sender, now)
        return True

    def _entrust(self, receivers: Iterable[Receiver], now: float) -> None:
        """Have senders no longer keep what is in flight to pods that finish nothing, and to nobody else.

        It cannot be taken back, as they may be handling it. The bus keeps it for them as long as it lives. A question
        is not settled before its answer.
        """
        in_flight: Counter[Run] = Counter()
        for receiver in receivers:
            for delivery in receiver.in_flight:
                if not delivery.priority and delivery.run.kind not in QUESTION_KINDS and self._holds_up(delivery):
                    in_flight[delivery.run] += sum(piece.count for piece in delivery.open_pieces())
        for run, count in in_flight.items():
            if count == run.pending:
                self._ledger.entrust(run, now)


def _all_of(receiver: Receiver) -> Iterator[Delivery]:
    yield from receiver.mailbox.waiting
    yield from (delivery for delivery in receiver.in_flight if not delivery.priority)
