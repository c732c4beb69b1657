"""The life of an actor that has `snapshot` and `restore`: its state is kept before its work is acknowledged.

What its handlers have done is first in the object alone. Then `snapshot` is called and the state written where it
outlives the process; only after that the messages count as handled, and what their handlers returned is sent as the
answer. So a state that is restored lacks nothing that was acknowledged. That it holds nothing twice is seen to by the
messages that are noted with it: those that come again because an acknowledgement was lost are not handled again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.call import Call
from grav_actors.actor.runtime import ActorRuntime, settled
from grav_actors.actor.snapshot import NEW_RUNS, Memory, Snapshot, SnapshotMemory
from grav_actors.actor.spec import ActorSpec, Ending, Spawn
from grav_actors.codec import pack_value, unpack_value
from grav_actors.errors import SnapshotError
from grav_actors.message import Message
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.link import Link
from grav_actors.pod.ranges import Ranges
from grav_actors.protocol import FLAG_REDELIVERED, QUESTION_KINDS
from grav_actors.tracebacks import traceback_text

LEAST_INTERVAL = 0.001
"""Seconds from one snapshot to the next while messages wait."""
SHARE = 4
"""So many times as long as a snapshot has taken is worked before the next one, while messages wait."""
MOST_INTERVAL = 0.25
"""Seconds that an answer may wait for a snapshot, however long these take."""

Pending = tuple[Call | None, Any, Inbound, int]
"""What a handler was called with and returned, or None for a message that is not handled again; its run and index."""


class KeepingRuntime(ActorRuntime):
    """Drives one incarnation whose state is kept.

    Args:
        memory: See `SnapshotMemory`.
    """

    def __init__(
        self,
        spec: ActorSpec,
        link: Link,
        on_end: Callable[[Ending], None],
        spawn: Spawn | None,
        memory: Memory,
    ) -> None:
        super().__init__(spec, link, on_end, spawn)
        self.answers.behind = None  # it answers when its state is kept, and that may be followed by anything
        self._kept = SnapshotMemory(memory, spec.snapshot)
        self._pending: list[Pending] = []
        self._kept_at = 0.0
        self._interval = LEAST_INTERVAL
        self._has_job = False
        self._error: SnapshotError | None = None
        self._done = _by_sender(spec.snapshot)

    # Restoring

    def _restore(self, actor: Actor) -> Any:
        snapshot = self.spec.snapshot
        if snapshot is None:
            return None
        try:
            return actor.restore(unpack_value(snapshot.state, self.pod._make_ref))  # type: ignore[attr-defined]
        except Exception as exc:
            raise self._restore_error(exc) from exc

    def _restore_error(self, exc: Exception) -> SnapshotError:
        return SnapshotError(
            f"restore() of {self.name} raised {type(exc).__name__}: {exc}; it was given what snapshot() had returned"
        )

    async def _restore_async(self, actor: Actor) -> None:
        try:
            await settled(self._restore(actor))
        except SnapshotError:
            raise
        except Exception as exc:
            raise self._restore_error(exc) from exc

    # Messages

    def handle(self, message: Message, inbound: Inbound, index: int) -> bool:
        """As in any actor; but the message is finished when the state is kept."""
        if self._is_in_state(inbound, index):
            self._pending.append((None, None, inbound, index))
        elif super().handle(message, inbound, index):
            return True
        if not self._is_due(inbound, index):
            self._keep_later(self._keep_rest)
        elif not self._keep():
            raise self._snapshot_error()
        return False

    async def handle_async(self, message: Message, inbound: Inbound, index: int) -> bool:
        """As `handle`, for plain and `async def` handlers."""
        if self._is_in_state(inbound, index):
            self._pending.append((None, None, inbound, index))
        elif await super().handle_async(message, inbound, index):
            return True
        if not self._is_due(inbound, index):
            self._keep_later(self._keep_rest_async)
        elif not await self._keep_async():
            raise self._snapshot_error()
        return False

    def _is_in_state(self, inbound: Inbound, index: int) -> bool:
        """Whether the life before has handled a message, and only the bus did not learn of that."""
        if not (self._done and inbound.flags & FLAG_REDELIVERED):
            return False
        done = self._done.get(inbound.sender)
        return done is not None and inbound.seq + index in done

    def _handled(self, call: Call, result: Any) -> bool:
        self._pending.append((call, result, call.inbound, call.index))
        return False

    def _is_due(self, inbound: Inbound, index: int) -> bool:
        # One by one what comes again: if a state that cannot be kept ends the actor, it is known whose work that was.
        if inbound.flags & FLAG_REDELIVERED or len(self._pending) >= NEW_RUNS:
            return True
        is_last = index + 1 == inbound.count
        return (is_last and not self._thread.items) or time.monotonic() - self._kept_at >= self._interval

    def _keep_later(self, job: Callable[[], Any]) -> None:
        """Have what is pending kept after all that waits now, if that does not happen before."""
        if not self._has_job:
            self._has_job = True
            self._put(job)

    def failed(self, inbound: Inbound, index: int, message: Message, exc: Exception) -> bool:
        """As in any actor; a snapshot that failed has ended it already."""
        if isinstance(exc, SnapshotError) and exc is self._error:
            return True
        return super().failed(inbound, index, message, exc)

    # Keeping

    def _keep_rest(self) -> None:
        self._has_job = False
        if self._pending and not self.is_over:
            self._keep()

    async def _keep_rest_async(self) -> None:
        self._has_job = False
        if self._pending and not self.is_over:
            await self._keep_async()

    def _keep(self) -> bool:
        """Take a snapshot, and finish what is pending; return whether that could be done, else the actor ends."""
        begin = self._begin()
        try:
            packed = self._packed(self._actor.snapshot())  # type: ignore[union-attr]
        except BaseException as exc:
            self._refuse(exc)
            return False
        self._settle(packed, begin)
        return True

    async def _keep_async(self) -> bool:
        """As `_keep`, for plain and `async def` hooks."""
        begin = self._begin()
        try:
            packed = self._packed(await settled(self._actor.snapshot()))  # type: ignore[union-attr]
        except BaseException as exc:
            self._refuse(exc)
            return False
        self._settle(packed, begin)
        return True

    def _begin(self) -> float:
        if self.slot is not None and len(self._pending) != 1:
            self.slot.clear()  # should this end the process, the last of several has not done it
        return time.monotonic()

    def _packed(self, state: Any) -> bytes:
        packed = pack_value(state)
        limit = min(self._kept.room, self.pod._core.max_message)
        if len(packed) > limit:
            raise ValueError(f"the state is {len(packed)} bytes as MessagePack; at most {limit} are kept (max_message)")
        return packed

    def _refuse(self, exc: BaseException) -> None:
        """End because the state cannot be kept: what is pending goes to the next life."""
        self._error = SnapshotError(
            f"snapshot() of {self.name} has no state that can be kept: {type(exc).__name__}: {exc}"
        )
        self._error.__cause__ = exc
        pending, self._pending = self._pending, []
        call = pending[0][0] if len(pending) == 1 else None
        if call is not None:
            self._crash_in(call.inbound, call.index, call.message, self._error)
        else:
            self._crash(self._error)

    def _snapshot_error(self) -> SnapshotError:
        assert self._error is not None
        return self._error

    def _settle(self, packed: bytes, begin: float) -> None:
        """Write the state, and only then answer and finish what it holds the work of."""
        pending, self._pending = self._pending, []
        for call, _, inbound, index in pending:
            # A question never comes again; what was deferred must come again if it is not answered in this life.
            if inbound.kind not in QUESTION_KINDS and (call is None or not call.is_deferred):
                self._kept.note(inbound.sender, inbound.seq + index)
        self._kept.write(packed)
        finished = [item for item in pending if self._is_finished(*item)]
        core = self.pod._core
        with self.pod._link.lock:
            for _, _, inbound, index in finished:
                inbound.finish(index)
                if core.has_gaps:
                    core.finished_ahead(inbound)
        self._kept_at = time.monotonic()
        self._interval = min(max(LEAST_INTERVAL, SHARE * (self._kept_at - begin)), MOST_INTERVAL)

    def _is_finished(self, call: Call | None, result: Any, inbound: Inbound, index: int) -> bool:
        if call is None:
            return True
        try:
            return super()._handled(call, result)
        except Exception as exc:  # what it returned cannot be an answer
            self.failed(inbound, index, call.message, exc)
            return False

    # The end

    def _keep_last(self) -> None:
        if self._may_keep() and not self._keep():
            self._end_without()

    async def _keep_last_async(self) -> None:
        if self._may_keep() and not await self._keep_async():
            self._end_without()

    def _may_keep(self) -> bool:
        return not self.is_over and self._reason() != "crash"

    def _end_without(self) -> None:
        """Have the supervisor learn that the last state is missing, unless no next life is to come."""
        with self._end_lock:
            if self._ending is not None and self._ending.reason == "shutdown":
                error = self._snapshot_error()
                text = traceback_text(error)
                self._ending = Ending("crash", f"{type(error).__name__}: {error}", text)


def new_runtime(
    spec: ActorSpec,
    link: Link,
    on_end: Callable[[Ending], None],
    spawn: Spawn | None,
    memory: Memory | None,
) -> ActorRuntime:
    """Return what drives an incarnation.

    Args:
        memory: For the state of an actor that keeps it; else it may be None.
    """
    if memory is None or not spec.actor_class._grav_handlers.keeps_state:
        return ActorRuntime(spec, link, on_end, spawn)
    return KeepingRuntime(spec, link, on_end, spawn, memory)


def _by_sender(snapshot: Snapshot | None) -> dict[bytes, Ranges]:
    found: dict[bytes, Ranges] = {}
    if snapshot is not None:
        for sender, first, last in snapshot.done:
            found.setdefault(sender, Ranges()).add(first, last)
    return found
