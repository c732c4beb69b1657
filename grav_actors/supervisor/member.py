"""One running actor under a supervisor: where it stands, and its lives in processes or threads."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any

from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Handling, read_slate, slate_size
from grav_actors.actor.snapshot import Snapshot, read_snapshot
from grav_actors.actor.spec import ActorSpec, Ending
from grav_actors.errors import ActorStartError
from grav_actors.supervisor.effects import How
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.place import Place
from grav_actors.supervisor.spec import Child

OPTIONS = ("concurrency", "prefetch", "mailbox_limit", "overflow", "stuck_after", "max_deliver", "replay")
"""Class attributes of an actor that `inspect` shows."""


@dataclass(eq=False)
class Life:
    """One incarnation of a member; either its runtime or its process is set, once it has begun.

    Attributes:
        key: What the decider calls it.
        number: Counts the incarnations of the member, from 0.
        told: What it was told when it was ended: `stop`, `shutdown` or `restart`; "" if it was not.
        is_killed: It has to end at once, also if it has not begun.
        has_joined: It may have said hello to the bus.
        start_error: Why it did not start.
        ending: What it said of its end, if it could.
        outcome: Set when it is ready, or has ended.
        is_over: The decider knows that it has ended.
        notes: What a thread notes of its handlers, where somebody looks at that; a process has a slate.
        hung: What is said of its end when it was killed for a handler that hung, or "".
        reason: In one word why it ended; "" while it has not.
        memory: Where a thread keeps its state, if its class does that; a process keeps it behind its slate.
    """

    member: Member
    key: int
    number: int
    start_cause: str
    runtime: ActorRuntime | None = None
    process: ChildProcess | None = None
    told: str = ""
    is_killed: bool = False
    has_joined: bool = False
    start_error: ActorStartError | None = None
    ending: Ending | None = None
    outcome: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False
    notes: bytearray = field(default_factory=bytearray)
    hung: str = ""
    reason: str = ""
    memory: mmap | None = None

    @property
    def pid(self) -> int | None:
        """The process that it is in, or was; None if it has not begun."""
        if self.process is not None:
            return self.process.pid
        return os.getpid() if self.runtime is not None else None

    @property
    def cause(self) -> str:
        """Why it ended, in one line."""
        if self.start_error is not None:
            return str(self.start_error.args[0])
        if self.hung:
            return self.hung
        process = self.process
        exit_text = process.describe_exit() if process is not None and not process.is_alive() else ""
        if self.ending is not None and self.ending.error:
            return f"{self.ending.error} ({exit_text})" if exit_text else self.ending.error
        if self.ending is not None and self.ending.reason == "stop":
            return "it was asked to end"
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
    def snapshot(self) -> Snapshot | None:
        """The state that it has kept."""
        cls = self.member.child.actor_class
        if not cls._grav_handlers.keeps_state:
            return None
        if self.process is not None:
            return read_snapshot(self.process.slate[slate_size(cls.concurrency) :])
        return read_snapshot(self.memory) if self.memory is not None else None

    @property
    def at_work(self) -> list[Handling]:
        """What is in its handlers now."""
        return read_slate(self.process.slate if self.process is not None else bytes(self.notes))

    @property
    def last_words(self) -> str:
        """The end of what it wrote to standard error, or the traceback of its crash."""
        if self.process is not None and self.process.stderr_tail:
            return "\n".join(self.process.stderr_tail)
        return self.ending.traceback.rstrip() if self.ending is not None else ""

    @property
    def how(self) -> How:
        """How it ended, as its supervisor sees it."""
        if self.start_error is not None:
            return How.CRASHED
        if self.ending is not None and self.ending.reason != "shutdown":
            return How.ASKED if self.ending.reason == "stop" else How.CRASHED
        if self.process is not None:
            return How.WELL if self.process.exitcode == 0 else How.CRASHED
        return How.WELL if self.ending is not None else How.CRASHED

    def joins(self) -> None:
        """Note that it may say hello to the bus from now on."""
        self.has_joined = True
        self.member.is_kept = False

    def end_now(self) -> None:
        """End it without asking; a thread is only asked."""
        self.is_killed = True
        if self.process is not None:
            self.process.kill()
        if self.runtime is not None:
            self.runtime.stop(self.told or "stop")


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

    def spec(self, life: Life, supervisor: bytes) -> ActorSpec:
        """Return what a life is made of."""
        child = self.child
        return ActorSpec(
            child.actor_class, self.name, tuple(child.args), dict(child.kwargs), self.service, child.group or "",
            supervisor, life.number, life.start_cause, self.snapshot,
        )  # fmt: skip

    def describe(self, place: Place, own_pid: int) -> dict[str, Any]:
        """Return its row for `ps`; without a process id while its process does not run."""
        process = self.life.process if self.life is not None else None
        pid = own_pid if self.child.kind == "thread" else None
        memory = None
        if process is not None and process.is_alive():
            pid = process.pid
            memory = resident_bytes(pid)
        return {
            "name": self.name,
            "kind": self.child.kind,
            "state": place.state.value,
            "pid": pid,
            "restarts": place.restarts + place.is_restart,
            "memory": memory,
            "error": place.last.cause,
            "pool": self.service,
            "supervises": self.child.actor_class._grav_supervises,
        }

    def describe_whole(self, place: Place, own_pid: int) -> dict[str, Any]:
        """Return all that is known of it, for `inspect`; its arguments are left out, they may hold secrets."""
        child = self.child
        cls = child.actor_class
        options = {name: getattr(cls, name) for name in OPTIONS}
        return {
            **self.describe(place, own_pid),
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
