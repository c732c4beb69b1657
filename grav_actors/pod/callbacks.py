"""The callback thread of a pod: takes received runs, calls the handler, notes what was handled."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from grav_actors.codec import Opened, open_body, unpack_body
from grav_actors.errors import MessageDecodeError, Reject
from grav_actors.filters import FilterSet
from grav_actors.message import Message, Origin, new_message
from grav_actors.protocol import (
    ACK_DELAY,
    FAIL_ERROR,
    FAIL_REJECT,
    FLAG_REDELIVERED,
    PUBLISHED_KINDS,
    QUESTION_KINDS,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
)
from grav_actors.tracebacks import shorten

if TYPE_CHECKING:
    from grav_actors.pod.duty import Post
    from grav_actors.pod.inbound import Inbound
    from grav_actors.pod.pod import Pod

logger = logging.getLogger(__name__)

FLUSH_AFTER = 0.001
"""Seconds of handling after which what the handlers sent leaves although more is waiting."""

QUARTER_WINDOW = WINDOW_BYTES // 4
"""Bytes of handled messages that the bus is told of at once: large ones would soon fill the window."""

Job = Callable[[], None]


class Callbacks:
    """Calls what a pod's user has registered, one call at a time, in order.

    The thread starts with the first thing to do. When it has nothing to do it serves the socket of the link, or rests.

    Attributes:
        items: What is to be done.
        bell: Locked; released to wake the thread from its rest.
        is_resting: The thread waits for the bell.
        post: Where the thread serves the socket, if it does.
    """

    is_callbacks = True
    rank = 1

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self.items: deque[Inbound | Job | None] = deque()
        self.bell = threading.Lock()
        self.bell.acquire()
        self.is_resting = False
        self.post: Post | None = None
        self._thread: threading.Thread | None = None
        self._flushed_at = 0.0
        self._handled_bytes = 0
        self.ident = 0
        self.is_busy = False

    def put(self, item: Inbound | Job) -> None:
        """Have a run handled or a function called. The caller holds the link's lock."""
        self._begin()
        self._give(item)

    def put_all(self, runs: list[Inbound]) -> None:
        """Have runs handled. The caller holds the link's lock."""
        self._begin()
        self.items.extend(runs[:-1])
        self._give(runs[-1])

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"grav-pod-{self._pod.name}", daemon=True)
            self._thread.start()

    def _give(self, item: Inbound | Job | None) -> None:
        self.items.append(item)
        self._pod._link.duty.tell(self)

    def stop(self) -> None:
        """End the thread after what it is doing; what waits is not handled. The caller holds the link's lock."""
        self._give(None)

    def join(self, timeout: float | None) -> bool:
        """Wait for the thread to end; return whether it has. Does nothing on that thread itself."""
        thread = self._thread
        if thread is None or thread.ident == threading.get_ident():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def is_here(self) -> bool:
        """Whether the calling thread is the callback thread."""
        return threading.get_ident() == self.ident

    def _work(self) -> None:
        self.ident = threading.get_ident()
        items = self.items
        pod = self._pod
        attend = pod._link.duty.attend
        while True:
            if not items:
                attend(self)
            item = items.popleft()
            if item is None or pod._gate is not None:
                return
            self.is_busy = True
            if callable(item):
                self._call(item)
            else:
                pod._consume(item)
                self._handled_bytes += len(item.body)
            self.is_busy = False
            is_idle = not items
            now = time.monotonic()
            if is_idle or now - self._flushed_at >= FLUSH_AFTER or self._handled_bytes >= QUARTER_WINDOW:
                self._flushed_at = now
                self._flush(now, is_idle)

    def _flush(self, now: float, is_idle: bool) -> None:
        pod = self._pod
        core = pod._core
        outbox = core.outbox
        with pod._link.lock:
            is_large = self._handled_bytes >= QUARTER_WINDOW
            if is_large:
                self._handled_bytes = 0
            # What is queued takes along what was handled; else that may have to be told alone.
            is_alone = not (outbox.queued or outbox.incoming)
            core.flush(now, force=is_alone and (is_large or self._is_ack_due(now, is_idle)))
            if core.out:
                pod._link.send_out(pod)

    def _is_ack_due(self, now: float, is_idle: bool) -> bool:
        core = self._pod._core
        if is_idle and now - core.ack_sent_at >= ACK_DELAY:
            return True
        # A narrow window, or a small mailbox, would stand still until the next acknowledgement.
        half = min(WINDOW_MESSAGES, core.settings.prefetch, core.settings.mailbox_limit) / 2
        return core.progress() >= half

    def _call(self, job: Job) -> None:
        try:
            job()
        except Exception as exc:
            logger.exception("a reply's callback of pod %s raised", self._pod.label, exc_info=shorten(exc))


def open_run(pod: Pod, inbound: Inbound) -> Opened:
    """Return the messages of a run; none, and the run finished, if it is garbled."""
    try:
        return open_body(inbound.body, inbound.count, pod._make_ref)
    except MessageDecodeError as exc:
        _drop_garbled(pod, inbound, exc)
        return Opened((), (), (), [])


def decode(pod: Pod, inbound: Inbound) -> list[list[Any]]:
    """Return the records of a run; none, and the run finished, if it is garbled."""
    try:
        return unpack_body(inbound.body, inbound.count, pod._make_ref)
    except MessageDecodeError as exc:
        _drop_garbled(pod, inbound, exc)
        return []


def _drop_garbled(pod: Pod, inbound: Inbound, exc: MessageDecodeError) -> None:
    logger.warning("pod %s dropped a garbled run of %s: %s", pod.label, inbound.type, exc)
    inbound.finish_all()


def origin_of(inbound: Inbound) -> Origin:
    """Return what the messages of a run remember of where they come from."""
    return Origin(inbound.sender, inbound.kind, inbound.attempt, bool(inbound.flags & FLAG_REDELIVERED))


Handle = Callable[[Message, "Inbound", int], bool]
"""Handles one message; returns whether it is to be noted as finished: not while its answer is deferred, nor again."""
Fail = Callable[["Inbound", int, Message, Exception], bool]
"""Reports a failure; returns whether no handler may be called any more."""


def consume(pod: Pod, inbound: Inbound) -> None:
    """Call the pod's handler for each message of a run, in order."""
    opened: Opened | None = None
    while True:
        with pod._link.lock:
            filters, handler = pod._core.filters, pod._handler
        if handler is None or not _allows_run(filters, inbound):
            inbound.finish_all()  # the filter has changed since the bus sent it
            return
        if filters.uuids or inbound.kind in QUESTION_KINDS:
            break
        opened = opened or open_run(pod, inbound)
        if _consume_plain(pod, inbound, opened, filters):
            return

    def handle(message: Message, inbound: Inbound, index: int) -> bool:
        with pod._link.lock:
            filters, handler = pod._core.filters, pod._handler
        if handler is not None and _allows_run(filters, inbound) and filters.allows_uuid(message._id):
            handler(message)
        return True

    def fail(inbound: Inbound, index: int, message: Message, exc: Exception) -> bool:
        return _fail(pod, inbound, index, message, exc)

    consume_with(pod, inbound, handle, fail)


def _allows_run(filters: FilterSet, inbound: Inbound) -> bool:
    return inbound.kind not in PUBLISHED_KINDS or filters.allows_type(inbound.type)


def _consume_plain(pod: Pod, inbound: Inbound, opened: Opened, filters: FilterSet) -> bool:
    """Do what `consume_with` does for most messages there are: they wait for no answer, and no uuid is filtered.

    Returns:
        Whether that was all; False if the filter was changed meanwhile, and others are left.
    """
    origin = origin_of(inbound)
    message_type = inbound.type
    is_fresh = inbound.attempt == 1
    core = pod._core
    is_over = True
    index = inbound.skip
    entries = zip(opened.sources, opened.numbers, opened.stamps, opened.data, strict=False)
    for source, number, stamp, data in islice(entries, index, None) if index else entries:
        message = new_message(Message)
        message._source = source
        message._number = number
        message._stamp = stamp
        message._data = data
        message._type = message_type
        message._origin = origin
        handler = pod._handler
        if core.filters is not filters:
            inbound.skip = index
            is_over = False
            break
        try:
            if handler is not None:
                handler(message)
        except Exception as exc:
            if _fail(pod, inbound, index, message, exc):
                return True
            index += 1
        else:
            if inbound.done == index:
                index += 1
                inbound.done = index
            else:
                with pod._link.lock:
                    inbound.finish(index)
                index += 1
            if is_fresh and core.open_failures:
                with pod._link.lock:
                    core.succeeded()
        if pod._gate is not None:
            break
    if core.has_gaps:
        with pod._link.lock:
            core.finished_ahead(inbound)
    return is_over


def _fail(pod: Pod, inbound: Inbound, index: int, message: Message, exc: Exception) -> bool:
    if not isinstance(exc, Reject):
        error = shorten(exc)
        logger.warning("pod %s failed on %s (attempt %d)", pod.label, message.type, message.attempt, exc_info=error)
    return report_failure(pod, inbound, index, message, exc)


def consume_with(pod: Pod, inbound: Inbound, handle: Handle, fail: Fail) -> None:
    """Handle the messages of a run one after another, and note each as finished."""
    opened = open_run(pod, inbound)
    origin = origin_of(inbound)
    message_type = inbound.type
    is_fresh = inbound.attempt == 1
    core = pod._core
    if inbound.kind in QUESTION_KINDS:
        pod._cancellations.begin(inbound, opened, origin)
        if pod._gate is not None:
            return  # it left before it could say that these are begun with: they are given to others
    index = inbound.skip
    entries = zip(opened.sources, opened.numbers, opened.stamps, opened.data, strict=False)
    for source, number, stamp, data in islice(entries, index, None) if index else entries:
        message = new_message(Message)
        message._source = source
        message._number = number
        message._stamp = stamp
        message._data = data
        message._type = message_type
        message._origin = origin
        try:
            is_finished = (origin.cancelled is not None and message.cancelled) or handle(message, inbound, index)
        except Exception as exc:
            if fail(inbound, index, message, exc):
                return
        else:
            if is_finished:
                if inbound.done == index:
                    inbound.done = index + 1
                else:
                    with pod._link.lock:
                        inbound.finish(index)
            if core.open_failures and is_fresh:
                with pod._link.lock:
                    core.succeeded()
        if pod._gate is not None:
            break
        index += 1
    if core.has_gaps:
        with pod._link.lock:
            core.finished_ahead(inbound)


def report_failure(pod: Pod, inbound: Inbound, index: int, message: Message, exc: Exception) -> bool:
    """Tell the bus, or the asker, of a failure; return whether the pod is disconnected by it."""
    if inbound.kind in QUESTION_KINDS:
        pod._answer_error(message, exc)
        with pod._link.lock:
            inbound.finish(index)
        return False
    how = FAIL_REJECT if isinstance(exc, Reject) else FAIL_ERROR
    with pod._link.lock:
        is_over = pod._core.failed(inbound, index, how, f"{type(exc).__name__}: {exc}")
        inbound.finish(index)
    if is_over:
        pod._leave_unhealthy()
    return is_over
