"""One running actor under a supervisor: where it stands, and its process or thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from grav_actors.actor.runtime import ActorRuntime, ActorSpec, Ending
from grav_actors.errors import ActorStartError
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.spec import Child


class MemberState(Enum):
    """Where an actor stands with its supervisor."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(eq=False)
class Member:
    """An actor's place under a supervisor; it stays the same over restarts.

    Attributes:
        started: Set when the present incarnation is ready or has failed to start.
        start_error: Why it did not start.
        ending: What the incarnation said of its end, if it could.
    """

    name: str
    child: Child
    service: str
    incarnation: int = 0
    restarts: int = 0
    state: MemberState = MemberState.STARTING
    cause: str = ""
    runtime: ActorRuntime | None = None
    process: ChildProcess | None = None
    started: threading.Event = field(default_factory=threading.Event)
    start_error: ActorStartError | None = None
    ending: Ending | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def spec(self, supervisor: bytes) -> ActorSpec:
        """Return what the present incarnation is made of."""
        child = self.child
        return ActorSpec(
            child.actor_class, self.name, child.args, dict(child.kwargs), self.service, child.group or "", supervisor,
            self.incarnation, self.cause,
        )  # fmt: skip

    def describe(self, own_pid: int) -> dict[str, Any]:
        """Return its row for `ps`."""
        return {
            "name": self.name,
            "kind": self.child.kind,
            "state": self.state.value,
            "pid": self.process.pid if self.process is not None else own_pid,
            "restarts": self.restarts,
            "error": self.cause,
        }
