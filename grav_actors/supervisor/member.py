"""One running actor under a supervisor: where it stands, and its lives in processes or threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Handling, read_slate
from grav_actors.actor.spec import ActorSpec, Ending
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
class Life:
    """One incarnation of a member; either its runtime or its process is set, once it has begun.

    Attributes:
        number: Counts the incarnations of the member, from 0.
        is_ready: Its `on_start` has returned.
        start_error: Why it did not start, as its process told.
        has_left: It has itself told the bus that it ends.
        ending: What it said of its end, if it could.
        outcome: Set when its process has said whether it started, or has ended.
        settled: Set when its start has come to an end, well or not.
        ended: Set when it is over.
    """

    member: Member
    number: int
    runtime: ActorRuntime | None = None
    process: ChildProcess | None = None
    is_ready: bool = False
    has_left: bool = False
    start_error: ActorStartError | None = None
    ending: Ending | None = None
    outcome: threading.Event = field(default_factory=threading.Event)
    settled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def cause(self) -> str:
        """Why it ended, in one line."""
        process = self.process
        exit_text = process.describe_exit() if process is not None and not process.is_alive() else ""
        if self.ending is not None and self.ending.error:
            return f"{self.ending.error} ({exit_text})" if exit_text else self.ending.error
        if self.ending is not None and self.ending.reason == "shutdown":
            return "a signal has told it to end"
        return exit_text or "it ended without a word"

    @property
    def handling(self) -> tuple[Handling, ...]:
        """What was in its handlers when it ended, as its process has left it noted or as it has said."""
        if self.process is not None:
            return tuple(read_slate(self.process.slate))
        return self.ending.handling if self.ending is not None else ()

    @property
    def last_words(self) -> str:
        """The end of what it wrote to standard error, or the traceback of its crash."""
        if self.process is not None and self.process.stderr_tail:
            return "\n".join(self.process.stderr_tail)
        return self.ending.traceback.rstrip() if self.ending is not None else ""

    @property
    def has_ended_well(self) -> bool:
        """Whether its process ended by itself, with exit code 0."""
        return self.process is not None and self.process.exitcode == 0


@dataclass(eq=False)
class Member:
    """An actor's place under a supervisor; it stays the same over restarts.

    Attributes:
        service: Name that it shares with the other instances of its child, or "".
        cause: Why its last life ended, in one line.
        life: Its present life, or its last one.
    """

    name: str
    child: Child
    service: str
    restarts: int = 0
    state: MemberState = MemberState.STARTING
    cause: str = ""
    life: Life | None = None

    def begin(self) -> Life:
        """Begin its first life, or the next one."""
        self.state = MemberState.STARTING
        self.life = Life(self, 0 if self.life is None else self.life.number + 1)
        return self.life

    def spec(self, life: Life, supervisor: bytes) -> ActorSpec:
        """Return what a life is made of."""
        child = self.child
        return ActorSpec(
            child.actor_class, self.name, tuple(child.args), dict(child.kwargs), self.service, child.group or "",
            supervisor, life.number, self.cause,
        )  # fmt: skip

    def describe(self, own_pid: int) -> dict[str, Any]:
        """Return its row for `ps`."""
        process = self.life.process if self.life is not None else None
        return {
            "name": self.name,
            "kind": self.child.kind,
            "state": self.state.value,
            "pid": process.pid if process is not None else own_pid,
            "restarts": self.restarts,
            "error": self.cause,
        }
