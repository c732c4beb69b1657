"""The bus's half of what one pod sends: what was received, accepted and settled."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from grav_actors.protocol import (
    MAX_OPEN_RANGES,
    MAX_RUN_MESSAGES,
    RETAIN_BYTES,
    RETAIN_MESSAGES,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Ack,
)

if TYPE_CHECKING:
    from grav_actors.bus.run import Run

SCANNED_RUNS = 2048
"""Open runs that one acknowledgement looks at, unless its sender keeps much; what lies behind counts as open."""


class Sender:
    """Watermarks of one pod's messages.

    Attributes:
        received: Highest seq that arrived; what arrives again at or below it is dropped.
        accepted: Highest seq that no longer counts against the sender's window.
        open: Runs that are not settled, by their first seq, in order.
        questions: Those of them that are questions not taken back, by the seq of each.
        blockers: Full mailboxes that hold back `accepted`.
        urgent: The next acknowledgement does not wait for company.
        ended: Questions that were settled since the last acknowledgement, while earlier runs are open.
        unheard: Of these, such as no acknowledgement could list: their asker must be told by an answer.
        sent_bytes: Bytes of all runs that arrived.
        is_behind: The last acknowledgement moved the floor, and so told nothing of what is settled above it.
        resent_until: What it sends up to this seq it had sent to an earlier bus.
    """

    __slots__ = ("_sent_accepted", "_sent_settled", "_unacked_bytes", "accepted", "blockers", "ended", "is_behind",
                 "open", "questions", "received", "resent_until", "sent_bytes", "unheard", "urgent",
                 "uuid")  # fmt: skip

    def __init__(self, uuid: bytes, received: int = 0) -> None:
        self.uuid = uuid
        self.received = received
        self.accepted = received
        # Ordered by a linked list: a plain dict is slow to find its first entry when many before it are gone.
        self.open: OrderedDict[int, Run] = OrderedDict()
        self.questions: dict[int, Run] = {}
        self.blockers: set[Any] = set()
        self.urgent = False
        self.ended: list[Run] = []
        self.unheard: list[Run] = []
        self.is_behind = False
        self.resent_until = 0
        self.sent_bytes = 0
        self._sent_accepted = received
        self._sent_settled = received
        self._unacked_bytes = 0

    def settled(self) -> int:
        """Return the floor: the highest seq up to which everything is settled."""
        for seq in self.open:
            return seq - 1
        return self.received

    def taken(self, size: int) -> None:
        """Note that a run of `size` bytes was routed: it is accepted unless a mailbox is full."""
        self._unacked_bytes += size
        self.sent_bytes += size
        if not self.blockers:
            self.accepted = self.received

    def unblock(self, blocker: Any) -> None:
        """Note that a mailbox has room again."""
        self.blockers.discard(blocker)
        if not self.blockers:
            self.accepted = self.received
            self.urgent = True

    def is_cramped(self) -> bool:
        """Return whether it keeps as much as it may, so that it sends nothing until some of that is settled.

        What lies behind the ranges that an acknowledgement can list it keeps too.
        """
        messages, size = RETAIN_MESSAGES - MAX_RUN_MESSAGES, RETAIN_BYTES - WINDOW_BYTES
        first = next(iter(self.open.values()), None)
        if first is None or (self.received - first.seq < messages and self.sent_bytes - first.offset < size):
            return False
        kept = kept_bytes = ranges = 0
        end = -1
        for seq, run in self.open.items():
            if seq != end + 1:
                ranges += 1
                if ranges > MAX_OPEN_RANGES:
                    kept += self.received - seq + 1
                    kept_bytes += self.sent_bytes - run.offset
                    break
            kept += run.count
            kept_bytes += run.size
            end = seq + run.count - 1
        return kept >= messages or kept_bytes >= size

    def is_due(self) -> bool:
        """Return whether an acknowledgement should leave now: it is urgent, or half a window has passed."""
        return (
            self.urgent
            or self.accepted - self._sent_accepted >= WINDOW_MESSAGES // 2
            or self.settled() - self._sent_settled >= WINDOW_MESSAGES // 2
            or self._unacked_bytes >= WINDOW_BYTES // 2
        )

    def ack(self) -> Ack:
        """Return the watermarks to send, and note them as sent.

        The ranges are listed only when the floor stands still or somebody waits for news of one message:
        they cost a walk over the open runs.
        """
        floor = self.settled()
        stands = floor == self._sent_settled or self.urgent
        self._sent_accepted = self.accepted
        self._sent_settled = floor
        self._unacked_bytes = 0
        self.urgent = False
        # Who keeps much is told all: it may have to wait for just what lies behind the first open runs.
        limit = SCANNED_RUNS if self.received - floor < RETAIN_MESSAGES // 4 else len(self.open)
        self.is_behind = floor != self.received and not stands
        if floor == self.received or not stands:
            self.ended.clear()  # nothing is open, or all of them were listed before
            return (self.accepted, floor)
        ranges: list[tuple[int, int]] = []
        newest = self.received
        for scanned, (seq, run) in enumerate(self.open.items()):
            last = seq + run.count - 1
            is_next = bool(ranges) and ranges[-1][1] == seq - 1
            if scanned == limit or (len(ranges) == MAX_OPEN_RANGES and not is_next):
                newest = seq - 1
                break
            if is_next:
                ranges[-1] = (ranges[-1][0], last)
            else:
                ranges.append((seq, last))
        if self.ended:
            self.unheard += [run for run in self.ended if run.seq > newest]
            self.ended.clear()
        return (self.accepted, floor, newest, tuple(ranges))
