"""How an actor's handlers are called: one after another, in several threads, or in an event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from grav_actors.actor.slate import Slot
from grav_actors.message import Message
from grav_actors.pod.callbacks import Callbacks, Job, consume_with, open_run, origin_of
from grav_actors.protocol import ACK_DELAY, FLAG_SUSPECT, QUESTION_KINDS

if TYPE_CHECKING:
    from grav_actors.actor.runtime import ActorRuntime
    from grav_actors.pod.inbound import Inbound
    from grav_actors.pod.pod import Pod

logger = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0
"""Seconds after which an actor that waits for its handlers looks whether it is to end."""


class Dispatch(Protocol):
    """Calls the plain handlers of an actor. Used on the actor's own thread."""

    def __call__(self, inbound: Inbound) -> None:
        """Handle the messages of a run, or have them handled."""
        ...

    def drain(self, timeout: float) -> bool:
        """Wait until no handler runs; return whether that is so."""
        ...

    def close(self) -> None:
        """End the threads; what they run goes on to its end."""
        ...


class Sequential:
    """Plain handlers, one message at a time, on the actor's thread."""

    def __init__(self, runtime: ActorRuntime) -> None:
        self._runtime = runtime

    def __call__(self, inbound: Inbound) -> None:
        """Handle the messages of a run."""
        runtime = self._runtime
        if runtime.is_over:
            return
        slot = runtime.slot
        if slot is not None:
            slot.turn_to(inbound)
        consume_with(runtime.pod, inbound, runtime.handle, runtime.failed)
        if slot is not None and not runtime.is_over:
            slot.clear()

    def drain(self, timeout: float) -> bool:
        """There is nothing to wait for."""
        return True

    def close(self) -> None:
        """There is nothing to end."""


class Pooled:
    """Plain handlers, up to `concurrency` messages at a time, in threads.

    The threads are daemons: one whose handler hangs does not keep a process that has crashed from ending.
    """

    def __init__(self, runtime: ActorRuntime, concurrency: int) -> None:
        self._runtime = runtime
        self._concurrency = concurrency
        self._slots = threading.Semaphore(concurrency)
        self._queue: SimpleQueue[tuple[Inbound, int, Message] | None] = SimpleQueue()
        self._threads = 0

    def __call__(self, inbound: Inbound) -> None:
        """Hand the messages of a run to the threads; blocks while all are busy."""
        runtime = self._runtime
        pod = runtime.pod
        origin = origin_of(inbound)
        opened = open_run(pod, inbound)
        records = opened.records()
        if inbound.kind in QUESTION_KINDS:
            pod._cancellations.begin(inbound, opened, origin)
        for index in range(inbound.skip, len(records)):
            if inbound.flags & FLAG_SUSPECT:
                if not self._is_alone():
                    return
                self._run(inbound, index, Message._received(records[index], inbound.type, origin))
                continue
            self._slots.acquire()
            if runtime.is_over or pod._gate is not None:
                self._slots.release()
                return
            if self._threads < self._concurrency:
                self._threads += 1
                threading.Thread(target=self._work, name=f"grav-pool-{runtime.name}", daemon=True).start()
            self._queue.put((inbound, index, Message._received(records[index], inbound.type, origin)))

    def _is_alone(self) -> bool:
        """Wait until no handler runs; return whether a further one may be called."""
        runtime = self._runtime
        while not runtime.is_ending and runtime.pod._gate is None:
            if self.drain(LOOK_INTERVAL):
                return True
        return False

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            self._run(*task)
            self._slots.release()

    def _run(self, inbound: Inbound, index: int, message: Message) -> None:
        runtime = self._runtime
        slot = enter_slot(runtime, inbound, index, message)
        has_crashed = False
        try:
            is_finished = message.cancelled or runtime.handle(message, inbound, index)
        except Exception as exc:
            has_crashed = runtime.failed(inbound, index, message, exc) and runtime.is_over
        else:
            if is_finished:
                runtime.answers.finished(inbound, index)
        leave_slot(runtime, slot, has_crashed=has_crashed)

    def drain(self, timeout: float) -> bool:
        """Wait until no handler runs; return whether that is so."""
        deadline = time.monotonic() + timeout
        taken = 0
        while taken < self._concurrency and self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
            taken += 1
        for _ in range(taken):
            self._slots.release()
        return taken == self._concurrency

    def close(self) -> None:
        """End the threads when their handlers have ended."""
        for _ in range(self._threads):
            self._queue.put(None)


class ActorThread(Callbacks):
    """The thread of an actor with plain handlers and hooks."""

    def __init__(self, runtime: ActorRuntime) -> None:
        super().__init__(runtime.pod)
        self._runtime = runtime

    def _work(self) -> None:
        try:
            super()._work()
        finally:
            self._runtime.thread_ends()


class ActorLoop(Callbacks):
    """The thread of an actor with `async def` handlers or hooks: it runs an event loop, which serves the socket too.

    With concurrency 1 the handlers run in order; else up to that many at a time, as tasks.
    """

    def __init__(self, runtime: ActorRuntime, concurrency: int) -> None:
        super().__init__(runtime.pod)
        self._runtime = runtime
        self._concurrency = concurrency
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Event | None = None
        self._is_waiting = False
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, item: Inbound | Job | None) -> None:
        """Have a run handled or a function, plain or a coroutine function, called."""
        self.items.append(item)
        if self._thread is None:
            if item is None:
                return
            self._thread = threading.Thread(target=self._work, name=f"grav-loop-{self._pod.name}", daemon=True)
            self._thread.start()
        elif self._is_waiting and self._loop is not None and self._ready is not None:
            self._is_waiting = False
            if threading.get_ident() == self.ident:  # the loop serves the socket
                self._ready.set()
                return
            try:
                self._loop.call_soon_threadsafe(self._ready.set)
            except RuntimeError:
                return  # the loop has ended

    def put_all(self, runs: list[Inbound]) -> None:
        """Have runs handled."""
        for inbound in runs:
            self.put(inbound)

    def stop(self) -> None:
        """End the loop after what it is doing."""
        self.put(None)

    def _work(self) -> None:
        self.ident = threading.get_ident()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        slots = asyncio.Semaphore(self._concurrency)
        try:
            while (item := await self._next(self._ready)) is not None and self._pod._gate is None:
                if callable(item):
                    await self._call_async(item)
                else:
                    await self._take(item, slots)
                    self._handled_bytes += len(item.body)
                self._flush(time.monotonic(), not self.items)
        finally:
            await self._runtime.thread_ends_async()

    async def _next(self, ready: asyncio.Event) -> Inbound | Job | None:
        link = self._pod._link
        while not self.items:
            ready.clear()
            with link.lock:
                self._is_waiting = not self.items
                if self._is_waiting:
                    link.duty.serve_in(asyncio.get_running_loop(), stays=True)
            if self._is_waiting:
                await ready.wait()
        return self.items.popleft()

    async def _call_async(self, job: Callable[[], Any]) -> None:
        try:
            outcome = job()
            if asyncio.iscoroutine(outcome):
                await outcome
        except Exception:
            logger.exception("a callback of actor %s raised", self._pod.label)

    async def drain(self, timeout: float) -> bool:
        """Wait until no handler runs; return whether that is so."""
        return not self._tasks or not (await asyncio.wait(self._tasks, timeout=timeout))[1]

    async def _is_alone(self) -> bool:
        """Wait until no handler runs; return whether a further one may be called."""
        while not self._runtime.is_ending and self._pod._gate is None:
            if await self.drain(LOOK_INTERVAL):
                return True
        return False

    async def _take(self, inbound: Inbound, slots: asyncio.Semaphore) -> None:
        runtime = self._runtime
        pod = self._pod
        origin = origin_of(inbound)
        opened = open_run(pod, inbound)
        records = opened.records()
        if inbound.kind in QUESTION_KINDS:
            pod._cancellations.begin(inbound, opened, origin)
        is_in_order = self._concurrency == 1
        slot = runtime.slot if is_in_order else None
        if slot is not None:
            slot.turn_to(inbound)
        for index in range(inbound.skip, len(records)):
            if not is_in_order:
                await slots.acquire()
            if runtime.is_over or pod._gate is not None:
                return
            message = Message._received(records[index], inbound.type, origin)
            if inbound.flags & FLAG_SUSPECT and not is_in_order:
                slots.release()
                if not await self._is_alone():
                    return
                await self._run(inbound, index, message, runtime.answers.finished)
            elif is_in_order:
                await self._run(inbound, index, message, runtime.answers.finished_in_order)
            else:
                task = asyncio.create_task(self._run(inbound, index, message, runtime.answers.finished))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                task.add_done_callback(lambda _: slots.release())
        if is_in_order:
            if slot is not None and not runtime.is_over:
                slot.clear()
            runtime.answers.run_finished(inbound)

    async def _run(
        self, inbound: Inbound, index: int, message: Message, finished: Callable[[Inbound, int], None]
    ) -> None:
        runtime = self._runtime
        slot = enter_slot(runtime, inbound, index, message)
        has_crashed = False
        try:
            is_finished = message.cancelled or await runtime.handle_async(message, inbound, index)
        except Exception as exc:
            has_crashed = runtime.failed(inbound, index, message, exc) and runtime.is_over
        else:
            if is_finished:
                finished(inbound, index)
        leave_slot(runtime, slot, has_crashed=has_crashed)


def enter_slot(runtime: ActorRuntime, inbound: Inbound, index: int, message: Message) -> Slot | None:
    """Note on a slot of its own, in a process, that a message is in a handler beside others."""
    slate = runtime.slate
    slot = slate.take() if slate is not None and runtime.slot is None else None
    if slot is not None:
        slot.turn_to(inbound)
        seq = inbound.seq + index
        slot.note(seq, message._record[0], seq)
    return slot


def leave_slot(runtime: ActorRuntime, slot: Slot | None, *, has_crashed: bool) -> None:
    """Note that a handler has returned. The message that has crashed the actor stays, for the parent to read."""
    if slot is not None and runtime.slate is not None and not has_crashed:
        runtime.slate.give_back(slot)


def flush_late(pod: Pod) -> None:
    """Send what was queued and handled, if the last acknowledgement is old enough. The caller holds the lock."""
    now = time.monotonic()
    pod._core.flush(now, force=now - pod._core.ack_sent_at >= ACK_DELAY)
    if pod._core.out:
        pod._link.send_out(pod)
    else:
        pod._link.expect_flush(pod)
