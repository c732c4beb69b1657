"""The pod's half of the protocol: frames and the time come in, frames and what they mean go out. Pure.

The states, and the answer to every frame in each, are in `docs/protocol.md`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any

from grav_actors.filters import FilterSet
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.outbox import Outbox, OutRun
from grav_actors.protocol import (
    ACK_DELAY,
    CLOSE_UNHEALTHY,
    FAILED_LIMIT,
    FLAG_GROUP,
    FLAG_RECEIPT,
    FLAG_REDELIVERED,
    MAX_ERROR_TEXT,
    MAX_OPEN_RANGES,
    Ack,
    Handled,
    Hello,
    PodSettings,
    Verb,
    check_control,
    check_deliver,
    pack,
    pack_hello,
)

HELLO_INTERVAL = 1.0
"""Seconds after which a HELLO that nobody answered is said again."""
SEEN_SENDERS = 8192
"""Senders whose highest delivery is remembered; past it the older half is forgotten."""
REMEMBERED_FAILURES = 256
"""Failures told again when a connection broke; those the bus knows already it ignores."""

Frame = tuple[bytes, Any]
"""Header and body."""


class State(Enum):
    """Where a pod stands with the bus."""

    JOINING = "joining"
    JOINED = "joined"
    LEAVING = "leaving"
    CLOSED = "closed"


class PodCore:
    """Watermarks, runs, deduplication and failures of one pod.

    Not thread-safe: the link's lock guards it, but for `Inbound.done`.

    Attributes:
        out: Frames to send, in order.
        inbox: Runs for the handler, in order.
        replies: Runs for the receipts only.
        confirmed: Requests that the bus has answered.
        acks: Watermarks that came in.
        cancelled: `(sender uuid, seqs)` of questions whose askers no longer wait.
        closed_by: Why the bus has closed this pod: `(code, text)`.
        has_gaps: Messages may be finished while earlier ones are not: runs must be told by `finished_ahead`.
    """

    def __init__(self, uuid: bytes, name: str, settings: PodSettings, slot: int) -> None:
        self.uuid = uuid
        self.name = name
        self.settings = settings
        self.slot = slot
        self.state = State.JOINING
        self.filters = FilterSet()
        self.outbox = Outbox()
        self.epoch = b""
        self.max_message = 0
        self.out: list[Frame] = []
        self.inbox: list[Inbound] = []
        self.replies: list[Inbound] = []
        self.confirmed: list[int] = []
        self.acks: list[Ack] = []
        self.cancelled: list[tuple[bytes, tuple[int, ...]]] = []
        self.closed_by: tuple[str, str] | None = None
        self.open_failures = 0
        self.has_gaps = False
        self.ack_sent_at = 0.0
        self._received = 0
        self._floor = 0
        self._reported: Handled = 0
        self._open: deque[Inbound] = deque()
        self._ahead: list[Inbound] = []
        self._failures: list[tuple[int, int, str]] = []
        self._told_failures: deque[tuple[int, int, str]] = deque(maxlen=REMEMBERED_FAILURES)
        self._failed_held: set[tuple[bytes, int]] = set()
        self._seen: dict[bytes, int] = {}
        self._old: list[Inbound] = []
        self._request = 0
        self._hello_request = 0
        self._hello_at = float("-inf")
        self._requests: dict[int, bytes] = {}

    # Joining

    def hello(self, now: float) -> None:
        """Say HELLO, with the present filters and position."""
        self.state = State.JOINING if self.state is not State.LEAVING else State.LEAVING
        self._request += 1
        self._hello_request = self._request
        self._hello_at = now
        handled = self._handled()
        failures = tuple(self._told_failures) + (handled[2] if type(handled) is tuple else ())
        floor, ranges = (handled, ()) if type(handled) is int else (handled[0], handled[1])  # type: ignore[index]
        self.out.append(
            (
                pack_hello(
                    self.slot,
                    Hello(
                        self._hello_request, self.uuid, self.name, self.settings, self.filters.to_wire(), self.epoch,
                        self._received, (floor, ranges, failures), self.outbox.floor(),  # type: ignore[arg-type]
                    ),
                ),
                b"",
            )
        )  # fmt: skip

    def tick(self, now: float) -> None:
        """Say HELLO again when nobody has answered."""
        if self.is_joining and now - self._hello_at >= HELLO_INTERVAL:
            self.hello(now)

    @property
    def is_joining(self) -> bool:
        """Whether a HELLO has not been answered yet."""
        return self._hello_request != 0 and self.state in (State.JOINING, State.LEAVING)

    @property
    def hello_due(self) -> float:
        """When `tick` says HELLO again; infinite when joined."""
        return self._hello_at + HELLO_INTERVAL if self.is_joining else float("inf")

    def request_filter(self) -> int:
        """Tell the bus the present filters; return the request whose confirmation to wait for."""
        self._request += 1
        header = pack(Verb.FILTER.value, self.slot, self._request, self.filters.to_wire())
        return self._send_request(header)

    def request_bye(self, reason: str) -> int:
        """Leave; return the request whose confirmation to wait for."""
        self._request += 1
        header = pack(Verb.BYE.value, self.slot, self._request, reason)
        self.flush(0.0, force=True)
        if self.state is State.JOINED:
            self.state = State.LEAVING
            self._hello_request = 0
            self._requests[self._request] = header
            self.out.append((header, b""))
            return self._request
        self.state = State.LEAVING
        return self._send_request(header)

    def _send_request(self, header: bytes) -> int:
        self._requests[self._request] = header
        if self.state is State.JOINED:
            self.out.append((header, b""))
        return self._request

    # Sending

    def flush(self, now: float, *, force: bool = False) -> None:
        """Put what is queued into frames; the last carries what has been handled.

        What has been handled is read first: whatever a finished handler sent is in the queue by then, and so
        an acknowledgement never overtakes the output of its handler.

        Args:
            force: Send an acknowledgement alone if there is no frame for it to ride on.
        """
        if self.state is not State.JOINED:
            return
        outbox = self.outbox
        if outbox.queued:
            handled = self._news()
            frames = list(outbox.take_frames())
            last = len(frames) - 1
            for index, frame in enumerate(frames):
                self._send_frame(frame, handled if index == last else None)
            if handled is not None:
                self.ack_sent_at = now
        elif force:
            handled = self._news()
            if handled is not None:
                self.out.append((pack(Verb.HANDLED.value, self.slot, handled), b""))
                self.ack_sent_at = now

    def _send_frame(self, frame: list[OutRun], handled: Handled | None) -> None:
        runs = [(run.kind, run.type, run.count, len(run.body), run.dest) for run in frame]
        body = frame[0].body if len(frame) == 1 else b"".join([run.body for run in frame])
        self.out.append((pack(Verb.SEND.value, self.slot, frame[0].seq, handled, runs), body))

    def sync(self) -> None:
        """Ask for the watermarks at once."""
        if self.state is State.JOINED:
            self.out.append((pack(Verb.SYNC.value, self.slot), b""))

    def cancel(self, seqs: list[int]) -> None:
        """Take questions back."""
        if self.state is State.JOINED:
            self.out.append((pack(Verb.CANCEL.value, self.slot, seqs), b""))

    # What was handled

    def failed(self, inbound: Inbound, index: int, how: int, error: str) -> bool:
        """Note a failure; return whether it was the one too many, after which no handler may be called."""
        if inbound.number:
            self._failures.append((inbound.number + index, how, error[:MAX_ERROR_TEXT]))
        self._failed_held.add((inbound.sender, inbound.seq + index))
        self.open_failures += 1
        return self.open_failures >= FAILED_LIMIT

    def succeeded(self) -> None:
        """Note that a message which had not failed before was handled: the failed ones will come again."""
        self.open_failures = 0

    def finished_ahead(self, inbound: Inbound) -> None:
        """Note that messages of a run were finished while earlier ones are not."""
        self.has_gaps = True
        if inbound not in self._ahead:
            self._ahead.append(inbound)

    def has_news(self) -> bool:
        """Whether something was handled that the bus does not know of."""
        return self._handled() != self._reported

    def progress(self) -> int:
        """Return how many messages were handled since the last acknowledgement."""
        self._advance()
        reported = self._reported if type(self._reported) is int else self._reported[0]  # type: ignore[index]
        return self._floor - reported

    def _advance(self) -> None:
        opened = self._open
        while opened and opened[0].done == opened[0].count:
            opened.popleft()
        self._floor = opened[0].number + opened[0].done - 1 if opened else self._received

    def _handled(self) -> Handled:
        self._advance()
        floor = self._floor
        ranges: list[tuple[int, int]] = []
        if self._ahead:
            self._ahead = [inbound for inbound in self._ahead if inbound.number + inbound.count - 1 > floor]
            for inbound in sorted(self._ahead, key=_number):
                ranges.extend(inbound.ranges(floor))
            del ranges[MAX_OPEN_RANGES:]
        if not ranges and not self._failures:
            return floor
        return (floor, tuple(ranges), tuple(self._failures))

    def _news(self) -> Handled | None:
        handled = self._handled()
        if handled == self._reported:
            return None
        self._told_failures.extend(self._failures)
        self._failures.clear()
        self._reported = handled if type(handled) is int else (handled[0], handled[1], ())  # type: ignore[index]
        if type(self._reported) is tuple and not self._reported[1]:
            self._reported = self._reported[0]
        return handled

    # Frames from the bus

    def receive(self, fields: tuple[Any, ...], body: Any, now: float) -> None:
        """Take a frame whose header is decoded; raise ProtocolError if it is malformed."""
        verb = fields[0]
        if verb == 17:  # Verb.DELIVER
            check_deliver(fields, len(body))
            if self.state is State.JOINED:
                self._on_deliver(fields, body, now)
            return
        check_control(fields)
        if verb == Verb.ACK:
            self._on_ack(fields[2])
        elif verb == Verb.WELCOME:
            self._on_welcome(fields, now)
        elif verb == Verb.OK:
            if self._requests.pop(fields[2], None) is not None:
                self.confirmed.append(fields[2])
        elif verb == Verb.REJOIN:
            # One of several to frames that were under way is answered by the HELLO that was said already.
            if self.state is State.JOINED or (self.state is State.LEAVING and not self._hello_request):
                self.hello(now)
        elif verb == Verb.REFUSED:
            if fields[2] == self._hello_request and self.state is not State.CLOSED:
                self._close(fields[3], fields[4])
        elif verb == Verb.CLOSE:
            if self.state is not State.CLOSED:
                self._close(fields[2], fields[3])
        elif verb == Verb.CANCELLED:
            self.cancelled.append((fields[2], fields[3]))

    def _close(self, code: str, text: str) -> None:
        self.state = State.CLOSED
        self.closed_by = (code, text)
        self.confirmed.extend(self._requests)
        self._requests.clear()

    def close(self) -> None:
        """End without a word to the bus."""
        self.state = State.CLOSED

    def _on_welcome(self, fields: tuple[Any, ...], now: float) -> None:
        if fields[3] != self._hello_request or self.state in (State.JOINED, State.CLOSED):
            return
        _, _, _, request, epoch, _, received, is_resumed, limits = fields
        leaving = self.state is State.LEAVING
        self.state = State.JOINED
        self.max_message = limits[0]
        if not is_resumed:
            self._forget_numbers()
        self.epoch = epoch
        self._told_failures.clear()
        self._failures.clear()
        self._reported = -1  # so that the next acknowledgement is sent, whatever it says
        for frame in self.outbox.resend_frames(received):
            self._send_frame(frame, None)
        self.flush(now)
        # HELLO carried the filters: those requests are confirmed; BYE has yet to be said.
        for number, header in list(self._requests.items()):
            if leaving:
                self.out.append((header, b""))
            else:
                del self._requests[number]
                self.confirmed.append(number)
        self.confirmed.append(request)
        if leaving:
            self.state = State.LEAVING
            self._hello_request = 0

    def _forget_numbers(self) -> None:
        """Begin a new epoch: what is held is finished under numbers that the new bus will give it."""
        self._old = [inbound for inbound in (*self._old, *self._open) if not inbound.is_finished]
        for inbound in self._old:
            inbound.number = 0
        self._open.clear()
        self._ahead.clear()
        self._received = 0
        self._floor = 0

    def _on_ack(self, ack: Ack) -> None:
        self.outbox.apply(ack)
        self.acks.append(ack)

    def _on_deliver(self, fields: tuple[Any, ...], body: Any, now: float) -> None:
        _, _, number, ack, runs = fields
        offset = 0
        single = len(runs) == 1
        for run in runs:
            count, size = run[5], run[6]
            if number > self._received:
                self._received = number + count - 1
                self._take(Inbound(number, run, body if single else body[offset : offset + size]))
            number += count
            offset += size
        if ack is not None:
            self._on_ack(ack)

    def _take(self, inbound: Inbound) -> None:
        self._open.append(inbound)
        flags = inbound.flags
        if flags & FLAG_RECEIPT:
            self.replies.append(inbound)
            inbound.finish_all()
            if len(self._open) > 1:
                self._ahead.append(inbound)
            return
        if flags & FLAG_REDELIVERED:
            if inbound.attempt > 1:
                for seq in range(inbound.seq, inbound.seq + inbound.count):
                    self._failed_held.discard((inbound.sender, seq))
        elif not flags & FLAG_GROUP and not self._is_first(inbound):
            return
        self.inbox.append(inbound)

    def _is_first(self, inbound: Inbound) -> bool:
        """Return whether the run is to be handled; within one life of the bus it always is."""
        last = inbound.seq + inbound.count - 1
        seen = self._seen.get(inbound.sender, 0)
        if inbound.seq > seen:
            if not seen and len(self._seen) >= SEEN_SENDERS:
                for sender in list(self._seen)[: SEEN_SENDERS // 2]:
                    del self._seen[sender]
            self._seen[inbound.sender] = last
            return True
        # It was sent again to a new bus. Cases: 1. this pod still holds it; 2. it failed, and the bus that
        # kept it is gone; 3. it was handled; 4. its front was handled and the rest is new.
        for old in self._old:
            if old.sender == inbound.sender and old.seq == inbound.seq and old.count == inbound.count:
                self._old.remove(old)
                self._open[-1] = old
                old.number = inbound.number
                return False
        if any((inbound.sender, seq) in self._failed_held for seq in range(inbound.seq, last + 1)):
            inbound.flags |= FLAG_REDELIVERED
            inbound.attempt = 2
            for seq in range(inbound.seq, last + 1):
                key = (inbound.sender, seq)
                if key not in self._failed_held and seq <= seen:
                    inbound.finish(seq - inbound.seq)
                self._failed_held.discard(key)
            return True
        if last <= seen:
            inbound.finish_all()
            return False
        inbound.skip = inbound.done = seen - inbound.seq + 1
        self._seen[inbound.sender] = last
        return True

    def ack_due(self, now: float) -> float:
        """Return when an acknowledgement must leave: 10 ms after the last one."""
        return max(now, self.ack_sent_at + ACK_DELAY)

    @property
    def has_open(self) -> bool:
        """Whether something was delivered that is not acknowledged."""
        return bool(self._open) or self._floor != self._reported

    @property
    def is_unhealthy(self) -> bool:
        """Whether the bus, or the pod itself, has found too many failures."""
        return self.open_failures >= FAILED_LIMIT or (
            self.closed_by is not None and self.closed_by[0] == CLOSE_UNHEALTHY
        )


def _number(inbound: Inbound) -> int:
    return inbound.number
