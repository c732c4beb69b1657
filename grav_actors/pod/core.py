"""The pod's half of the protocol: frames and the time come in, frames and what they mean go out. Pure.

The states, and the answer to every frame in each, are in `docs/protocol.md`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from typing import Any

from grav_actors.codec import LARGE_DATA, record_offsets, slice_body
from grav_actors.errors import ConfigError, MessageDecodeError, ProtocolError
from grav_actors.filters import FilterSet
from grav_actors.pod.inbound import Held, Inbound
from grav_actors.pod.outbox import Outbox, OutRun
from grav_actors.pod.ranges import Memories, Ranges
from grav_actors.protocol import (
    BYE_CRASHED,
    FAIL_CRASH,
    FAIL_ERROR,
    FAILED_LIMIT,
    FLAG_GROUP,
    FLAG_RECEIPT,
    FLAG_REDELIVERED,
    FLAG_RESENT,
    MAX_CANCELS,
    MAX_CLAIMS,
    MAX_ERROR_TEXT,
    MAX_FAILURES,
    MAX_GATEWAY_ITEMS,
    MAX_OPEN_RANGES,
    MAX_WATCHES,
    OK_FULL,
    OK_UNKNOWN,
    STAGE_BEGIN,
    STAGE_CHANGE,
    STAGE_END,
    VERB_ACK,
    VERB_DELIVER,
    VERB_HANDLED,
    VERB_SEND,
    WATCHES_LIMIT,
    Ack,
    Handled,
    Hello,
    PodSettings,
    Verb,
    check_control,
    check_deliver,
    pack,
    pack_hello,
    read_ack,
)

HELLO_INTERVAL = 1.0
"""Seconds after which a HELLO that nobody answered is said again."""
TOLD_FAILURES = 8192
"""Failures told again when a connection broke: more cannot be under way, as a window holds fewer messages."""
KEPT_FAILURES = 1024
"""Failures kept for a next bus, after which those that are settled are looked for and forgotten."""

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
        refused: Of these, filters for which the bus has no room; the filter before holds.
        acks: Watermarks that came in.
        cancelled: `(sender uuid, seqs)` of questions whose askers no longer wait.
        downs: `(name, reason, error)` of watched actors that are gone for good.
        stands_for: Actors of other nodes, each with its node: of the gateway, None of others.
        local: What the gateway is told of the pods on the bus: fields of LOCAL.
        closed_by: Why the bus has closed this pod: `(code, text)`.
        open_failures: Failures since the last success, which the bus keeps.
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
        self.refused: set[int] = set()
        self.acks: list[Ack] = []
        self.cancelled: list[tuple[bytes, tuple[int, ...]]] = []
        self.downs: list[tuple[str, str, str]] = []
        self.stands_for: dict[str, bytes] | None = None
        self.local: list[tuple[Any, ...]] = []
        self.closed_by: tuple[str, str] | None = None
        self.open_failures = 0
        self.has_gaps = False
        self.ack_sent_at = 0.0
        self._received = 0
        self._floor = 0
        self._reported: Handled = 0
        self._open: deque[Inbound | Held] = deque()
        self._ahead: dict[Inbound | Held, None] = {}
        self._done_ahead = Ranges()
        self._failures: list[tuple[int, int, str]] = []
        self._told_failures: deque[tuple[int, int, str]] = deque(maxlen=TOLD_FAILURES)
        self._failed_held: dict[tuple[bytes, int], tuple[int, str]] = {}
        self._memories = Memories()
        self._old: list[Inbound] = []
        self._request = 0
        self._hello_request = 0
        self._hellos: list[int] = []
        self._hello_at = float("-inf")
        self._requests: dict[int, bytes] = {}
        self._agreed = self._told = self.filters
        self._asked: dict[int, FilterSet] = {}
        self._bye_request = 0
        self._watches: dict[str, int] = {}
        self._last_watch = 0

    # Joining

    def hello(self, now: float) -> None:
        """Say HELLO, with the present filters and position."""
        self.state = State.JOINING if self.state is not State.LEAVING else State.LEAVING
        self._request += 1
        self._hello_request = self._request
        self._hellos.append(self._request)
        self._hello_at = now
        self._told = self.filters
        hello = Hello(
            self._hello_request, self.uuid, self.name, self.settings, self.filters.to_wire(), self.epoch,
            self._received, self.outbox.floor(), self.outbox.sent,
            self._memories.claims(MAX_CLAIMS) if self.settings.group and self.epoch else (),
        )  # fmt: skip
        self.out.append((pack_hello(self.slot, hello), b""))

    def rejoin(self, now: float) -> None:
        """Say HELLO again, unless one is not answered yet: that does for all the frames that were under way."""
        if self.state is State.JOINED or (self.state is State.LEAVING and not self._hello_request):
            self.hello(now)

    def tick(self, now: float) -> None:
        """Say HELLO again when nobody has answered."""
        if self.is_joining and now - self._hello_at >= HELLO_INTERVAL:
            self.hello(now)

    @property
    def is_joining(self) -> bool:
        """Whether a HELLO has not been answered yet."""
        state = self.state
        return (state is State.JOINING or state is State.LEAVING) and self._hello_request != 0

    @property
    def hello_due(self) -> float:
        """When `tick` says HELLO again; infinite when joined."""
        return self._hello_at + HELLO_INTERVAL if self.is_joining else float("inf")

    def request_filter(self) -> int:
        """Tell the bus the present filters; return the request whose confirmation to wait for."""
        self._request += 1
        self._asked[self._request] = self.filters
        header = pack(Verb.FILTER.value, self.slot, self._request, self.filters.to_wire())
        return self._send_request(header)

    def request_bye(self, reason: str, asked: Iterable[Inbound] = ()) -> int:
        """Leave; return the request whose confirmation to wait for.

        Args:
            asked: Runs of questions with which handlers have begun. What is not finished of them is told to the bus:
                nobody else may be asked the same.
        """
        if reason != BYE_CRASHED:  # then all questions end with an error, and what is told is charged
            for inbound in asked:
                for index in range(inbound.skip, inbound.count):
                    if not inbound.is_done(index):
                        self.crashed(inbound, index, "")
        self._request += 1
        self._bye_request = self._request
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
        if outbox.queued or outbox.incoming:
            self._send_queued(self._news(), now)
        elif force:
            self._send_handled(now)

    def _send_queued(self, handled: Handled | None, now: float) -> None:
        frames = self.outbox.take_frames()
        if len(frames) == 1:
            self._send_frame(frames[0], handled)
        else:
            last = len(frames) - 1
            for index, frame in enumerate(frames):
                self._send_frame(frame, handled if index == last else None)
        if handled is not None:
            self.ack_sent_at = now
        if self._failures:
            self._send_handled(now)

    def send_alone(
        self,
        kind: int,
        message_type: str,
        dest: Any,
        record: Any,
        size: int,
        now: float,
        answered: Inbound | None = None,
    ) -> int:
        """Send one small message at once if nothing waits before it: what `Outbox.add` and `flush` do, in fewer steps.

        Args:
            answered: A run whose last message is finished by this one, and told as handled with it.

        Returns:
            Its seq; 0, and nothing is done, if something is queued, the window is nearly used up, or the pod is not
            joined: then it is for those two.
        """
        outbox = self.outbox
        if (
            outbox.queued
            or outbox.incoming
            or outbox.room < 1
            or outbox.room_bytes < LARGE_DATA
            or size >= LARGE_DATA
            or self.state is not State.JOINED
        ):
            return 0
        if answered is not None:
            answered.finish(answered.count - 1)
        handled = self._news()
        if outbox.incoming:
            # A handler that has been told as finished just now may have asked for it in a coroutine.
            seq = outbox.add(kind, message_type, dest, record, size)
            self._send_queued(handled, now)
            return seq
        if handled is not None:
            self.ack_sent_at = now
        run = outbox.take_alone(kind, message_type, dest, record, size)
        body = run.body
        runs = [(kind, message_type, 1, len(body), dest)]
        self.out.append((pack(VERB_SEND, self.slot, run.seq, handled, runs), body))
        if self._failures:
            self._send_handled(now)
        return run.seq

    def _send_handled(self, now: float) -> None:
        handled = self._news()
        while handled is not None:
            if self.outbox.incoming:
                # As in `send_alone`: what comes in without the lock does so at any moment.
                self._send_queued(handled, now)
                return
            self.out.append((pack(VERB_HANDLED, self.slot, handled), b""))
            self.ack_sent_at = now
            handled = self._news() if self._failures else None

    def _send_frame(self, frame: list[OutRun], handled: Handled | None) -> None:
        if len(frame) == 1:
            run = frame[0]
            body = run.body or run.whole()
            runs = [(run.kind, run.type, run.count, len(body), run.dest)]
        else:
            bodies = [run.body or run.whole() for run in frame]
            runs = [(run.kind, run.type, run.count, len(one), run.dest) for run, one in zip(frame, bodies, strict=True)]
            body = b"".join(bodies)
        self.out.append((pack(VERB_SEND, self.slot, frame[0].seq, handled, runs), body))

    def sync(self) -> None:
        """Ask for the watermarks at once."""
        if self.state is State.JOINED:
            self.out.append((pack(Verb.SYNC.value, self.slot), b""))

    def cancel(self, seqs: list[int], now: float) -> None:
        """Take questions back."""
        self.outbox.take_back(seqs)
        self.flush(now)  # it must not overtake them
        if self.state is State.JOINED:
            self._send_cancel(seqs)

    def _send_cancel(self, seqs: list[int]) -> None:
        for first in range(0, len(seqs), MAX_CANCELS):
            self.out.append((pack(Verb.CANCEL.value, self.slot, seqs[first : first + MAX_CANCELS]), b""))

    # Watching

    def watch(self, name: str) -> None:
        """Have the end of an actor told once, in `downs`. Nothing new if it is watched already.

        Raises:
            ConfigError: 8,192 are watched.
        """
        if name not in self._watches:
            if len(self._watches) >= WATCHES_LIMIT:
                raise ConfigError(
                    f"{name!r} would be one watch too many: a pod may have {WATCHES_LIMIT} at a time; unwatch some, or "
                    "spread them over several actors"
                )
            self._last_watch += 1
            self._watches[name] = self._last_watch
            self._send_watches([(self._last_watch, name)], [])

    def unwatch(self, name: str) -> None:
        """Be told nothing more of an actor."""
        number = self._watches.pop(name, None)
        if number is not None:
            self._send_watches([], [number])

    def _send_watches(self, begun: list[tuple[int, str]], ended: list[int]) -> None:
        if self.state is State.JOINED:
            for first in range(0, max(len(begun), len(ended)), MAX_WATCHES):
                last = first + MAX_WATCHES
                self.out.append((pack(Verb.WATCH.value, self.slot, begun[first:last], ended[first:last]), b""))

    def _on_down(self, number: int, reason: str, error: str) -> None:
        name = next((name for name, one in self._watches.items() if one == number), None)
        if name is not None:  # else it was told by an earlier bus, or is not watched any more
            del self._watches[name]
            self.downs.append((name, reason, error))

    # Standing for other nodes

    def stand_for(self, begun: list[tuple[str, bytes]], ended: list[tuple[str, str, str]]) -> None:
        """Tell the bus which actors other nodes have, and have no longer; the first call makes this pod the gateway.

        Args:
            begun: Names, each with the node that has it.
            ended: `(name, reason, error)`; of these first.
        """
        is_first = self.stands_for is None
        names = self.stands_for = self.stands_for or {}
        for name, _, _ in ended:
            names.pop(name, None)
        names.update(begun)
        if is_first:
            self._send_gateway()
        elif self.state is State.JOINED:
            for first in range(0, max(len(begun), len(ended)), MAX_GATEWAY_ITEMS):
                part = slice(first, first + MAX_GATEWAY_ITEMS)
                self._send_stage(STAGE_CHANGE, begun[part], ended[part])

    def _send_gateway(self) -> None:
        if self.stands_for is None or self.state is not State.JOINED:
            return
        names = list(self.stands_for.items())
        for first in range(0, max(1, len(names)), MAX_GATEWAY_ITEMS):
            stage = STAGE_BEGIN if first == 0 else STAGE_CHANGE
            if first + MAX_GATEWAY_ITEMS >= len(names):
                stage |= STAGE_END
            self._send_stage(stage, names[first : first + MAX_GATEWAY_ITEMS], [])

    def _send_stage(self, stage: int, begun: list[tuple[str, bytes]], ended: list[tuple[str, str, str]]) -> None:
        self.out.append((pack(Verb.GATEWAY.value, self.slot, stage, begun, ended), b""))

    # What was handled

    def failed(self, inbound: Inbound, index: int, how: int, error: str) -> bool:
        """Note a failure; return whether it was the one too many, after which no handler may be called."""
        text = error[:MAX_ERROR_TEXT]
        number = self._number(inbound, index)
        if number:
            self._failures.append((number, how, text))
        self._failed_held[inbound.sender, inbound.seq + index] = (how, text)
        if len(self._failed_held) >= KEPT_FAILURES:
            self._forget_failures()
        if how != FAIL_ERROR or inbound.attempt >= self.settings.max_deliver:
            return False  # it goes to the dead letters and is not kept
        self.open_failures += 1
        return self.open_failures >= FAILED_LIMIT

    def crashed(self, inbound: Inbound, index: int, error: str) -> None:
        """Note in which message's handler the pod meets its end: it is charged, and stays open."""
        number = self._number(inbound, index)
        if number:
            self._failures.append((number, FAIL_CRASH, error[:MAX_ERROR_TEXT]))

    def _number(self, inbound: Inbound, index: int) -> int:
        """Return the number of a message in the present epoch; 0 if the bus has not delivered it in this one."""
        if inbound.number:
            return inbound.number + index
        seq = inbound.seq + index
        for held in self._open:
            if isinstance(held, Held) and held.original is inbound and held.seq <= seq <= held.last:
                return held.number + seq - held.seq
        return 0

    def _forget_failures(self) -> None:
        held = self._failed_held
        self._failed_held = {key: value for key, value in held.items() if not self._memories.is_settled(*key)}
        while len(self._failed_held) >= KEPT_FAILURES:
            del self._failed_held[next(iter(self._failed_held))]

    def succeeded(self) -> None:
        """Note that a message which had not failed before was handled: the failed ones will come again."""
        self.open_failures = 0

    def finished_ahead(self, inbound: Inbound) -> None:
        """Note that messages of a run were finished while earlier ones are not."""
        self.has_gaps = True
        if inbound.number:
            self._ahead[inbound] = None
        else:
            self._ahead.update((h, None) for h in self._open if isinstance(h, Held) and h.original is inbound)

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
        if opened:
            self._floor = opened[0].number + opened[0].done - 1
        else:
            self._floor = self._received
            self.has_gaps = False

    def _handled(self) -> Handled:
        self._advance()
        # Most of the time nothing waits, nothing has failed, and there is nothing to be said but the floor.
        return self._floor_and_more() if self._open or self._ahead or self._failures else self._floor

    def _floor_and_more(self) -> Handled:
        """Return the floor, with what is finished above it and what has failed."""
        floor = self._floor
        ranges = self._ranges_above(floor) if self._ahead or len(self._done_ahead) else ()
        failures = tuple(self._failures)
        if len(failures) > MAX_FAILURES:
            # Neither floor nor ranges may pass a failure that is told later: it would count as a success.
            self._failures.sort()
            failures = tuple(self._failures[:MAX_FAILURES])
            untold = self._failures[MAX_FAILURES][0]
            floor = min(floor, untold - 1)
            ranges = tuple((first, min(last, untold - 1)) for first, last in ranges if first < untold)
        return (floor, ranges, failures) if ranges or failures else floor

    def _ranges_above(self, floor: int) -> tuple[tuple[int, int], ...]:
        """Return what is finished above the floor, the lowest first, as many ranges as a frame may list."""
        done = self._done_ahead
        done.raise_floor(floor)
        partly: list[tuple[int, int]] = []
        for inbound in list(self._ahead):
            last = inbound.number + inbound.count - 1
            if last <= floor:
                del self._ahead[inbound]
            elif inbound.is_finished:
                del self._ahead[inbound]
                done.add(inbound.number, last)
            else:
                partly += inbound.ranges(floor)
        if not partly:
            return tuple(done)[:MAX_OPEN_RANGES]
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*done, *partly]):
            if merged and merged[-1][1] == first - 1:
                merged[-1] = (merged[-1][0], last)
            else:
                merged.append((first, last))
        return tuple(merged[:MAX_OPEN_RANGES])

    def _news(self) -> Handled | None:
        handled = self._handled()
        if handled == self._reported:
            return None
        if type(handled) is tuple:
            self._told_failures.extend(handled[2])
            del self._failures[: len(handled[2])]
            self._reported = (handled[0], handled[1], ()) if handled[1] else handled[0]
        else:
            self._reported = handled
        return handled

    # Frames from the bus

    def deliver(self, fields: tuple[Any, ...], body: Any) -> Ack | None:
        """Take a DELIVER whose header is decoded; raise ProtocolError if it is malformed.

        Returns:
            The watermark that came with it, which the outbox is to apply before any other frame: it is in no hurry,
            but whoever waits for what was delivered is.
        """
        check_deliver(fields, len(body))
        if self.state is not State.JOINED:
            return None
        _, _, number, ack, runs = fields
        if len(runs) == 1:
            if number > self._received:
                run = runs[0]
                self._received = number + run[5] - 1
                self._take(Inbound(number, run, body))
        else:
            offset = 0
            for run in runs:
                count, size = run[5], run[6]
                if number > self._received:
                    self._received = number + count - 1
                    self._take(Inbound(number, run, body[offset : offset + size]))
                number += count
                offset += size
        return ack  # type: ignore[no-any-return]

    def _on_ack(self, ack: Ack) -> None:
        self.outbox.apply(ack)
        self.acks.append(ack)

    def receive(self, fields: tuple[Any, ...], body: Any, now: float) -> None:
        """Take a frame whose header is decoded; raise ProtocolError if it is malformed."""
        verb = fields[0]
        if verb == VERB_DELIVER:
            ack = self.deliver(fields, body)
            if ack is not None:
                self._on_ack(ack)
            return
        if verb == VERB_ACK and len(fields) == 3:
            self._on_ack(read_ack(fields[2]))
            return
        check_control(fields)
        if verb < Verb.WELCOME:
            raise ProtocolError(f"{Verb(verb).name} is not for a pod")
        if self.state is State.CLOSED:
            return
        if verb == Verb.WELCOME:
            self._on_welcome(fields, now)
        elif verb == Verb.OK:
            self._on_ok(fields[2], fields[3], now)
        elif verb == Verb.REJOIN:
            self.rejoin(now)
        elif verb == Verb.REFUSED:
            if fields[2] == self._hello_request:
                self._close(fields[3], fields[4])
        elif verb == Verb.CLOSE:
            self._close(fields[2], fields[3])
        elif verb == Verb.DOWN:
            self._on_down(*fields[2:])
        elif verb == Verb.LOCAL:
            self.local.append(fields[2:])
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
        if fields[3] != self._hello_request or self.state is State.JOINED:
            return
        _, _, _, request, epoch, _, received, is_resumed, limits = fields
        leaving = self.state is State.LEAVING
        self.state = State.JOINED
        self._agreed = self._told
        self._asked = {number: filters for number, filters in self._asked.items() if number > request}
        self.max_message = limits[0]
        self.epoch = epoch
        if is_resumed:
            # What was told last may have been lost with the connection.
            self._failures[:0] = self._told_failures
            self._told_failures.clear()
            self._reported = -1
        else:
            self._forget_numbers()
            dropped = self.outbox.drop_taken_back()
            if dropped is not None:
                self.acks.append(dropped)  # whoever waits for room, or until they are settled, may go on
        # Each time: a new bus knows of none, and what this one said may have been lost with the connection.
        self._send_watches([(number, name) for name, number in self._watches.items()], [])
        self._send_gateway()
        for frame in self.outbox.resend_frames(received):
            self._send_frame(frame, None)
        self.flush(now, force=True)
        # What was taken back since, or said so over the connection that broke.
        self._send_cancel(self.outbox.taken_back())
        # HELLO carried the filters of the requests before it: those are confirmed. BYE has yet to be said.
        for number, header in list(self._requests.items()):
            if number == self._bye_request or number > request:
                self.out.append((header, b""))
            else:
                self._confirm(number)
        # Whoever waits for an earlier one, that was lost, has what it waits for.
        self.confirmed += self._hellos
        self._hellos.clear()
        self._note_replay()
        if leaving:
            self.state = State.LEAVING
            self._hello_request = 0

    def _on_ok(self, request: int, text: str, now: float) -> None:
        if text == OK_UNKNOWN and request == self._bye_request:
            # A bus that has its name from the roster would expect it, and what it sent may be lost, with a connection
            # or a bus: it joins once more, sends that again, and leaves.
            if not self.is_joining:
                self.hello(now)
            return
        asked = self._asked.pop(request, None)
        if asked is not None and text == OK_FULL:
            self.refused.add(request)
            if self.filters is asked:  # else a later one is on its way
                self.filters = self._agreed
        elif asked is not None:
            self._agreed = asked
        self._confirm(request)

    def _confirm(self, request: int) -> None:
        if self._requests.pop(request, None) is not None:
            self.confirmed.append(request)
            self._note_replay()

    def _note_replay(self) -> None:
        # The bus has given the replay ring when it confirmed that the pod listens; no later bus shall do it again.
        if self.settings.replay and self.filters.listening:
            self.settings = replace(self.settings, replay=False)

    def _forget_numbers(self) -> None:
        """Begin a new epoch: what is held is finished under numbers that the new bus will give it."""
        held = [inbound for inbound in self._open if not isinstance(inbound, Held)]
        self._old = [inbound for inbound in (*self._old, *held) if not inbound.is_finished]
        for inbound in self._old:
            inbound.number = 0
            if inbound.flags & FLAG_GROUP:
                inbound.flags |= FLAG_REDELIVERED  # another member may have it, if this one came back late
        self._open.clear()
        self._ahead.clear()
        self._done_ahead = Ranges()
        self._failures.clear()
        self._told_failures.clear()
        self.open_failures = 0  # they come again, as their senders send again what is not settled
        self._received = 0
        self._floor = 0
        self._reported = 0

    def _take(self, inbound: Inbound) -> None:
        flags = inbound.flags
        if flags & FLAG_RECEIPT:
            inbound.done = inbound.count
            self.replies.append(inbound)
            if self._open:
                self._open.append(inbound)
                # Quick beside a handler that waits for just this: the floor stands still meanwhile.
                self._done_ahead.add(inbound.number, inbound.number + inbound.count - 1)
            else:
                self._floor = self._received
            return
        if flags & FLAG_RESENT and not flags & FLAG_REDELIVERED:
            self._take_resent(inbound)
        else:
            if inbound.attempt > 1:
                for seq in range(inbound.seq, inbound.last + 1):
                    self._failed_held.pop((inbound.sender, seq), None)
            self._open.append(inbound)
            self.inbox.append(inbound)
        seq = inbound.seq
        self._memories.note(inbound.sender, seq, seq + inbound.count - 1, inbound.floor)

    def _take_resent(self, inbound: Inbound) -> None:
        """Take what its sender had sent to an earlier bus, from which this pod may have had it."""
        memory = self._memories.of(inbound.sender)
        memory.raise_floor(inbound.floor)
        fates = self._fates(inbound, memory)
        offsets: list[int] = []
        low = 0
        while low < inbound.count:
            fate = fates[low]
            high = low + 1
            while high < inbound.count and fates[high] is fate:
                high += 1
            if isinstance(fate, Inbound):
                lo = inbound.seq + low - fate.seq
                self._open.append(Held(inbound.number + low, fate, lo, lo + high - low))
            elif fate in _FINISHED:
                part = inbound.part(low, high, b"")
                part.finish_all()
                self._open.append(part)
            else:
                try:
                    offsets = offsets or record_offsets(inbound.body, inbound.count)
                    body = inbound.body if high - low == inbound.count else slice_body(inbound.body, offsets, low, high)
                except MessageDecodeError:
                    body = b""  # found garbled, and counted, where it is decoded
                part = inbound.part(low, high, body)
                if fate == _FAILED:
                    part.flags |= FLAG_REDELIVERED
                    part.attempt = 2
                elif inbound.flags & FLAG_GROUP or self.settings.incarnation:
                    part.flags |= FLAG_REDELIVERED  # another member, or the incarnation before, may have had it
                self._open.append(part)
                self.inbox.append(part)
            low = high

    def _fates(self, inbound: Inbound, memory: Ranges) -> list[Inbound | str]:
        """Return for each message: the run in which it is still held, or whether it failed, is done, or new."""
        self._old = [old for old in self._old if not old.is_finished]
        olds = [old for old in self._old if old.sender == inbound.sender]
        fates: list[Inbound | str] = []
        for seq in range(inbound.seq, inbound.last + 1):
            failure = self._failed_held.pop((inbound.sender, seq), None)
            fate: Inbound | str
            if failure is not None and failure[0] == FAIL_ERROR:
                fate = _FAILED
            elif failure is not None:
                self._failures.append((inbound.number + seq - inbound.seq, *failure))
                fate = _REJECTED
            elif seq in memory:
                fate = _DONE
                for old in olds:
                    if old.seq <= seq <= old.last and not old.is_done(seq - old.seq):
                        fate = old
            else:
                fate = _NEW
            fates.append(fate)
        return fates

    @property
    def has_open(self) -> bool:
        """Whether something was delivered that is not acknowledged."""
        return bool(self._open) or self._floor != self._reported


_NEW, _DONE, _REJECTED, _FAILED = "new", "done", "rejected", "failed"
_FINISHED = (_DONE, _REJECTED)
