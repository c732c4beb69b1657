"""What came in for a pod, given to whoever waits for it. Called by the link, which holds its lock."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from grav_actors.errors import ConfigError
from grav_actors.filters import FILTERS_FULL
from grav_actors.message import Message
from grav_actors.pod import callbacks
from grav_actors.pod.outcomes import Disconnected, closed_error, unanswered_error
from grav_actors.protocol import CLOSE_UNHEALTHY, ERROR_TYPE, REPLY_TYPE, Ack

if TYPE_CHECKING:
    from grav_actors.pod.inbound import Inbound
    from grav_actors.pod.pod import GatewayPort, Pod

logger = logging.getLogger(__name__)


def collect(pod: Pod) -> None:
    """Take what the core has made of the frames that came in."""
    core = pod._core
    if core.inbox:
        inbox, core.inbox = core.inbox, []
        pod._callbacks.put_all(inbox)
    if pod._gateway is not None:
        _collect_for_gateway(pod, pod._gateway)
    if core.replies:
        replies, core.replies = core.replies, []
        for inbound in replies:
            _take_replies(pod, inbound)
    if core.acks:
        _take_acks(pod)
    if core.confirmed:
        _take_confirmed(pod)
    if core.cancelled:
        cancelled, core.cancelled = core.cancelled, []
        _take_cancelled(pod, cancelled)
    if core.downs:
        downs, core.downs = core.downs, []
        for down in downs:
            pod._on_down(*down)
    if core.closed_by is not None:
        error = closed_error(core.closed_by)
        # Bus and pod both count failures, and whoever comes first ends the pod: to its user it is the same.
        pod._end(Disconnected(str(error)) if core.closed_by[0] == CLOSE_UNHEALTHY else error)
        on_end, pod._on_end = pod._on_end, None
        if on_end is not None:
            # On a thread of its own: it may wait for this one.
            threading.Thread(target=on_end, args=(error,), name="grav-pod-end", daemon=True).start()
    elif core.out:
        pod._link.send_out(pod)


def _collect_for_gateway(pod: Pod, gateway: GatewayPort) -> None:
    """Give replies and news to the callback thread, in one order with what was published."""
    core = pod._core
    replies, core.replies = core.replies, []
    for inbound in replies:
        pod._callbacks.put(inbound)
    local, core.local = core.local, []
    for news in local:
        pod._callbacks.put(partial(gateway.local, *news))
    cancelled, core.cancelled = core.cancelled, []
    for sender, seqs in cancelled:
        pod._callbacks.put(partial(gateway.cancelled, sender, seqs))


def _take_replies(pod: Pod, inbound: Inbound) -> None:
    records = callbacks.decode(pod, inbound)
    if inbound.type == REPLY_TYPE:
        records = pod._replies.answer(records)
        if not records:
            return
    origin = callbacks.origin_of(inbound)
    for record in records:
        if not record[1]:
            continue
        question, message = pod._replies.offer(Message._received(record, inbound.type, origin))
        if question is None:
            continue
        if message.type == ERROR_TYPE:
            question.fail(unanswered_error(question, message))
        else:
            question.resolve(message.data)


def _take_cancelled(pod: Pod, cancelled: list[tuple[bytes, tuple[int, ...]]]) -> None:
    for sender, seqs in cancelled:
        for seq in seqs:
            pod._cancellations.note(sender, seq)


def _take_acks(pod: Pod) -> None:
    core = pod._core
    acks, core.acks = core.acks, []
    for ack in acks:
        _tell(pod, ack)


def settle(pod: Pod, ack: Ack) -> None:
    """Take in a watermark that came with a delivery, after what was delivered is handed on."""
    core = pod._core
    if core.replies:  # else a question that is answered here would end as settled without an answer
        collect(pod)
    core.outbox.apply(ack)
    _tell(pod, ack)


def _tell(pod: Pod, ack: Ack) -> None:
    """Tell those who wait for a watermark, which is applied."""
    for question in pod._replies.settled(ack):
        question.fail(unanswered_error(question, question.error))
    if pod._room_waiters:
        pod._room.notify_all()


def _take_confirmed(pod: Pod) -> None:
    core = pod._core
    confirmed, core.confirmed = core.confirmed, []
    for request in confirmed:
        waiter = pod._confirmations.pop(request, None)
        if request in core.refused:
            core.refused.discard(request)
            if waiter is not None:
                waiter.fail(ConfigError(FILTERS_FULL))
            else:  # asked for in the pod's own callback, which does not wait
                logger.warning("pod %s keeps the filter that it had: %s", pod.label, FILTERS_FULL)
        elif waiter is not None and core.closed_by is None:
            waiter.resolve(None)
        elif waiter is not None and core.closed_by is not None:
            waiter.fail(closed_error(core.closed_by))
