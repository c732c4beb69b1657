"""An actor's place under a supervisor, over all its lives, and what is shown of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grav_actors.actor.snapshot import Snapshot
from grav_actors.actor.spec import ActorSpec
from grav_actors.supervisor.life import Life
from grav_actors.supervisor.place import Place
from grav_actors.supervisor.spec import Child

OPTIONS = ("concurrency", "prefetch", "mailbox_limit", "overflow", "stuck_after", "max_deliver", "replay")
"""Class attributes of an actor that `inspect` shows."""


@dataclass(eq=False)
class Member:
    """An actor's place under a supervisor; it stays the same over restarts.

    Attributes:
        service: Name that it shares with the other instances of its child, or "".
        life: Its present life, or its last one.
        restarts: How often it has been restarted, with the restart that is under way.
        report: That of its last crash, "" if there was none.
        reported_at: When that was, in seconds since 1970.
        is_kept: The bus keeps its name and mailbox for a next life, which has not begun to join.
        snapshot: The state for its next life, None if there is none.
    """

    name: str
    child: Child
    service: str
    life: Life | None = None
    restarts: int = 0
    report: str = ""
    reported_at: float = 0.0
    is_kept: bool = False
    snapshot: Snapshot | None = None

    def spec(self, life: Life, supervisor: bytes, *, hosts_threads: bool, is_captured: bool) -> ActorSpec:
        """Return what a life is made of."""
        child = self.child
        return ActorSpec(
            child.actor_class, self.name, tuple(child.args), dict(child.kwargs), self.service, child.group or "",
            supervisor, life.number, life.start_cause, hosts_threads, self.snapshot,
            is_captured,
        )  # fmt: skip

    def describe(self, place: Place) -> dict[str, Any]:
        """Return its row for `ps`; without a process id while its process does not run."""
        vessel = self.life.vessel if self.life is not None and not self.life.is_over else None
        pid = vessel.pid if vessel is not None and vessel.is_alive else None
        memory = vessel.memory_of if vessel is not None else None
        return {
            "name": self.name,
            "kind": self.child.kind,
            "state": place.state.value,
            "pid": pid,
            "restarts": place.restarts + place.is_restart,
            "memory": resident_bytes(memory) if memory is not None else None,
            "error": place.last.cause,
            "pool": self.service,
            "supervises": self.child.actor_class._grav_supervises,
        }

    def describe_whole(self, place: Place) -> dict[str, Any]:
        """Return all that is known of it, for `inspect`; its arguments are left out, they may hold secrets."""
        child = self.child
        cls = child.actor_class
        options = {name: getattr(cls, name) for name in OPTIONS}
        return {
            **self.describe(place),
            "incarnation": self.life.number if self.life is not None else None,
            "class": f"{cls.__module__}:{cls.__qualname__}",
            "group": child.group or cls.group,
            "handles": [item for item in cls._grav_handlers.types() if not item.startswith("grav.sys.control.")],
            "restart": child.restart,
            "significant": child.significant,
            "start_timeout": child.start_timeout,
            "shutdown": child.shutdown,
            "handler_timeout": child.handler_timeout,
            "options": {**options, "crash_on": [kind.__qualname__ for kind in cls.crash_on]},
            "report": self.report,
            "reported_at": self.reported_at or None,
        }


def resident_bytes(pid: int) -> int | None:
    """Return how much memory a process holds, shared pages with it; None where that cannot be learned."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
