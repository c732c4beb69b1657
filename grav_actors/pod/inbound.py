"""A run as a pod received it, and how far the pod has come with it."""

from __future__ import annotations

from typing import Any

from grav_actors.protocol import FLAG_RELAYED


class Inbound:
    """Messages of one sender that were delivered together.

    Attributes:
        number: Number of its first message among the deliveries of the present epoch; 0 when that is over.
        floor: The sender's seq up to which everything was settled when the bus sent this.
        done: Messages finished from the front without a break. Written by whoever handles them, one at a
            time; read by whoever acknowledges, at any moment.
        ahead: Indexes that were finished out of order, above `done`.
        skip: Messages at the front that are not to be handled.
        relayed: What the gateway is told besides, see `docs/protocol.md`; only with the flag of that name.
    """

    __slots__ = (
        "ahead", "attempt", "body", "count", "done", "flags", "floor", "kind", "number", "relayed", "sender", "seq",
        "skip", "type",
    )  # fmt: skip

    sender: bytes
    seq: int
    floor: int
    kind: int
    type: str
    count: int
    flags: int
    attempt: int
    relayed: Any

    def __init__(self, number: int, run: tuple[Any, ...], body: Any) -> None:
        if len(run) == 10:
            self.relayed = run[9]
            run = run[:9]
        self.sender, self.seq, self.floor, self.kind, self.type, self.count, _, self.flags, self.attempt = run
        self.number = number
        self.body = body
        self.done = 0
        self.skip = 0
        self.ahead: set[int] | None = None

    @property
    def last(self) -> int:
        """Its highest seq."""
        return self.seq + self.count - 1

    def finish(self, index: int) -> None:
        """Note that the message at this index is finished, in whatever order; one thread at a time."""
        if index != self.done:
            if index > self.done:
                if self.ahead is None:
                    self.ahead = set()
                self.ahead.add(index)
            return
        done = index + 1
        if self.ahead:
            while done in self.ahead:
                self.ahead.discard(done)
                done += 1
        self.done = done

    def finish_all(self) -> None:
        """Note that nothing more is to be done with it."""
        self.done = self.count
        self.ahead = None

    @property
    def is_finished(self) -> bool:
        """Whether every message is finished."""
        return self.done == self.count

    def is_done(self, index: int) -> bool:
        """Whether the message at this index is finished."""
        ahead = self.ahead
        return index < self.done or (ahead is not None and index in ahead)

    def part(self, lo: int, hi: int, body: Any) -> Inbound:
        """Return messages `lo` to `hi` as a run of its own, not finished, with a body of its own."""
        run = (
            self.sender, self.seq + lo, self.floor, self.kind, self.type, hi - lo, len(body), self.flags, self.attempt,
        )  # fmt: skip
        return Inbound(self.number + lo, (*run, self.relayed) if self.flags & FLAG_RELAYED else run, body)

    def ranges(self, floor: int) -> list[tuple[int, int]]:
        """Return the finished numbers above the floor, as ranges."""
        return _ranges(self.number, self.done, sorted(self.ahead or ()), floor)


class Held:
    """Messages that a new bus has delivered once more and that the pod still has from an earlier one.

    Nothing is done with it: it is as far as the original is, so that the new bus learns of that.

    Attributes:
        original: The run that is handled.
        number, seq, count: As of a run.
    """

    __slots__ = ("_offset", "count", "number", "original", "seq")

    def __init__(self, number: int, original: Inbound, lo: int, hi: int) -> None:
        self.number = number
        self.original = original
        self.seq = original.seq + lo
        self.count = hi - lo
        self._offset = lo

    @property
    def last(self) -> int:
        """Its highest seq."""
        return self.seq + self.count - 1

    @property
    def done(self) -> int:
        """Messages finished from the front."""
        return min(max(self.original.done - self._offset, 0), self.count)

    @property
    def is_finished(self) -> bool:
        """Whether every message is finished."""
        return self.done == self.count

    def ranges(self, floor: int) -> list[tuple[int, int]]:
        """Return the finished numbers above the floor, as ranges."""
        done = self.done
        ahead = [index - self._offset for index in sorted(self.original.ahead or ())]
        return _ranges(self.number, done, [index for index in ahead if done <= index < self.count], floor)


def _ranges(number: int, done: int, ahead: list[int], floor: int) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    if done and number + done - 1 > floor:
        ranges.append((max(number, floor + 1), number + done - 1))
    for one in (number + index for index in ahead):
        if one <= floor:
            continue
        if ranges and ranges[-1][1] == one - 1:
            ranges[-1] = (ranges[-1][0], one)
        else:
            ranges.append((one, one))
    return ranges
