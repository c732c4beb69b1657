"""What waits on the bus for one pod or one group, bounded in messages and bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from grav_actors.bus.ordered import OrderedSet

if TYPE_CHECKING:
    from grav_actors.bus.run import Delivery, Run
    from grav_actors.bus.sender import Sender

MAILBOX_BYTES = 64 * 1024 * 1024
"""Bytes that may wait in a mailbox or be in flight from it."""


class Mailbox:
    """Deliveries in order, first in first out.

    `used` and `used_bytes` count what waits and what is in flight: a receiver that takes messages and
    finishes none is as full as one that takes none.

    Attributes:
        blocked: Senders whose acceptance waits for room (policy `block`).
        pressed_at: When it became full for the first time since it was half empty.
        progress_at: When its receiver last finished something, or when it became full.
        slow: It has been pressed for so long that this was told.
        stuck: It was full without progress for too long; until it is half empty nothing is added.
    """

    __slots__ = ("_newest", "blocked", "limit", "name", "overflow", "pressed_at", "progress_at", "slow", "stuck",
                 "stuck_after", "used", "used_bytes", "waiting", "waiting_count")  # fmt: skip

    def __init__(self, name: str, limit: int, overflow: str, stuck_after: float | None) -> None:
        self.name = name
        self.limit = limit
        self.overflow = overflow
        self.stuck_after = stuck_after
        self.waiting: deque[Delivery] = deque()
        self._newest = 0
        self.waiting_count = 0
        self.used = 0
        self.used_bytes = 0
        self.blocked: OrderedSet[Sender] = OrderedSet()
        self.pressed_at = 0.0
        self.progress_at = 0.0
        self.slow = False
        self.stuck = False

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits."""
        return self.used >= self.limit or self.used_bytes >= MAILBOX_BYTES

    @property
    def is_over(self) -> bool:
        """Whether more is in it than fits."""
        return self.used > self.limit or self.used_bytes > MAILBOX_BYTES

    @property
    def is_half_empty(self) -> bool:
        """Whether at most half of it is used."""
        return self.used * 2 <= self.limit and self.used_bytes * 2 <= MAILBOX_BYTES

    def add(self, delivery: Delivery) -> None:
        """Append; the caller has applied the overflow policy."""
        run = delivery.run
        count = delivery.hi - delivery.lo
        self.waiting.append(delivery)
        self._newest = delivery.place = self._newest + 1
        if run.traces is not None:
            run.trace(self, delivery.place)
        self.waiting_count += count
        self.used += count
        self.used_bytes += run.unit * count

    def add_first(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries in front, in their order."""
        for delivery in reversed(list(deliveries)):
            self._put_first(delivery)
            if delivery.run.traces is not None:
                delivery.run.trace(self, delivery.place)
            self.waiting_count += delivery.count
            self.used += delivery.count
            self.used_bytes += delivery.size

    def _put_first(self, delivery: Delivery) -> None:
        delivery.place = self.waiting[0].place - 1 if self.waiting else self._newest
        self.waiting.appendleft(delivery)

    def add_again(self, deliveries: Iterable[Delivery]) -> None:
        """Put failed deliveries in front, but behind those that came back before them and still wait."""
        before: list[Delivery] = []
        while self.waiting and self.waiting[0].flush:
            before.append(self.waiting.popleft())
        self.add_first(deliveries)
        for delivery in reversed(before):
            self._put_first(delivery)

    def take(self, count: int) -> Delivery:
        """Remove and return the next delivery, at most its first `count` messages."""
        head = self.waiting[0]
        size = head.hi - head.lo
        if size > count:
            head = head.split(count)
            size = count
        else:
            self.waiting.popleft()
        self.waiting_count -= size
        return head

    def take_oldest(self, count: int) -> list[Delivery]:
        """Remove and return the first `count` messages that wait, in order; `used` no longer counts them."""
        removed: list[Delivery] = []
        while count > 0:
            oldest = self.take(count)
            self.discard(oldest)
            removed.append(oldest)
            count -= oldest.count
        return removed

    def holds(self, run: Run, key: int) -> bool:
        """Return whether a delivery of this run waits at this place."""
        position = bisect_left(self.waiting, key, key=_place)
        if position == len(self.waiting):
            return False
        delivery = self.waiting[position]
        return delivery.place == key and delivery.run is run

    def remove(self, run: Run, place: int, index: int) -> bool:
        """Take one message of a run out, by the place at which its delivery was put; return whether it waited there.

        Costs some steps, however much waits.
        """
        position = bisect_right(self.waiting, (place, index), key=_place_and_index) - 1
        if position < 0:
            return False
        delivery = self.waiting[position]
        if delivery.run is not run or delivery.place != place or not delivery.lo <= index < delivery.hi:
            return False
        self.replace(position, [piece for piece, is_it in delivery.parted({index}) if not is_it])
        return True

    def replace(self, position: int, pieces: Iterable[Delivery]) -> None:
        """Put what is left of a delivery that waits in its place."""
        whole = self.waiting[position]
        del self.waiting[position]
        self.waiting_count -= whole.count
        self.discard(whole)
        for piece in reversed(list(pieces)):
            self.waiting.insert(position, piece)
            self.waiting_count += piece.count
            self.used += piece.count
            self.used_bytes += piece.size

    def discard(self, delivery: Delivery) -> None:
        """Forget a delivery that was taken, or popped from `waiting` by the caller."""
        self.finished(delivery.count, delivery.size)

    def finished(self, count: int, size: int) -> None:
        """Note that messages which were in flight are finished."""
        self.used -= count
        self.used_bytes -= size

    def cut(self, keep: int) -> list[Delivery]:
        """Remove and return what waits behind the first `keep` messages, in order; `used` no longer counts it."""
        removed: list[Delivery] = []
        while self.waiting_count > keep:
            last = self.waiting.pop()
            surplus = min(last.count, self.waiting_count - keep)
            self.waiting_count -= surplus
            if surplus < last.count:
                self.waiting.append(last.split(last.count - surplus))
            removed.append(last)
            self.discard(last)
        return removed[::-1]

    def pop_waiting(self) -> list[Delivery]:
        """Remove and return all that waits; `used` no longer counts it."""
        waiting = list(self.waiting)
        self.waiting.clear()
        self.waiting_count = 0
        for delivery in waiting:
            self.discard(delivery)
        return waiting


def _place(delivery: Delivery) -> int:
    return delivery.place


def _place_and_index(delivery: Delivery) -> tuple[int, int]:
    return (delivery.place, delivery.lo)  # pieces of one delivery share its place
