"""A run as a pod received it, and how far the pod has come with it."""

from __future__ import annotations

from typing import Any


class Inbound:
    """Messages of one sender that were delivered together.

    Attributes:
        number: Number of its first message among the deliveries of the present epoch; 0 when that is over.
        done: Messages finished from the front without a break. Written by whoever handles them, one at a
            time; read by whoever acknowledges, at any moment.
        ahead: Indexes that were finished out of order, above `done`.
        skip: Messages at the front that were handled before, in an earlier life of the bus.
    """

    __slots__ = ("ahead", "attempt", "body", "count", "done", "flags", "kind", "number", "sender", "seq", "skip",
                 "type")  # fmt: skip

    def __init__(self, number: int, run: tuple[Any, ...], body: Any) -> None:
        self.sender, self.seq, _, self.kind, self.type, self.count, _, self.flags, self.attempt = run
        self.number = number
        self.body = body
        self.done = 0
        self.skip = 0
        self.ahead: set[int] | None = None

    def finish(self, index: int) -> None:
        """Note that the message at this index is finished, in whatever order; one thread at a time."""
        if index != self.done:
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

    def ranges(self, floor: int) -> list[tuple[int, int]]:
        """Return the finished numbers above the floor, as ranges."""
        ranges: list[tuple[int, int]] = []
        done = self.done
        if done and self.number + done - 1 > floor:
            ranges.append((self.number, self.number + done - 1))
        for index in sorted(self.ahead or ()):
            number = self.number + index
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return ranges
