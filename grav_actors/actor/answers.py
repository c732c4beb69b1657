"""How the messages of an actor are answered and finished: now, or later when the answer is deferred."""

from __future__ import annotations

from collections import deque
from typing import Any

from grav_actors.actor.call import Call, current
from grav_actors.actor.dispatch import flush_late
from grav_actors.actor.slate import Slot
from grav_actors.errors import MessageEncodeError
from grav_actors.message import Message
from grav_actors.options import show
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.pod import Pod
from grav_actors.protocol import ERROR_TYPE, KIND_ASK, KIND_TELL, REPLY_TYPE


class Answers:
    """Answers and finishes what comes to one pod; any thread may use it.

    Attributes:
        behind: What waits behind the run whose handlers are called one after another on the callback thread; None if
            they are called otherwise.
        slot: Where it is noted then what is in the handler, in a process.
    """

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self.behind: deque[Any] | None = None
        self.slot: Slot | None = None
        self._deferred: dict[bytes, tuple[Inbound, int]] = {}
        pod._cancellations.on_cancelled = self._cancelled

    def returned(self, call: Call, result: Any) -> bool:
        """Answer with what a handler returned, if that is an answer.

        Returns:
            Whether the message is finished and that is still to be noted.
        """
        inbound = call.inbound
        kind = inbound.kind
        if call.is_answered or kind == KIND_TELL or (result is None and kind != KIND_ASK):
            return not call.is_deferred
        source = call.message._source
        question = source[0] if source.__class__ is list else call.message._id
        is_last = call.index + 1 == inbound.count and self.behind is not None and not self.behind
        if is_last and self.slot is not None:
            self.slot.clear()  # no handler runs any more, and the bus may be told so right now
        try:
            return not self._pod._answer_result(inbound, question, result, is_last)
        except MessageEncodeError as exc:
            raise MessageEncodeError(f"what the handler returned is no answer: {exc}") from None

    def refuse(self, question: Message, error: str) -> None:
        """Tell an asker that nobody here handles the type."""
        data = {"code": "no_handler", "error": error, "traceback": ""}
        self._pod._answer(question, ERROR_TYPE, data)

    def reply(self, message: Message, data: Any) -> None:
        """Answer now; a deferred message is finished by it."""
        _check_message("reply", message)
        call = current.get()
        parent = message if call is None else call.message
        self._pod._answer(message, REPLY_TYPE, data, parent._record[0])
        if call is not None and call.concerns(message):
            call.is_answered = True
        deferred = self._pop(message._record[0])
        if deferred is not None:
            self.finished(*deferred)

    def fail(self, message: Message, exc: BaseException) -> None:
        """Answer a deferred message with an error; it is finished by that."""
        self._pod._answer_error(message, exc)
        deferred = self._pop(message._record[0])
        if deferred is not None:
            self.finished(*deferred)

    def defer(self, message: Message) -> None:
        """Let the message being handled stay open until `reply`, or until nobody waits for its answer."""
        _check_message("defer_reply", message)
        call = current.get()
        if call is None or not call.concerns(message):
            raise ValueError(
                "defer_reply is for the message being handled; a reply can be deferred only in its handler"
            )
        if call.is_answered:
            raise ValueError("the message is answered already")
        message_id: bytes = message._record[0]
        with self._pod._link.lock:
            call.is_answered = call.is_deferred = True
            self._deferred[message_id] = (call.inbound, call.index)
            self._pod._core.has_gaps = True
            if message.cancelled:
                self._cancelled(message_id)

    def failed(self, message: Message) -> None:
        """Forget that an answer was deferred: the handler raised, and that is the outcome."""
        self._pop(message._record[0])

    def _pop(self, message_id: bytes) -> tuple[Inbound, int] | None:
        if not self._deferred:
            return None
        with self._pod._link.lock:
            return self._deferred.pop(message_id, None)

    def _cancelled(self, message_id: bytes) -> None:
        """Finish a deferred message whose asker no longer waits. The caller holds the link's lock."""
        deferred = self._deferred.pop(message_id, None)
        if deferred is not None:
            self._finish(*deferred)
            self._pod._link.expect_flush(self._pod)

    def finished(self, inbound: Inbound, index: int) -> None:
        """Note that a message is finished, perhaps before earlier ones."""
        with self._pod._link.lock:
            self._finish(inbound, index)
            flush_late(self._pod)

    def finished_in_order(self, inbound: Inbound, index: int) -> None:
        """Note that a message is finished, when handlers run one after another; see `run_finished`."""
        if inbound.done == index and not self._pod._core.open_failures:
            inbound.done = index + 1
        else:
            with self._pod._link.lock:
                self._finish(inbound, index)

    def run_finished(self, inbound: Inbound) -> None:
        """Note that the handlers of a run have all been called, one after another."""
        if self._pod._core.has_gaps:
            with self._pod._link.lock:
                self._pod._core.finished_ahead(inbound)

    def _finish(self, inbound: Inbound, index: int) -> None:
        core = self._pod._core
        inbound.finish(index)
        core.finished_ahead(inbound)
        if inbound.attempt == 1 and core.open_failures:
            core.succeeded()


def _check_message(method: str, seen: object) -> None:
    if not isinstance(seen, Message):
        raise TypeError(f"{method} takes the message that is answered, not {show(seen)}")
