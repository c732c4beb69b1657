"""What the bus itself has to say: events, and errors for those who wait for an answer in vain."""

from __future__ import annotations

from typing import Any

from grav_actors.bus.directory import Directory
from grav_actors.bus.run import Delivery
from grav_actors.codec import record_ids
from grav_actors.errors import MessageDecodeError
from grav_actors.ids import id_text
from grav_actors.message import Message
from grav_actors.protocol import ERROR_TYPE, KIND_ANSWER, KIND_PUBLISH


class OwnMessages:
    """Collects the bus's own messages; the postman routes them when the drain ends.

    Whoever has something to say may be in the middle of routing, so nothing is routed from here.

    Attributes:
        queue: Message, kind and destination of each, in order.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.queue: list[tuple[Message, int, Any]] = []

    def is_heard(self, event: str) -> bool:
        """Return whether anybody listens to an event."""
        return self._directory.plan(event).count > 0

    def announce(self, event: str, data: dict[str, Any]) -> None:
        """Publish an event if anybody listens."""
        if self.is_heard(event):
            self.queue.append((Message._framework(event, data), KIND_PUBLISH, None))

    def answer_error(self, delivery: Delivery, code: str, text: str) -> None:
        """Tell the askers of these questions that no answer will come."""
        run = delivery.run
        try:
            ids = record_ids(bytes(run.body), run.count)
        except MessageDecodeError:
            return
        for question in ids[delivery.lo : delivery.hi]:
            data = {"code": code, "error": text, "traceback": ""}
            message = Message._framework(ERROR_TYPE, data, reply_to=id_text(question))
            self.queue.append((message, KIND_ANSWER, run.sender.uuid))
