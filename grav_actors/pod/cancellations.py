"""Questions that their askers have taken back, before or while they are handled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grav_actors.message import Origin
from grav_actors.pod.inbound import Inbound

MAX_WAITING = 4096
"""Questions taken back that are remembered until they come up; the oldest are forgotten, and answered in vain."""


class Cancellations:
    """What a pod knows of questions that nobody waits for. Guarded by the link's lock.

    Attributes:
        on_cancelled: Called with the uuid of a question whose handler runs; None if nobody cares.
    """

    __slots__ = ("_asked", "_waiting", "on_cancelled")

    def __init__(self) -> None:
        self.on_cancelled: Callable[[bytes], None] | None = None
        self._asked: list[tuple[Inbound, list[list[Any]], Origin]] = []
        self._waiting: dict[tuple[bytes, int], None] = {}

    def note(self, sender: bytes, seq: int) -> None:
        """Take in that a question was taken back."""
        for inbound, records, origin in self._asked:
            index = seq - inbound.seq
            if inbound.sender == sender and 0 <= index < len(records):
                message_id: bytes = records[index][0]
                origin.cancelled = (origin.cancelled or set()) | {message_id}
                if self.on_cancelled is not None:
                    self.on_cancelled(message_id)
                return
        # It waits behind others; or its answer is on its way already, and nobody will look here.
        self._waiting[sender, seq] = None
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]

    def begun(self) -> list[Inbound]:
        """Return the runs of questions with which handlers have begun, and which are not finished."""
        return [inbound for inbound, _, _ in self._asked if not inbound.is_finished]

    def begin(self, inbound: Inbound, records: list[list[Any]], origin: Origin) -> None:
        """Note questions that handlers are called with from now on; those in `origin.cancelled` need not be."""
        self._asked = [entry for entry in self._asked if not entry[0].is_finished]
        self._asked.append((inbound, records, origin))
        if self._waiting:
            seqs = range(inbound.seq, inbound.seq + len(records))
            taken = [key for key in self._waiting if key[0] == inbound.sender and key[1] in seqs]
            for key in taken:
                del self._waiting[key]
            origin.cancelled = {records[seq - inbound.seq][0] for _, seq in taken} or None
