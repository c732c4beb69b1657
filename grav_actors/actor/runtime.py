"""The life of one incarnation of an actor: its pod, its start, its messages, its end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from grav_actors.actor.actor import Actor, check_options
from grav_actors.actor.dispatch import LoopCallbacks, Pooled, Sequential, flush_late
from grav_actors.actor.port import STOP_TYPE, PodPort
from grav_actors.actor.timers import Timers
from grav_actors.errors import ActorStartError, Crash, GravError, Reject
from grav_actors.message import Message
from grav_actors.pod.callbacks import report_failure
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.link import Link
from grav_actors.pod.pod import Pod
from grav_actors.pod.waiter import Waiter
from grav_actors.protocol import (
    ERROR_TYPE,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    REPLY_TYPE,
    PodSettings,
)
from grav_actors.reference import ActorRef
from grav_actors.timeouts import Timeout

FLUSH_TIMEOUT = 5.0
"""Seconds that an ending actor gives the bus to accept what it has sent."""

Spawn = Callable[[type[Actor], tuple[Any, ...], dict[str, Any], str | None, str], ActorRef]


@dataclass(slots=True)
class ActorSpec:
    """What one incarnation is made of.

    Attributes:
        service: Name shared by the instances of one child, or "".
        supervisor: Uuid of the pod of the node that restarts it.
        cause: Why the incarnation before ended; "" in the first.
    """

    actor_class: type[Actor]
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    service: str = ""
    group: str = ""
    supervisor: bytes = b""
    incarnation: int = 0
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an incarnation ended.

    Attributes:
        reason: `stop`, `shutdown` or `crash`.
        error: In one line what it crashed with, or "".
        traceback: The same in full, or "".
    """

    reason: str
    error: str = ""
    traceback: str = ""


@dataclass(slots=True)
class Call:
    """The handling of one message; `is_answered` also when the answer is deferred."""

    message: Message
    inbound: Inbound
    index: int
    is_answered: bool = False
    is_deferred: bool = False


_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("grav_call", default=None)


class ActorRuntime:
    """Drives one incarnation.

    Args:
        on_end: Called once, on any thread, when the incarnation has ended.
        spawn: Starts further actors on the node; None where that is not possible.
    """

    def __init__(self, spec: ActorSpec, link: Link, on_end: Callable[[Ending], None], spawn: Spawn | None) -> None:
        cls = spec.actor_class
        options = check_options(cls)
        group = spec.group or cls.group
        settings = PodSettings(
            actor=True,
            supervisor=spec.supervisor,
            incarnation=spec.incarnation,
            service=spec.service,
            group=group,
            replay=cls.replay,
            prefetch=options.window(cls.concurrency, grouped=bool(group)),
            mailbox_limit=options.mailbox_limit,
            overflow=options.overflow,
            stuck_after=options.stuck_after,
            max_deliver=options.max_deliver,
        )
        self.spec = spec
        self.name = spec.name
        self.log = logging.getLogger(f"grav_actors.actor.{spec.name}")
        self._handlers = cls._grav_handlers
        self.pod = Pod(link, spec.name, settings, self._handlers.filters())
        self.pod._port = PodPort(self.pod)
        self.pod._on_end = self._pod_ended
        self.ref = ActorRef(spec.name, self.pod._port)
        self.timers = Timers(spec.name, lambda message: _discard(self.pod._tell(self.name, message)))
        if self._handlers.is_async:
            self.pod._callbacks = LoopCallbacks(self.pod, self, cls.concurrency)
            self._dispatch: Sequential | Pooled = Sequential(self)
        else:
            self._dispatch = Sequential(self) if cls.concurrency == 1 else Pooled(self, cls.concurrency)
            self.pod._consume = self._dispatch
        self._spawn = spawn
        self._on_end = on_end
        self._ended = threading.Event()
        self._end_lock = threading.Lock()
        self._is_stopping = False
        self._actor: Actor | None = None
        self._methods: dict[str, Callable[[Message], Any]] = {}
        self._deferred: dict[bytes, tuple[Inbound, int]] = {}
        self._joined = threading.Event()
        self._started = Waiter()

    # Start

    def start(self, timeout: float) -> None:
        """Join the bus, make the object and run its hooks; return when `on_start` has returned.

        Raises:
            ActorStartError: The name is taken, the constructor or a hook raised, or it took too long.
        """
        with self.pod._link.lock:
            # First in the queue: no message is handled before it.
            self.pod._callbacks.put(self._start_async if self._handlers.is_async else self._start)
        try:
            self.pod._join()
        except BaseException:
            self._is_stopping = True
            self._joined.set()
            self.pod._callbacks.stop()
            raise
        self._joined.set()
        if not self._started.wait(timeout):
            self._abandon()
            raise ActorStartError(f"actor {self.name!r} did not finish on_start within {timeout} s")
        self._started.result()

    def _make(self) -> Actor:
        cls = self.spec.actor_class
        actor = cls.__new__(cls)
        actor._grav_runtime = self
        actor.__init__(*self.spec.args, **self.spec.kwargs)  # type: ignore[misc]
        return actor

    def _start(self) -> None:
        self._joined.wait()
        if self._is_stopping:
            return
        try:
            self._actor = self._make()
            if self.spec.cause:
                self._actor.on_restart(self.spec.cause)
            self._actor.on_start()
        except BaseException as exc:
            self._fail_start(exc)
        else:
            self._resolve_start()

    async def _start_async(self) -> None:
        await asyncio.to_thread(self._joined.wait)
        if self._is_stopping:
            return
        try:
            self._actor = self._make()
            if self.spec.cause:
                await _maybe(self._actor.on_restart(self.spec.cause))
            await _maybe(self._actor.on_start())
        except BaseException as exc:
            self._fail_start(exc)
        else:
            self._resolve_start()

    def _resolve_start(self) -> None:
        with self.pod._link.lock:
            self._started.resolve(None)

    def _fail_start(self, exc: BaseException) -> None:
        text = traceback.format_exc()
        error = ActorStartError(
            f"actor {self.name!r} did not start: {type(exc).__name__}: {exc}", remote_traceback=text
        )
        self._is_stopping = True
        self._abandon()
        with self.pod._link.lock:
            self._started.fail(error)

    def _abandon(self) -> None:
        self.timers.close()
        self.pod._on_end = None
        self.pod._leave("stopping" if not self.spec.incarnation else "crashed", FLUSH_TIMEOUT, join=False)

    # Messages

    def handle(self, message: Message, inbound: Inbound, index: int) -> bool:
        """Call the handler of a message; return whether it is finished, which a deferred reply is not."""
        method = self._method(message)
        if method is None:
            return True
        call = Call(message, inbound, index)
        token = _call.set(call)
        try:
            result = method(message)
        finally:
            _call.reset(token)
        return self._handled(call, result)

    async def handle_async(self, message: Message, inbound: Inbound, index: int) -> bool:
        """As `handle`, for plain and `async def` handlers."""
        method = self._method(message)
        if method is None:
            return True
        call = Call(message, inbound, index)
        token = _call.set(call)
        try:
            result = method(message)
            if asyncio.iscoroutine(result):
                result = await result
        finally:
            _call.reset(token)
        return self._handled(call, result)

    def _method(self, message: Message) -> Callable[[Message], Any] | None:
        message_type = message._type
        method = self._methods.get(message_type)
        if method is not None:
            return method
        name = self._handlers.find(message_type)
        if name is not None:
            method = self._methods[message_type] = getattr(self._actor, name)
            return method
        kind = message._origin.kind if message._origin is not None else KIND_PUBLISH
        if message_type == STOP_TYPE:
            self.stop("stop")
        elif kind == KIND_ASK:
            data = {"code": "no_handler", "error": f"{self.name} does not handle {message_type}", "traceback": ""}
            self.pod._answer(message, Message._framework(ERROR_TYPE, data, reply_to=message.uuid))
        elif kind not in (KIND_PUBLISH, KIND_REPLY, KIND_ASK_ANY):
            raise Reject(f"{self.name} has no handler for {message_type}")
        return None

    def _handled(self, call: Call, result: Any) -> bool:
        message = call.message
        if self.timers.has_repeating:
            self.timers.handled(message._record[0])
        if call.is_deferred:
            return False
        if not call.is_answered:
            origin = message._origin
            kind = origin.kind if origin is not None else KIND_PUBLISH
            if kind == KIND_ASK or (result is not None and kind in (KIND_ASK_ANY, KIND_PUBLISH, KIND_REPLY)):
                self._answer(message, result)
        return True

    def _answer(self, message: Message, data: Any) -> None:
        answer = Message._framework(REPLY_TYPE, data, parent_id=message.uuid, reply_to=message.uuid)
        self.pod._answer(message, answer)

    def finished(self, inbound: Inbound, index: int) -> None:
        """Note that a message is finished, perhaps before earlier ones."""
        with self.pod._link.lock:
            inbound.finish(index)
            self.pod._core.finished_ahead(inbound)
            if inbound.attempt == 1:
                self.pod._core.succeeded()
            flush_late(self.pod)

    def failed(self, inbound: Inbound, index: int, message: Message, exc: Exception) -> bool:
        """Report what a handler raised; return whether the actor ends by it."""
        if self.timers.has_repeating:
            self.timers.handled(message._record[0])
        if isinstance(exc, (Crash, *self.spec.actor_class.crash_on)):
            self._crash(exc)
            return True
        if not isinstance(exc, Reject):
            self.log.warning(
                "%s failed on %s (attempt %d)", self.name, message.type, message.attempt, exc_info=exc
            )
        if report_failure(self.pod, inbound, index, message, exc):
            self._end(Ending("crash", "64 messages failed", ""))
            return True
        return False

    # What the actor does

    @staticmethod
    def _parent(parent: Message | str | None) -> str:
        if parent is None:
            call = _call.get()
            return call.message.uuid if call is not None else ""
        return parent if isinstance(parent, str) else parent.uuid

    def publish(
        self, type: str, data: Any, parent: Message | str | None, reply_to: str, headers: Mapping[str, str] | None
    ) -> None:
        """See `Actor.publish`."""
        self.pod.send(Message(type, data, parent_id=self._parent(parent), reply_to=reply_to, headers=headers))

    def tell(self, to: str | ActorRef, type: str, data: Any) -> None:
        """See `Actor.tell`."""
        name = to.name if isinstance(to, ActorRef) else to
        self.pod._tell(name, Message(type, data, parent_id=self._parent(None)))

    def ask(self, to: str | ActorRef, type: str, data: Any, timeout: Timeout) -> Any:
        """See `Actor.ask`."""
        return self.pod.ask(type, data, to=to, timeout=timeout)

    async def ask_async(self, to: str | ActorRef, type: str, data: Any, timeout: Timeout) -> Any:
        """See `Actor.ask_async`."""
        return await self.pod.ask_async(type, data, to=to, timeout=timeout)

    def reply(self, message: Message, data: Any) -> None:
        """See `Actor.reply`."""
        call = _call.get()
        if call is not None and call.message._record[0] == message._record[0]:
            call.is_answered = True
        self._answer(message, data)
        with self.pod._link.lock:
            deferred = self._deferred.pop(message._record[0], None)
        if deferred is not None:
            self.finished(*deferred)

    def defer_reply(self, message: Message) -> None:
        """See `Actor.defer_reply`."""
        call = _call.get()
        if call is None or call.message._record[0] != message._record[0]:
            raise ValueError("defer_reply is for the message being handled; a reply can be deferred only in its handler")
        if call.is_answered:
            raise ValueError("the message is answered already")
        call.is_answered = call.is_deferred = True
        with self.pod._link.lock:
            self._deferred[message._record[0]] = (call.inbound, call.index)
            self.pod._core.has_gaps = True

    def spawn(
        self, actor_class: type[Actor], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None, kind: str
    ) -> ActorRef:
        """See `Actor.spawn`."""
        if self._spawn is None:
            raise GravError("this actor's node cannot start further actors")
        return self._spawn(actor_class, args, kwargs, name, kind)

    # End

    def stop(self, reason: str) -> None:
        """End after what is in the queue; returns at once. Idempotent, from any thread."""
        with self._end_lock:
            if self._is_stopping:
                return
            self._is_stopping = True
        with self.pod._link.lock:
            self.pod._callbacks.put(
                (lambda: self._stop_async(reason)) if self._handlers.is_async else (lambda: self._stop(reason))
            )

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end; return whether it has come."""
        return self._ended.wait(timeout)

    def _stop(self, reason: str) -> None:
        self._dispatch.drain()
        try:
            if self._actor is not None:
                self._actor.on_stop(reason)
        except Exception:
            self.log.exception("%s: on_stop raised", self.name)
        self._leave(reason)

    async def _stop_async(self, reason: str) -> None:
        try:
            if self._actor is not None:
                await _maybe(self._actor.on_stop(reason))
        except Exception:
            self.log.exception("%s: on_stop raised", self.name)
        await asyncio.to_thread(self._flush)
        self._leave(reason)

    def _flush(self) -> None:
        try:
            self.pod.flush(FLUSH_TIMEOUT)
        except GravError as exc:
            self.log.warning("%s ended before the bus had accepted all that it sent: %s", self.name, exc)

    def _leave(self, reason: str) -> None:
        self.timers.close()
        self._dispatch.close()
        self.pod._on_end = None
        if self.pod._gate is None:
            self._flush()
        self.pod._leave("crashed" if reason == "crash" else "stopping", FLUSH_TIMEOUT, join=False)
        self._end(Ending(reason))

    def _crash(self, exc: BaseException) -> None:
        """End because of an actor failure; the message that was in the handler stays unhandled."""
        text = "".join(traceback.format_exception(exc))
        self._is_stopping = True
        ending = Ending("crash", f"{type(exc).__name__}: {exc}", text)
        try:
            if self._actor is not None:
                outcome = self._actor.on_stop("crash")
                if asyncio.iscoroutine(outcome):
                    asyncio.get_running_loop().create_task(outcome)
        except Exception:
            self.log.exception("%s: on_stop raised", self.name)
        self.timers.close()
        self._dispatch.close()
        self.pod._on_end = None
        self.pod._leave("crashed", FLUSH_TIMEOUT, join=False)
        self._end(ending)

    def _pod_ended(self, error: Exception) -> None:
        """The bus has ended the pod, or is gone for good."""
        self._is_stopping = True
        self.timers.close()
        self._end(Ending("crash", str(error)))

    def _end(self, ending: Ending) -> None:
        with self._end_lock:
            if self._ended.is_set():
                return
            self._ended.set()
        self._on_end(ending)


async def _maybe(outcome: Any) -> None:
    if asyncio.iscoroutine(outcome):
        await outcome


def _discard(_: object) -> None:
    return

