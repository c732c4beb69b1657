"""Deliveries that nobody will handle: dead letters, errors for questions, or counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from grav_actors.bus.counts import Counts
from grav_actors.bus.dead_letter_log import DeadLetterLog
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.own_messages import OwnMessages
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.shelf import DeadLetter, Shelf
from grav_actors.codec import pack_value, slice_body, unpack_body
from grav_actors.errors import MessageDecodeError, MessageEncodeError
from grav_actors.ids import id_text
from grav_actors.message import Message
from grav_actors.protocol import FLAG_GROUP, KIND_ANSWER, QUESTION_KINDS
from grav_actors.reference import ActorRef

DEAD = "grav.sys.dead"
"""The event that tells of a dead letter."""
EVENTS_PER_DRAIN = 128
"""Events of dead letters that are made in one go: they cost a decoded message each, and others wait meanwhile."""
UNTOLD_MESSAGES = 65_536
UNTOLD_BYTES = 16 * 1024 * 1024
"""Dead letters whose events are still to be made; past it there is none for further ones, which are counted."""

GROWTH_BYTES = 128 * 1024
"""What a message may take as a map beyond the bytes of its run; a frame to a pod has twice that to spare."""


class DeadLetters:
    """Ends deliveries. Whoever calls it has taken them out of their mailbox or window.

    Attributes:
        shelf: The dead letters.
        log: What is to be logged of them.
        untold: Those of which events are still to be made.
    """

    def __init__(self, ledger: Ledger, own_messages: OwnMessages, counts: Counts) -> None:
        self.shelf = Shelf()
        self.log = DeadLetterLog()
        self._ledger = ledger
        self._own_messages = own_messages
        self._counts = counts
        self.untold: deque[DeadLetter] = deque()
        self._untold_messages = 0
        self._untold_bytes = 0

    def bury(
        self,
        delivery: Delivery,
        reason: str,
        target: str,
        now: float,
        attempts: int = 0,
        error: str = "",
        group: str = "",
    ) -> None:
        """End a delivery as a dead letter; a question ends in an error for its asker instead.

        Args:
            target: What the receiver is called.
            attempts: Failures charged to it.
            group: Group of the receiver, through which it may have come.
        """
        run = delivery.run
        count = delivery.count
        if run.kind in QUESTION_KINDS:
            code = "overflow" if reason == "overflow" else "stopped"
            self._own_messages.answer_error(delivery, code, f"{target}: {reason}")
        elif run.kind == KIND_ANSWER:
            self._counts.late_answers += count
        elif run.type.startswith("grav.sys."):
            self._counts.given_up += count  # never a dead letter of a dead letter
        else:
            through = delivery.group or (group if delivery.flags & FLAG_GROUP else "")
            piece = delivery.piece(delivery.lo, delivery.hi)
            letter = DeadLetter(piece, reason, target, attempts, error, through, now)
            if self._own_messages.is_heard(DEAD):
                self._tell(letter)
            self.shelf.add(letter)
            self.log.note(reason, target, run.type, count, error, now)
        self._ledger.settle(run, count)

    def bury_of(
        self, receiver: Receiver, delivery: Delivery, reason: str, now: float, attempts: int = 0, error: str = ""
    ) -> None:
        """End a delivery that a receiver has had; see `bury`."""
        # What the gateway could not carry was for somebody else.
        target = delivery.relayed if type(delivery.relayed) is str else receiver.label
        self.bury(delivery, reason, target, now, attempts, error, receiver.settings.group)

    def _tell(self, letter: DeadLetter) -> None:
        delivery = letter.delivery
        if self._untold_messages + delivery.count > UNTOLD_MESSAGES or self._untold_bytes > UNTOLD_BYTES:
            self._counts.untold += delivery.count
            return
        # The shelf cuts its own when it overflows.
        piece = delivery.piece(delivery.lo, delivery.hi)
        self.untold.append(DeadLetter(piece, letter.reason, letter.target, letter.attempts, letter.error))
        self._untold_messages += delivery.count
        self._untold_bytes += delivery.run.size

    def take_events(self) -> list[Message]:
        """Return the next events of dead letters, one for each message, oldest first."""
        events: list[Message] = []
        while self.untold and len(events) < EVENTS_PER_DRAIN:
            letter = self.untold[0]
            delivery = letter.delivery
            if delivery.count > EVENTS_PER_DRAIN - len(events):
                piece = delivery.split(EVENTS_PER_DRAIN - len(events))
            else:
                piece = delivery
                self.untold.popleft()
                self._untold_bytes -= delivery.run.size
            self._untold_messages -= piece.count
            events += _events(letter, piece)
        return events

    def abandon(self, deliveries: Iterable[Delivery], reason: str, target: str, now: float) -> None:
        """End deliveries that nobody will handle; with the reason "" they are only counted."""
        for delivery in deliveries:
            if reason or delivery.run.kind in QUESTION_KINDS:
                self.bury(delivery, reason or "stopping", target, now, delivery.attempt - 1)
            else:
                self._counts.given_up += delivery.count
                self._ledger.settle(delivery.run, delivery.count)


def _events(letter: DeadLetter, piece: Delivery) -> Iterator[Message]:
    run = piece.run
    for content in _message_maps(run, piece.lo, piece.hi):
        data = {
            "reason": letter.reason, "target": letter.target, "attempts": letter.attempts, "error": letter.error,
            "type": run.type, "message": content,
        }  # fmt: skip
        yield Message._framework(DEAD, data, parent_id=content["uuid"] if content is not None else "")


def _message_maps(run: Run, lo: int, hi: int) -> list[dict[str, Any] | None]:
    """Return messages `lo` to `hi` of a run as maps that a message can carry; None for what is garbled.

    Data that is nested too deep to be nested two levels deeper stands as its MessagePack, under `packed`. Data that
    has grown, as its sender wrote floats in half their bytes, is left out, so that no frame becomes too large.
    """
    try:
        whole = bytes(run.body)
        body = whole if hi - lo == run.count else slice_body(whole, run.offsets(), lo, hi)
        records = unpack_body(body, hi - lo, ActorRef)
    except MessageDecodeError:
        return [None] * (hi - lo)
    return [_message_map(run, record) for record in records]


def _message_map(run: Run, record: list[Any]) -> dict[str, Any] | None:
    message = Message._received(record, run.type, None)
    try:
        timestamp = message.timestamp
    except OverflowError:
        timestamp = None
    content = {
        "uuid": message.uuid, "type": run.type, "data": record[4], "parent_id": message.parent_id,
        "reply_to": message.reply_to, "timestamp": timestamp, "headers": dict(message.headers),
        "sender": id_text(run.sender.uuid),
    }  # fmt: skip
    try:
        size = len(pack_value([content]))  # as deep as it will lie in an event or an answer
    except MessageEncodeError:
        del content["data"]
        content["packed"] = pack_value(record[4])
    else:
        if size > run.size + GROWTH_BYTES:
            del content["data"]
    return content
