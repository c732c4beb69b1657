"""Pod: a two-way connection to the bus, as users see it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import lru_cache
from math import inf
from time import monotonic, time_ns
from typing import Any, Protocol, Self, TypeVar

from grav_actors import ids
from grav_actors.codec import is_fixed, pack_data, pack_fields, pack_record
from grav_actors.errors import (
    AskTimeoutError,
    BusBusyError,
    ConnectionClosedError,
    MessageEncodeError,
    MessageNotWanted,
    ReentrantWaitError,
    WaitTimeoutError,
)
from grav_actors.filters import FilterSet
from grav_actors.ids import id_bytes, id_text, new_id, number_of
from grav_actors.message import Message
from grav_actors.options import check_callable, show
from grav_actors.pattern import FRAMEWORK_PREFIX, VALID_TYPES, check_pattern, check_type
from grav_actors.pod import callbacks
from grav_actors.pod.callbacks import Callbacks
from grav_actors.pod.cancellations import Cancellations
from grav_actors.pod.core import PodCore, State
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.link import Link
from grav_actors.pod.outbox import ITEM, RECORD_BYTES, SMALL_DATA
from grav_actors.pod.outcomes import UNHEALTHY_TEXT, Disconnected, late_answer_text
from grav_actors.pod.receipt import NO_RECEIPT, Receipt
from grav_actors.pod.replies import Heading, Question, ReplyTable
from grav_actors.pod.waiter import LATE, Later, LoopQuestion, LoopWaker, Waiter, new_question, waker_of
from grav_actors.protocol import (
    BUS_NAME,
    CLOSE_UNHEALTHY,
    ERROR_TYPE,
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    MAX_RUN_BYTES,
    MAX_RUN_MESSAGES,
    REPLY_TYPE,
    WINDOW_MESSAGES,
    PodSettings,
)
from grav_actors.reference import ActorRef, RefPort
from grav_actors.timeouts import Timeout, no_limit_below, seconds
from grav_actors.tracebacks import traceback_text

logger = logging.getLogger(__name__)

T = TypeVar("T")
_class_of = type  # where a parameter has that name
MsgFunc = Callable[[Message], Any]
"""A function that takes a message; an exception from it means that the message failed."""

CONFIRM_TIMEOUT = 10.0
"""Seconds that a change waits for the bus to confirm it."""
QUIET = 500_000
"""Nanoseconds without a message after which the next one leaves at once; sooner it waits for company."""
MAX_TIME = 1 << 63
"""Nanoseconds since 1970 that a time in a column can hold."""
ANSWERS_TOGETHER = 32
"""Answers after which they leave although the handlers of a run have not ended."""
SMALL_QUESTION = SMALL_DATA + RECORD_BYTES
"""Bytes of a question that may come in without the lock."""
QUESTIONS_BYTES = WINDOW_MESSAGES // ITEM * SMALL_QUESTION
"""Bytes of all that may come in so before they are gathered."""
HEADINGS = 1024
"""Headings of questions that a pod keeps."""
LOOK_INTERVAL = 1.0
"""Seconds between looks at a bus that takes nothing."""


class GatewayPort(Protocol):
    """What the pod that stands for other nodes is told, on its callback thread, in the order in which it came.

    It is given replies by `_consume` too, instead of to receipts.
    """

    def local(self, stage: int, wants: tuple[Any, ...], groups: tuple[Any, ...], names: tuple[Any, ...]) -> None:
        """Take what the pods of the bus want, and which actors there are; fields of LOCAL."""
        ...

    def cancelled(self, sender: bytes, seqs: tuple[int, ...]) -> None:
        """Note that nobody waits for these questions any more."""
        ...


class Pod:
    """A connection to the bus; made by `Grav.connect`.

    Any thread may call any method. Callbacks run one at a time, in order, on the pod's callback thread;
    while one runs or blocks the pod's socket is still served. A new pod has no handler and is routed nothing.
    """

    def __init__(self, link: Link, name: str, settings: PodSettings, filters: FilterSet | None = None) -> None:
        self._link = link
        self._id = new_id()
        self._core = PodCore(self._id, name, settings, link.new_slot())
        self._outbox = self._core.outbox
        if filters is not None:
            self._core.filters = filters
        self._gate: Exception | None = None
        self._handler: MsgFunc | None = None
        self._consume: Callable[[Inbound], None] = lambda inbound: callbacks.consume(self, inbound)
        self._callbacks = Callbacks(self)
        self._replies = ReplyTable(self._outbox.questions)
        self._headings: dict[tuple[str | ActorRef | None, str], Heading] = {}
        self._later: Later = link.duty.later
        self._waker: LoopWaker | None = None
        self._room = threading.Condition(link.lock)
        self._room_waiters = 0
        self._confirmations: dict[int, Waiter] = {}
        self._waiters: set[Waiter] = set()
        self._cancellations = Cancellations(link.lock)
        self._flush_loop: asyncio.AbstractEventLoop | None = None
        self._port: RefPort | None = None
        self._on_end: Callable[[Exception], None] | None = None
        self._on_replaced: Callable[[], None] | None = None
        self._on_down: Callable[[str, str, str], None] = lambda name, reason, error: None
        self._gateway: GatewayPort | None = None

    def _join(self, timeout: float = CONFIRM_TIMEOUT) -> Self:
        """Say HELLO and wait until the bus knows the pod."""
        with self._link.lock:
            self._link.flush_queued()
            self._link.add(self)
            self._core.hello(monotonic())
            waiter = self._confirmation(self._core._hello_request)
            self._link.send_out(self)
        if not self._link.duty.wait(waiter, timeout):
            with self._link.lock:
                self._end(ConnectionClosedError("the pod never reached its bus"))
            raise BusBusyError(
                f"no bus answered at {self._link.endpoint} within {timeout:g} s; is one running there? "
                "`grav-actors ps` shows it"
            )
        waiter.result()
        return self

    # What it is

    @property
    def uuid(self) -> str:
        """Uuid of this connection; a new one for every pod."""
        return id_text(self._id)

    @property
    def name(self) -> str:
        """Name that was given to `connect`, or ""; an actor's own."""
        return self._core.name

    @property
    def label(self) -> str:
        """Its name, else its uuid; for logs."""
        return self.name or self.uuid

    @property
    def is_connected(self) -> bool:
        """Whether it has joined the bus and not left; false also while the bus is away."""
        return self._gate is None and self._core.state is State.JOINED

    @property
    def late_replies(self) -> int:
        """How many replies were dropped: after the first to a question, or when nobody waited any more."""
        return self._replies.late

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return f"<Pod {self.label} {self._core.state.value}>"

    # Sending

    def send(self, message: Message) -> Receipt:
        """Send a message to every pod whose filter lets it through, this one excepted.

        The data is encoded before this returns. It returns at once while the window is open: else it waits
        for room, which a full mailbox with the policy `block` may hold back for long.

        Returns:
            A receipt for replies; after `disconnect` a false one, and nothing is sent.

        Raises:
            MessageEncodeError, MessageTooLargeError: The data cannot be carried.
            BusBusyError: The bus has taken nothing for `send_timeout` seconds.
            ConnectionClosedError: The node or the bus has ended.
            WrongProcessError: The pod belongs to the process that this one was forked from.
        """
        if self._gate is not None:
            return self._refuse()
        if not isinstance(message, Message):
            raise _not_a_message(message)
        message_id, reply_to, parent, stamp, data, headers = message._record
        if headers is None and not reply_to and message_id[:8] == self._outbox.prefix and 0 <= stamp < MAX_TIME:
            data, size = _carried(data, self._core.max_message)
            if not self._put(message._type, number_of(message_id), stamp, data, parent, size):
                return self._refuse()
            return Receipt.make(self, message_id)
        packed = pack_record(message, self._core.max_message)
        if reply_to:
            return self._post(KIND_REPLY, message._type, reply_to[:8], packed, message_id)
        return self._post(KIND_PUBLISH, message._type, None, packed, message_id)

    def publish(
        self,
        type: str,
        data: Any = None,
        *,
        parent_id: str = "",
        reply_to: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Make a message and send it; see `send`."""
        if type.__class__ is not str or type not in VALID_TYPES or parent_id or reply_to or headers is not None:
            return self.send(Message(type, data, parent_id=parent_id, reply_to=reply_to, headers=headers))
        # As `_publish_under`, which would cost a fifth more from here: this is the hottest path there is.
        if self._gate is not None:
            return self._refuse()
        if _class_of(data) is bytes:
            size = len(data)
        else:
            data, size = _carried(data, self._core.max_message)
        number = ids.next_number()
        now = time_ns()
        outbox = self._outbox
        incoming = outbox.incoming
        if size <= outbox.limit_bytes and len(incoming) < outbox.limit:
            incoming += (type, number, now, data, b"")
            if not outbox.limit and not self._expect_flush(number):
                return self._refuse()
        elif not self._put(type, number, now, data, b"", size):
            return self._refuse()
        receipt = Receipt()
        receipt._pod = self
        receipt._key = number
        return receipt

    def _publish_under(self, type: str, data: Any, parent: bytes) -> Receipt:
        """Publish data under a type that was checked, with the raw uuid of a parent or b"".

        As `send` of a Message, which is not made as nobody would see it.
        """
        if self._gate is not None:
            return self._refuse()
        if _class_of(data) is bytes:
            size = len(data)
        else:
            data, size = _carried(data, self._core.max_message)
        number = ids.next_number()
        now = time_ns()
        outbox = self._outbox
        incoming = outbox.incoming
        if size <= outbox.limit_bytes and len(incoming) < outbox.limit:
            incoming += (type, number, now, data, parent)
            if not outbox.limit and not self._expect_flush(number):
                return self._refuse()
        elif not self._put(type, number, now, data, parent, size):
            return self._refuse()
        receipt = Receipt()
        receipt._pod = self
        receipt._key = number
        return receipt

    def _put(self, type: str, number: int, stamp: int, data: Any, parent: bytes, size: int) -> bool:
        """Queue what was published, under the lock; see `Outbox.incoming`. Return whether the pod has not left."""
        if size > self._core.max_message and data.__class__ is bytes:
            pack_data(data, self._core.max_message)  # raises the error; what is packed already was looked at
        outbox = self._outbox
        with self._link.lock:
            if self._gate is not None:
                return False
            if not outbox.has_room():
                self._wait_for_room()
            now = time_ns()
            is_quiet = now - outbox.appended_at > QUIET
            if is_quiet and data.__class__ is not tuple:
                # It leaves alone, most probably.
                record = [outbox.prefix + number.to_bytes(8, "big"), b"", parent, stamp, data, None]
                outbox.add(KIND_PUBLISH, type, None, record, RECORD_BYTES + size)
            else:
                outbox.publish(type, number, stamp, data, parent)
            outbox.appended_at = now
            self._appended(KIND_PUBLISH, 1, size, is_quiet=is_quiet)
        return True

    def _expect_flush(self, number: int) -> bool:
        """See to it that what was queued is sent, although it was queued when all was being sent.

        Returns:
            Whether it is; not if the pod has left meanwhile, and then it is not queued any more.
        """
        outbox = self._outbox
        with self._link.lock:
            if self._gate is not None:
                return not outbox.forget_incoming(number)
            # Another thread may have gathered it, and rely on this one.
            if outbox.has_queued:
                self._link.expect_flush(self)
        return True

    def reply_to(self, in_reply_to: Message | Receipt | str, message: Message) -> Receipt:
        """Send a message as the reply to another.

        It reaches every pod whose filter lets it through, and the asking pod in any case.

        Args:
            in_reply_to: The message that is answered, its receipt, or its uuid.
        """
        if not isinstance(in_reply_to, (Message, Receipt, str)):
            raise TypeError(
                f"in_reply_to is the message that is answered, its receipt or its uuid, not {show(in_reply_to)}"
            )
        if not isinstance(message, Message):
            raise _not_a_message(message)
        uuid = in_reply_to if isinstance(in_reply_to, str) else in_reply_to.uuid
        message.set_reply_to(uuid)
        if self._gate is not None:
            return self._refuse()
        # A received message knows its sender; of a uuid only the process is known.
        origin = in_reply_to._origin if isinstance(in_reply_to, Message) else None
        dest = origin.sender if origin is not None else id_bytes(uuid)[:8]
        packed = pack_record(message, self._core.max_message)
        return self._post(KIND_REPLY, message._type, dest, packed, message._record[0])

    def _tell(self, to: str, message: Message) -> Receipt:
        if self._gate is not None:
            return self._refuse()
        packed = pack_record(message, self._core.max_message)
        return self._post(KIND_TELL, message._type, to, packed, message._record[0])

    def _answer(self, question: Message, type: str, data: Any, parent_id: bytes = b"") -> None:
        """Send an answer, of a type of the framework, to the asker alone."""
        origin = question._origin
        if self._gate is None and origin is not None:
            now = time_ns()
            fields = [new_id(), question._record[0], parent_id, now, data, None]
            record, size = _prepared(fields, self._core.max_message)
            with self._link.lock:
                self._append(KIND_ANSWER, type, origin.sender, record, size, now)

    def _answer_result(self, inbound: Inbound, question: bytes, data: Any, is_last: bool) -> bool:
        """Send what a handler has returned: as `_answer`, with the question as the parent, and much quicker.

        While something is to be flushed soon anyway it goes without a lock into `Outbox.incoming`, as what is published
        does.

        Args:
            inbound: The run that the question came in.
            question: Its uuid.
            is_last: It is the last of its run, and nothing waits behind it: the answer leaves at once, if it can.

        Returns:
            Whether the question is finished by that; else it is for the caller to note.
        """
        if self._gate is not None:
            return False
        outbox = self._outbox
        number = ids.next_number()
        now = time_ns()
        record: Any = [outbox.prefix + number.to_bytes(8, "big"), question, question, now, data, None]
        if _class_of(data) is bytes:
            size = RECORD_BYTES + len(data)
        else:
            record, size = _prepared(record, self._core.max_message)
        limit = outbox.limit
        if limit and size <= outbox.limit_bytes:
            incoming = outbox.incoming
            elements = len(incoming)
            # Who has asked may go on while the others are answered: the last of so many sends them, see `_appended`.
            if elements < limit and (outbox.queued + elements // ITEM + 1) % ANSWERS_TOGETHER:
                incoming += ((inbound.sender,), number, now, record, size)
                if not outbox.limit:
                    self._expect_flush(number)
                return False
        if size > self._core.max_message and record.__class__ is list:
            _prepared(record, self._core.max_message)  # raises the error if it is the data that is too large
        with self._link.lock:
            asker = inbound.sender
            if is_last and self._core.send_alone(KIND_ANSWER, REPLY_TYPE, asker, record, size, monotonic(), inbound):
                outbox.appended_at = now
                self._link.send_out(self)
                return True
            self._append(KIND_ANSWER, REPLY_TYPE, asker, record, size, now)
        return False

    def _answer_error(self, question: Message, exc: BaseException) -> None:
        text = traceback_text(exc)
        data = {"code": "failed", "error": f"{type(exc).__name__}: {exc}"[:2000], "traceback": text[-16_000:]}
        self._answer(question, ERROR_TYPE, data)

    def _post(self, kind: int, message_type: str, dest: Any, record: bytes, message_id: bytes) -> Receipt:
        with self._link.lock:
            if self._gate is not None:
                return self._refuse()
            self._append(kind, message_type, dest, record, len(record), time_ns())
        return Receipt.make(self, message_id)

    def _append(
        self, kind: int, message_type: str, dest: Any, record: Any, size: int, now: int, count: int = 1
    ) -> None:
        """Queue a message, or several, and send what is queued if it is time. The caller holds the lock.

        Args:
            record, size, count: See `Outbox.add`.
            now: Nanoseconds of the clock of messages; whether it jumps matters only for when to send.
        """
        outbox = self._outbox
        if not outbox.has_room(count):
            self._wait_for_room(count)
        is_quiet = now - outbox.appended_at > QUIET
        outbox.add(kind, message_type, dest, record, size, count)
        outbox.appended_at = now
        self._appended(kind, count, size, is_quiet=is_quiet)

    def _appended(self, kind: int, count: int, size: int, *, is_quiet: bool) -> None:
        """Send what is queued if it is time, after so many messages were; else see to it that it is sent soon."""
        outbox = self._outbox
        queued = outbox.queued
        is_full = queued >= MAX_RUN_MESSAGES or outbox.queued_bytes >= MAX_RUN_BYTES
        # Who has asked may go on while the others are answered.
        is_due = is_full or (kind == KIND_ANSWER and queued % ANSWERS_TOGETHER == 0)
        if is_due or (is_quiet and not (self._callbacks.is_busy and self._callbacks.is_here())):
            self._flush_now()
        else:
            # What comes right after another message leaves together with the next ones; what a handler sends, when
            # that has ended: the link looks after it if that takes long.
            if not outbox.limit:
                self._link.expect_flush(self)
            outbox.open(size, self._core.max_message)

    def _flush_now(self) -> None:
        self._core.flush(monotonic())
        if self._core.out:
            self._link.send_out(self)

    def _wait_for_room(self, count: int = 1) -> None:
        outbox = self._core.outbox
        self._flush_now()
        self._link.apply_acks()
        self._room_waiters += 1
        try:
            while not outbox.has_room(count):
                if self._gate is not None:
                    raise self._error()
                self._room.wait(LOOK_INTERVAL)
                self._link.check_alive()
        finally:
            self._room_waiters -= 1
        if self._gate is not None:
            raise self._error()

    def _refuse(self) -> Receipt:
        if isinstance(self._gate, Disconnected):
            return NO_RECEIPT
        raise self._error()

    def _error(self) -> Exception:
        """Return a fresh error of the kind that ended this pod."""
        gate = self._gate
        if gate is None or isinstance(gate, Disconnected):
            reason = f"{gate}, so " if str(gate or "") else ""
            return ConnectionClosedError(f"{reason}this pod has disconnected; make a new one with Grav.connect()")
        return type(gate)(str(gate))

    # Receiving

    def on(self, fn: MsgFunc | None) -> None:
        """Call `fn(msg)` for every message; it replaces the handler and resets the filter.

        None ignores all. Framework types (`grav.*`) come only through `on_type`. An exception from `fn`
        means that the message failed: it is delivered again when a later one succeeds, 5 times at most;
        64 open failures disconnect the pod. `raise Reject` sends it to the dead letters at once.

        Raises:
            TypeError: `fn` can not be called.
        """
        if fn is not None:
            check_callable("a handler is", fn)
        self._set_handler(fn, FilterSet(listening=fn is not None))

    def on_type(self, type_or_pattern: str, fn: MsgFunc) -> None:
        """Call `fn(msg)` for messages of this type or pattern only; it replaces handler and filter."""
        filters = FilterSet(listening=True, exclusive=True)
        filters.set_type(check_pattern(type_or_pattern), True)
        check_callable("a handler is", fn)
        self._set_handler(fn, filters)

    def filter_type(self, type_or_pattern: str, allow: bool) -> None:
        """Let a type or pattern through, or not. The exact type counts first, then patterns in order."""
        filters = self._core.filters.copy()
        filters.set_type(check_pattern(type_or_pattern), bool(allow))
        self._set_filters(filters)

    def filter_uuid(self, uuid: str, allow: bool) -> None:
        """Let one message through, or not, by its uuid."""
        filters = self._core.filters.copy()
        filters.set_uuid(id_bytes(uuid), bool(allow))
        self._set_filters(filters)

    def _set_handler(self, fn: MsgFunc | None, filters: FilterSet) -> None:
        self._set_filters(filters, (fn,))

    def _set_filters(self, filters: FilterSet, handler: tuple[MsgFunc | None] | None = None) -> None:
        """Change the filter, and perhaps the handler, and wait for the bus to confirm, but inside a callback."""
        if self._gate is not None:
            raise self._error()
        with self._link.lock:
            self._link.flush_queued()
            # In this order: who sees the new handler sees the new filter too.
            self._core.filters = filters
            if handler is not None:
                self._handler = handler[0]
            request = self._core.request_filter()
            waiter = None if self._callbacks.is_here() else self._confirmation(request)
            self._flush_now()
            self._link.send_out(self)
        if handler is not None:
            replaced, self._on_replaced = self._on_replaced, None
            if replaced is not None:
                replaced()
        if waiter is not None:
            self._confirm(waiter, "the filter")

    def _confirmation(self, request: int) -> Waiter:
        waiter = self._confirmations[request] = Waiter()
        return waiter

    def _confirm(self, waiter: Waiter, what: str) -> None:
        if not self._link.duty.wait(waiter, CONFIRM_TIMEOUT):
            raise BusBusyError(
                f"the bus at {self._link.endpoint} has not confirmed {what} within {CONFIRM_TIMEOUT} s; it holds "
                "when the bus is back"
            )
        waiter.result()

    def wait_on(self, fn: Callable[[Message], T]) -> T:
        """Give every message to `fn` until it does not raise (or return) MessageNotWanted.

        The filter is reset; the handler is unset when this returns. What `fn` saw counts as handled.

        Returns:
            What `fn` returned; any other exception of `fn` is raised here.

        Raises:
            ReentrantWaitError: Called inside the pod's own callback, where no message could come.
            ConnectionClosedError: The pod, its node or the bus ended.
        """
        return self.wait_until(None, fn)

    def wait_until(self, timeout: Timeout, fn: Callable[[Message], T]) -> T:
        """Wait as `wait_on`, at most `timeout` seconds; as in Grav, 0 and less have no limit.

        Raises:
            WaitTimeoutError: No wanted message came in time.
        """
        limit = no_limit_below(timeout)
        self._check_process()
        if self._callbacks.is_here():
            raise ReentrantWaitError(
                "a pod cannot wait for messages inside its own callback, as they are given to it one at a time; "
                "wait on a receipt, ask, or use another pod"
            )
        waiter = Waiter()

        def look(message: Message) -> None:
            if waiter.is_done:
                return
            try:
                result = fn(message)
            except MessageNotWanted:
                return
            except BaseException as exc:
                with self._link.lock:
                    waiter.fail(exc)
                return
            if not (result is MessageNotWanted or isinstance(result, MessageNotWanted)):
                with self._link.lock:
                    waiter.resolve(result)

        with self._link.lock:
            self._waiters.add(waiter)
        try:
            self.on(look)
            if not waiter.wait(limit):
                raise WaitTimeoutError(f"no wanted message came to pod {self.label} within {limit} s")
            result: T = waiter.result()
        finally:
            with self._link.lock:
                self._waiters.discard(waiter)
            if self._gate is None:
                self.on(None)
        return result

    def messages(self, type_or_pattern: str = ">") -> AsyncIterator[Message]:
        """Return the pod's messages for `async for`; a message is handled when the next one is asked for."""
        self._check_process()
        from grav_actors.pod.stream import MessageStream  # noqa: PLC0415  (asyncio only for those who use it)

        return MessageStream(self, check_pattern(type_or_pattern))

    # Asking

    def ask(
        self,
        type: str,
        data: Any = None,
        *,
        to: str | ActorRef | None = None,
        timeout: Timeout = 5.0,
        parent_id: str = "",
    ) -> Any:
        """Ask one actor, or publish a question, and return the data of the answer.

        Raises:
            HandlerError: The handler, or every receiver, failed.
            NoRespondersError: Nobody handles it, the name is unknown, or all handled it without an answer.
            ActorStoppedError: The asked actor ended first.
            AskTimeoutError: No answer within `timeout` seconds; the question is taken back.
            ConnectionClosedError: The node or the bus ended.
        """
        return self._ask_here(type, data, to, timeout, _parent(parent_id) if parent_id else b"")

    def ask_async(
        self,
        type: str,
        data: Any = None,
        *,
        to: str | ActorRef | None = None,
        timeout: Timeout = 5.0,
        parent_id: str = "",
    ) -> Coroutine[Any, Any, Any]:
        """Ask in asyncio; see `ask`."""
        return self._ask_in_loop(type, data, to, timeout, _parent(parent_id) if parent_id else b"")

    # By place, as names cost more than the rest of such a call; the parent as a raw uuid, or b"".

    def _ask_here(self, type: str, data: Any, to: str | ActorRef | None, timeout: Timeout, parent: bytes = b"") -> Any:
        limit = timeout if isinstance(timeout, float) and timeout >= 0 else seconds(timeout)
        question = self._ask(type, data, to, parent)
        try:
            is_answered = self._link.duty.wait(question.waiter, limit)
        except BaseException:
            self._withdraw(question)
            raise
        if not is_answered:
            self._withdraw(question)
            raise AskTimeoutError(late_answer_text(type, to, limit))
        return question.waiter.result()

    async def _ask_in_loop(
        self, type: str, data: Any, to: str | ActorRef | None, timeout: Timeout, parent: bytes = b""
    ) -> Any:
        limit = timeout if isinstance(timeout, float) and timeout >= 0 else seconds(timeout)
        loop = asyncio.get_running_loop()
        waker = self._waker
        if waker is None or waker.loop() is not loop:
            waker = self._waker = waker_of(loop)
        future = loop.create_future()
        waiting = waker.waiting
        due = waiting[future] = inf if limit is None else loop.time() + limit
        try:
            if due < waker.looks_at:
                waker.set_timer(loop, due)
            try:
                heading = self._headings[to, type]
            except (KeyError, TypeError):
                heading = self._heading_of(type, to)
            gate = self._gate
            if gate is not None:
                raise self._error()
            uuid = new_id()
            record = [uuid, b"", parent, time_ns(), data, None]
            if _class_of(data) is bytes and len(data) <= self._core.max_message:
                size = RECORD_BYTES + len(data)
            else:
                record, size = _prepared(record, self._core.max_message)
            question = new_question(LoopQuestion)
            question.uuid = uuid
            question.heading = heading
            question.waiter = future
            question.error = None
            question.waker = waker
            question.later = self._later
            outbox = self._outbox
            incoming = outbox.incoming
            if size <= SMALL_QUESTION and len(incoming) < outbox.room and outbox.room_bytes > QUESTIONS_BYTES:
                incoming += (heading, record, size, question, None)
                if self._gate is not None:  # perhaps it came in when all others had been ended
                    with self._link.lock:
                        self._end_questions()
            else:
                with self._link.lock:
                    self._queue(question, record, size)
                    if outbox.queued >= MAX_RUN_MESSAGES:
                        self._flush_now()
            if self._flush_loop is not loop:
                loop.call_soon(self._flush_called, loop)
                self._flush_loop = loop  # last: after Ctrl-C before it nobody relies on a call that is not due
            try:
                answer = await future
            except BaseException:
                self._withdraw(question)
                raise
        finally:
            del waiting[future]
        if answer is LATE:
            self._withdraw(question)
            raise AskTimeoutError(late_answer_text(type, to, limit))
        return answer

    def _flush_called(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what the tasks of a loop have asked since the call was due: it leaves together."""
        if self._flush_loop is loop:
            self._flush_loop = None
        with self._link.lock:
            self._flush_now()
            if self._gate is None:
                self._link.duty.serve_in(loop)

    def _ask(self, type: str, data: Any, to: str | ActorRef | None, parent: bytes) -> Question:
        try:
            heading = self._headings[to, type]
        except (KeyError, TypeError):
            heading = self._heading_of(type, to)
        if self._gate is not None:
            raise self._error()
        uuid = new_id()
        core = self._core
        record, size = _prepared([uuid, b"", parent, time_ns(), data, None], core.max_message)
        question = Question(0, uuid, heading, Waiter())
        with self._link.lock:
            sent = 0
            if self._gate is None:
                sent = core.send_alone(heading.kind, heading.type, heading.dest, record, size, monotonic())
            if sent:
                question.seq = sent
                self._outbox.questions[uuid] = question
                self._link.send_out(self)
            else:
                self._queue(question, record, size)
                self._flush_now()
        return question

    def _heading_of(self, type: str, to: str | ActorRef | None) -> Heading:
        """Return the heading of the questions of a type to an actor, or to whoever wants them; both are checked."""
        name = None if to is None else target_name(to)
        if name is not None and name == self.name and self._core.settings.actor:
            raise ValueError(f"actor {name!r} asked itself, and would wait for its own answer; call the method instead")
        # The framework's own questions go to its own names.
        plain = check_type(type, framework=name is not None and name.startswith(FRAMEWORK_PREFIX))
        heading = Heading(KIND_ASK_ANY if name is None else KIND_ASK, plain, name)
        if len(self._headings) >= HEADINGS:
            self._headings.clear()
        self._headings[to if isinstance(to, ActorRef) else name, plain] = heading
        return heading

    def _queue(self, question: Question, record: Any, size: int) -> None:
        """Queue a question. The caller holds the lock."""
        if self._gate is not None:
            raise self._error()
        outbox = self._outbox
        heading = question.heading
        # What is asked of the bus itself is answered however full the mailboxes of others are.
        if heading.dest != BUS_NAME and not outbox.has_room():
            self._wait_for_room()
        question.seq = outbox.add(heading.kind, heading.type, heading.dest, record, size)
        self._replies.ask(question)

    def _withdraw(self, question: Question) -> None:
        with self._link.lock:
            if self._outbox.incoming:
                self._outbox.gather()
            if self._replies.withdraw(question.uuid) is not None and self._gate is None:
                self._core.cancel([question.seq], monotonic())
                self._link.send_out(self)

    # Receipts

    def _check_process(self) -> None:
        # Before the lock: in a forked child it may stay locked for ever.
        if self._link.is_foreign:
            raise self._error()

    def _expect(self, message_id: bytes, waiter: Waiter) -> None:
        """Have a waiter given the reply to a message, or the one that came already."""
        self._check_process()
        with self._link.lock:
            kept = self._replies.expect(message_id, waiter.resolve)
            if kept is not None:
                waiter.resolve(kept)
            elif self._gate is not None:
                raise self._error()
            else:
                self._waiters.add(waiter)
                self._flush_now()

    def _forget(self, message_id: bytes, waiter: Waiter) -> bool:
        """Stop waiting for a reply; return whether it came at the last moment."""
        with self._link.lock:
            self._replies.forget(message_id, waiter.resolve)
            self._waiters.discard(waiter)
            return waiter.is_done

    def _on_reply(self, message_id: bytes, fn: MsgFunc) -> None:
        def take(message: Message) -> None:
            self._callbacks.put(lambda: fn(message))

        self._check_process()
        with self._link.lock:
            kept = self._replies.expect(message_id, take)
            if kept is not None:
                take(kept)
            elif self._gate is not None:
                raise self._error()
            else:
                self._flush_now()

    # Watching

    def _watch(self, name: str, *, on: bool) -> None:
        """Watch the end of an actor, or no longer; `_on_down` is called with it, holding the link's lock."""
        self._check_process()
        with self._link.lock:
            if self._gate is not None:
                raise self._error()
            if on:
                self._core.watch(name)
            else:
                self._core.unwatch(name)
            self._link.send_out(self)

    # Waiting for what was sent

    def flush(self, timeout: Timeout = None, *, settled: bool = False) -> None:
        """Return when the bus has accepted all that was sent.

        Args:
            timeout: Seconds; None has no limit.
            settled: Wait until every receiver has handled it, or it is a dead letter.

        Raises:
            WaitTimeoutError: Not within `timeout` seconds.
            BusBusyError: The bus has taken nothing for `send_timeout` seconds.
            ConnectionClosedError: The node or the bus ended first.
        """
        limit = seconds(timeout)
        deadline = None if limit is None else monotonic() + limit
        self._check_process()
        with self._link.lock:
            if self._gate is not None:
                raise self._error()
            outbox = self._outbox
            if outbox.incoming:
                outbox.gather()
            last = outbox.next_seq - 1
            self._flush_now()
            self._core.sync()
            self._link.send_out(self)
            self._link.apply_acks()
            self._room_waiters += 1
            try:
                while (outbox.floor() < last) if settled else (outbox.accepted < last):
                    if self._gate is not None:
                        raise self._error()
                    now = monotonic()
                    if deadline is not None and now >= deadline:
                        done = outbox.floor() if settled else outbox.accepted
                        state = "settled" if settled else "accepted"
                        raise WaitTimeoutError(f"{last - done} messages were not {state} within {limit} s")
                    self._room.wait(LOOK_INTERVAL if deadline is None else min(LOOK_INTERVAL, deadline - now))
                    self._link.check_alive()
            finally:
                self._room_waiters -= 1

    def disconnect(self) -> None:
        """Leave the bus. Idempotent.

        What was sent is accepted first; what waits for this pod is given up and counted by the bus. Inside
        the pod's own callback it does not wait.
        """
        self._leave("")

    def _leave(self, reason: str, timeout: float = CONFIRM_TIMEOUT, *, join: bool = True) -> None:
        self._check_process()
        with self._link.lock:
            waiter = self._say_bye(reason, Disconnected())
        if waiter is not None:
            self._finish_leaving(waiter, timeout, join=join)

    def _say_bye(self, reason: str, error: Exception) -> Waiter | None:
        """Begin to leave: nothing is sent and nobody waits from now on. The caller holds the lock.

        Returns:
            Who waits for the bus to confirm; None when the pod has left before.
        """
        if self._gate is not None:
            return None
        self._gate = error  # first: no further handler is called
        request = self._core.request_bye(reason, self._cancellations.begun())
        self._link.send_out(self)
        self._end_waits()
        return self._confirmation(request)

    def _finish_leaving(self, waiter: Waiter, timeout: float, *, join: bool = True) -> None:
        if not self._callbacks.is_here():
            self._link.duty.wait(waiter, timeout)
        with self._link.lock:
            self._end(self._gate or Disconnected())
        if join:
            self._callbacks.join(timeout)

    @property
    def _has_left(self) -> bool:
        """Whether it has left by itself; not when its node or bus has ended."""
        return isinstance(self._gate, Disconnected)

    def _leave_unhealthy(self) -> None:
        """Leave because of too many failures; called on the callback thread."""
        logger.error("pod %s has 64 failed messages and is disconnected", self.label)
        with self._link.lock:
            if self._gate is None:
                self._gate = Disconnected(UNHEALTHY_TEXT)  # first: no further handler is called
                self._core.flush(monotonic(), force=True)
                self._core.request_bye(CLOSE_UNHEALTHY, self._cancellations.begun())
                self._link.send_out(self)
                self._end(self._gate)
        if self._on_end is not None:
            self._on_end(ConnectionClosedError(UNHEALTHY_TEXT))

    # Ends. The caller holds the lock.

    def _end(self, error: Exception) -> None:
        """End every wait of this pod. The caller holds the lock."""
        self._gate = self._gate or error
        self._outbox.limit = 0
        self._core.close()
        self._link.remove(self)
        self._end_waits()
        self._callbacks.stop()

    def _end_waits(self) -> None:
        failure = self._error()
        waiters = [*self._confirmations.values(), *self._waiters]
        self._confirmations.clear()
        self._waiters.clear()
        for waiter in waiters:
            waiter.fail(failure)
        self._end_questions()
        self._room.notify_all()

    def _end_questions(self) -> None:
        if self._outbox.incoming:
            self._outbox.gather()
        failure = self._error()
        for question in self._replies.close():
            question.fail(failure)

    def _make_ref(self, name: str) -> ActorRef:
        return ActorRef(name, self._port)


def _carried(data: Any, max_message: int) -> tuple[Any, int]:
    """Return data as `Outbox.incoming` takes it, and about how many bytes it has.

    Raises:
        MessageEncodeError, MessageTooLargeError: It cannot be carried.
    """
    if is_fixed(data, max_message):
        return data, len(data) if type(data) is bytes or type(data) is str else 8
    packed = pack_data(data, max_message)
    return (packed,), len(packed)


def _prepared(record: list[Any], max_message: int) -> tuple[Any, int]:
    """Return a record as `Outbox.add` takes it, and its size: encoded, unless that can be done with others later."""
    data = record[4]
    if type(data) is bytes and len(data) <= max_message:
        return record, RECORD_BYTES + len(data)
    if is_fixed(data, max_message):
        return record, RECORD_BYTES + (len(data) if type(data) is str else 0)
    packed = pack_fields(record, max_message)
    return packed, len(packed)


def _parent(uuid: str) -> bytes:
    return Message(parent_id=uuid)._record[2]  # type: ignore[no-any-return]


def _not_a_message(seen: object) -> MessageEncodeError:
    return MessageEncodeError(f"what is sent is a Message(type, data), not {show(seen)}; publish(type, data) makes one")


def target_name(to: str | ActorRef) -> str:
    """Return the name of whom a message is for; ValueError if nobody can be called so."""
    return to.name if isinstance(to, ActorRef) else _checked_name(to)


@lru_cache(maxsize=1024)
def _checked_name(name: str) -> str:
    return ActorRef(name).name
