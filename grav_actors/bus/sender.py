"""The bus's half of what one pod sends: what was received, accepted and settled."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from grav_actors.errors import ProtocolError
from grav_actors.protocol import (
    BUS_NAME,
    KIND_ASK,
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

SPARE_LISTED = 32
"""Settled runs that may be listed among the open ones to find questions, and once more as many as are open."""

WINDOWS_TAKEN = 2
"""Windows that are taken from a sender beyond what is accepted: one that keeps to its window never fills a second."""


class Sender:
    """Watermarks of one pod's messages.

    Attributes:
        received: Highest seq that arrived; what arrives again at or below it is dropped.
        accepted: Highest seq that no longer counts against the sender's window.
        open: Runs that are not settled, by their first seq, in order.
        taken_back: Seqs of questions in them that their sender waits for no more.
        blockers: Full mailboxes that hold back `accepted`.
        urgent: The next acknowledgement does not wait for company.
        ended: Questions that were settled since the last acknowledgement, while earlier runs are open.
        unheard: Of these, such as no acknowledgement could list: their asker must be told by an answer.
        sent_bytes: Bytes of all runs that arrived.
        is_behind: The last acknowledgement moved the floor, and so told nothing of what is settled above it.
        resent_until: What it sends up to this seq it had sent to an earlier bus.
        beyond, beyond_bytes: What was taken since `accepted` stands still, or less; not what was sent again, nor
            questions to the bus, which wait for no window.
        resent, resent_bytes: What it sent again while `accepted` stood still.
    """

    __slots__ = ("_listed", "_sent_accepted", "_sent_bytes", "_sent_settled", "accepted", "beyond", "beyond_bytes",
                 "blockers", "ended", "is_behind", "open", "received", "resent", "resent_bytes", "resent_until",
                 "sent_bytes", "taken_back", "unheard", "urgent", "uuid")  # fmt: skip

    def __init__(self, uuid: bytes, received: int = 0) -> None:
        self.uuid = uuid
        self.received = received
        self.accepted = received
        # Ordered by a linked list: a plain dict is slow to find its first entry when many before it are gone.
        self.open: OrderedDict[int, Run] = OrderedDict()
        self._listed: list[int] = []  # first seqs of runs in `open`, in order, and of some that were
        self.taken_back: set[int] = set()
        self.blockers: set[Any] = set()
        self.urgent = False
        self.ended: list[Run] = []
        self.unheard: list[Run] = []
        self.is_behind = False
        self.resent_until = 0
        self.sent_bytes = 0
        self.beyond = 0
        self.beyond_bytes = 0
        self.resent = 0
        self.resent_bytes = 0
        self._sent_accepted = received
        self._sent_settled = received
        self._sent_bytes = 0

    def take_back(self, seq: int) -> Run | None:
        """Return the open run of a question that is taken back; None if it is settled, or was taken back before."""
        self._list_open()
        position = bisect_right(self._listed, seq) - 1
        run = self.open.get(self._listed[position]) if position >= 0 else None
        if run is None or run.traces is None or seq >= run.seq + run.count or seq in self.taken_back:
            return None
        self.taken_back.add(seq)
        return run

    def _list_open(self) -> None:
        """List the runs that were opened since the last time: only who takes questions back pays for it, once a run."""
        listed = self._listed
        if len(listed) > 2 * len(self.open) + SPARE_LISTED:
            listed[:] = [seq for seq in listed if seq in self.open]
        last = listed[-1] if listed else 0
        new = [*takewhile(last.__lt__, reversed(self.open))]
        listed.extend(reversed(new))

    def unlist(self) -> None:
        """Forget the list by which questions are found: it is made again when one is taken back."""
        self._listed.clear()

    def settled(self) -> int:
        """Return the floor: the highest seq up to which everything is settled."""
        for seq in self.open:
            return seq - 1
        return self.received

    def check(self, seq: int, runs: Iterable[tuple[Any, ...]], largest: int) -> None:
        """Raise ProtocolError for runs from `seq` on that its window does not take, nor as much again.

        What it sends again to a new bus may be all that it keeps. What has come before costs nothing.

        Args:
            largest: Bytes of the largest body: the last message that a window takes may be over in bytes.
        """
        count = size = 0
        for kind, _, messages, body, dest in runs:
            if seq > self.received and not (kind == KIND_ASK and dest == BUS_NAME):
                count += messages
                size += body
            seq += messages
        if seq <= self.resent_until + 1:
            fits = (
                self.resent + count <= RETAIN_MESSAGES + WINDOW_MESSAGES
                and self.resent_bytes + size <= RETAIN_BYTES + WINDOW_BYTES + largest
            )
        else:
            fits = self._fits(count, size, largest)
            if not fits:
                # What is settled above `accepted` it need not count. Seldom: that is for others to finish first.
                start = max(self.accepted, self.resent_until)
                runs_beyond = [run for run in self.open.values() if run.seq > start]
                self.beyond = sum(run.count for run in runs_beyond)
                self.beyond_bytes = sum(run.size for run in runs_beyond)
                fits = self._fits(count, size, largest)
        if not fits:
            raise ProtocolError(
                f"{count} messages of {size} bytes, after {self.beyond} of {self.beyond_bytes} that are not accepted; "
                f"the window is {WINDOW_MESSAGES} messages and {WINDOW_BYTES} bytes"
            )

    def _fits(self, count: int, size: int, largest: int) -> bool:
        return (
            self.beyond + count <= WINDOWS_TAKEN * WINDOW_MESSAGES
            and self.beyond_bytes + size <= WINDOWS_TAKEN * WINDOW_BYTES + largest
        )

    def taken(self, size: int, count: int = 0) -> None:
        """Note that a run of `size` bytes was routed: it is accepted unless a mailbox is full.

        Args:
            count: Its messages; 0 of questions to the bus itself.
        """
        self.sent_bytes += size
        if not self.blockers:
            self.accepted = self.received
        elif count and self.received <= self.resent_until:
            self.resent += count
            self.resent_bytes += size
        elif count:
            self.beyond += count
            self.beyond_bytes += size

    def accept(self) -> None:
        """Note that nothing of what was taken counts against its window any more."""
        self.accepted = self.received
        self.beyond = self.beyond_bytes = 0

    def unblock(self, blocker: Any) -> None:
        """Note that a mailbox has room again."""
        self.blockers.discard(blocker)
        if not self.blockers:
            self.accept()
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
            or self.sent_bytes - self._sent_bytes >= WINDOW_BYTES // 2
            # The floor is looked for only where it can be so high.
            or (
                self.received - self._sent_settled >= WINDOW_MESSAGES // 2
                and self.settled() - self._sent_settled >= WINDOW_MESSAGES // 2
            )
        )

    def ack(self) -> Ack:
        """Return the watermarks to send, and note them as sent.

        The ranges are listed only when the floor stands still or somebody waits for news of one message:
        they cost a walk over the open runs.
        """
        floor = self.settled()
        newest = self.received
        stands = floor == self._sent_settled or self.urgent
        self._sent_accepted = accepted = self.accepted
        self._sent_settled = floor
        self._sent_bytes = self.sent_bytes
        self.urgent = False
        if floor == newest or not stands:
            self.is_behind = floor != newest
            if self.ended:
                self.ended.clear()  # nothing is open, or all of them were listed before
            return (accepted, floor)
        self.is_behind = False
        # Who keeps much is told all: it may have to wait for just what lies behind the first open runs.
        limit = SCANNED_RUNS if newest - floor < RETAIN_MESSAGES // 4 else len(self.open)
        ranges: list[tuple[int, int]] = []
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
        return (accepted, floor, newest, tuple(ranges))
