"""The bus's half of one pod that receives: its mailbox, what is in flight to it, what it failed."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from grav_actors.bus.mailbox import MAILBOX_BYTES, Mailbox
from grav_actors.bus.run import Body, Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.errors import MessageDecodeError, ProtocolError
from grav_actors.filters import FilterSet
from grav_actors.ids import id_text
from grav_actors.protocol import (
    GATEWAY_NAME,
    MAX_RUN_BYTES,
    MAX_RUN_MESSAGES,
    RETAIN_BYTES,
    VERB_DELIVER,
    WINDOW_BYTES,
    Ack,
    Handled,
    PodSettings,
    pack,
)

RETRY_FIRST = 5.0
"""Seconds after which an idle pod's oldest failed message is tried again."""
RETRY_MAX = 30.0
ANSWERS_LIMIT = 65_536
"""Answers that wait for a pod or are in flight to it; they are outside its mailbox and window."""
ANSWERS_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Failure:
    """One message whose handler raised.

    Attributes:
        after: A success at a higher number brings it back.
    """

    delivery: Delivery
    after: int
    error: str


class Receiver:
    """One pod as the bus knows it.

    Attributes:
        route: Routing id of its link, or b"" while it is away.
        number: Number that its next delivery gets.
        in_flight: Deliveries sent and not finished, in the order of their numbers.
        window_used: Messages in flight that count against `prefetch`.
        priority: Answers that wait to be sent, past the mailbox.
        answers, answer_bytes: What waits there or is in flight from there.
        failed: Failures that wait for a success, oldest first.
        epoch: What it is told instead of that of the bus; b"" if it is that.
        claims: Seqs by sender that it had from an earlier bus, as a member of its group.
        repeats: Times that it was given again what is in flight, since it finished anything or came by its route.
        retry_at, retry_delay: When the oldest failure is tried without one, and how long after.
        replayed: It, or an earlier incarnation, has listened: the replay ring is not given to it any more.
        suspects: Messages in whose handlers it has met its end, as run and index.
        turn: The drain in which it was last given a frame at once.
        is_charged: All of them are known, or charged already.
    """

    __slots__ = (
        "answer_bytes", "answers",
        "claims", "epoch", "failed", "filters", "in_flight", "is_charged", "is_dirty", "mailbox", "name", "number",
        "priority", "repeats", "replayed", "retry_at", "retry_delay", "route", "sender", "settings", "slot", "suspects",
        "turn", "uuid", "window_bytes", "window_limit", "window_used",
    )  # fmt: skip

    def __init__(self, uuid: bytes, name: str, settings: PodSettings, filters: FilterSet, sender: Sender) -> None:
        self.uuid = uuid
        self.name = name
        self.settings = settings
        self.filters = filters
        self.sender = sender
        self.route = b""
        self.slot = 0
        self.mailbox = Mailbox(self.label, settings.mailbox_limit, settings.overflow, settings.stuck_after)
        self.priority: deque[Delivery] = deque()
        self.answers = 0
        self.answer_bytes = 0
        self.epoch = b""
        self.claims: dict[bytes, tuple[tuple[int, int], ...]] = {}
        self.in_flight: deque[Delivery] = deque()
        self.number = 1
        self.window_used = 0
        self.window_bytes = 0
        # The gateway holds the questions to other nodes until they are answered.
        self.window_limit = RETAIN_BYTES if name == GATEWAY_NAME else WINDOW_BYTES
        self.failed: list[Failure] = []
        self.retry_at = 0.0
        self.retry_delay = RETRY_FIRST
        self.repeats = 0
        self.replayed = False
        self.is_dirty = False
        self.turn = 0
        self.suspects: set[tuple[Run, int]] = set()
        self.is_charged = False

    @property
    def label(self) -> str:
        """What reports call it: its name, else its uuid."""
        return self.name or id_text(self.uuid)

    @property
    def is_supervised(self) -> bool:
        """Whether a supervisor keeps its name and mailbox when it dies."""
        return bool(self.settings.supervisor)

    def room(self) -> int:
        """Return how many more messages its window takes."""
        if self.window_bytes >= self.window_limit:
            return 0
        return self.window - self.window_used

    @property
    def window(self) -> int:
        """Messages that may be in flight: a mailbox that drops its oldest has to keep them here."""
        return min(self.settings.prefetch, self.settings.mailbox_limit)

    def takes_at_once(self, count: int, size: int, turn: int) -> bool:
        """Return whether so many messages may go into a frame of their own without having waited in the mailbox."""
        mailbox = self.mailbox
        return (
            not (self.is_dirty or mailbox.waiting or self.priority or mailbox.stuck or self.turn == turn)
            and self.route != b""
            and self.window_used + count <= self.settings.prefetch
            and self.window_bytes < self.window_limit
            and mailbox.used + count < mailbox.limit
            and mailbox.used_bytes + size < MAILBOX_BYTES
        )

    def takes_answer_at_once(self, turn: int) -> bool:
        """Return the same of an answer, which passes the mailbox."""
        return (
            not (self.is_dirty or self.priority or self.turn == turn)
            and self.route != b""
            and self.answers < ANSWERS_LIMIT
            and self.answer_bytes < ANSWERS_BYTES
        )

    def frames(self, unacked: dict[Sender, float]) -> Iterator[tuple[bytes, Body, list[Delivery]]]:
        """Yield DELIVER frames for what waits and fits the window: header, body, and what could not be cut.

        A run goes out whole even if it overfills a wide window; a narrow one (groups) is kept exactly. Answers go
        first, and the acknowledgement not before the last of them: it may say that a question has been settled.

        Args:
            unacked: Senders that wait for an acknowledgement; this pod is struck if a frame carries its own.
        """
        entries: list[bytes] = []
        bodies: list[Body] = []
        garbled: list[Delivery] = []
        count = size = 0
        first = self.number
        mailbox = self.mailbox
        waiting = mailbox.waiting
        window = self.window
        exact = window < MAX_RUN_MESSAGES
        while True:
            if self.priority:
                delivery = self.priority.popleft()
            elif waiting and self.window_bytes < self.window_limit and (room := window - self.window_used) > 0:
                delivery = mailbox.take(room if exact else MAX_RUN_MESSAGES)
            else:
                break
            run = delivery.run
            messages = delivery.hi - delivery.lo
            if messages == run.count and not delivery.flags and delivery.attempt == 1:
                entry, body = run.packed(), run.body
            else:
                try:
                    entry, body = delivery.encode()
                except MessageDecodeError:
                    garbled.append(delivery)
                    continue
            delivery.number = self.number
            self.number += messages
            self.in_flight.append(delivery)
            if run.traces is not None:
                run.trace(self, delivery.number)
            if not delivery.priority:
                self.window_used += messages
                self.window_bytes += run.unit * messages
            entries.append(entry)
            bodies.append(body)
            count += messages
            size += len(body)
            if count >= MAX_RUN_MESSAGES or size >= MAX_RUN_BYTES:
                yield self._frame(first, entries, self._ack(unacked)), _join(bodies), garbled
                entries, bodies, garbled = [], [], []
                count = size = 0
                first = self.number
        if entries or garbled:
            yield self._frame(first, entries, self._ack(unacked)) if entries else b"", _join(bodies), garbled

    def _ack(self, unacked: dict[Sender, float]) -> Ack | None:
        if self.priority or unacked.pop(self.sender, None) is None:
            return None
        return self.sender.ack()

    def _frame(self, number: int, entries: list[bytes], ack: Ack | None) -> bytes:
        # The array of five is put together by hand, as the entries are packed already.
        count = len(entries)
        array = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
        head = pack(VERB_DELIVER, self.slot, number, ack)
        return b"".join((b"\x95", head[1:], array, *entries))

    def frames_again(self, received: int) -> Iterator[tuple[bytes, Body]]:
        """Yield DELIVER frames, with the same numbers, for what was in flight when the connection broke."""
        for delivery in self.in_flight:
            if delivery.number > received:
                entry, body = delivery.encode()
                yield self._frame(delivery.number, [entry], None), body

    def check(self, handled: Handled) -> None:
        """Raise ProtocolError for a watermark over what was ever delivered."""
        newest = self.number - 1
        if type(handled) is int:
            highest = handled
        else:
            floor, ranges, failures = handled  # type: ignore[misc]
            highest = max((floor, *(last for _, last in ranges), *(number for number, _, _ in failures)))
        if highest > newest:
            raise ProtocolError(f"handled {highest}, but {newest} is the newest delivery")

    def find(self, number: int) -> Delivery | None:
        """Return the delivery in flight that holds this number and has not finished it."""
        delivery = self._around(number)
        if delivery is None or not delivery.settled <= number - delivery.number < delivery.count:
            return None
        return None if delivery.marks and number in delivery.marks else delivery

    def _around(self, number: int) -> Delivery | None:
        """Return the last delivery in flight that begins with this number or a lower one."""
        position = bisect_right(self.in_flight, number, key=_number) - 1
        return self.in_flight[position] if position >= 0 else None

    def holds(self, run: Run, key: int) -> bool:
        """Return whether anything of the delivery is in flight that was part of this run and began with this number."""
        delivery = self._around(key)
        return delivery is not None and delivery.number == key and delivery.run is run

    def has_in_flight(self, run: Run, first: int, index: int) -> bool:
        """Return whether one message of a run is not finished in the delivery that began with this number."""
        delivery = self._around(first)
        if delivery is None or delivery.number != first or delivery.run is not run:
            return False
        offset = index - delivery.lo
        is_open = delivery.settled <= offset < delivery.count
        return is_open and not (delivery.marks and first + offset in delivery.marks)

    def suspect(self, sender: bytes, seq: int) -> bool:
        """Note by its sender and seq in which message's handler the pod has died; return whether it is in flight."""
        for delivery in self.in_flight:
            run = delivery.run
            if run.sender.uuid == sender and delivery.lo <= seq - run.seq < delivery.hi and not delivery.priority:
                self.suspects.add((run, seq - run.seq))
                return True
        return False

    def finish_range(self, first: int, last: int, settle: Callable[[Run, int], None]) -> tuple[int, int]:
        """Mark numbers above the floor as finished; see `finish_floor`."""
        finished = success = 0
        for delivery in self.in_flight:
            if delivery.number > last:
                break
            low = max(first, delivery.number + delivery.settled)
            high = min(last, delivery.number + delivery.count - 1)
            if low > high:
                continue
            marks = delivery.marks if delivery.marks is not None else set()
            new = [number for number in range(low, high + 1) if number not in marks]
            if new:
                marks.update(new)
                delivery.marks = marks
                self.free_window(delivery, len(new))
                settle(delivery.run, len(new))
                finished += len(new)
                if not (delivery.flush or delivery.priority):
                    success = new[-1]
        return finished, success

    def finish_floor(self, floor: int, settle: Callable[[Run, int], None]) -> tuple[int, int]:
        """Finish all numbers up to the floor, and free their room.

        Args:
            settle: Called with each run of which something was finished, and how many that were.

        Returns:
            How many were finished, and the highest of them that counts as a success; 0 if none does. Numbers that were
            marked have been finished before.
        """
        finished = success = 0
        in_flight = self.in_flight
        while in_flight:
            delivery = in_flight[0]
            number = delivery.number
            begin = number + delivery.settled
            if begin > floor:
                break
            end = number + delivery.hi - delivery.lo
            if end <= floor + 1:
                in_flight.popleft()
            else:
                end = floor + 1
            delivery.settled = end - number
            count, highest = end - begin, end - 1
            if delivery.marks:
                fresh = [number for number in range(begin, end) if number not in delivery.marks]
                if not fresh:
                    continue
                count, highest = len(fresh), fresh[-1]
            self.free_window(delivery, count)
            settle(delivery.run, count)
            finished += count
            if not (delivery.priority or delivery.flush):
                success = highest
        return finished, success

    def take_room(self, delivery: Delivery) -> None:
        """Note that the messages of a delivery which has not waited take room, until they are finished."""
        count = delivery.hi - delivery.lo
        size = delivery.run.unit * count
        if delivery.priority:
            self.answers += count
            self.answer_bytes += size
        else:
            mailbox = self.mailbox
            self.window_used += count
            self.window_bytes += size
            mailbox.used += count
            mailbox.used_bytes += size

    def free_window(self, delivery: Delivery, count: int) -> None:
        """Note that messages of a delivery no longer take room: they are finished, or were moved elsewhere."""
        size = delivery.run.unit * count
        if delivery.priority:
            self.answers -= count
            self.answer_bytes -= size
        else:
            mailbox = self.mailbox
            self.window_used -= count
            self.window_bytes -= size
            mailbox.used -= count
            mailbox.used_bytes -= size

    def pop_in_flight(self) -> list[Delivery]:
        """Remove and return what was sent and not finished, without numbers, in order."""
        pieces = [piece for delivery in self.in_flight for piece in delivery.open_pieces()]
        self.in_flight.clear()
        self.window_used = 0
        self.window_bytes = 0
        return pieces


def _number(delivery: Delivery) -> int:
    return delivery.number


def _join(bodies: list[Body]) -> Body:
    return bodies[0] if len(bodies) == 1 else b"".join(bodies)
