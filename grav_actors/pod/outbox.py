"""What a pod sends: runs that form, and runs that are kept until they are settled. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from grav_actors.codec import join_packed, pack_records, record_offsets, slice_body
from grav_actors.protocol import (
    BUS_NAME,
    MAX_NUMBER,
    MAX_RUN_BYTES,
    MAX_RUN_MESSAGES,
    QUESTION_KINDS,
    RETAIN_BYTES,
    RETAIN_MESSAGES,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Ack,
)

MAX_FRAME_HEADER = 32 * 1024
"""Bytes of run entries after which a frame is closed."""
RUN_ENTRY_BYTES = 40
"""What a run entry takes beside its type and destination, at most."""


class OutRun:
    """Consecutive messages of the same kind, type and destination."""

    __slots__ = ("body", "count", "dest", "kind", "records", "seq", "size", "type")

    def __init__(
        self, seq: int, kind: int, message_type: str, dest: Any, record: Any, size: int, count: int = 1
    ) -> None:
        self.seq = seq
        self.kind = kind
        self.type = message_type
        self.dest = dest
        self.records = [record]
        self.count = count
        self.size = size
        self.body = b""

    def close(self) -> None:
        """Make the body; nothing is added any more."""
        if not self.body:
            records = self.records
            is_each = len(records) == self.count
            self.body = pack_records(records) if is_each else join_packed(records, self.count)
            self.records = []

    @property
    def last(self) -> int:
        """Its highest seq."""
        return self.seq + self.count - 1

    def without(self, seqs: set[int]) -> list[OutRun]:
        """Return the runs that are left of this closed one when these messages are taken out."""
        kept = [seq not in seqs for seq in range(self.seq, self.seq + self.count)]
        if all(kept):
            return [self]
        offsets = record_offsets(self.body, self.count)
        runs: list[OutRun] = []
        low = 0
        for is_kept, group in groupby(kept):
            high = low + len(list(group))
            if is_kept:
                size = offsets[high] - offsets[low]
                run = OutRun(self.seq + low, self.kind, self.type, self.dest, None, size, high - low)
                run.body = slice_body(self.body, offsets, low, high)
                run.records = []
                runs.append(run)
            low = high
        return runs


class Outbox:
    """Runs not yet sent, and runs sent and not yet settled.

    Attributes:
        next_seq: What the next message gets.
        accepted, settled: The watermarks as last heard.
        sent: Highest seq that was ever put into a frame.
        queued: Messages that wait for the next frame.
        room, room_bytes: What fits for certain; `has_room` counts anew when that is used up.
    """

    __slots__ = ("_accept_marks", "_last", "_queue", "_retained", "_taken_back", "accepted", "next_seq", "queued",
                 "queued_bytes", "retained_bytes", "retained_messages", "room", "room_bytes", "sent", "settled",
                 "unaccepted_bytes")  # fmt: skip

    def __init__(self) -> None:
        self.next_seq = 1
        self.accepted = 0
        self.settled = 0
        self.sent = 0
        self.queued = 0
        self.queued_bytes = 0
        self.retained_messages = 0
        self.retained_bytes = 0
        self.unaccepted_bytes = 0
        self.room = 0
        self.room_bytes = 0
        self._queue: list[OutRun] = []
        self._last: OutRun | None = None
        # Ordered by a linked list: a plain dict is slow to find its first entry when many before it are gone.
        self._retained: OrderedDict[int, OutRun] = OrderedDict()
        self._accept_marks: deque[tuple[int, int]] = deque()
        self._taken_back: set[int] = set()

    def has_room(self, count: int = 1) -> bool:
        """Whether the window takes so many more messages; in bytes the last of them may be over."""
        if self.room >= count and self.room_bytes > 0:
            return True
        self.room = min(
            WINDOW_MESSAGES - (self.next_seq - 1 - self.accepted),
            RETAIN_MESSAGES - self.retained_messages - self.queued,
        )
        self.room_bytes = min(
            WINDOW_BYTES - self.unaccepted_bytes, RETAIN_BYTES - self.retained_bytes - self.queued_bytes
        )
        return self.room >= count and self.room_bytes > 0

    def add(self, kind: int, message_type: str, dest: Any, record: Any, size: int, count: int = 1) -> int:
        """Append a message, or several at once, and return the seq of the first; the caller has looked at `has_room`.

        Args:
            record: Packed, or as a list whose data can be encoded later; see `pack_records`. Of several: all of them,
                packed, without the header of their array.
            size: Its bytes, or about as many for a list.
            count: Messages in it, at most what one run holds. To a run of several only what is packed may be added.
        """
        seq = self.next_seq
        self.next_seq = seq + count
        last = self._last
        if (
            last is not None
            and last.type == message_type
            and last.kind == kind
            and last.dest == dest
            and last.count + count <= MAX_RUN_MESSAGES
            and last.size + size <= MAX_RUN_BYTES
        ):
            last.records.append(record)
            last.count += count
            last.size += size
        else:
            last = self._last = OutRun(seq, kind, message_type, dest, record, size, count)
            self._queue.append(last)
        self.queued += count
        self.queued_bytes += size
        self.unaccepted_bytes += size
        self.room -= count
        self.room_bytes -= size
        return seq

    def join(self, message_type: str, record: Any, size: int) -> bool:
        """Append a published message to the run that is forming, if there is one for it and neither is then full.

        Does what `add` does for most messages there are, and nothing is to be done after it.
        """
        run = self._last
        if (
            run is None
            or run.type != message_type
            or run.kind
            or self.queued >= MAX_RUN_MESSAGES - 1
            or self.queued_bytes + size >= MAX_RUN_BYTES
            or self.room <= 0
            or self.room_bytes <= 0
        ):
            return False
        run.records.append(record)
        run.count += 1
        run.size += size
        self.next_seq += 1
        self.queued += 1
        self.queued_bytes += size
        self.unaccepted_bytes += size
        self.room -= 1
        self.room_bytes -= size
        return True

    def close_run(self) -> None:
        """Have the next message begin a run of its own."""
        self._last = None

    def take_frames(self) -> Iterator[list[OutRun]]:
        """Yield the runs of each frame to send, and keep them until they are settled."""
        queue, self._queue = self._queue, []
        self._last = None
        self.queued = 0
        if queue:
            self.sent = queue[-1].last
            self._accept_marks.append((queue[-1].last, self.queued_bytes))
            self.retained_bytes += self.queued_bytes
        self.queued_bytes = 0
        for run in queue:
            run.close()
            self._retained[run.seq] = run
            self.retained_messages += run.count
        yield from _frames(queue)

    def resend_frames(self, received: int) -> Iterator[list[OutRun]]:
        """Yield the runs of each frame to send to a bus that has them up to `received`."""
        yield from _frames([run for run in self._retained.values() if run.seq > received])

    def apply(self, ack: Ack) -> bool:
        """Take in a watermark; return whether it moved anything."""
        accepted, floor = ack[0], ack[1]
        if accepted > self.sent or floor > self.sent:
            return False  # forged: nothing of that was ever sent
        retained = self._retained
        before = (self.accepted, self.settled, len(retained))
        if len(ack) == 4:
            self._drop_closed(ack[2], ack[3])
        while retained:
            seq = next(iter(retained))
            if retained[seq].last > floor:
                break
            self._drop(seq)
        self.settled = max(self.settled, floor)
        self._accept(accepted)
        return (self.accepted, self.settled, len(retained)) != before

    def _accept(self, accepted: int) -> None:
        # What is settled is accepted too: a bus that was restarted never hears of it.
        retained = self._retained
        if retained:
            accepted = max(accepted, next(iter(retained)) - 1)
            if accepted >= retained[next(reversed(retained))].last:
                accepted = self.sent
        else:
            accepted = self.sent
        if accepted > self.accepted:
            self.accepted = accepted
            marks = self._accept_marks
            while marks and marks[0][0] <= accepted:
                self.unaccepted_bytes -= marks.popleft()[1]

    def _drop_closed(self, newest: int, ranges: tuple[tuple[int, int], ...]) -> None:
        """Drop what is not among the open ranges, of which there are none up to `newest` but these."""
        settled: list[int] = []
        for seq, run in self._retained.items():
            if run.last > newest:
                break
            if not _overlaps(run, ranges):
                settled.append(seq)
        for seq in settled:
            self._drop(seq)

    def _drop(self, seq: int) -> None:
        run = self._retained.pop(seq)
        self.retained_messages -= run.count
        self.retained_bytes -= run.size
        if self._taken_back:
            self._taken_back.difference_update(range(run.seq, run.seq + run.count))

    def take_back(self, seqs: Iterable[int]) -> None:
        """Note that nobody waits for the answers to these questions any more."""
        floor, end = self.floor(), self.next_seq
        self._taken_back.update(seq for seq in seqs if floor < seq < end)

    def taken_back(self) -> list[int]:
        """Return the questions that were taken back and are not settled, in order."""
        return sorted(self._taken_back)

    def drop_taken_back(self) -> Ack | None:
        """Drop the questions that were taken back, but for those that no bus ever got, and those to the bus itself.

        For a new bus: it would give them to pods that the one before has spared them, behind what was sent later.
        What it is asked itself may be news, of which it needs to know whoever waits: that an actor is gone for good.

        Returns:
            The watermark that says so, as the new bus never hears of them; None if there were none.
        """
        dropped = {seq for seq in self._taken_back if seq <= self.sent}
        if not dropped:
            return None
        self._taken_back -= dropped
        runs = list(self._retained.values())
        self._retained.clear()
        self.retained_messages = self.retained_bytes = 0
        ranges: list[tuple[int, int]] = []
        for run in runs:
            for kept in run.without(dropped) if run.kind in QUESTION_KINDS and run.dest != BUS_NAME else (run,):
                self._retained[kept.seq] = kept
                self.retained_messages += kept.count
                self.retained_bytes += kept.size
                if ranges and ranges[-1][1] == kept.seq - 1:
                    ranges[-1] = (ranges[-1][0], kept.last)
                else:
                    ranges.append((kept.seq, kept.last))
        self._accept(self.accepted)
        return (self.accepted, self.floor(), self.sent, tuple(ranges))

    @property
    def is_all_settled(self) -> bool:
        """Whether nothing is queued or kept."""
        return not self._queue and not self._retained

    def floor(self) -> int:
        """Return the seq up to which everything is settled, for HELLO."""
        for seq in self._retained:
            return seq - 1
        return self._queue[0].seq - 1 if self._queue else self.next_seq - 1


def _overlaps(run: OutRun, ranges: tuple[tuple[int, int], ...]) -> bool:
    """Return whether a run has messages in any of the ranges, which are in order."""
    index = bisect_right(ranges, (run.last, MAX_NUMBER))
    return index > 0 and ranges[index - 1][1] >= run.seq


def _frames(runs: list[OutRun]) -> Iterator[list[OutRun]]:
    """Yield the runs of each frame: consecutive, as only the first seq of a frame is told, and within the limits."""
    frame: list[OutRun] = []
    count = size = header = 0
    for run in runs:
        entry = RUN_ENTRY_BYTES + len(run.type) * 4 + (len(run.dest) * 4 if run.dest else 0)
        if frame and (
            count + run.count > MAX_RUN_MESSAGES
            or size + run.size > MAX_RUN_BYTES
            or header + entry > MAX_FRAME_HEADER
            or frame[-1].last + 1 != run.seq
        ):
            yield frame
            frame = []
            count = size = header = 0
        frame.append(run)
        count += run.count
        size += run.size
        header += entry
    if frame:
        yield frame
