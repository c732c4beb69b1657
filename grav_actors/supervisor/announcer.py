"""What a supervisor publishes of its children: `grav.sys.actor.*`, as `docs/supervision.md` lists them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from grav_actors.errors import GravError
from grav_actors.supervisor.effects import Ended, MemberState
from grav_actors.supervisor.lanes import Lanes
from grav_actors.supervisor.life import Life
from grav_actors.supervisor.member import Member

logger = logging.getLogger(__name__)

Publish = Callable[[str, dict[str, Any]], None]
"""Publishes an event, and may wait for that: its type, and what it says."""

STARTED = "grav.sys.actor.started"
"""A life is ready."""
CRASHED = "grav.sys.actor.crashed"
"""A life has ended as nobody had asked."""
RESTARTING = "grav.sys.actor.restarting"
"""A life has ended, and the next one is to begin."""
STOPPED = "grav.sys.actor.stopped"
"""An actor has ended in order, and is not started again by itself."""
FAILED = "grav.sys.actor.failed"
"""An actor is down because it failed."""

MAX_WAITING = 1_000
"""Events that may wait while the bus takes none; beyond that the oldest are dropped."""
MAX_TEXT = 16_384
"""Characters of an error or a report in an event; of longer ones the end is told."""

_ENDS = {MemberState.STOPPED: STOPPED, MemberState.FAILED: FAILED}
_LANE = "events"


class Announcer:
    """Publishes events in their order, on a thread that lives while there are any. Nobody waits for it.

    Args:
        supervisor: The name of the supervisor; "" for the root.
        publish: None publishes nothing.

    Attributes:
        dropped: Events that were not published: too many waited, or the bus did not take them.
    """

    def __init__(self, supervisor: str, publish: Publish | None) -> None:
        self.dropped = 0
        self._supervisor = supervisor
        self._publish = publish
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._is_working = False
        self._lock = threading.Lock()
        self._lanes = Lanes("grav-announcer")

    def changed(self, member: Member, life: Life, state: MemberState, cause: str) -> None:
        """Tell that a child is ready, or down."""
        if state is MemberState.READY:
            self._tell(STARTED, life, member.restarts)
        else:
            next_step = "it is not started again by itself"
            self._tell(_ENDS[state], life, member.restarts, cause, next_step, reason=life.reason)

    def crashed(self, life: Life, report: str, next_step: str) -> None:
        """Tell of a crash, with its report."""
        self._tell(
            CRASHED, life, life.member.restarts, life.cause, next_step, reason="crash", report=report[-MAX_TEXT:]
        )

    def restarting(self, life: Life, end: Ended, next_step: str) -> None:
        """Tell that a next life is to begin, and when."""
        self._tell(RESTARTING, life, end.restarts, end.exit.cause, next_step, reason=life.reason, delay=end.delay)

    def _tell(self, event: str, life: Life, restarts: int, error: str = "", next_step: str = "", **more: Any) -> None:
        if self._publish is None:
            return
        data = {
            "name": life.member.name,
            "kind": life.member.child.kind,
            "supervisor": self._supervisor,
            "incarnation": life.number,
            "pid": life.pid,
            "restarts": restarts,
            "reason": "",
            "error": error[-MAX_TEXT:],
            "next": next_step,
            **more,
        }
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self._drop()
            self._waiting.append((event, data))
            if self._is_working:
                return
            self._is_working = True
        self._lanes.add(_LANE, self._work)

    def _work(self) -> None:
        assert self._publish is not None
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_working = False
                    return
                event, data = self._waiting.popleft()
            try:
                self._publish(event, data)
            except GravError as exc:  # the bus is away, or the node ends
                with self._lock:
                    self._drop()
                logger.debug("%s of %s was not published: %s", event, data["name"], exc)

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            logger.warning("events of actors are dropped: the bus does not take them as fast as they come")

    def close(self, timeout: float) -> bool:
        """Wait until all is published; return whether it is."""
        return self._lanes.join(timeout)
