"""The lives of a supervisor's children: how they begin, what they are told, what becomes of them."""

from __future__ import annotations

import logging
import threading
import time
from mmap import mmap
from typing import Any, Protocol

from grav_actors.actor.host import ENTRY as HOST_ENTRY
from grav_actors.actor.host import KEPT_SIZE, SLATE_SIZE, make_host_payload
from grav_actors.actor.keeping import new_runtime
from grav_actors.actor.process import ENTRY, make_payload
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Slate, slate_size
from grav_actors.actor.snapshot import snapshot_size
from grav_actors.actor.spec import Ending
from grav_actors.errors import ActorStartError
from grav_actors.supervisor.agenda import Agenda
from grav_actors.supervisor.context import RunnerContext
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.hangs import HandlerClock
from grav_actors.supervisor.life import Life
from grav_actors.supervisor.processes import Processes
from grav_actors.supervisor.thread_host import HostedVessel, ThreadHost
from grav_actors.supervisor.vessel import ProcessVessel, ThreadVessel

logger = logging.getLogger(__name__)

KILL_LIMIT = 5.0
"""Seconds that a process may take to be gone once it was killed, or has said that it ends."""
JOIN_LIMIT = 1.0
"""Seconds that the threads of actors may take to be gone once these have ended."""
REPLACE_PATIENCE = 1.0
"""Seconds that the actors of a host have to end in order, when it is replaced because of another one."""


class LifeEvents(Protocol):
    """Is told what becomes of lives, under the lock."""

    def note_ready(self, life: Life) -> None:
        """A life is ready."""
        ...

    def note_ended(self, lives: list[Life]) -> None:
        """Lives have ended, of one cause."""
        ...

    def is_closing(self) -> bool:
        """Whether the supervisor ends, so that nothing is started any more."""
        ...


class Lives:
    """Begins lives in processes, threads or a host, tells them to end, and tells of them.

    All but `begin`, which waits, is called under the lock.

    Args:
        lock: The supervisor's.
        agenda: For what is due later.
    """

    def __init__(
        self,
        context: RunnerContext,
        lock: threading.RLock,
        agenda: Agenda,
        events: LifeEvents,
    ) -> None:
        self.processes = Processes(lock, context.on_line)
        self._context = context
        self._lock = lock
        self._agenda = agenda
        self._events = events
        self._host: ThreadHost | None = None
        self._host_lock = threading.Lock()
        self._held_up: list[ThreadHost] = []
        self._left_behind: list[ActorRuntime] = []

    # Their beginning

    def begin(self, life: Life) -> None:
        """Begin a life, on a thread that may wait, and return when it is ready or over, or its time has run out."""
        try:
            if life.is_killed:
                raise ActorStartError(f"actor {life.member.name!r} is being stopped")
            if life.member.child.kind == "process":
                self._begin_process(life)
            elif self._context.hosts_threads:
                self._begin_hosted(life)
            else:
                self._begin_thread(life)
        except Exception as exc:
            life.start_error = exc if isinstance(exc, ActorStartError) else _as_start_error(life, exc)
            with self._lock:
                self.over([life])

    def _begin_thread(self, life: Life) -> None:
        context = self._context
        member = life.member

        def on_end(ending: Ending) -> None:
            life.ending = ending
            with self._lock:
                self.ready(life)  # it was, or this would not be called
                self.over([life])

        spec = member.spec(life, context.supervisor, hosts_threads=False, is_captured=False)
        size = self._kept_size(life)
        kept = mmap(-1, size) if size else None
        runtime = new_runtime(spec, context.link, on_end, context.spawn, kept)
        runtime.on_line = context.on_line
        notes = bytearray()
        if member.child.handler_timeout is not None:
            notes = bytearray(slate_size(member.child.actor_class.concurrency))
            runtime.note_on(Slate(notes))
        with self._lock:
            life.vessel = ThreadVessel(runtime, notes, kept)
            life.joins()
            if life.is_killed:
                runtime.stop("stop")
        runtime.start(member.child.start_patience)
        with self._lock:
            self.ready(life)

    def _begin_process(self, life: Life) -> None:
        member = life.member
        deadline = time.monotonic() + member.child.start_patience
        kept_size = self._kept_size(life)
        process = self.processes.start(
            member.name,
            ENTRY,
            self._payload(life),
            slate_size=slate_size(member.child.actor_class.concurrency),
            kept_size=kept_size,
        )
        with self._lock:
            life.vessel = ProcessVessel(process, kept_size)
            life.joins()
            self.processes.listen(process, ProcessListener(life, process, self, self._agenda))
            if life.is_killed:
                process.kill()
        if not life.outcome.wait(max(0.0, deadline - time.monotonic())):
            life.start_error = _late(life)
            process.kill()

    def _begin_hosted(self, life: Life) -> None:
        deadline = time.monotonic() + life.member.child.start_patience
        payload = self._payload(life)
        host, vessel = self._admit(life, self._kept_size(life))
        with self._lock:
            host.start(life, vessel, payload)
            life.joins()
            if life.is_killed:
                vessel.stop("stop", None)
        if not life.outcome.wait(max(0.0, deadline - time.monotonic())):
            with self._lock:
                if not life.outcome.is_set():
                    life.start_error = _late(life)
                    self.overrun(host, life, "did not finish on_start in time")

    def _payload(self, life: Life) -> bytes:
        context = self._context
        spec = life.member.spec(
            life,
            context.supervisor,
            hosts_threads=context.hosts_threads,
            is_captured=context.on_line is not None,
        )
        is_thread = life.member.child.kind == "thread"
        return make_payload(spec, context.link.endpoint, context.link.send_timeout, is_thread=is_thread)

    def _kept_size(self, life: Life) -> int:
        """Return the bytes of memory for the state that an actor keeps; 0 if it keeps none."""
        if not life.member.child.actor_class._grav_handlers.keeps_state:
            return 0
        return snapshot_size(max(pod._core.max_message for pod in self._context.link.pods()))

    def _admit(self, life: Life, kept_size: int) -> tuple[ThreadHost, HostedVessel]:
        """Take a life into the present host, or into a new one if that takes no more."""
        context = self._context
        while True:
            with self._host_lock:
                host = self._host
                if host is None or host.is_leaving or not host.process.is_alive():
                    name = f"{context.name}.threads" if context.name else "threads"
                    payload = make_host_payload(
                        context.link.endpoint, context.link.send_timeout, tells_lines=context.on_line is not None
                    )
                    process = self.processes.start(
                        name, HOST_ENTRY, payload, slate_size=SLATE_SIZE, kept_size=KEPT_SIZE, takes_orders=True
                    )
                    host = self._host = ThreadHost(process, self)
                    self.processes.listen(process, host)
            with self._lock:
                if not host.is_leaving:
                    vessel = host.admit(life, kept_size)
                    life.vessel = vessel
                    return host, vessel

    # What they are told

    def stop(self, life: Life, reason: str, patience: float) -> None:
        """Tell a life to end in its own time."""
        life.told = reason
        if life.vessel is not None:
            life.vessel.stop(reason, patience)

    def terminate(self, life: Life) -> None:
        """Tell a life to end at once."""
        if life.vessel is not None:
            life.vessel.terminate()

    def kill(self, life: Life) -> None:
        """End a life without asking it; of a thread that does not end when it is asked, its host."""
        was_ready = life.outcome.is_set()
        life.is_killed = True
        if life.vessel is None:
            return  # it has not begun, and will not
        if life.vessel.kill():
            if was_ready:
                logger.error("actor %s has not stopped in time and is killed", life.member.name)
            return
        life.vessel.stop(life.told or "stop", None)
        # One that has only now been told to end may still do so, when its hook returns.
        patience = 0.0 if life.told else max(life.member.child.shutdown, JOIN_LIMIT)
        self._agenda.add(patience, lambda: self._give_up(life))

    def _give_up(self, life: Life) -> None:
        with self._lock:
            if life.is_over:
                return
            if isinstance(life.vessel, HostedVessel):
                self.overrun(life.vessel.host, life, "has not stopped in time")
                return
            logger.error("actor %s has not stopped in time; its thread is left behind", life.member.name)
            self.over([life])

    # What becomes of them

    def ready(self, life: Life) -> None:
        """Take note that a life is ready."""
        if life.is_over or life.outcome.is_set():
            return
        life.outcome.set()
        self._events.note_ready(life)
        limit = life.member.child.handler_timeout
        if limit is not None:
            self._look_at_handlers(life, HandlerClock(limit))

    def over(self, lives: list[Life]) -> None:
        """Take note that lives have ended, of one cause."""
        lives = [life for life in lives if not life.is_over]
        for life in lives:
            life.is_over = True
            life.outcome.set()
            if life.vessel is not None:
                life.vessel.leave()
            if isinstance(life.vessel, ThreadVessel):
                self._left_behind = [runtime for runtime in self._left_behind if not runtime.wait(0)]
                self._left_behind.append(life.vessel.runtime)
        if lives:
            self._events.note_ended(lives)

    def _look_at_handlers(self, life: Life, clock: HandlerClock) -> None:
        """End a process with a handler that hangs, report one in a thread, and look again later."""
        with self._lock:
            if life.is_over or life.is_killed:
                return
            hung = clock.look(life.at_work, time.monotonic())
            if hung:
                text = f"its handler of {hung[0]} has not returned within {clock.limit:g} s"
                match life.vessel:
                    case HostedVessel(host=host) if not self._events.is_closing():
                        life.hung = text
                        self.overrun(host, life, f"hangs: {text}")
                        return
                    case ProcessVessel() as vessel:
                        life.hung = text
                        vessel.kill()
                        return
                    case _:
                        logger.error(
                            "actor %s hangs: %s; a thread cannot be ended from outside", life.member.name, text
                        )
            self._agenda.add(clock.interval, lambda: self._look_at_handlers(life, clock))

    def overrun(self, host: ThreadHost, culprit: Life, text: str) -> None:
        """Report a life that has left a thread behind, or will, and have its host replaced."""
        name = culprit.member.name
        if self._events.is_closing():
            # The others have their own time to end in; then the process is killed.
            logger.error("actor %s %s; it ends with its host, process %d", name, text, host.process.pid)
            self._held_up.append(host)
            host.culprits.add(culprit)
            host.lives.pop(culprit.key, None)
            self.over([culprit])
            return
        others = [life.member.name for life in host.lives.values() if life is not culprit]
        if host.replace(culprit, f"actor {name} {text}, and their host was replaced"):
            also = f"; {', '.join(others)} restart with it" if others else ""
            logger.error("actor %s %s; its host, process %d, is replaced%s", name, text, host.process.pid, also)
            self._agenda.add(REPLACE_PATIENCE, host.process.kill)
        else:
            logger.error("actor %s %s too, in the host that is being replaced", name, text)

    def ending(self, host: ThreadHost) -> None:
        """Take note that a host was told to end, from outside."""
        self._agenda.add(KILL_LIMIT, lambda: _end_remains(host.process))

    # The end

    def end_remains(self) -> None:
        """All lives are over: kill the hosts in which threads are left."""
        for host in self._held_up:
            host.process.kill()

    def stop_processes(self, timeout: float) -> None:
        """End what the lives were in. Not under the lock: this waits."""
        self.processes.stop(timeout)
        joined_by = time.monotonic() + JOIN_LIMIT
        for runtime in self._left_behind:
            runtime.join(max(0.0, joined_by - time.monotonic()))


class ProcessListener:
    """Tells of a process that one life is in."""

    def __init__(self, life: Life, process: ChildProcess, lives: Lives, agenda: Agenda) -> None:
        self._life = life
        self._process = process
        self._lives = lives
        self._agenda = agenda

    def reported(self, report: dict[str, Any]) -> None:
        """Take what the actor says of itself."""
        life = self._life
        event = report.get("event")
        error, traceback = str(report.get("error", "")), str(report.get("traceback", ""))
        if event == "ready":
            self._lives.ready(life)
        elif event == "failed":
            life.start_error = ActorStartError(error, remote_traceback=traceback)
        elif event == "ended":
            life.ending = Ending(str(report.get("reason", "")), error, traceback)
            self._agenda.add(KILL_LIMIT, lambda: _end_remains(self._process))

    def wrote(self, name: str, line: str) -> None:
        """Its lines are those of its process."""

    def exited(self) -> None:
        """Take note of the end of the process, and so of the life."""
        life, process = self._life, self._process
        if not life.outcome.is_set() and life.start_error is None:
            life.start_error = ActorStartError(
                f"actor {life.member.name!r} did not start: its process ended with {process.describe_exit()}",
                remote_traceback="\n".join(process.stderr_tail),
            )
        self._lives.over([life])


def _end_remains(process: ChildProcess) -> None:
    """Kill a process that has said that it ends, and which a thread of the user keeps."""
    if process.is_alive():
        logger.error("process %d of %s has not ended after it said so; it is killed", process.pid, process.name)
        process.kill()


def _late(life: Life) -> ActorStartError:
    timeout = life.member.child.start_patience
    return ActorStartError(f"actor {life.member.name!r} did not finish on_start within {timeout:g} s")


def _as_start_error(life: Life, exc: Exception) -> ActorStartError:
    return ActorStartError(f"actor {life.member.name!r} did not start: {type(exc).__name__}: {exc}")
