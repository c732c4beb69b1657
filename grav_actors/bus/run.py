"""Runs on the bus, and their deliveries to receivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from grav_actors.codec import record_offsets, slice_body
from grav_actors.protocol import FLAG_RELAYED, FLAG_RESENT, QUESTION_KINDS, pack

if TYPE_CHECKING:
    from grav_actors.bus.sender import Sender

Body = Any
"""The body of a run: bytes, or any buffer (a large frame stays where ZeroMQ put it)."""
TRACES = 16
"""Traces of a run of questions that are kept without a look at which still lead to a delivery."""


class Holder(Protocol):
    """Where deliveries wait, or are in flight to."""

    def holds(self, run: Run, key: int) -> bool:
        """Return whether a delivery of the run is still where `Run.trace` was told it was put."""
        ...


class Run:
    """Consecutive messages of one sender, as they came.

    Attributes:
        pending: Deliveries of its messages that are not finished; at 0 the run is settled.
        unit: Bytes that each of its messages counts for in mailboxes and windows.
        offset: Bytes of the runs that its sender had sent before it.
        flags: FLAG_RESENT if its sender had sent it to an earlier bus, else 0.
        traces: Of questions, where deliveries were put: a mailbox and their place in it, or a receiver and their
            number. Some have moved on since. None for all other runs.
    """

    __slots__ = ("_offsets", "_packed", "_traces_limit", "body", "count", "dest", "flags", "kind", "offset", "pending",
                 "sender", "seq", "size", "traces", "type", "unit")  # fmt: skip

    def __init__(
        self,
        sender: Sender,
        seq: int,
        kind: int,
        message_type: str,
        count: int,
        body: Body,
        size: int,
        dest: Any,
    ) -> None:
        self.sender = sender
        self.seq = seq
        self.kind = kind
        self.type = message_type
        self.count = count
        self.body = body
        self.size = size
        self.unit = size // count
        self.dest = dest
        self.flags = FLAG_RESENT if seq <= sender.resent_until else 0
        self.offset = sender.sent_bytes
        self.pending = 0
        self.traces: list[tuple[Holder, int]] | None = [] if kind in QUESTION_KINDS else None
        self._traces_limit = TRACES
        self._packed: bytes | None = None
        self._offsets: list[int] | None = None

    def packed(self) -> bytes:
        """Return its entry in a DELIVER header when whole, without flags and delivered for the first time.

        It is the same for every receiver, and so made once.
        """
        packed = self._packed
        if packed is None:
            packed = self._packed = pack(
                self.sender.uuid,
                self.seq,
                self.sender.settled(),
                self.kind,
                self.type,
                self.count,
                self.size,
                0,
                1,
            )
        return packed

    def trace(self, holder: Holder, key: int) -> None:
        """Note where a delivery of questions was put, and forget those that have moved on when there are many."""
        assert self.traces is not None
        if len(self.traces) >= self._traces_limit:
            self.traces = [(one, place) for one, place in self.traces if one.holds(self, place)]
            self._traces_limit = 2 * len(self.traces) + TRACES
        self.traces.append((holder, key))

    def offsets(self) -> list[int]:
        """Return where each record begins in the body, and the end; raise MessageDecodeError."""
        if self._offsets is None:
            self._offsets = record_offsets(bytes(self.body), self.count)
        return self._offsets


class Delivery:
    """Messages `lo` to `hi` of a run on their way to one receiver.

    Attributes:
        number: Number of its first message among the deliveries to the pod; 0 while it waits.
        place: Its place in the mailbox, by which it can be found: never less than that of one before it.
        settled: How many of its messages are finished, counted from the front.
        marks: Numbers that were finished out of order (or moved to the failed list).
        priority: It goes past the window: an answer that a blocked handler may be waiting for.
        flush: It was failed and is delivered again; its success flushes nothing.
        group: The group to whose mailbox it returns if its receiver is lost, or "".
        deaths: Processes that died in the handlers of its messages; as long as none has, it may hold several.
        relayed: What the gateway is told besides: for whom it is, or the groups that have it here. None for others.
    """

    __slots__ = ("attempt", "deaths", "flags", "flush", "group", "hi", "lo", "marks", "number", "place", "priority",
                 "relayed", "run", "settled")  # fmt: skip

    def __init__(self, run: Run, lo: int, hi: int, flags: int = 0, attempt: int = 1) -> None:
        self.run = run
        self.lo = lo
        self.hi = hi
        self.flags = flags | run.flags
        self.attempt = attempt
        self.number = 0
        self.place = 0
        self.settled = 0
        self.marks: set[int] | None = None
        self.priority = False
        self.flush = False
        self.group = ""
        self.deaths = 0
        self.relayed: Any = None

    @property
    def count(self) -> int:
        """Messages in it."""
        return self.hi - self.lo

    @property
    def size(self) -> int:
        """Bytes that it counts for: the run's mean for each message, so that pieces add up to the whole."""
        return self.run.unit * (self.hi - self.lo)

    def split(self, count: int) -> Delivery:
        """Cut the first `count` messages off and return them as a delivery of their own."""
        head = self.piece(self.lo, self.lo + count)
        self.lo += count
        return head

    def piece(self, lo: int, hi: int) -> Delivery:
        """Return a delivery of messages `lo` to `hi` that is otherwise as this one."""
        piece = Delivery(self.run, lo, hi, self.flags, self.attempt)
        piece.place = self.place
        piece.priority = self.priority
        piece.flush = self.flush
        piece.group = self.group
        piece.deaths = self.deaths
        piece.relayed = self.relayed
        return piece

    def parted(self, indexes: set[int]) -> Iterator[tuple[Delivery, bool]]:
        """Yield its pieces in order, and whether each is a message at one of these indexes of the run, alone."""
        low = self.lo
        for index in sorted(index for index in indexes if self.lo <= index < self.hi):
            if index > low:
                yield self.piece(low, index), False
            yield self.piece(index, index + 1), True
            low = index + 1
        if low < self.hi:
            yield self.piece(low, self.hi), False

    def encode(self) -> tuple[bytes, Body]:
        """Return its entry for a DELIVER header and its body; raise MessageDecodeError if it cannot be cut."""
        run = self.run
        if self.lo == 0 and self.hi == run.count:
            if self.flags == 0 and self.attempt == 1:
                return run.packed(), run.body
            body = run.body
        else:
            body = slice_body(bytes(run.body), run.offsets(), self.lo, self.hi)
        sender = run.sender
        fields = (
            sender.uuid, run.seq + self.lo, sender.settled(), run.kind, run.type, self.hi - self.lo, len(body),
            self.flags, self.attempt,
        )  # fmt: skip
        return (pack(*fields, self.relayed) if self.flags & FLAG_RELAYED else pack(*fields)), body

    def open_pieces(self) -> list[Delivery]:
        """Return what of it is not finished, as deliveries without number, in order."""
        if self.marks is None:
            return [self.piece(self.lo + self.settled, self.hi)] if self.settled < self.count else []
        pieces: list[Delivery] = []
        for offset in range(self.settled, self.count):
            if self.number + offset in self.marks:
                continue
            index = self.lo + offset
            if pieces and pieces[-1].hi == index:
                pieces[-1].hi += 1
            else:
                pieces.append(self.piece(index, index + 1))
        return pieces
