"""The life of one incarnation of an actor: its pod, its start, its messages, its end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.answers import Answers
from grav_actors.actor.call import Call, reset_current, set_current
from grav_actors.actor.dispatch import ActorLoop, ActorThread, Dispatch, Pooled, Sequential
from grav_actors.actor.handlers import FOUND_LIMIT
from grav_actors.actor.port import PodPort
from grav_actors.actor.slate import Handling, Slate, Slot
from grav_actors.actor.spec import ActorSpec, Ending, Spawn
from grav_actors.actor.timers import Timers
from grav_actors.codec import pack_record
from grav_actors.errors import ActorStartError, Crash, GravError, Reject
from grav_actors.message import Message
from grav_actors.pod.callbacks import report_failure
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.link import Link
from grav_actors.pod.pod import Pod
from grav_actors.pod.waiter import Waiter
from grav_actors.protocol import BYE_CRASHED, BYE_STOPPING, DOWN_TYPE, KIND_ASK, KIND_TELL, STOP_TYPE
from grav_actors.reference import ActorRef
from grav_actors.tracebacks import shorten, traceback_text

if TYPE_CHECKING:
    from grav_actors.supervisor.spec import Child

END_TIMEOUT = 5.0
"""Seconds that an ending actor gives its other handlers to return, and the bus to accept what it has sent."""


class ActorRuntime:
    """Drives one incarnation.

    Its object lives on the actor's own thread: constructor and hooks run there, and handlers too unless they are
    plain and `concurrency` is above 1.

    Args:
        on_end: Called once, on any thread, when an incarnation that had started has ended.
        spawn: Starts further actors on the node; None where that is not possible.

    Attributes:
        spawner: The same; to be set before the start if it needs the pod.
        slate: Where its process notes what is in its handlers; None in a thread.
        slot: The slot for all of them when they run one after another, else None.
        is_over: No handler is to be called any more, as one has crashed the actor.
        patience: Seconds that it has to stop, if its supervisor has said so.
        on_line: Takes what processes below it write: the name, `stdout` or `stderr`, the line; None leaves that to
            the terminal.
    """

    def __init__(self, spec: ActorSpec, link: Link, on_end: Callable[[Ending], None], spawn: Spawn | None) -> None:
        cls = spec.actor_class
        self.spec = spec
        self.name = spec.name
        self.log = logging.getLogger(f"grav_actors.actor.{spec.name}")
        self.is_over = False
        self.patience: float | None = None
        self.on_line: Callable[[str, str, str], None] | None = None
        self.slate: Slate | None = None
        self.slot: Slot | None = None
        self._handlers = cls._grav_handlers
        self.pod = Pod(link, spec.name, spec.settings(), self._handlers.filters())
        self.pod._port = PodPort(self.pod)
        self.pod._on_end = self._pod_ended
        self.pod._on_down = self._watched_is_down
        self.answers = Answers(self.pod)
        self.ref = ActorRef(spec.name, self.pod._port)
        self.timers = Timers(
            spec.name,
            lambda message: pack_record(message, self.pod._core.max_message),
            self._send_timed,
            self._is_settled,
        )
        self._ticks = self.timers.under_way
        self._thread: ActorThread | ActorLoop
        self._dispatch: Dispatch = Sequential(self)
        if self._handlers.is_async:
            self._thread = ActorLoop(self, cls.concurrency)
        else:
            self._thread = ActorThread(self)
            if cls.concurrency > 1:
                self._dispatch = Pooled(self, cls.concurrency)
            else:
                self.answers.behind = self._thread.items
            self.pod._consume = self._dispatch
        self.pod._callbacks = self._thread
        self.spawner = spawn
        self._on_end = on_end
        self._end_lock = threading.Lock()
        self._ending: Ending | None = None
        self._has_started = False
        self._has_ended = False
        self._ended = threading.Event()
        self._actor: Actor | None = None
        self._crashes: tuple[type[Exception], ...] = (Crash, *cls.crash_on)
        self._methods: dict[str, Callable[[Message], Any]] = {}
        self._joined = threading.Event()
        self._started = Waiter()
        self._is_announced = threading.Event()

    # Start

    def note_on(self, slate: Slate) -> None:
        """Have it noted what is in the handlers; call it before the start."""
        self.slate = slate
        if self.spec.actor_class.concurrency == 1:
            self.slot = self.answers.slot = slate.take()

    def start(self, timeout: float | None, on_ready: Callable[[], None] | None = None) -> None:
        """Join the bus, make the object and run its hooks; return when `on_start` has returned.

        Args:
            on_ready: Called then; no message is handled before it has returned.

        Raises:
            ActorStartError: The name is taken, the constructor or a hook raised, or it took too long.
        """
        self._put(self._start_async if self._handlers.is_async else self._start)  # first: ahead of all messages
        try:
            self.pod._join()
        except BaseException:
            self._ending = Ending("stop")
            self._joined.set()
            with self.pod._link.lock:
                self._thread.stop()
            raise
        self._joined.set()
        try:
            if not self._started.wait(timeout):
                self._abandon()
                raise ActorStartError(f"actor {self.name!r} did not finish on_start within {timeout:g} s")
            self._started.result()
            if on_ready is not None:
                on_ready()
        finally:
            self._is_announced.set()

    def _put(self, job: Callable[[], Any]) -> None:
        with self.pod._link.lock:
            self._thread.put(job)

    def _make(self) -> Actor:
        if self._ending is not None:
            raise ActorStartError("it was stopped before it began")
        spec = self.spec
        cls = spec.actor_class
        actor = cls.__new__(cls, *spec.args, **spec.kwargs)
        actor._grav_runtime = self
        actor.__init__(*spec.args, **spec.kwargs)  # type: ignore[misc]
        return actor

    def _start(self) -> None:
        self._joined.wait()
        try:
            actor = self._make()
            if self.spec.cause:
                actor.on_restart(self.spec.cause)
            actor.on_start()
            self._restore(actor)
            if actor._grav_supervises:
                actor._grav_begin()
                self._check_wanted(actor)
        except BaseException as exc:
            self._fail_start(exc)
        else:
            self._ready(actor)

    async def _start_async(self) -> None:
        self._joined.wait()  # nothing else is in the loop yet
        try:
            actor = self._make()
            if self.spec.cause:
                await settled(actor.on_restart(self.spec.cause))
            await settled(actor.on_start())
            await self._restore_async(actor)
            if actor._grav_supervises:
                await asyncio.to_thread(actor._grav_begin)
                self._check_wanted(actor)
        except BaseException as exc:
            self._fail_start(exc)
        else:
            self._ready(actor)

    def _check_wanted(self, actor: Actor) -> None:
        """End the children of a supervisor whose start was given up meanwhile."""
        if self._has_ended:
            actor._grav_end()
            raise ActorStartError("its start was given up")

    def _ready(self, actor: Actor) -> None:
        self._actor = actor
        self._has_started = True
        with self.pod._link.lock:
            self._started.resolve(None)
        # A message that kills its process must not do so before it is known that the actor has started.
        self._is_announced.wait()

    def _fail_start(self, exc: BaseException) -> None:
        text = traceback_text(exc)
        self._abandon()
        with self.pod._link.lock:
            self._started.fail(
                ActorStartError(
                    f"actor {self.name!r} did not start: {type(exc).__name__}: {exc}", remote_traceback=text
                )
            )

    def _abandon(self) -> None:
        """Leave after a start that failed. A restarted name keeps its mailbox for the next attempt."""
        with self._end_lock:
            self._has_ended = True
        self.timers.close()
        self.pod._on_end = None
        self.pod._leave(BYE_CRASHED if self.spec.incarnation else BYE_STOPPING, END_TIMEOUT, join=False)
        self._ended.set()

    # State; see KeepingRuntime

    def _restore(self, actor: Actor) -> Any:
        """Give it the state of the life before."""

    async def _restore_async(self, actor: Actor) -> None:
        """As `_restore`, in the actor's loop."""

    def _keep_last(self) -> None:
        """Keep its last state."""

    async def _keep_last_async(self) -> None:
        """As `_keep_last`, in the actor's loop."""

    def _send_timed(self, message: Message) -> int:
        self.pod._tell(self.name, message)
        return self.pod._core.outbox.next_seq - 1

    def _is_settled(self, number: int) -> bool:
        link = self.pod._link
        with link.lock:
            link.apply_acks()
            return self.pod._core.outbox.floor() >= number

    # Messages

    def handle(self, message: Message, inbound: Inbound, index: int) -> bool:
        """Call the handler of a message; return whether it is to be noted as finished, see `callbacks.Handle`."""
        method = self._methods.get(inbound.type) or self._find_method(message, inbound)
        if method is None:
            return True
        if self.slot is not None:
            seq = inbound.seq + index
            self.slot.note(seq, message._id, seq)
        call = Call()
        call.message, call.inbound, call.index = message, inbound, index
        token = set_current(call)
        try:
            result = method(message)
        except Exception:
            raise
        except BaseException as exc:  # sys.exit(), say: it would end the thread without a word
            raise Crash(f"{type(exc).__name__}: {exc}") from exc
        finally:
            call.is_over = True
            reset_current(token)
        return self._handled(call, result)

    async def handle_async(self, message: Message, inbound: Inbound, index: int) -> bool:
        """As `handle`, for plain and `async def` handlers."""
        method = self._methods.get(inbound.type) or self._find_method(message, inbound)
        if method is None:
            return True
        if self.slot is not None:
            seq = inbound.seq + index
            self.slot.note(seq, message._id, seq)
        call = Call()
        call.message, call.inbound, call.index = message, inbound, index
        token = set_current(call)
        try:
            result = method(message)
            if asyncio.iscoroutine(result):
                result = await result
        except Exception:
            raise
        except asyncio.CancelledError as exc:
            if self.pod._gate is not None:
                raise
            raise RuntimeError("the handler was cancelled") from exc
        except BaseException as exc:
            raise Crash(f"{type(exc).__name__}: {exc}") from exc
        finally:
            call.is_over = True
            reset_current(token)
        return self._handled(call, result)

    def _find_method(self, message: Message, inbound: Inbound) -> Callable[[Message], Any] | None:
        if inbound.type == STOP_TYPE:
            self.stop("stop")
            return None
        is_down = inbound.type == DOWN_TYPE
        if is_down and inbound.sender != self.pod._id:
            return None  # of a watch of the incarnation before this one, which has its own
        name = self._handlers.find(inbound.type)
        if name is not None:
            method: Callable[[Message], Any] = getattr(self._actor, name)
            if len(self._methods) < FOUND_LIMIT and not is_down:
                self._methods[inbound.type] = method
            return method
        if inbound.kind == KIND_ASK:
            self.answers.refuse(message, f"{self.name} does not handle {inbound.type}")
        elif inbound.kind == KIND_TELL:
            raise Reject(f"{self.name} has no handler for {inbound.type}")
        return None

    def _handled(self, call: Call, result: Any) -> bool:
        if self._ticks:
            self.timers.handled(call.message._id)
        if result is None and call.inbound.kind != KIND_ASK:
            return not call.is_deferred
        return self.answers.returned(call, result)

    def failed(self, inbound: Inbound, index: int, message: Message, exc: Exception) -> bool:
        """Report what a handler raised; return whether the actor ends by it."""
        if self._ticks:
            self.timers.handled(message._record[0])
        self.answers.failed(message)
        if isinstance(exc, self._crashes):
            self._crash_in(inbound, index, message, exc)
            return True
        if not isinstance(exc, Reject):
            self.log.warning(
                "%s failed on %s (attempt %d)", self.name, message.type, message.attempt, exc_info=shorten(exc)
            )
        try:
            return report_failure(self.pod, inbound, index, message, exc)
        except GravError as error:  # the bus takes nothing, and so nobody would learn of it
            self._crash_in(inbound, index, message, error)
            return True

    def _crash_in(self, inbound: Inbound, index: int, message: Message, exc: Exception) -> None:
        """End because of what a handler raised; the bus is told which message to charge with it."""
        with self.pod._link.lock:
            self.pod._core.crashed(inbound, index, f"{type(exc).__name__}: {exc}")
        uuid: bytes = message._record[0]
        self._crash(exc, Handling(inbound.sender, inbound.seq + index, uuid, inbound.type, inbound.attempt))

    # What the actor does

    @property
    def is_ending(self) -> bool:
        """Whether its end has been decided."""
        return self._ending is not None

    def spawn(
        self, actor_class: type[Actor] | Child, /, *args: Any, name: str | None, kind: str, **kwargs: Any
    ) -> ActorRef:
        """See `Actor.spawn`."""
        if self.spawner is None:
            raise GravError("this actor's node cannot start further actors")
        return self.spawner(actor_class, *args, name=name, kind=kind, **kwargs)

    def watch(self, name: str, *, on: bool) -> None:
        """See `Actor.watch` and `Actor.unwatch`."""
        if self._handlers.find(DOWN_TYPE) is None:
            raise ValueError(
                f"{self.name} watches {name} and has no handler that could be told; write one under "
                f'@on_type("{DOWN_TYPE}")'
            )
        self.pod._watch(name, on=on)

    def _watched_is_down(self, name: str, reason: str, error: str) -> None:
        # A message to itself: it waits its turn in the mailbox, and comes again if its handler fails.
        message = Message._framework(DOWN_TYPE, {"name": name, "reason": reason, "error": error})

        def tell_itself() -> None:
            self.pod._tell(self.name, message)

        self._thread.put(tell_itself)

    # End

    def stop(self, reason: str) -> None:
        """End after what is in the queue; returns at once. Idempotent, from any thread."""
        with self._end_lock:
            if self._ending is not None:
                return
            self._ending = Ending(reason)
        self._put(self._finish_async if self._handlers.is_async else self._finish_plain)

    def _crash(self, exc: BaseException, *handling: Handling) -> None:
        """End because of an actor failure; the message that was in the handler stays unhandled."""
        with self._end_lock:
            is_first, self.is_over = not self.is_over, True
            if self._ending is not None:
                if is_first:
                    self.log.error("%s crashed while it was ending", self.name, exc_info=shorten(exc))
                return
            text = traceback_text(exc)
            self._ending = Ending("crash", f"{type(exc).__name__}: {exc}", text, handling)
        self._put(self._finish_async if self._handlers.is_async else self._finish_plain)

    def _pod_ended(self, error: Exception) -> None:
        """The bus has ended the pod; its thread is ending, unless a handler holds it up."""
        with self._end_lock:
            if self._ending is None:
                self._ending = Ending("crash", str(error))
        threading.Thread(target=self._end_late, name=f"grav-end-{self.name}", daemon=True).start()

    def _end_late(self) -> None:
        if not self._ended.wait(END_TIMEOUT):
            self.log.error("%s: a handler has not returned within %g s", self.name, END_TIMEOUT)
            self._end()

    def thread_ends(self) -> None:
        """Do the last things on the actor's thread, which ends also when its pod was taken from it."""
        if not self._has_ended:
            self._finish_plain()

    async def thread_ends_async(self) -> None:
        """As `thread_ends`, in the actor's loop."""
        if not self._has_ended:
            await self._finish_async()

    def _finish_plain(self) -> None:
        if not self._dispatch.drain(END_TIMEOUT):
            self.log.error("%s: a handler has not returned within %g s", self.name, END_TIMEOUT)
        try:
            if self._actor is not None:
                self._keep_last()
                if self._actor._grav_supervises:
                    self._actor._grav_end()
                self._actor.on_stop(self._reason())
        except BaseException as exc:
            self.log.exception("%s: on_stop raised", self.name, exc_info=shorten(exc))
        self._leave()

    async def _finish_async(self) -> None:
        assert isinstance(self._thread, ActorLoop)
        if not await self._thread.drain(END_TIMEOUT):
            self.log.error("%s: a handler has not returned within %g s", self.name, END_TIMEOUT)
        try:
            if self._actor is not None:
                await self._keep_last_async()
                if self._actor._grav_supervises:
                    await asyncio.to_thread(self._actor._grav_end)
                await settled(self._actor.on_stop(self._reason()))
        except BaseException as exc:
            self.log.exception("%s: on_stop raised", self.name, exc_info=shorten(exc))
        self._leave()

    def _reason(self) -> str:
        with self._end_lock:
            if self._ending is None:
                self._ending = Ending("crash", str(self.pod._error()))
            return self._ending.reason

    def _leave(self) -> None:
        is_crash = self._reason() == "crash"
        self.pod._on_end = None
        self.timers.close()
        self._dispatch.close()
        if self.pod._gate is None and not is_crash:
            try:
                self.pod.flush(END_TIMEOUT)
            except GravError as exc:
                self.log.warning("%s ended before the bus had accepted all that it sent: %s", self.name, exc)
        # One that ends because others do may have a next incarnation: its supervisor says whether the name is kept.
        is_open = is_crash or (self._reason() == "shutdown" and self.spec.supervisor != b"")
        self.pod._leave(BYE_CRASHED if is_open else BYE_STOPPING, END_TIMEOUT, join=False)
        self._end()

    def _end(self) -> None:
        with self._end_lock:
            if self._has_ended:
                return
            self._has_ended = True
            ending = self._ending
        if self._has_started and ending is not None:
            self._on_end(ending)
        else:  # its pod was taken from it before it began
            with self.pod._link.lock:
                self._started.fail(ActorStartError(f"actor {self.name!r} did not start: {self.pod._error()}"))
        self._ended.set()

    def is_idle(self) -> bool:
        """Whether no handler runs, also none in a thread of its own; for one that has ended."""
        return self._dispatch.drain(0)

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end; return whether it has come."""
        return self._ended.wait(timeout)

    def join(self, timeout: float) -> None:
        """Wait for its threads to end, after `wait`."""
        self._thread.join(timeout)
        self.timers.join(timeout)


async def settled(outcome: Any) -> Any:
    """Return what a hook has returned, plain or `async def`."""
    return await outcome if asyncio.iscoroutine(outcome) else outcome
