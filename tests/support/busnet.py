"""One bus core and several pod cores, wired in memory under a clock of the test's own.

Frames travel in order on each link. A test may let everything flow (`settle`), or move frame by frame (`up`,
`route`, `down`), and meanwhile cut links, kill pods and restart the bus. `check` holds what must be true at any
moment, `check_quiet` what must be true when nothing is under way.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from grav_actors.bus.core import BusCore
from grav_actors.bus.mailbox import Mailbox
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.roster import read_roster
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.codec import pack_record, pack_value, unpack_body
from grav_actors.errors import MessageDecodeError
from grav_actors.filters import FilterSet
from grav_actors.ids import new_id, number_of
from grav_actors.message import Message
from grav_actors.pod.core import PodCore, State
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.outbox import Outbox
from grav_actors.pod.replies import Heading, Question, ReplyTable
from grav_actors.protocol import (
    ACK_DELAY,
    FAIL_ERROR,
    FAIL_REJECT,
    FLAG_REDELIVERED,
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    PodSettings,
    Verb,
    pack,
    unpack_header,
)
from grav_actors.reference import ActorRef

Frame = tuple[bytes, Any]


def queue(outbox: Outbox, kind: int, message: Message, dest: Any, limit: int) -> int:
    """Queue a message as a pod does, what is published in columns; return its seq."""
    uuid, reply_to, parent, stamp, data, headers = message._record
    if kind != KIND_PUBLISH or dest is not None or reply_to or headers:
        record = pack_record(message, limit)
        return outbox.add(kind, message.type, dest, record, len(record))
    seq = outbox.next_seq
    outbox.prefix = uuid[:8]  # a simulated process may have got another one
    outbox.publish(message.type, number_of(uuid), stamp, (pack_value(data),), parent)
    return seq


class Rejected(Exception):
    """Raised by a handler of a test: to the dead letters at once."""


class Died(Exception):
    """Raised by a handler of a test: the process of the pod ends in it."""


@dataclass(frozen=True, slots=True)
class Got:
    """One call of a handler."""

    sender: bytes
    type: str
    data: Any
    redelivered: bool
    attempt: int


Handler = Callable[[Got], Any]


@dataclass(eq=False)
class Wire:
    """A link: a route, its pods by slot, and what is under way in both directions."""

    route: bytes
    pods: dict[int, TestPod] = field(default_factory=dict)
    up: deque[Frame] = field(default_factory=deque)
    down: deque[Frame] = field(default_factory=deque)
    is_alive: bool = True
    sent_at: float = 0.0
    slots: Any = field(default_factory=lambda: count(1))


class TestPod:
    """A pod core with a handler, which is called as the callback thread would.

    Attributes:
        got: Calls of the handler, in order.
        paused: It takes frames but calls no handler, as with a handler that hangs.
        answers: What its questions and receipts were given, by the message that was answered.
        downs: Watched names that are gone, with reason and error.
    """

    __test__ = False

    def __init__(self, net: Net, wire: Wire, name: str, settings: PodSettings, filters: FilterSet | None) -> None:
        self.net = net
        self.wire = wire
        self.slot = next(wire.slots)
        self.core = PodCore(new_id(), name, settings, self.slot)
        if filters is not None:
            self.core.filters = filters
        self.handler: Handler | None = None
        self.got: list[Got] = []
        self.waiting: deque[Inbound] = deque()
        self.replies = ReplyTable()
        self.answers: dict[bytes, Message] = {}
        self.unanswered: set[bytes] = set()
        self.paused = False
        self.is_alive = True
        self.confirmed: set[int] = set()
        self.downs: list[tuple[str, str, str]] = []
        wire.pods[self.slot] = self

    @property
    def uuid(self) -> bytes:
        return self.core.uuid

    @property
    def data(self) -> list[Any]:
        """What the handler was given, in order."""
        return [one.data for one in self.got]

    # Sending

    def send(self, kind: int, message_type: str, dest: Any, data: Any = None, *, reply_to: str = "") -> int:
        message = Message._framework(message_type, data, reply_to=reply_to)
        return self.send_message(kind, message, dest)

    def send_message(self, kind: int, message: Message, dest: Any) -> int:
        return queue(self.core.outbox, kind, message, dest, 1 << 20)

    def publish(self, message_type: str, *data: Any) -> None:
        for one in data:
            self.send(KIND_PUBLISH, message_type, None, one)

    def tell(self, name: str, message_type: str, *data: Any) -> None:
        for one in data:
            self.send(KIND_TELL, message_type, name, one)

    def ask(self, name: str | None, message_type: str, data: Any = None) -> bytes:
        """Ask and return the uuid of the question."""
        message = Message._framework(message_type, data)
        uuid: bytes = message._record[0]
        heading = Heading(KIND_ASK_ANY if name is None else KIND_ASK, message_type, name)
        self.replies.ask(Question(self.core.outbox.next_seq, uuid, heading, None))
        self.send_message(heading.kind, message, name)
        return uuid

    def expect_reply(self, message: Message) -> None:
        self.replies.expect(message._record[0], lambda reply: self.answers.update({message._record[0]: reply}))

    # Filters and the end

    def listen(self, *patterns: str, handler: Handler | None = None) -> None:
        """Want these types and patterns, or everything, and tell the bus."""
        filters = FilterSet(listening=True, exclusive=bool(patterns))
        for pattern in patterns:
            filters.set_type(pattern, True)
        self.set_filters(filters)
        self.handler = handler or self.handler

    def set_filters(self, filters: FilterSet) -> None:
        self.core.filters = filters
        self.core.request_filter()

    def leave(self, reason: str = "") -> None:
        self.core.request_bye(reason)

    # Receiving

    def take(self) -> None:
        """Take what the core has made of the frames that came in."""
        core = self.core
        self.confirmed.update(core.confirmed)
        core.confirmed.clear()
        inbox, core.inbox = core.inbox, []
        self.waiting.extend(inbox)
        self.downs += core.downs
        core.downs.clear()
        replies, core.replies = core.replies, []
        for inbound in replies:
            for record in _records(inbound):
                question, message = self.replies.offer(Message._received(record, inbound.type, None))
                if question is not None:
                    self.answers[question.uuid] = message
        acks, core.acks = core.acks, []
        for ack in acks:
            for question in self.replies.settled(ack):
                self.unanswered.add(question.uuid)
                if question.error is not None:
                    self.answers[question.uuid] = question.error

    def handle(self, limit: int | None = None) -> int:
        """Call the handler for at most so many messages; return for how many."""
        called = 0
        while self.waiting and self.is_alive and not self.paused and (limit is None or called < limit):
            inbound = self.waiting[0]
            index = max(inbound.done, inbound.skip)
            if index >= inbound.count:
                self.waiting.popleft()
                continue
            records = _records(inbound)
            if not records:
                continue
            record = records[index]
            called += 1
            if not self._call(inbound, index, record):
                break
        return called

    def _call(self, inbound: Inbound, index: int, record: list[Any]) -> bool:
        is_redelivered = bool(inbound.flags & FLAG_REDELIVERED)
        got = Got(inbound.sender, inbound.type, record[4], is_redelivered, inbound.attempt)
        self.got.append(got)
        self.net.called(self, inbound.seq + index, got)
        try:
            result = self.handler(got) if self.handler is not None else None
        except Died:
            self.net.kill(self)
            return False
        except Exception as exc:
            if inbound.kind in (KIND_ASK, KIND_ASK_ANY):
                self._answer(inbound, record, "grav.error", {"code": "failed", "error": str(exc), "traceback": ""})
                inbound.finish(index)
                return True
            how = FAIL_REJECT if isinstance(exc, Rejected) else FAIL_ERROR
            is_over = self.core.failed(inbound, index, how, f"{type(exc).__name__}: {exc}")
            inbound.finish(index)
            if is_over:
                self.core.flush(self.net.now, force=True)
                self.core.request_bye("unhealthy")
                return False
            return True
        if inbound.kind in (KIND_ASK, KIND_ASK_ANY) and (result is not None or inbound.kind == KIND_ASK):
            self._answer(inbound, record, "grav.reply", result)
        inbound.finish(index)
        if inbound.attempt == 1 and self.core.open_failures:
            self.core.succeeded()
        if self.core.has_gaps:
            self.core.finished_ahead(inbound)
        return True

    def _answer(self, inbound: Inbound, record: list[Any], message_type: str, data: Any) -> None:
        answer = Message._framework(message_type, data)
        answer._record[1] = record[0]
        self.send_message(KIND_ANSWER, answer, inbound.sender)

    def reply(self, to: Message, sender: bytes, data: Any) -> None:
        """Reply to a message as `Pod.reply_to` does: to everybody who listens, and to its sender."""
        answer = Message("reply", data)
        answer._record[1] = to._record[0]
        self.send_message(KIND_REPLY, answer, sender)

    def push(self, *, force: bool = True) -> None:
        """Put what is to be sent on the wire."""
        self.core.flush(self.net.now, force=force)
        out, self.core.out = self.core.out, []
        if self.is_alive:
            self.wire.up.extend(out)
            if out:
                self.wire.sent_at = self.net.now


class Net:
    """The bus, its links, and the time.

    Attributes:
        now: Seconds.
        bad_verbs: Headers that reached a pod and were malformed; must stay empty.
    """

    def __init__(self, *, replay_limit: int = 128, max_message: int = 1_048_576) -> None:
        self.now = 100.0
        self.replay_limit = replay_limit
        self.max_message = max_message
        self.wires: list[Wire] = []
        self.pods: list[TestPod] = []
        self.journal = b""
        self.lives = count(1)
        self.routes = count(1)
        self.calls: list[tuple[TestPod, int, Got]] = []
        self.bus = self._new_bus()

    def _new_bus(self) -> BusCore:
        epoch = next(self.lives).to_bytes(8, "big")
        bus = BusCore(epoch, replay_limit=self.replay_limit, max_message=self.max_message)
        bus.restore(read_roster(self.journal), self.now)
        self.journal = bus.compacted()
        bus.tick(self.now)
        return bus

    # Making

    def wire(self) -> Wire:
        wire = Wire(self._route())
        self.wires.append(wire)
        return wire

    def _route(self) -> bytes:
        return next(self.routes).to_bytes(5, "big")

    def pod(
        self,
        name: str = "",
        *patterns: str,
        wire: Wire | None = None,
        handler: Handler | None = None,
        is_joined: bool = True,
        **settings: Any,
    ) -> TestPod:
        """Return a pod that has joined; with patterns it listens to them from the start."""
        filters = FilterSet(listening=bool(patterns), exclusive=bool(patterns))
        for pattern in patterns:
            filters.set_type(pattern, True)
        pod = TestPod(self, wire or self.wire(), name, PodSettings(**settings), filters)
        pod.handler = handler
        self.pods.append(pod)
        pod.core.hello(self.now)
        if is_joined:
            self.settle()
            assert pod.core.state is State.JOINED, pod.core.closed_by
        return pod

    def actor(self, name: str, *patterns: str, supervisor: bytes = b"s" * 16, **settings: Any) -> TestPod:
        """Return a supervised actor; see `pod`."""
        return self.pod(name, *patterns, actor=True, supervisor=supervisor, **settings)

    def receiver(self, pod: TestPod) -> Receiver:
        return self.bus.directory.by_uuid[pod.uuid]

    def sender(self, pod: TestPod) -> Sender:
        return self.receiver(pod).sender

    # Moving frames

    def up(self, wire: Wire, limit: int | None = None) -> int:
        """Give the bus frames of a link; it routes them with the next `route`."""
        moved = 0
        while wire.up and (limit is None or moved < limit):
            header, body = wire.up.popleft()
            self.bus.receive(wire.route, header, body, self.now)
            moved += 1
        return moved

    def route(self) -> None:
        """Have the bus make frames of what came, and put them on the wires."""
        self.bus.tick(self.now)
        self._collect()

    def _collect(self) -> None:
        bus = self.bus
        self.journal += b"".join(bus.journal)
        bus.journal.clear()
        out, bus.out = bus.out, []
        if not out:
            return
        by_route = {wire.route: wire for wire in self.wires if wire.is_alive}
        for route, header, body in out:
            wire = by_route.get(route)
            if wire is None:
                bus.unreachable(route, self.now)
            else:
                wire.down.append((header, body))

    def down(self, wire: Wire, limit: int | None = None) -> int:
        """Give the pods of a link what the bus has sent."""
        moved = 0
        while wire.down and (limit is None or moved < limit):
            header, body = wire.down.popleft()
            moved += 1
            fields = unpack_header(header)
            if fields[1] == 0:
                if fields[0] == Verb.REJOIN:
                    for pod in wire.pods.values():
                        pod.core.receive(fields, b"", self.now)
            elif fields[1] in wire.pods:
                wire.pods[fields[1]].core.receive(fields, body, self.now)
        for pod in list(wire.pods.values()):
            pod.take()
            if pod.core.state is State.CLOSED or pod.core._bye_request in pod.confirmed:
                pod.core.close()
                del wire.pods[pod.slot]
        return moved

    def settle(self, *, handle: bool = True, rounds: int = 10_000) -> None:
        """Let everything flow until nothing moves; the time goes on as long as acknowledgements wait for it."""
        for _ in range(rounds):
            moved = 0
            for wire in self.wires:
                for pod in list(wire.pods.values()):
                    if handle:
                        moved += pod.handle()
                    pod.push()
                moved += self.up(wire)
            self.route()
            for wire in self.wires:
                moved += self.down(wire) if wire.is_alive else 0
            self.check()
            if not moved and self.bus.ledger.unacked:
                self.now += ACK_DELAY
            elif not moved:
                return
        raise AssertionError("it never comes to rest")

    def advance(self, seconds: float, *, handle: bool = True) -> None:
        """Let time pass, in steps that let everything flow."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for wire in self.wires:
                if not wire.is_alive:
                    continue
                for pod in wire.pods.values():
                    pod.core.tick(self.now)
                if self.now - wire.sent_at >= 1.0:
                    wire.up.append((pack(Verb.BEAT.value, 0), b""))
                    wire.sent_at = self.now
            self.settle(handle=handle)

    # Trouble

    def cut(self, wire: Wire) -> None:
        """Break a connection: what is under way is lost, and the link comes back on a new route."""
        wire.up.clear()
        wire.down.clear()
        wire.route = self._route()

    def kill(self, pod: TestPod) -> None:
        """End the process of a pod, with all pods on its link."""
        wire = pod.wire
        wire.is_alive = False
        wire.up.clear()
        wire.down.clear()
        for one in wire.pods.values():
            one.is_alive = False
            one.core.close()
        wire.pods.clear()

    def restart_bus(self) -> None:
        """Kill the bus and start another from the roster; every connection breaks."""
        for wire in self.wires:
            self.cut(wire)
        self.bus = self._new_bus()

    def called(self, pod: TestPod, seq: int, got: Got) -> None:
        self.calls.append((pod, seq, got))

    # What must hold

    def check(self) -> None:
        """Hold the accounting of bus and pods against what is there."""
        pending: Counter[int] = Counter()
        runs: dict[int, Run] = {}

        def count_in(delivery: Delivery, messages: int) -> None:
            pending[id(delivery.run)] += messages
            runs[id(delivery.run)] = delivery.run

        for receiver in self.bus.directory:
            assert not receiver.route or self.bus._routes[receiver.route].pods[receiver.slot] is receiver
            flying = [(delivery, _unfinished(delivery)) for delivery in receiver.in_flight]
            window = [(delivery, open_) for delivery, open_ in flying if not delivery.priority]
            answers = [(delivery, open_) for delivery, open_ in flying if delivery.priority]
            answers += [(delivery, delivery.count) for delivery in receiver.priority]
            for delivery, open_ in (*window, *answers):
                count_in(delivery, open_)
            assert receiver.window_used == sum(open_ for _, open_ in window)
            assert receiver.window_bytes == sum(delivery.run.unit * open_ for delivery, open_ in window)
            assert receiver.answers == sum(open_ for _, open_ in answers)
            assert receiver.answer_bytes == sum(delivery.run.unit * open_ for delivery, open_ in answers)
            self._check_mailbox(receiver.mailbox, receiver.window_used, receiver.window_bytes, count_in)
            for failure in receiver.failed:
                assert failure.delivery.count == 1
                count_in(failure.delivery, 1)
            assert (receiver in self.bus.handling.failing) == bool(receiver.failed)
            assert len(receiver.failed) <= 64
        for group in self.bus.directory.groups.values():
            self._check_mailbox(group.mailbox, 0, 0, count_in)
        for run in runs.values():
            assert run.pending == pending[id(run)]
        senders = {receiver.sender for receiver in self.bus.directory} | {run.sender for run in runs.values()}
        held = 0
        for sender in senders | set(self.bus._departed.values()):
            for run in sender.open.values():
                held += run.size
                assert run.pending == pending[id(run)] > 0
            assert sender.accepted <= sender.received
            assert list(sender.open) == sorted(sender.open)
        assert self.bus.ledger.held_bytes == held
        for wire in self.wires:
            for pod in wire.pods.values():
                _check_outbox(pod)

    def _check_mailbox(
        self, mailbox: Mailbox, flying: int, flying_bytes: int, count_in: Callable[[Delivery, int], None]
    ) -> None:
        assert mailbox.waiting_count == sum(delivery.count for delivery in mailbox.waiting)
        assert mailbox.used == mailbox.waiting_count + flying
        assert mailbox.used_bytes == sum(delivery.size for delivery in mailbox.waiting) + flying_bytes
        places = [delivery.place for delivery in mailbox.waiting]
        assert places == sorted(places)
        for delivery in mailbox.waiting:
            assert delivery.run.traces is None or (mailbox, delivery.place) in delivery.run.traces
            assert delivery.count > 0
            count_in(delivery, delivery.count)
        for sender in mailbox.blocked:
            assert mailbox in sender.blockers
        assert not mailbox.blocked or mailbox in self.bus.mailroom.full

    def check_quiet(self) -> None:
        """Hold that nothing is left anywhere, and that every sender knows it."""
        self.check()
        assert self.bus.ledger.held_bytes == 0
        for receiver in self.bus.directory:
            assert receiver.mailbox.used == receiver.mailbox.used_bytes == 0
            assert receiver.window_used == receiver.window_bytes == receiver.answers == receiver.answer_bytes == 0
            assert not receiver.in_flight
            assert not receiver.failed
            assert not receiver.sender.open
            assert not receiver.sender.blockers
            assert receiver.sender.accepted == receiver.sender.received
        for group in self.bus.directory.groups.values():
            assert group.mailbox.used == group.mailbox.used_bytes == 0
        assert not self.bus.mailroom.full
        assert not self.bus.ledger.unacked
        for wire in self.wires:
            for pod in wire.pods.values():
                outbox = pod.core.outbox
                assert outbox.is_all_settled
                assert outbox.accepted == outbox.floor() == outbox.next_seq - 1
                assert outbox.unaccepted_bytes == outbox.retained_bytes == outbox.retained_messages == 0
                assert not pod.core._open
                assert not pod.core.has_news()
        assert self.bus.postman.counts.bad_frames == 0

    def dead(self) -> list[tuple[str, str, Any]]:
        """Return the dead letters: reason, target and data of each message."""
        return [
            (letter.reason, letter.target, record[4])
            for letter in self.bus.postman.shelf.letters()
            for record in records_of(letter.delivery)
        ]


def _records(inbound: Inbound) -> list[list[Any]]:
    """Return the records of a run; none, finished, if it is garbled."""
    try:
        return unpack_body(inbound.body, inbound.count, ActorRef)
    except MessageDecodeError:
        inbound.finish_all()
        return []


def records_of(delivery: Delivery) -> Iterable[list[Any]]:
    """Return the records of a delivery's messages."""
    run = delivery.run
    return unpack_body(bytes(run.body), run.count, ActorRef)[delivery.lo : delivery.hi]


def _unfinished(delivery: Delivery) -> int:
    marks = delivery.marks or set()
    done = delivery.number + delivery.settled
    return delivery.count - delivery.settled - sum(1 for number in marks if number >= done)


def _check_outbox(pod: TestPod) -> None:
    outbox = pod.core.outbox
    retained = list(outbox._retained.values())
    assert outbox.retained_messages == sum(run.count for run in retained)
    assert outbox.retained_bytes == sum(run.size for run in retained)
    assert outbox.queued == sum(run.count for run in outbox._queue)
    assert outbox.unaccepted_bytes >= outbox.queued_bytes >= 0
    assert outbox.settled <= outbox.floor() <= outbox.next_seq - 1
    assert outbox.accepted <= outbox.sent <= outbox.next_seq - 1
