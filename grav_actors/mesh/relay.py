"""Between the hub and the bus of its node: runs that leave for peers, and runs that come from them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Protocol

from grav_actors.actor.dispatch import flush_late
from grav_actors.codec import check_body, cut_records, pack_record, record_offsets, slice_body, unpack_body
from grav_actors.errors import BusBusyError, GravError
from grav_actors.filters import FilterSet, is_framework_type
from grav_actors.ids import id_bytes, id_text
from grav_actors.mesh.effects import ActorsChanged, Finish, Post, PostError, Refuse, TakeBack
from grav_actors.mesh.switchboard import Leaving
from grav_actors.mesh.topics import prefix_patterns, widened
from grav_actors.message import Message
from grav_actors.pattern import check_type
from grav_actors.pod.replies import Heading, Question
from grav_actors.protocol import (
    ERROR_TYPE,
    FAIL_REJECT,
    FLAG_RECEIPT,
    FLAG_RELAYED,
    KIND_ANSWER,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    MAX_GATEWAY_ERROR,
    MAX_RUN_BYTES,
    MAX_RUN_MESSAGES,
    PUBLISHED_KINDS,
    QUESTION_KINDS,
    REPLY_TYPE,
    STAGE_END,
    STOP_TYPE,
)

if TYPE_CHECKING:
    from grav_actors.pod.inbound import Inbound
    from grav_actors.pod.pod import Pod

logger = logging.getLogger(__name__)

BEGIN_TIMEOUT = 10.0
"""Seconds that a hub waits for the bus to say what its pods want."""
_ANSWER_TYPES = (REPLY_TYPE, ERROR_TYPE)

Token = tuple["Inbound", int]
"""A run as its pod has it, and how many messages at its front are not to be carried."""


class Events(Protocol):
    """What a relay tells its hub, on the callback thread of its pod but for `unposted`; must not wait for the bus."""

    def leave(self, run: Leaving) -> None:
        """Take a run of the bus. May block while the mesh has no room."""
        ...

    def local(self, stage: int, wants: tuple[Any, ...], groups: tuple[Any, ...], names: tuple[Any, ...]) -> None:
        """Take what the pods of the bus want, and which actors there are; fields of LOCAL."""
        ...

    def cancelled(self, asker: bytes, seqs: tuple[int, ...]) -> None:
        """Note that nobody waits for these questions any more."""
        ...

    def settled(self, question: bytes) -> None:
        """Note that no answer follows to a question that was posted."""
        ...

    def unposted(self, questions: tuple[bytes, ...], text: str) -> None:
        """Note that questions were not posted, and why."""
        ...


class Relay:
    """The hub's pod on the local bus, its gateway.

    What comes from peers is published by a thread of its own, which may wait for the bus; the hub never does. A pod
    never gets what it published itself: so what comes from a peer is never sent on.

    Attributes:
        waiting_bytes: Bytes that came from peers and are not yet on the bus.
        garbled: Runs of peers that were none.
    """

    def __init__(self, pod: Pod, events: Events) -> None:
        self._pod = pod
        self._events = events
        self._patterns: tuple[str, ...] = ()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0  # jobs that are not done
        self._last_peer = ""
        self._seqs: dict[bytes, int] = {}  # of questions that were posted for peers; guarded by the link's lock
        self._has_begun = threading.Event()
        self.waiting_bytes = 0
        self.garbled = 0
        pod._gateway = self
        pod._consume = self._take
        self._thread = threading.Thread(target=self._run, name="grav-mesh-relay", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Become the gateway of the bus; back when what its pods want was told as an event.

        Raises:
            BusBusyError: The bus does not say it.
        """
        self.change_actors(ActorsChanged((), ()))
        if not self._has_begun.wait(BEGIN_TIMEOUT):
            raise BusBusyError(f"the bus has not said within {BEGIN_TIMEOUT:g} s what its pods want")

    def catch_up(self) -> None:
        """Return when everything that the bus has confirmed to anybody before was told as an event.

        Raises:
            BusBusyError: The bus does not answer.
            ConnectionClosedError: The node has ended.
        """
        self._pod._set_filters(self._pod._core.filters)
        done = threading.Event()
        with self._pod._link.lock:
            self._pod._callbacks.put(done.set)
        done.wait(BEGIN_TIMEOUT)

    # From the bus

    def want(self, prefixes: tuple[bytes, ...]) -> None:
        """Have the bus deliver what peers want; back when it has confirmed.

        Raises:
            BusBusyError: The bus does not answer.
            ConnectionClosedError: The node has ended.
        """
        patterns = prefix_patterns(widened(prefixes))
        if patterns == self._patterns:
            return
        filters = FilterSet(listening=bool(patterns), exclusive=True)
        for pattern in patterns:
            filters.set_type(pattern, True)
        self._pod._set_filters(filters)
        self._patterns = patterns

    def local(self, stage: int, wants: tuple[Any, ...], groups: tuple[Any, ...], names: tuple[Any, ...]) -> None:
        """Take news of the bus; on the pod's callback thread."""
        self._events.local(stage, wants, groups, names)
        if stage & STAGE_END:
            self._has_begun.set()

    def cancelled(self, sender: bytes, seqs: tuple[int, ...]) -> None:
        """Take questions back; on the pod's callback thread."""
        self._events.cancelled(sender, seqs)

    def _take(self, inbound: Inbound) -> None:
        """Take a run; on the pod's callback thread."""
        is_receipt = bool(inbound.flags & FLAG_RECEIPT)
        if not is_receipt and inbound.kind in PUBLISHED_KINDS and is_framework_type(inbound.type):
            inbound.finish_all()
            return
        waits = not is_receipt and (inbound.kind == KIND_TELL or inbound.kind in QUESTION_KINDS)
        body = bytes(inbound.body)
        try:
            if inbound.skip:
                body = slice_body(body, record_offsets(body, inbound.count), inbound.skip, inbound.count)
            if waits:
                with self._pod._link.lock:
                    self._pod._core.has_gaps = True
            self._events.leave(
                Leaving(
                    inbound.kind, inbound.type, inbound.count - inbound.skip, inbound.sender,
                    inbound.seq + inbound.skip, body, is_receipt,
                    inbound.relayed if inbound.flags & FLAG_RELAYED else None, (inbound, inbound.skip),
                )
            )  # fmt: skip
        except GravError as exc:
            waits = False
            logger.warning("a run of %s did not leave for the mesh: %s", inbound.type, exc)
        if not waits:
            inbound.finish_all()
            if self._pod._core.has_gaps:
                with self._pod._link.lock:
                    self._pod._core.finished_ahead(inbound)

    # To the bus: effects, in the order of the calls; none blocks

    def change_actors(self, change: ActorsChanged) -> None:
        """Tell the bus which actors peers have: at once, past what waits to be posted."""
        pod = self._pod
        begun = [(name, id_bytes(uuid)) for name, uuid in change.begun]
        ended = [(name, reason, error[:MAX_GATEWAY_ERROR]) for name, reason, error in change.ended]
        with pod._link.lock:
            pod._core.stand_for(begun, ended)
            pod._link.send_out(pod)

    def post(self, post: Post) -> None:
        """Send a run of a peer: at once, if nothing waits before it and the bus has room for it."""
        if not self._waiting and self._post(post, may_wait=False):
            return
        self._add(len(post.body))
        self._put(lambda: self._post_waiting(post))

    def post_error(self, error: PostError) -> None:
        """Answer a question of a local pod with an error."""
        data = {"code": error.code, "error": error.text, "traceback": ""}
        message = Message._framework(ERROR_TYPE, data, reply_to=id_text(error.question))
        record = pack_record(message, self._limit())
        self._put(lambda: self._send(KIND_ANSWER, ERROR_TYPE, error.asker, record))

    def take_back(self, effect: TakeBack) -> None:
        """Take back questions that were posted."""
        self._put(lambda: self._take_back(effect.questions))

    def finish(self, effect: Finish) -> None:
        """Finish messages of a run."""
        self._put(lambda: self._finish(effect.token, effect.index))

    def refuse(self, effect: Refuse) -> None:
        """Send a run to the dead letters."""
        self._put(lambda: self._refuse(effect.token, effect.text))

    def announce(self, type: str, data: dict[str, Any]) -> None:
        """Publish an event of the framework."""
        message = Message._framework(type, data)
        self._put(lambda: self._send(KIND_PUBLISH, type, None, pack_record(message, self._limit())))

    # On the relay's thread

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except GravError as exc:
                logger.warning("what came from a peer was not published: %s", exc)
            except Exception:
                logger.exception("what came from a peer was not published")
            finally:
                with self._lock:
                    self._waiting -= 1

    def _post_waiting(self, post: Post) -> None:
        try:
            self._post(post, may_wait=True)
        finally:
            self._add(-len(post.body))

    def _post(self, post: Post, *, may_wait: bool) -> bool:
        """Queue a run for the bus; false when it has to wait for room there, and may not."""
        try:
            try:
                _check(post)
                pieces = _pieces(post)
            except (GravError, ValueError) as exc:
                self.garbled += 1
                logger.warning("a garbled run of %.80s came from a peer and was dropped: %s", post.type, exc)
                raise
            pod = self._pod
            # The lock once for a run: taken for each message, it goes to and fro between this thread and the link's.
            with pod._link.lock:
                if not may_wait and pod._gate is None and not pod._core.outbox.has_room(post.count):
                    return False
                if post.peer != self._last_peer:
                    # What a peer has garbled spoils no run of another, nor of this node.
                    self._last_peer = post.peer
                    pod._core.outbox.close_run()
                for index, (piece, count) in enumerate(pieces):
                    question = post.questions[index] if post.questions else b""
                    self._append(post.kind, post.type, post.dest, piece, question, count)
        except (GravError, ValueError) as exc:
            if post.questions:
                self._events.unposted(post.questions, f"{type(exc).__name__}: {exc}")
            elif isinstance(exc, GravError) and self._pod._gate is None:
                logger.debug("a run of %.80s was not posted: %s", post.type, exc)
        return True

    def _send(self, kind: int, type: str, dest: Any, record: bytes) -> None:
        with self._pod._link.lock:
            self._append(kind, type, dest, record)

    def _append(self, kind: int, type: str, dest: Any, record: bytes, question: bytes = b"", count: int = 1) -> None:
        """Queue a message, or several that are no questions. The caller holds the link's lock."""
        pod = self._pod
        if pod._gate is not None:
            return
        outbox = pod._core.outbox
        if question:
            if not outbox.has_room():
                pod._wait_for_room()
            seq = self._seqs[question] = outbox.next_seq
            # By its seq: two peers may ask what has the same uuid. Only that it is settled is told so.
            pod._replies.ask(Question(seq, seq.to_bytes(8), Heading(kind, type, dest), _Settled(self, question)))
        pod._append(kind, type, dest, record, len(record), time_ns(), count)

    def _settled(self, question: bytes) -> None:
        """Note that a question is settled. The caller holds the link's lock."""
        self._seqs.pop(question, None)
        # Behind the answers that have come before.
        self._pod._callbacks.put(lambda: self._events.settled(question))

    def _take_back(self, questions: tuple[bytes, ...]) -> None:
        pod = self._pod
        with pod._link.lock:
            if pod._gate is not None:
                return
            seqs = [seq for question in questions if (seq := self._seqs.get(question)) is not None]
            pod._core.cancel(seqs, monotonic())
            pod._link.send_out(pod)

    def _finish(self, token: Token, index: int | None) -> None:
        inbound, skip = token
        with self._pod._link.lock:
            if index is None:
                inbound.finish_all()
            else:
                inbound.finish(index + skip)
            self._report(inbound)

    def _refuse(self, token: Token, text: str) -> None:
        inbound, skip = token
        with self._pod._link.lock:
            for index in range(skip, inbound.count):
                self._pod._core.failed(inbound, index, FAIL_REJECT, text)
            inbound.finish_all()
            self._report(inbound)

    def _report(self, inbound: Inbound) -> None:
        self._pod._core.finished_ahead(inbound)
        flush_late(self._pod)

    def _put(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._waiting += 1
        self._queue.put(job)

    def _limit(self) -> int:
        return self._pod._core.max_message

    def _add(self, size: int) -> None:
        with self._lock:
            self.waiting_bytes += size

    def stop(self, timeout: float) -> None:
        """End after what waits is published, at most after some seconds."""
        self._queue.put(None)
        self._thread.join(timeout)


class _Settled:
    """Waits in the place of an asker: answers go another way, and this is told that none follows."""

    def __init__(self, relay: Relay, question: bytes) -> None:
        self._relay = relay
        self._question = question

    def fail(self, error: Exception) -> None:
        """Note that no answer follows."""
        self._relay._settled(self._question)


def _check(post: Post) -> None:
    """Check a peer's run as far as anything here depends on it.

    What it means is checked by who reads it, as of any pod's run: that it is as many whole values as it says is enough
    to carry it, and costs a tenth.

    Raises:
        GravError, ValueError: It is garbled, or of a type that no peer may send.
    """
    is_allowed = (post.kind == KIND_ANSWER and post.type in _ANSWER_TYPES) or (
        post.kind == KIND_TELL and post.type == STOP_TYPE
    )
    if not is_allowed:
        check_type(post.type)
    if post.kind in (KIND_PUBLISH, KIND_TELL):
        check_body(post.body, post.count)
        return
    decoded = unpack_body(post.body, post.count, lambda name: name)
    if post.kind in (KIND_REPLY, KIND_ANSWER) and not all(record[1] for record in decoded):
        raise ValueError("a reply that answers nothing")


def _pieces(post: Post) -> list[tuple[bytes, int]]:
    """Return the records of a run that was checked, one by one if they are questions or too many for a run; else it.

    Each comes with how many it is, and as `Outbox.add` takes it.
    """
    if not post.questions and 1 < post.count <= MAX_RUN_MESSAGES and len(post.body) <= MAX_RUN_BYTES:
        return [(post.body, post.count)]
    return [(record, 1) for record in cut_records(post.body, post.count)]
