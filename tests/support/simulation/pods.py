"""Simulated pods: a pod core, and handlers that take steps, so that anything can happen while one runs."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from grav_actors import ids
from grav_actors.codec import pack_record, unpack_body
from grav_actors.filters import FilterSet
from grav_actors.ids import id_text
from grav_actors.message import Message
from grav_actors.pod.core import State
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.replies import Heading, Question
from grav_actors.protocol import (
    BUS_NAME,
    ERROR_TYPE,
    FAIL_ERROR,
    FAIL_REJECT,
    FLAG_REDELIVERED,
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    PUBLISHED_KINDS,
    QUESTION_KINDS,
    REPLY_TYPE,
    Ack,
    PodSettings,
)
from grav_actors.reference import ActorRef
from support.busnet import TestPod, Wire, queue
from support.simulation.history import (
    Accepted,
    Answered,
    Calmed,
    Delivered,
    Disturbed,
    Ended,
    Failed,
    FilterAsked,
    FilterConfirmed,
    Handled,
    Kind,
    Leaving,
    Sent,
    Settled,
    Started,
)

if TYPE_CHECKING:
    from support.simulation.world import World

KINDS: dict[int, Kind] = {
    KIND_PUBLISH: "publish",
    KIND_REPLY: "reply",
    KIND_TELL: "tell",
    KIND_ASK_ANY: "ask_any",
    KIND_ASK: "ask",
    KIND_ANSWER: "answer",
}
MESSAGE_LIMIT = 1 << 20


@dataclass(slots=True)
class Post:
    """A message to be sent; `padding` makes it longer by so many bytes."""

    kind: int
    type: str
    dest: Any = None
    reply_to: bytes = b""
    data: Any = None
    padding: int = 0


@dataclass(slots=True)
class Outcome:
    """What a handler is going to do.

    Attributes:
        posts: What it sends, one in each step, before it ends.
        how: `ok`, `fail`, `reject`, or `die`: its process ends with it.
        steps: Steps that it takes at least.
    """

    posts: deque[Post] = field(default_factory=deque)
    how: str = "ok"
    steps: int = 0


@dataclass(slots=True, eq=False)
class Running:
    """A handler that was called and has not returned."""

    inbound: Inbound
    index: int
    uuid: str
    outcome: Outcome

    @property
    def is_question(self) -> bool:
        """Whether somebody waits for its answer."""
        return self.inbound.kind in QUESTION_KINDS


class SimPod(TestPod):
    """A pod of a simulated process.

    Attributes:
        label: Its name in the history, unique for each incarnation.
        running: Handlers that have not returned, at most `concurrency`.
        was_handling: What was running when it ended, by sender and seq.
        unsettled: What it has sent and not been told to be settled, by seq.
        is_told: The bus was told of all that it has handled.
        asked_bus: Bytes of what it asked the bus itself, past its window, by seq.
    """

    __test__ = False

    def __init__(
        self,
        world: World,
        wire: Wire,
        name: str,
        settings: PodSettings,
        filters: FilterSet,
        *,
        concurrency: int = 1,
    ) -> None:
        super().__init__(world, wire, name, settings, filters)
        self.world = world
        self.label = world.new_label(name)
        self.concurrency = concurrency
        self.queue: deque[tuple[Inbound, int, list[Any]]] = deque()
        self.running: list[Running] = []
        self.unsettled: dict[int, str] = {}
        self.asked_bus: dict[int, int] = {}
        self.unaccepted: deque[int] = deque()
        self.questions: dict[bytes, int] = {}
        self.taken_back: set[tuple[bytes, int]] = set()
        self.filter_requests: set[int] = set()
        self.was_handling: list[tuple[bytes, int]] = []
        self.is_joined = False
        self.is_leaving = False
        self.is_told = False
        world.record(
            Started, self.label, name, filters.to_wire(), settings.group, settings.service, bool(settings.supervisor),
            settings.incarnation, concurrency, settings.max_deliver, settings.replay,
        )  # fmt: skip

    @property
    def is_here(self) -> bool:
        """Whether it can do anything now."""
        return self.is_alive and self.is_joined and not self.is_leaving

    # Sending

    def post(self, post: Post, cause: str = "") -> bool:
        """Send a message; return whether there was room for it, which what is asked of the bus itself needs not."""
        if post.dest != BUS_NAME and not self.core.outbox.has_room():
            return False
        ids._prefix = self.world.prefixes[id(self.wire)]
        message = Message._framework(post.type, post.data)
        record = message._record
        record[1] = post.reply_to
        record[5] = {"padding": "." * post.padding} if post.padding else None
        packed = pack_record(message, MESSAGE_LIMIT)
        largest = self.world.largest
        is_answer = post.kind in (KIND_ANSWER, KIND_REPLY)
        largest[is_answer] = max(largest[is_answer], len(packed))
        seq = queue(self.core.outbox, post.kind, message, post.dest, MESSAGE_LIMIT)
        uuid = id_text(record[0])
        if post.dest == BUS_NAME:
            self.asked_bus[seq] = len(packed)
        if post.kind in QUESTION_KINDS:
            self.replies.ask(Question(seq, record[0], Heading(post.kind, post.type, post.dest), None))
            self.questions[record[0]] = seq
        self.world.messages[self.uuid, seq] = uuid
        self.unsettled[seq] = uuid
        self.unaccepted.append(seq)
        dest = post.dest if isinstance(post.dest, str) else ""
        self.world.record(Sent, self.label, seq, uuid, post.type, KINDS[post.kind], dest, cause)
        return True

    def push(self, *, force: bool = True) -> None:
        core = self.core
        if self.is_told and not core.out and not core.outbox.queued:
            return  # most have nothing to say most of the time
        super().push(force=force)
        self.is_told = force

    def cancel(self, question: bytes) -> None:
        """Wait no longer for an answer."""
        seq = self.questions.pop(question)
        if self.replies.withdraw(question) is not None:
            self.core.cancel([seq], self.world.now)
            self.world.record(Answered, self.label, id_text(question), "cancelled")

    # Filters, disturbances and the end

    def change_filters(self, filters: FilterSet) -> None:
        self.core.filters = filters
        request = self.core.request_filter()
        self.filter_requests.add(request)
        self.world.record(FilterAsked, self.label, request, filters.to_wire())

    def disturb(self, what: str) -> None:
        self.world.record(Disturbed, self.label, what)

    def calm(self, what: str) -> None:
        self.world.record(Calmed, self.label, what)

    def leave(self, reason: str = "") -> None:
        """Say BYE; the handler is not called any more."""
        self.is_leaving = True
        self.core.request_bye(reason, self._asked())
        self.running.clear()
        self.queue.clear()
        self.world.record(Leaving, self.label, reason)
        self.push()

    def _asked(self) -> list[Inbound]:
        """Return the runs of the questions that are in handlers."""
        asked = {id(one.inbound): one.inbound for one in self.running if one.is_question}
        return list(asked.values())

    def ended(self, how: str) -> None:
        """Note that it is no more."""
        if self.is_alive:
            self.is_alive = False
            self.core.close()
            self.was_handling = [(one.inbound.sender, one.inbound.seq + one.index) for one in self.running]
            self.running.clear()
            self.queue.clear()
            self.wire.pods.pop(self.slot, None)
            self.world.record(Ended, self.label, how)
            self.world.has_ended(self, how)

    # What came in

    def take(self) -> None:
        core = self.core
        acks, core.acks = core.acks, []
        for ack in acks:
            self._note_ack(ack)
        inbox, core.inbox = core.inbox, []
        if not self.is_leaving:
            for inbound in inbox:
                records = unpack_body(inbound.body, inbound.count, ActorRef)
                for index in range(max(inbound.done, inbound.skip), inbound.count):
                    self.queue.append((inbound, index, records[index]))
        replies, core.replies = core.replies, []
        for inbound in replies:
            for record in unpack_body(inbound.body, inbound.count, ActorRef):
                question, message = self.replies.offer(Message._received(record, inbound.type, None))
                if question is not None:
                    how = "answer" if message.type != ERROR_TYPE else f"error:{message.data['code']}"
                    self._answered(question, how)
        for ack in acks:
            for question in self.replies.settled(ack):
                self._answered(question, "none" if question.error is None else f"error:{question.error.data['code']}")
        for sender, seqs in core.cancelled:
            self.taken_back.update((sender, seq) for seq in seqs)
        core.cancelled.clear()
        confirmed, core.confirmed = core.confirmed, []
        self._note_confirmed(confirmed)

    def _answered(self, question: Question, how: str) -> None:
        self.questions.pop(question.uuid, None)
        self.world.record(Answered, self.label, id_text(question.uuid), how)

    def _note_ack(self, ack: Ack) -> None:
        accepted, floor = ack[0], ack[1]
        newest, ranges = (ack[2], ack[3]) if len(ack) == 4 else (floor, ())
        settled = [
            seq
            for seq in takewhile(newest.__ge__, self.unsettled)
            if seq <= floor or not any(first <= seq <= last for first, last in ranges)
        ]
        while self.unaccepted and self.unaccepted[0] <= accepted:
            seq = self.unaccepted.popleft()
            self.world.record(Accepted, self.world.messages[self.uuid, seq])
        for seq in settled:
            self.world.record(Settled, self.unsettled.pop(seq))

    def _note_confirmed(self, confirmed: list[int]) -> None:
        if self.core.closed_by is not None:
            self.ended(self.core.closed_by[0])
            return
        for request in confirmed:
            if request in self.filter_requests:
                self.filter_requests.discard(request)
                self.world.record(FilterConfirmed, self.label, request)
            if request == self.core._bye_request:
                while self.unaccepted:  # what was sent is accepted before
                    self.world.record(Accepted, self.world.messages[self.uuid, self.unaccepted.popleft()])
                self.ended("left")

    # Handling

    def work(self, rng: random.Random) -> bool:
        """Take a step: call a handler, or go on with one; return whether anything happened."""
        if not self.is_here or self.paused:
            return False
        running = self.running
        is_full = len(running) >= self.concurrency
        if running and (is_full or not self.queue or rng.random() < 0.5):
            return self._go_on(running[0] if self.concurrency == 1 else rng.choice(running))
        if self.queue and not is_full:
            self._begin(rng)
            return True
        return False

    def _begin(self, rng: random.Random) -> None:
        inbound, index, record = self.queue.popleft()
        key = (inbound.sender, inbound.seq + index)
        filters = self.core.filters
        is_refused = inbound.kind in PUBLISHED_KINDS and not (
            filters.allows_type(inbound.type) and filters.allows_uuid(record[0])
        )
        if is_refused or (inbound.kind in QUESTION_KINDS and key in self.taken_back):
            self.taken_back.discard(key)
            self._finish(inbound, index)  # the filter has changed since, or nobody waits for the answer
            return
        if inbound.sender not in self.world.by_uuid:
            self._finish(inbound, index)  # an event of the bus itself
            return
        uuid = id_text(record[0])
        self.world.record(
            Delivered, self.label, uuid, self.world.label_of(inbound.sender), inbound.type,
            bool(inbound.flags & FLAG_REDELIVERED), inbound.attempt,
        )  # fmt: skip
        outcome = self.world.behaviour(self, inbound, record, rng)
        if inbound.kind in QUESTION_KINDS and outcome.how in ("fail", "reject"):
            data = {"code": "failed", "error": "it failed", "traceback": ""}
            outcome.posts.append(Post(KIND_ANSWER, ERROR_TYPE, inbound.sender, record[0], data))
        elif inbound.kind == KIND_ASK or (inbound.kind == KIND_ASK_ANY and outcome.how == "ok" and rng.random() < 0.7):
            outcome.posts.append(Post(KIND_ANSWER, REPLY_TYPE, inbound.sender, record[0], record[4]))
        if self.concurrency > 1:
            self.core.has_gaps = True
        self.running.append(Running(inbound, index, uuid, outcome))

    def _go_on(self, running: Running) -> bool:
        outcome = running.outcome
        if outcome.how == "die" and not outcome.steps:
            self.world.kill(self)
            return True
        if outcome.posts:
            if not self.post(outcome.posts[0], running.uuid):
                return False  # `send` waits, and the handler with it
            outcome.posts.popleft()
            return True
        if outcome.steps:
            outcome.steps -= 1
            return True
        self.running.remove(running)
        self._return(running)
        return True

    def _return(self, running: Running) -> None:
        inbound, index = running.inbound, running.index
        how = running.outcome.how
        is_question = inbound.kind in QUESTION_KINDS
        if how in ("fail", "reject") and not is_question:
            self.world.record(Failed, self.label, running.uuid, how == "reject")
            is_over = self.core.failed(inbound, index, FAIL_REJECT if how == "reject" else FAIL_ERROR, "it failed")
            self._finish(inbound, index)
            if is_over:
                self.core.flush(self.world.now, force=True)
                self.core.request_bye("unhealthy", self._asked())
                self.push()
                self.ended("unhealthy")
            return
        self.world.record(Handled, self.label, running.uuid)
        self._finish(inbound, index)
        if how == "ok" and inbound.attempt == 1 and self.core.open_failures:
            self.core.succeeded()

    def _finish(self, inbound: Inbound, index: int) -> None:
        self.is_told = False
        inbound.finish(index)
        if self.core.has_gaps:
            self.core.finished_ahead(inbound)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to handle, to send or to hear."""
        core = self.core
        return (
            not self.queue
            and not self.running
            and core.outbox.is_all_settled
            and core.state is State.JOINED
            and not core.has_news()
            and not self.questions
        )
