"""The root runner: starts actors in processes and threads, restarts them when they die, stops them."""

from __future__ import annotations

import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grav_actors.actor.process import ENTRY, make_payload
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Handling, slate_size
from grav_actors.actor.spec import Ending, Spawn
from grav_actors.errors import ActorStartError, GravError
from grav_actors.options import RestartLimits
from grav_actors.pod.link import Link
from grav_actors.protocol import BYE_CRASHED
from grav_actors.reference import check_actor_name
from grav_actors.supervisor.agenda import Agenda
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.member import Life, Member, MemberState
from grav_actors.supervisor.policy import GiveUp, RestartPolicy
from grav_actors.supervisor.process import ProcessHost
from grav_actors.supervisor.spec import Child

logger = logging.getLogger(__name__)

KILL_LIMIT = 5.0
"""Seconds that a process may take to be gone once it was killed, or has said that it ends."""
NAMED = 5
"""Messages that were in handlers which the report of a crash names."""
JOIN_LIMIT = 1.0
"""Seconds that the threads of an actor may take to be gone once it has ended."""

OnLine = Callable[[str, str, str], None]
"""Takes a line that a process actor wrote: its name, `stdout` or `stderr`, the line."""


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What a runner needs of its node.

    Attributes:
        link: Link of this process, for thread actors.
        supervisor: Uuid of the node's own pod: it marks the names that outlive their processes.
        release: Tells the bus that an incarnation has ended without a word: its name, its number, why
            (`crashed` if a next one is to come), what it failed with, or "", and what was in its handlers.
        give_up: Called, on a thread of its own, when there were too many restarts.
        spawn: Starts further actors for actors of this process.
        on_line: Takes what processes write; None leaves it to the terminal.
    """

    link: Link
    supervisor: bytes
    limits: RestartLimits
    release: Callable[[str, int, str, str, tuple[Handling, ...]], None]
    give_up: Callable[[str], None]
    spawn: Spawn
    on_line: OnLine | None = None


class RootRunner:
    """Runs actors under one restart limit, each restarted alone.

    Starts happen on the caller's thread, or for restarts on one of their own; what is decided about deaths
    is decided on the thread of its agenda, one after another. The lock is never held while something is waited for.
    """

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._policy = RestartPolicy(context.limits)
        self._members: dict[str, Member] = {}
        self._lives: dict[ChildProcess, Life] = {}
        self._early: dict[ChildProcess, list[Callable[[Life], None]]] = {}
        self._lock = threading.RLock()
        self._host: ProcessHost | None = None
        self._agenda = Agenda("grav-supervisor")
        self._asides: set[threading.Thread] = set()
        self._is_stopping = False

    # Starting

    def spawn(self, child: Child) -> list[str]:
        """Start an actor, all its instances; return their names when each `on_start` has returned.

        Raises:
            ActorStartError: One did not start; those that had are stopped again.
        """
        members = self._enter(child)
        started: list[Member] = []
        try:
            for member in members:
                self._start(member)
                started.append(member)
        except BaseException:
            for member in reversed(started):
                self._stop_member(member, "stop", child.shutdown)
            for member in members:
                self._strike(member)
            raise
        return [member.name for member in members]

    def _enter(self, child: Child) -> list[Member]:
        with self._lock:
            self._refuse_when_stopping()
            base = child.name if child.name is not None else self._free_name(child.actor_class.__name__.lower())
            if child.instances == 1:
                members = [Member(base, child, "")]
            else:
                members = [Member(f"{base}-{number}", child, base) for number in range(1, child.instances + 1)]
            taken = self._taken_names()
            for name in {base, *(member.name for member in members)}:
                check_actor_name(name)
                if name in taken:
                    raise ActorStartError(f"an actor named {name!r} runs on this node already; choose another name")
            for member in members:
                self._members[member.name] = member
            return members

    def _taken_names(self) -> set[str]:
        return self._members.keys() | {member.service for member in self._members.values()}

    def _free_name(self, base: str) -> str:
        taken = self._taken_names()
        if base not in taken:
            return base
        return next(name for number in itertools.count(2) if (name := f"{base}-{number}") not in taken)

    def _strike(self, member: Member) -> None:
        with self._lock:
            if self._members.get(member.name) is member:
                del self._members[member.name]

    def _refuse_when_stopping(self) -> None:
        if self._is_stopping:
            raise ActorStartError("this node is stopping; no actor can be started")

    def _start(self, member: Member) -> None:
        """Begin a life and wait until it is ready; raise ActorStartError, and leave nothing running."""
        with self._lock:
            self._refuse_when_stopping()
            if member.state is MemberState.DRAINING:
                raise ActorStartError(f"actor {member.name!r} is being stopped")
            life = member.begin()
        try:
            if member.child.kind == "thread":
                self._start_thread(life)
            else:
                self._start_process(life)
        finally:
            life.settled.set()

    def _start_thread(self, life: Life) -> None:
        context = self._context
        member = life.member

        def on_end(ending: Ending) -> None:
            life.ending = ending
            life.has_left = True
            self._over(life)

        life.runtime = ActorRuntime(member.spec(life, context.supervisor), context.link, on_end, context.spawn)
        try:
            life.runtime.start(member.child.start_timeout)
        except BaseException:
            life.ended.set()
            raise
        self._ready(life)

    def _start_process(self, life: Life) -> None:
        context = self._context
        member = life.member
        timeout = member.child.start_timeout
        deadline = time.monotonic() + timeout
        link = context.link
        payload = make_payload(member.spec(life, context.supervisor), link.endpoint, link.send_timeout)
        process = self._process_host().spawn(
            member.name,
            ENTRY,
            payload,
            capture=context.on_line is not None,
            slate_size=slate_size(member.child.actor_class.concurrency),
        )
        try:
            self._register(process, life)
            if not life.outcome.wait(max(0.0, deadline - time.monotonic())):
                raise ActorStartError(f"actor {member.name!r} did not finish on_start within {timeout:g} s")
            if life.start_error is not None:
                process.wait(KILL_LIMIT)
                raise life.start_error
        except BaseException:
            process.kill()
            process.wait(KILL_LIMIT)
            if not life.has_left:
                # It may have joined, and has not said that it leaves.
                self._release(life, BYE_CRASHED if life.number else "pod_lost", life.cause)
            raise

    def _process_host(self) -> ProcessHost:
        with self._lock:
            self._refuse_when_stopping()
            if self._host is None:
                self._host = ProcessHost(self._on_exit, self._on_output, self._on_report)
            return self._host

    def prepare(self) -> None:
        """Start what processes are forked from, so that the first process actor starts as fast as the others."""
        self._process_host().prepare()

    # What becomes of lives, told by the host's thread or the actor's own

    def _register(self, process: ChildProcess, life: Life) -> None:
        """Take a process into account, and what it has said since it was made."""
        with self._lock:
            life.process = process
            self._lives[process] = life
            for event in self._early.pop(process, ()):
                event(life)
            if life.member.state is MemberState.DRAINING:
                raise ActorStartError(f"actor {life.member.name!r} is being stopped")

    def _tell(self, process: ChildProcess, event: Callable[[Life], None]) -> None:
        with self._lock:
            life = self._lives.get(process)
            if life is None:
                self._early.setdefault(process, []).append(event)
            else:
                event(life)

    def _on_report(self, process: ChildProcess, report: dict[str, Any]) -> None:
        self._tell(process, lambda life: self._reported(life, report))

    def _reported(self, life: Life, report: dict[str, Any]) -> None:
        event = report.get("event")
        error, traceback = str(report.get("error", "")), str(report.get("traceback", ""))
        if event == "ready":
            self._ready(life)
        elif event == "failed":
            life.start_error = ActorStartError(error, remote_traceback=traceback)
            life.has_left = True
            life.outcome.set()
        elif event == "ended":
            life.ending = Ending(str(report.get("reason", "")), error, traceback)
            life.has_left = True

    def _on_output(self, process: ChildProcess, stream: str, line: str) -> None:
        if self._context.on_line is not None:
            self._context.on_line(process.name, stream, line)

    def _on_exit(self, process: ChildProcess) -> None:
        self._tell(process, self._exited)

    def _exited(self, life: Life) -> None:
        process = life.process
        assert process is not None
        del self._lives[process]
        if not life.outcome.is_set():
            life.start_error = ActorStartError(
                f"actor {life.member.name!r} did not start: its process ended with {process.describe_exit()}",
                remote_traceback="\n".join(process.stderr_tail),
            )
            life.outcome.set()
        self._over(life)

    def _ready(self, life: Life) -> None:
        with self._lock:
            life.is_ready = True
            member = life.member
            if member.life is life and member.state is MemberState.STARTING:
                member.state = MemberState.READY
            if life.ended.is_set():
                self._agenda.add(0.0, lambda: self._ended(life))
        life.outcome.set()

    def _over(self, life: Life) -> None:
        """Note the end of a life. One that never was ready is the business of whoever started it."""
        with self._lock:
            life.ended.set()
            if life.is_ready:
                self._agenda.add(0.0, lambda: self._ended(life))

    # Deaths, on the thread of its agenda

    def _ended(self, life: Life) -> None:
        member = life.member
        with self._lock:
            if member.life is not life or self._members.get(member.name) is not member:
                return
            member.cause = life.cause
            child = member.child
            was_asked = life.ending is not None and life.ending.reason == "stop"
            is_draining = self._is_stopping or member.state is MemberState.DRAINING
            is_final = (
                was_asked
                or is_draining
                or child.restart == "temporary"
                or (child.restart == "transient" and life.has_ended_well)
            )
            if is_final:
                member.state = MemberState.STOPPED
                self._strike(member)
        if not is_final:
            self._restart_later(member, life)
            return
        if life.ending is None or life.ending.reason == "crash":
            if not is_draining:
                self._report_crash(member, life, "it is not started again")
            # Also when it has said that it crashed, for which its name is kept.
            error = "" if life.has_ended_well else member.cause
            self._aside(member, lambda: self._release(life, "pod_lost", error))
        if child.significant and not is_draining:
            self._give_up(f"actor {member.name} has ended, which its node depends on")

    def _restart_later(self, member: Member, life: Life) -> None:
        decision = self._policy.failed(time.monotonic(), random.random)
        if isinstance(decision, GiveUp):
            member.state = MemberState.FAILED
            within = f"{decision.restarts} restarts within {decision.within:g} s"
            self._report_crash(member, life, f"{within}: giving up")
            self._give_up(f"actor {member.name} failed once more after {within} (last: {member.cause})")
            return
        member.restarts += 1
        member.state = MemberState.BACKOFF
        when = "at once" if decision.delay == 0 else f"in {decision.delay:.2g} s"
        self._report_crash(member, life, f"restart {member.restarts} {when}")
        due = time.monotonic() + decision.delay

        def go_on() -> None:
            # Before the next one joins: the bus is told which messages to charge, and who has asked need not wait.
            # Also when it has said so itself: its word may have been lost with a connection.
            self._release(life, BYE_CRASHED, member.cause)
            if decision.delay:
                rest = max(0.0, due - time.monotonic())
                self._agenda.add(rest, lambda: self._aside(member, lambda: self._restart(member)))
            else:
                self._restart(member)

        self._aside(member, go_on)

    def _release(self, life: Life, reason: str, error: str) -> None:
        self._context.release(life.member.name, life.number, reason, error, life.handling)

    @staticmethod
    def _report_crash(member: Member, life: Life, next_step: str) -> None:
        lines = [f"actor {member.name} crashed: {member.cause}; {next_step}"]
        handling = life.handling
        if handling:
            more = f" and {len(handling) - NAMED} more" if len(handling) > NAMED else ""
            lines.append(f"it was handling {', '.join(map(str, handling[:NAMED]))}{more}")
        words = life.last_words
        if words:
            lines.append(f"the last that it wrote:\n{words}")
        logger.error("%s", "\n".join(lines))

    def _aside(self, member: Member, job: Callable[[], None]) -> None:
        # On a thread of its own: a slow start, or a bus that is away, must not hold up the restarts of others.
        def work() -> None:
            try:
                job()
            finally:
                self._asides.discard(threading.current_thread())

        thread = threading.Thread(target=work, name=f"grav-restart-{member.name}", daemon=True)
        self._asides.add(thread)
        thread.start()

    def _restart(self, member: Member) -> None:
        before = member.life
        try:
            self._start(member)
        except Exception as exc:
            life = member.life
            if life is None or life is before:
                return  # refused: everything ends
            text = str(exc.args[0] if isinstance(exc, GravError) and exc.args else exc)
            life.ending = Ending("crash", text, getattr(exc, "remote_traceback", ""))
            self._agenda.add(0.0, lambda: self._ended(life))

    def _give_up(self, text: str) -> None:
        threading.Thread(target=self._context.give_up, args=(text,), name="grav-give-up", daemon=True).start()

    # Stopping

    def stop(self, timeout: float) -> None:
        """Stop all actors, the last started first, then the processes behind them. Idempotent."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._is_stopping = True
            members = list(self._members.values())
            host = self._host
        self._agenda.close()
        for member in reversed(members):
            self._stop_member(member, "shutdown", max(0.1, deadline - time.monotonic()))
            self._strike(member)
        if host is not None:
            host.stop(max(0.0, deadline - time.monotonic()))
        for thread in self._asides.copy():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _stop_member(self, member: Member, reason: str, limit: float) -> None:
        with self._lock:
            member.state = MemberState.DRAINING
            life = member.life
        if life is not None:
            patience = min(member.child.shutdown, limit)
            deadline = time.monotonic() + patience
            if not life.settled.is_set() and life.process is not None:
                life.process.kill()  # what has not started cannot end well
            if life.runtime is not None:
                life.runtime.stop(reason)
            life.settled.wait(patience)
            if life.runtime is not None:
                self._await_thread(life.runtime, deadline)
            if life.process is not None:
                self._end_process(life.process, deadline)
            if life.ending is None or life.ending.reason == "crash":
                # It did not say so itself: what waits for it has nobody to wait for.
                self._release(life, "stopping", life.cause if life.ending is not None else "")
        member.state = MemberState.STOPPED

    @staticmethod
    def _await_thread(runtime: ActorRuntime, deadline: float) -> None:
        if runtime.wait(max(0.0, deadline - time.monotonic())):
            runtime.join(JOIN_LIMIT)
        else:
            logger.error("actor %s has not stopped in time; its thread is left behind", runtime.name)

    @staticmethod
    def _end_process(process: ChildProcess, deadline: float) -> None:
        process.terminate()
        if not process.wait(max(0.0, deadline - time.monotonic())):
            logger.error("actor %s has not stopped in time and is killed", process.name)
            process.kill()
            process.wait(KILL_LIMIT)

    # Watching

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each actor, in the order of their start."""
        with self._lock:
            return [member.describe(os.getpid()) for member in self._members.values()]

    def is_degraded(self) -> bool:
        """Whether an actor is not ready."""
        with self._lock:
            return any(member.state in (MemberState.BACKOFF, MemberState.FAILED) for member in self._members.values())
