"""What a pod sends: runs that form, and runs that are kept until they are settled. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from grav_actors.codec import (
    LARGE_DATA,
    large_parts,
    pack_columns,
    pack_each,
    pack_records,
    pack_single,
    record_of,
    record_offsets,
    slice_body,
)
from grav_actors.ids import process_prefix
from grav_actors.protocol import (
    BUS_NAME,
    KIND_ANSWER,
    KIND_PUBLISH,
    MAX_NUMBER,
    MAX_RUN_BYTES,
    MAX_RUN_MESSAGES,
    QUESTION_KINDS,
    REPLY_TYPE,
    RETAIN_BYTES,
    RETAIN_MESSAGES,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Ack,
)

if TYPE_CHECKING:
    from grav_actors.pod.replies import Heading, Question

MAX_FRAME_HEADER = 32 * 1024
"""Bytes of run entries after which a frame is closed."""
RUN_ENTRY_BYTES = 40
"""What a run entry takes beside its type and destination, at most."""


SMALL_DATA = 472
"""Bytes of data of which a frame takes as many messages as it may."""
RECORD_BYTES = 40
"""What a message takes beside its data, about."""
TOGETHER = 4
"""Runs from which those of one message are packed together."""
ITEM = 5
"""Elements of `Outbox.incoming` for each message."""

_SIZED = frozenset({bytes, str})

Columns = tuple[list[int], list[int], list[Any], list[bytes]]
"""Of published messages: the numbers of their ids, times, data, parents; see `pack_columns`."""
Asked = tuple[list[Any], list[int], "list[Question]", list[None]]
"""Of questions: their records, as `Outbox.add` takes them, sizes, themselves; the rest means nothing."""


class OutRun:
    """Consecutive messages of the same kind, type and destination.

    Attributes:
        columns: Of messages that were published and have no headers; None of all others.
        records: Of the others: packed, or as lists whose data can be encoded later.
        parts: Of one large message instead of its body, with the data as the user gave it: a body that is kept until
            it is settled would be as much memory again, taken from the system and given back for each message.
    """

    __slots__ = ("body", "columns", "count", "dest", "kind", "parts", "records", "seq", "size", "type")

    def __init__(self, seq: int, kind: int, message_type: str, dest: Any, columns: Columns | None) -> None:
        self.seq = seq
        self.kind = kind
        self.type = message_type
        self.dest = dest
        self.columns = columns
        self.records: list[Any] = []
        self.count = 0
        self.size = 0
        self.body = b""
        self.parts: tuple[bytes, ...] = ()

    def close(self, prefix: bytes) -> None:
        """Make the body, or its parts; nothing is added any more."""
        if self.body:
            return
        if self.count == 1 and self.size < LARGE_DATA and self.columns is None:
            self.body = pack_single(self.records[0])
            self.records = []
            return
        if self.size >= LARGE_DATA and self.count == 1:
            self._part(prefix)
        if not self.parts:
            self.body = pack_records(self.records) if self.columns is None else pack_columns(prefix, *self.columns)
        self.columns = None
        self.records = []

    def _part(self, prefix: bytes) -> None:
        """Make the parts if the one message is large; its size is a guess."""
        if self.columns is None:
            record = self.records[0]
        else:
            (number,), (stamp,), (data,), (parent,) = self.columns
            record = record_of(prefix, number, stamp, data, parent)
        self.parts = large_parts(record)

    def whole(self) -> bytes:
        """Return the body, of a large message put together anew."""
        return self.body or b"".join(self.parts)

    def takes(self, kind: int, message_type: str, dest: Any, size: int, count: int = 1) -> bool:
        """Whether records of so many messages and bytes may be added: they are alike, and fit in."""
        return (
            self.columns is None
            and self.type == message_type
            and self.kind == kind
            and self.dest == dest
            and self.count + count <= MAX_RUN_MESSAGES
            and self.size + size <= MAX_RUN_BYTES
        )

    @property
    def last(self) -> int:
        """Its highest seq."""
        return self.seq + self.count - 1

    def without(self, seqs: set[int]) -> list[OutRun]:
        """Return the runs that are left of this closed one when these messages are taken out."""
        kept = [seq not in seqs for seq in range(self.seq, self.seq + self.count)]
        if all(kept):
            return [self]
        body = self.whole()
        offsets = record_offsets(body, self.count)
        runs: list[OutRun] = []
        low = 0
        for is_kept, group in groupby(kept):
            high = low + len(list(group))
            if is_kept:
                size = offsets[high] - offsets[low]
                run = OutRun(self.seq + low, self.kind, self.type, self.dest, None)
                run.count, run.size = high - low, size
                run.body = slice_body(body, offsets, low, high)
                runs.append(run)
            low = high
        return runs


class Outbox:
    """Runs not yet sent, and runs sent and not yet settled.

    What is published all the time, by any thread, goes without a lock into `incoming`: the elements of each message
    (type, number of its id, time, data, raw uuid of its parent) put in by one extension of the list. So does what is
    asked by the coroutines of a loop: of each question (heading, record, size, itself, None); and what handlers return:
    of each answer (uuid of the asking pod in a tuple, number of its id, time, record, size). `gather` brings
    it into runs, and all else here is under the lock of the link and gathers first. That rests on CPython: it extends,
    slices and cuts a list of plain items in one step each, and each thread sees what another did before.

    Attributes:
        incoming: Published messages, questions and answers that are in no run yet.
        questions: Those that came so and are in runs, by their uuids; for the table of replies, which takes them out.
        limit: Elements that `incoming` may have, but for what threads put in that have looked at the same moment; 0 if
            perhaps nobody is going to gather and flush soon, so that who has put something in and then sees 0 must
            see to that.
        limit_bytes: Bytes of data of each of these messages, at most.
        appended_at: Time of the last message gathered, in nanoseconds of the clock of messages.
        prefix: The first half of the ids of what is published.
        next_seq: What the next message gets.
        accepted, settled: The watermarks as last heard.
        sent: Highest seq that was ever put into a frame.
        queued: Messages in runs that wait for the next frame.
        room, room_bytes: What fits for certain; `has_room` counts anew when that is used up.
    """

    __slots__ = ("_accept_marks", "_last", "_queue", "_retained", "_taken_back", "accepted", "appended_at",
                 "incoming", "limit", "limit_bytes", "next_seq", "prefix", "questions", "queued", "queued_bytes",
                 "retained_bytes", "retained_messages", "room", "room_bytes", "sent", "settled",
                 "unaccepted_bytes")  # fmt: skip

    def __init__(self) -> None:
        self.incoming: list[Any] = []
        self.questions: dict[bytes, Question] = {}
        self.limit = 0
        self.limit_bytes = 0
        self.appended_at = 0
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
        self.prefix = process_prefix()
        self._queue: list[OutRun] = []
        self._last: OutRun | None = None
        # Ordered by a linked list: a plain dict is slow to find its first entry when many before it are gone.
        self._retained: OrderedDict[int, OutRun] = OrderedDict()
        self._accept_marks: deque[tuple[int, int]] = deque()
        self._taken_back: set[int] = set()

    @property
    def has_queued(self) -> bool:
        """Whether something waits for the next frame."""
        return bool(self.queued or self.incoming)

    def open(self, size: int, most: int) -> None:
        """Let messages about as large as one of this size come in without the lock, as something is to be flushed soon.

        As many as fit into the frame and the window, and none with more than `most` bytes.
        """
        self.limit_bytes = min(max(SMALL_DATA, size + size // 4), most)
        each = self.limit_bytes + RECORD_BYTES
        free = min(MAX_RUN_MESSAGES - 1 - self.queued, self.room)
        free = min(free, (MAX_RUN_BYTES - self.queued_bytes) // each, self.room_bytes // each)
        self.limit = ITEM * max(0, free)

    def gather(self) -> None:
        """Bring what has come in into runs; only if something has."""
        incoming = self.incoming
        size = len(incoming)
        items = incoming[:size]
        types = items[0::ITEM]
        columns = (items[1::ITEM], items[2::ITEM], items[3::ITEM], items[4::ITEM])
        if types.count(types[0]) == len(types):
            self._gather_alike(types[0], columns, len(types))
        else:
            self._gather_mixed(types, columns)
        # Last: Ctrl-C before it has nothing lost. What other threads put in meanwhile lies behind.
        del incoming[:size]
        self.limit = max(0, self.limit - size)

    def _gather_alike(self, to: Any, columns: Any, count: int) -> None:
        """Append what came in with the same first element: a type, an asker in a tuple, or a heading."""
        if to.__class__ is str:
            self._publish(to, columns, count)
            self.appended_at = columns[1][-1]
        elif to.__class__ is tuple:
            self._answer(to[0], columns[2], columns[3], count)
            self.appended_at = columns[1][-1]
        else:
            self._ask(to, columns, count)

    def _gather_mixed(self, types: list[Any], columns: Any) -> None:
        numbers, stamps, data, parents = columns
        count = len(types)
        first = 0
        for index in range(1, count + 1):
            if index < count and types[index] == types[first]:
                continue
            if (
                0 < first == index - 1 < count - 1
                and data[first].__class__ is not tuple
                and types[first].__class__ is str
            ):
                # Nothing goes before or behind it in its run: the type changes with every message.
                record = [self.prefix + numbers[first].to_bytes(8, "big"), b"", parents[first], stamps[first],
                          data[first], None]  # fmt: skip
                self._publish_alone(types[first], record)
                self.appended_at = stamps[first]
            else:
                part = (numbers[first:index], stamps[first:index], data[first:index], parents[first:index])
                self._gather_alike(types[first], part, index - first)
            first = index

    def forget_incoming(self, number: int) -> bool:
        """Take out a message, by the number of its id; return whether it was in no run yet."""
        numbers = self.incoming[1::ITEM]
        if number not in numbers:
            return False
        at = ITEM * numbers.index(number)
        del self.incoming[at : at + ITEM]
        return True

    def _publish_alone(self, message_type: str, record: list[Any]) -> None:
        run = self._last = OutRun(self.next_seq, KIND_PUBLISH, message_type, None, None)
        run.records.append(record)
        self._queue.append(run)
        data = record[4]
        self._count(run, RECORD_BYTES + (len(data) if data.__class__ in _SIZED else 8), 1)

    def publish(self, message_type: str, number: int, stamp: int, data: Any, parent: bytes) -> None:
        """Append one published message; see `incoming`. The caller has looked at `has_room`."""
        if self.incoming:
            self.gather()
        self.appended_at = stamp
        self._publish(message_type, ([number], [stamp], [data], [parent]), 1)

    def _publish(self, message_type: str, columns: Columns, count: int) -> None:
        size = data_size(columns[2]) + RECORD_BYTES * count
        run = self._last
        if (
            run is None
            or run.columns is None
            or run.type != message_type
            or run.count + count > MAX_RUN_MESSAGES
            or run.size + size > MAX_RUN_BYTES
        ):
            if count > 1 and (count > MAX_RUN_MESSAGES or size > MAX_RUN_BYTES):
                # Seldom: several threads looked at `limit` at the same moment, and put in more than it allows.
                half = count // 2
                first, second = zip(*((column[:half], column[half:]) for column in columns), strict=True)
                self._publish(message_type, first, half)
                self._publish(message_type, second, count - half)
                return
            run = self._last = OutRun(self.next_seq, KIND_PUBLISH, message_type, None, columns)
            self._queue.append(run)
        else:
            numbers, stamps, data, parents = columns
            run.columns[0].extend(numbers)
            run.columns[1].extend(stamps)
            run.columns[2].extend(data)
            run.columns[3].extend(parents)
        self._count(run, size, count)

    def _ask(self, heading: Heading, asked: Asked, count: int) -> None:
        """Append questions under one heading, small ones."""
        records, sizes, questions, _ = asked
        size = sum(sizes)
        if count > 1 and (count > MAX_RUN_MESSAGES or size > MAX_RUN_BYTES):
            # Seldom: several loops looked at the room at the same moment.
            half = count // 2
            self._ask(heading, (records[:half], sizes[:half], questions[:half], []), half)
            self._ask(heading, (records[half:], sizes[half:], questions[half:], []), count - half)
            return
        seq = self.next_seq
        known = self.questions
        for question in questions:
            question.seq = seq
            known[question.uuid] = question
            seq += 1
        self._add_records(heading.kind, heading.type, heading.dest, records, size, count)

    def _answer(self, asker: bytes, records: list[Any], sizes: list[int], count: int) -> None:
        """Append answers to one pod."""
        size = sum(sizes)
        if count > 1 and (count > MAX_RUN_MESSAGES or size > MAX_RUN_BYTES):
            half = count // 2  # seldom, as above
            self._answer(asker, records[:half], sizes[:half], half)
            self._answer(asker, records[half:], sizes[half:], count - half)
            return
        self._add_records(KIND_ANSWER, REPLY_TYPE, asker, records, size, count)

    def _add_records(self, kind: int, message_type: str, dest: Any, records: list[Any], size: int, count: int) -> None:
        run = self._last
        if run is None or not run.takes(kind, message_type, dest, size, count):
            run = self._last = OutRun(self.next_seq, kind, message_type, dest, None)
            self._queue.append(run)
        run.records += records
        self._count(run, size, count)

    def _count(self, run: OutRun, size: int, count: int) -> None:
        run.count += count
        run.size += size
        self.next_seq += count
        self.queued += count
        self.queued_bytes += size
        self.unaccepted_bytes += size
        self.room -= count
        self.room_bytes -= size

    def has_room(self, count: int = 1) -> bool:
        """Whether the window takes so many more messages; in bytes the last of them may be over."""
        if self.incoming:
            self.gather()
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
            record: Packed, or as a list whose data can be encoded later; see `pack_records`. Of several: the body of
                them, which is a run of its own.
            size: Its bytes, or about as many for a list.
            count: Messages in it, at most what one run holds.
        """
        if self.incoming:
            self.gather()
        seq = self.next_seq
        last = self._last
        if count > 1:
            last = OutRun(seq, kind, message_type, dest, None)
            last.body = record
            self._queue.append(last)
            self._last = None
        elif last is None or not last.takes(kind, message_type, dest, size):
            last = self._last = OutRun(seq, kind, message_type, dest, None)
            last.records.append(record)
            self._queue.append(last)
        else:
            last.records.append(record)
        self._count(last, size, count)
        return seq

    def close_run(self) -> None:
        """Have the next message begin a run of its own."""
        if self.incoming:
            self.gather()
        self._last = None

    def take_frames(self) -> list[list[OutRun]]:
        """Return the runs of each frame to send, and keep them until they are settled."""
        # First: who puts something in after this sees it, and has it flushed again.
        self.limit = 0
        if self.incoming:
            self.gather()
        queue = self._queue
        if not queue:
            return []
        self._queue = []
        self._last = None
        run = queue[-1]
        size = self.queued_bytes
        self.sent = sent = run.seq + run.count - 1
        self._accept_marks.append((sent, size))
        self.retained_bytes += size
        self.retained_messages += self.queued
        self.queued = self.queued_bytes = 0
        if len(queue) == 1:
            run.close(self.prefix)
            self._retained[run.seq] = run
            return [queue]
        if len(queue) >= TOGETHER:
            _close_singles(queue)
        for run in queue:
            run.close(self.prefix)
            self._retained[run.seq] = run
        return list(_frames(queue))

    def take_alone(self, kind: int, message_type: str, dest: Any, record: Any, size: int) -> OutRun:
        """Return the run of one small message to send, and keep it until it is settled.

        What `add` and `take_frames` do together when nothing is queued.
        """
        seq = self.next_seq
        run = OutRun(seq, kind, message_type, dest, None)
        run.count = 1
        run.size = size
        run.body = pack_single(record)
        self.next_seq = seq + 1
        self.sent = seq
        self.unaccepted_bytes += size
        self.room -= 1
        self.room_bytes -= size
        self._accept_marks.append((seq, size))
        self.retained_messages += 1
        self.retained_bytes += size
        self._retained[seq] = run
        return run

    def resend_frames(self, received: int) -> Iterator[list[OutRun]]:
        """Yield the runs of each frame to send to a bus that has them up to `received`."""
        yield from _frames([run for run in self._retained.values() if run.seq > received])

    def apply(self, ack: Ack) -> None:
        """Take in a watermark; a forged one, of what was never sent, changes nothing."""
        accepted, floor = ack[0], ack[1]
        sent = self.sent
        if accepted > sent or floor > sent:
            return
        if len(ack) == 4:
            self._drop_closed(ack[2], ack[3])
        retained = self._retained
        while retained:
            run = next(iter(retained.values()))
            if run.seq + run.count - 1 > floor:
                break
            self._drop(run)
        self.settled = max(self.settled, floor)
        self._accept(accepted)

    def _accept(self, accepted: int) -> None:
        # What is settled is accepted too: a bus that was restarted never hears of it.
        sent = self.sent
        if accepted < sent:
            retained = self._retained
            if retained:
                accepted = max(accepted, next(iter(retained)) - 1)
                newest = next(reversed(retained.values()))
                if accepted >= newest.seq + newest.count - 1:
                    accepted = sent
            else:
                accepted = sent
        if accepted > self.accepted:
            self.accepted = accepted
            marks = self._accept_marks
            while marks and marks[0][0] <= accepted:
                self.unaccepted_bytes -= marks.popleft()[1]

    def _drop_closed(self, newest: int, ranges: tuple[tuple[int, int], ...]) -> None:
        """Drop what is not among the open ranges, of which there are none up to `newest` but these."""
        settled: list[OutRun] = []
        for run in self._retained.values():
            if run.last > newest:
                break
            if not _overlaps(run, ranges):
                settled.append(run)
        for run in settled:
            self._drop(run)

    def _drop(self, run: OutRun) -> None:
        del self._retained[run.seq]
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
        return not self.has_queued and not self._retained

    def floor(self) -> int:
        """Return the seq up to which everything is settled, for HELLO."""
        if self.incoming:
            self.gather()
        for seq in self._retained:
            return seq - 1
        return self._queue[0].seq - 1 if self._queue else self.next_seq - 1


def _close_singles(runs: list[OutRun]) -> None:
    """Make the bodies of those of one message, in one go."""
    singles = [run for run in runs if run.count == 1 and run.records and run.records[0].__class__ is list]
    for run, body in zip(singles, pack_each([run.records[0] for run in singles]), strict=True):
        run.body = body
        run.records = []


def data_size(data: list[Any]) -> int:
    """Return about how many bytes data takes, each as in `pack_columns`."""
    if _SIZED.issuperset(map(type, data)):
        return sum(map(len, data))
    return sum(len(one[0]) if type(one) is tuple else len(one) if type(one) in _SIZED else 8 for one in data)


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
