"""Questions that their askers have taken back, before or while they are handled."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from grav_actors.codec import Opened
from grav_actors.message import Origin
from grav_actors.pod.inbound import Inbound

MAX_WAITING = 4096
"""Questions taken back that are remembered until they come up; the oldest are forgotten, and answered in vain."""


class Cancellations:
    """What a pod knows of questions that nobody waits for. Guarded by the link's lock, but for `begin`.

    Attributes:
        on_cancelled: Called with the uuid of a question whose handler runs; None if nobody cares.
    """

    __slots__ = ("_asked", "_lock", "_waiting", "on_cancelled")

    def __init__(self, lock: Lock) -> None:
        self.on_cancelled: Callable[[bytes], None] | None = None
        self._lock = lock
        self._asked: list[tuple[Inbound, Opened, Origin]] = []
        self._waiting: dict[tuple[bytes, int], None] = {}

    def note(self, sender: bytes, seq: int) -> None:
        """Take in that a question was taken back."""
        # First, and only then a look at what is asked: `begin` does it the other way round, without the lock. So one
        # of the two sees the other; both may, and then it is noted twice.
        waiting = self._waiting
        waiting[sender, seq] = None
        for inbound, opened, origin in self._asked:
            index = seq - inbound.seq
            if inbound.sender == sender and 0 <= index < len(opened.data):
                waiting.pop((sender, seq), None)
                message_id: bytes = opened.records()[index][0]
                origin.cancelled = (origin.cancelled or set()) | {message_id}
                if self.on_cancelled is not None:
                    self.on_cancelled(message_id)
                return
        # It waits behind others; or its answer is on its way already, and nobody will look here.
        if len(waiting) > MAX_WAITING:
            del waiting[next(iter(waiting))]

    def begun(self) -> list[Inbound]:
        """Return the runs of questions with which handlers have begun, and which are not finished."""
        return [inbound for inbound, _, _ in self._asked if not inbound.is_finished]

    def begin(self, inbound: Inbound, opened: Opened, origin: Origin) -> None:
        """Note questions that handlers are called with from now on; those in `origin.cancelled` need not be.

        Called by the one thread that has runs handled, without the lock.
        """
        asked = self._asked
        if not asked or (len(asked) == 1 and asked[0][0].is_finished):
            self._asked = [(inbound, opened, origin)]
        else:
            self._asked = [*(entry for entry in asked if not entry[0].is_finished), (inbound, opened, origin)]
        if self._waiting:
            with self._lock:
                self._take_waiting(inbound, opened, origin)

    def _take_waiting(self, inbound: Inbound, opened: Opened, origin: Origin) -> None:
        records = opened.records()
        seqs = range(inbound.seq, inbound.seq + len(records))
        taken = [key for key in self._waiting if key[0] == inbound.sender and key[1] in seqs]
        for key in taken:
            del self._waiting[key]
        found = {records[seq - inbound.seq][0] for _, seq in taken}
        origin.cancelled = (origin.cancelled or set()) | found or None
