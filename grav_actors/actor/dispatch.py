"""How an actor's handlers are called: one after another, in several threads, or in an event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from grav_actors.message import Message
from grav_actors.pod.callbacks import Callbacks, Job, consume_with, decode, origin_of
from grav_actors.protocol import ACK_DELAY

if TYPE_CHECKING:
    from grav_actors.actor.runtime import ActorRuntime
    from grav_actors.pod.inbound import Inbound
    from grav_actors.pod.pod import Pod

logger = logging.getLogger(__name__)


class Sequential:
    """Plain handlers, one message at a time, on the pod's callback thread."""

    def __init__(self, runtime: ActorRuntime) -> None:
        self._runtime = runtime

    def __call__(self, inbound: Inbound) -> None:
        """Handle the messages of a run."""
        runtime = self._runtime
        consume_with(runtime.pod, inbound, runtime.handle, runtime.failed)

    def drain(self) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to end."""


class Pooled:
    """Plain handlers, up to `concurrency` messages at a time, in threads."""

    def __init__(self, runtime: ActorRuntime, concurrency: int) -> None:
        self._runtime = runtime
        self._concurrency = concurrency
        self._slots = threading.Semaphore(concurrency)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix=f"grav-{runtime.name}")

    def __call__(self, inbound: Inbound) -> None:
        """Hand the messages of a run to the threads; blocks while all are busy."""
        pod = self._runtime.pod
        origin = origin_of(inbound)
        for index, record in enumerate(decode(pod, inbound)):
            self._slots.acquire()
            if pod._gate is not None:
                self._slots.release()
                return
            message = Message._received(record, inbound.type, origin)
            self._pool.submit(self._run, inbound, index, message)

    def _run(self, inbound: Inbound, index: int, message: Message) -> None:
        runtime = self._runtime
        try:
            if not runtime.pod._take_cancelled(inbound, index):
                is_finished = runtime.handle(message, inbound, index)
            else:
                is_finished = True
        except Exception as exc:
            runtime.failed(inbound, index, message, exc)
        else:
            if is_finished:
                runtime.finished(inbound, index)
        finally:
            self._slots.release()

    def drain(self) -> None:
        """Wait until no handler runs."""
        for _ in range(self._concurrency):
            self._slots.acquire()
        self._slots.release(self._concurrency)

    def close(self) -> None:
        """End the threads when their handlers have ended."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class LoopCallbacks(Callbacks):
    """The callback thread of an actor with `async def` handlers or hooks: it runs an event loop.

    With concurrency 1 the handlers run in order; else up to that many at a time, as tasks.
    """

    def __init__(self, pod: Pod, runtime: ActorRuntime, concurrency: int) -> None:
        super().__init__(pod)
        self._runtime = runtime
        self._concurrency = concurrency
        self._items: deque[Inbound | Job | None] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Event | None = None
        self._is_resting = False

    def put(self, item: Inbound | Job | None) -> None:
        """Have a run handled or a function, plain or a coroutine function, called."""
        self._items.append(item)
        if self._thread is None and item is not None:
            self._thread = threading.Thread(target=self._work, name=f"grav-loop-{self._pod.name}", daemon=True)
            self._thread.start()
        elif self._is_resting and self._loop is not None and self._ready is not None:
            self._is_resting = False
            try:
                self._loop.call_soon_threadsafe(self._ready.set)
            except RuntimeError:
                return  # the loop has ended

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
        tasks: set[asyncio.Task[None]] = set()
        while True:
            while not self._items:
                self._ready.clear()
                self._is_resting = True
                if not self._items:
                    await self._ready.wait()
            item = self._items.popleft()
            if item is None or self._pod._gate is not None:
                break
            if callable(item):
                if tasks:
                    await asyncio.wait(tasks)
                await self._call_job(item)
            else:
                await self._take(item, slots, tasks)
            self._flush(time.monotonic(), not self._items)
        for task in tasks:
            task.cancel()

    async def _call_job(self, job: Callable[[], Any]) -> None:
        try:
            outcome = job()
            if asyncio.iscoroutine(outcome):
                await outcome
        except Exception:
            logger.exception("a callback of actor %s raised", self._pod.label)

    async def _take(self, inbound: Inbound, slots: asyncio.Semaphore, tasks: set[asyncio.Task[None]]) -> None:
        pod = self._pod
        origin = origin_of(inbound)
        records = decode(pod, inbound)
        pod._running = (inbound, records, origin)
        for index, record in enumerate(records):
            if index < inbound.skip:
                continue
            message = Message._received(record, inbound.type, origin)
            if self._concurrency == 1:
                await self._run(inbound, index, message)
            else:
                await slots.acquire()
                task = asyncio.create_task(self._run(inbound, index, message))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                task.add_done_callback(lambda _: slots.release())
            if pod._gate is not None:
                return
        pod._running = None

    async def _run(self, inbound: Inbound, index: int, message: Message) -> None:
        runtime = self._runtime
        try:
            if not self._pod._take_cancelled(inbound, index):
                is_finished = await runtime.handle_async(message, inbound, index)
            else:
                is_finished = True
        except Exception as exc:
            runtime.failed(inbound, index, message, exc)
        else:
            if is_finished:
                runtime.finished(inbound, index)


def flush_late(pod: Pod) -> None:
    """Send what was queued and handled, if the last acknowledgement is old enough. The caller holds the lock."""
    now = time.monotonic()
    pod._core.flush(now, force=now - pod._core.ack_sent_at >= ACK_DELAY)
    if pod._core.out:
        pod._link.send_out(pod)
    else:
        pod._link.expect_flush(pod)
