"""Which runs are open, what they hold in memory, and which senders are to be told of it."""

from __future__ import annotations

from grav_actors.bus.ordered import OrderedSet
from grav_actors.bus.run import Run
from grav_actors.bus.sender import Sender
from grav_actors.protocol import ACK_DELAY

HELD_BYTES = 256 * 1024 * 1024
"""Bytes of unsettled runs at which no sender is given credit, until a quarter of them is gone."""


class Ledger:
    """Keeps count of each run until all its deliveries are finished.

    Attributes:
        unacked: Senders whose watermarks have moved, with the time by which they must be told.
        held_bytes: Bytes of all open runs.
        starved: Senders held back as the bus holds too much.

    Args:
        own: The sender of what the bus itself says: nothing holds it back.
    """

    def __init__(self, own: Sender) -> None:
        self.own = own
        self.unacked: dict[Sender, float] = {}
        self.held_bytes = 0
        self.starved: OrderedSet[Sender] = OrderedSet()

    def note(self, sender: Sender, now: float) -> None:
        """Have a sender told its watermarks, soon."""
        if sender not in self.unacked:
            self.unacked[sender] = now + ACK_DELAY

    def open(self, run: Run, *, is_working: bool = False) -> None:
        """Note that a run has deliveries that are not finished.

        Args:
            is_working: Its sender has messages to handle. That one is not held back for what the bus holds in all:
                its handler would wait in `send`, and what it is to handle would never become less.
        """
        sender = run.sender
        sender.open[run.seq] = run
        self.held_bytes += run.size
        if self.held_bytes > HELD_BYTES and sender is not self.own and not is_working:
            sender.blockers.add(self)
            self.starved.add(sender)

    def settle(self, run: Run, count: int) -> None:
        """Note that `count` deliveries of a run need nothing more."""
        run.pending -= count
        if not run.pending:
            sender = run.sender
            if sender.open.pop(run.seq, None) is not None:
                self.held_bytes -= run.size
                if self.starved:
                    self._feed_all()
            if run.traces is not None:
                if sender.taken_back:
                    sender.taken_back.difference_update(range(run.seq, run.seq + run.count))
                sender.urgent = True
                if sender.open:
                    sender.ended.append(run)
            if sender not in self.unacked:
                self.unacked[sender] = 0.0  # the time is set when the drain ends

    def entrust(self, run: Run, now: float) -> None:
        """Tell the sender of a run that it need not keep it any more, although it is in flight: the bus does.

        Nothing to be done if it has been told so before.
        """
        sender = run.sender
        if sender.open.pop(run.seq, None) is not None:
            self.held_bytes -= run.size
            self._feed_all()
            sender.urgent = True
            self.note(sender, now)

    def _feed_all(self) -> None:
        """Let all go on that were held back as the bus held too much, if a quarter of that is gone."""
        if self.starved and self.held_bytes < HELD_BYTES * 3 // 4:
            for sender in self.starved:
                sender.unblock(self)
                self.unacked.setdefault(sender, 0.0)
            self.starved.clear()

    def feed(self, sender: Sender, now: float) -> None:
        """Let a sender go on although the bus holds too much, as it has got messages to handle."""
        self.starved.discard(sender)
        sender.unblock(self)
        self.note(sender, now)

    def forget(self, sender: Sender) -> None:
        """Hold nothing back for a sender that is gone; what it sent goes on."""
        for blocker in sender.blockers:
            if blocker is not self:
                blocker.blocked.discard(sender)
        sender.blockers.clear()
        sender.accept()
        sender.unlist()  # its numbers are remembered for long
        self.starved.discard(sender)
        self.unacked.pop(sender, None)
