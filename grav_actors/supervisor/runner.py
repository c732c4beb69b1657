"""The root runner: starts actors in processes and threads, restarts them when they die, stops them."""

from __future__ import annotations

import heapq
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
from grav_actors.actor.runtime import ActorRuntime, Ending, Spawn
from grav_actors.errors import ActorStartError, GravError
from grav_actors.options import RestartLimits
from grav_actors.pod.link import Link
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.member import Member, MemberState
from grav_actors.supervisor.policy import GiveUp, RestartPolicy
from grav_actors.supervisor.process import ProcessHost
from grav_actors.supervisor.spec import Child

logger = logging.getLogger(__name__)

Job = Callable[[], None]
OnLine = Callable[[str, str, str], None]
"""Takes a line that a process actor wrote: its name, `stdout` or `stderr`, the line."""


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What a runner needs of its node.

    Attributes:
        link: Link of this process, for thread actors.
        supervisor: Uuid of the node's own pod: it marks the names that outlive their processes.
        release: Tells the bus that a name is not coming back.
        give_up: Called, on a thread of its own, when there were too many restarts.
        spawn: Starts further actors for actors of this process.
        on_line: Takes what processes write; None leaves it to the terminal.
    """

    link: Link
    supervisor: bytes
    limits: RestartLimits
    release: Callable[[str, str], None]
    give_up: Callable[[str], None]
    spawn: Spawn
    on_line: OnLine | None = None


class RootRunner:
    """Runs actors under one restart limit, each restarted alone.

    Starts happen on the caller's thread, or for restarts on one of their own; what is decided about deaths
    is decided on the runner's thread, one after another.
    """

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._policy = RestartPolicy(context.limits)
        self._members: dict[str, Member] = {}
        self._by_process: dict[ChildProcess, Member] = {}
        self._lock = threading.Lock()
        self._host: ProcessHost | None = None
        self._jobs: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._has_given_up = False

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
                self._stop_member(member, "stop")
            for member in members:
                self._strike(member)
            raise
        return [member.name for member in members]

    def _enter(self, child: Child) -> list[Member]:
        with self._lock:
            if self._is_stopping:
                raise ActorStartError("this node is stopping; no actor can be started")
            base = child.name if child.name is not None else self._free_name(child.actor_class.__name__.lower())
            if child.instances == 1:
                members = [Member(base, child, "")]
            else:
                members = [Member(f"{base}-{number}", child, base) for number in range(1, child.instances + 1)]
            for member in members:
                if member.name in self._members:
                    raise ActorStartError(
                        f"an actor named {member.name!r} runs on this node already; choose another name"
                    )
            for member in members:
                self._members[member.name] = member
            return members

    def _free_name(self, base: str) -> str:
        taken = self._members.keys() | {member.service for member in self._members.values()}
        if base not in taken:
            return base
        return next(name for number in itertools.count(2) if (name := f"{base}-{number}") not in taken)

    def _strike(self, member: Member) -> None:
        with self._lock:
            if self._members.get(member.name) is member:
                del self._members[member.name]

    def _start(self, member: Member) -> None:
        """Start an incarnation and wait for it; raise ActorStartError."""
        member.state = MemberState.STARTING
        member.started = threading.Event()
        member.ended = threading.Event()
        member.start_error = member.ending = member.runtime = member.process = None
        if member.child.kind == "thread":
            self._start_thread(member)
        else:
            self._start_process(member)
        member.state = MemberState.READY

    def _start_thread(self, member: Member) -> None:
        context = self._context
        incarnation = member.incarnation

        def on_end(ending: Ending) -> None:
            member.ending = ending
            member.ended.set()
            if member.started.is_set():
                self._later(0.0, lambda: self._ended(member, incarnation))

        member.runtime = ActorRuntime(member.spec(context.supervisor), context.link, on_end, context.spawn)
        try:
            member.runtime.start(member.child.start_timeout)
        except BaseException:
            member.ended.set()
            raise
        member.started.set()
        if member.ended.is_set():
            self._later(0.0, lambda: self._ended(member, incarnation))

    def _start_process(self, member: Member) -> None:
        context = self._context
        link = context.link
        timeout = member.child.start_timeout
        payload = make_payload(member.spec(context.supervisor), link.endpoint, link.send_timeout, timeout)
        host = self._process_host()
        with self._lock:  # a report may come before spawn returns
            process = host.spawn(member.name, ENTRY, payload, capture=context.on_line is not None)
            member.process = process
            self._by_process[process] = member
        if not member.started.wait(timeout + 5.0):
            process.kill()
            process.wait(5.0)
            raise ActorStartError(f"actor {member.name!r} did not finish on_start within {timeout} s")
        if member.start_error is not None:
            process.wait(5.0)
            raise member.start_error

    def _process_host(self) -> ProcessHost:
        with self._lock:
            if self._host is None:
                self._host = ProcessHost(self._on_exit, self._on_output, self._on_report)
            return self._host

    def prepare(self) -> None:
        """Start what processes are forked from, so that the first process actor starts as fast as the others."""
        self._process_host().prepare()

    # What processes say, on the host's thread

    def _member_of(self, process: ChildProcess) -> Member | None:
        with self._lock:
            return self._by_process.get(process)

    def _on_report(self, process: ChildProcess, report: dict[str, Any]) -> None:
        member = self._member_of(process)
        if member is None:
            return
        event = report.get("event")
        if event == "ready":
            member.started.set()
        elif event == "failed":
            member.start_error = ActorStartError(
                str(report.get("error", "")), remote_traceback=str(report.get("traceback", ""))
            )
            member.started.set()
        elif event == "ended":
            member.ending = Ending(
                str(report.get("reason", "")), str(report.get("error", "")), str(report.get("traceback", ""))
            )

    def _on_output(self, process: ChildProcess, stream: str, line: str) -> None:
        if self._context.on_line is not None:
            self._context.on_line(process.name, stream, line)

    def _on_exit(self, process: ChildProcess) -> None:
        with self._lock:
            member = self._by_process.pop(process, None)
        if member is None:
            return
        member.ended.set()
        if not member.started.is_set():
            tail = "\n".join(process.stderr_tail)
            member.start_error = ActorStartError(
                f"actor {member.name!r} did not start: its process ended with {process.describe_exit()}",
                remote_traceback=tail,
            )
            member.started.set()
        elif member.start_error is None:
            incarnation = member.incarnation
            self._later(0.0, lambda: self._ended(member, incarnation))

    # Deaths, on the runner's thread

    def _ended(self, member: Member, incarnation: int) -> None:
        if self._members.get(member.name) is not member or member.incarnation != incarnation:
            return
        ending = member.ending
        asked = ending is not None and ending.reason in ("stop", "shutdown")
        restart = member.child.restart
        if self._is_stopping or member.state is MemberState.DRAINING or restart == "temporary" or (asked):
            member.state = MemberState.STOPPED
            self._strike(member)
            if not asked:
                self._context.release(member.name, "pod_lost")
            return
        member.cause = self._cause(member)
        decision = self._policy.failed(time.monotonic(), random.random)
        if isinstance(decision, GiveUp):
            self._report_crash(member, f"{decision.restarts} restarts within {decision.within:g} s: giving up")
            self._give_up(member, decision)
            return
        member.restarts += 1
        member.incarnation += 1
        when = "at once" if decision.delay == 0 else f"in {decision.delay:.2g} s"
        self._report_crash(member, f"restart {member.restarts} {when}")
        member.state = MemberState.BACKOFF
        self._later(decision.delay, lambda: self._restart_aside(member))

    @staticmethod
    def _cause(member: Member) -> str:
        ending, process = member.ending, member.process
        if ending is not None and ending.error:
            return ending.error
        if process is not None and not process.is_alive():
            return process.describe_exit()
        return ending.reason if ending is not None else "ended"

    @staticmethod
    def _report_crash(member: Member, next_step: str) -> None:
        tail = member.process.stderr_tail if member.process is not None else []
        text = member.ending.traceback.rstrip() if member.ending is not None and not tail else "\n".join(tail)
        last = f"\nthe last that it wrote:\n{text}" if text else ""
        logger.error("actor %s crashed: %s; %s%s", member.name, member.cause, next_step, last)

    def _restart_aside(self, member: Member) -> None:
        # On a thread of its own: a slow start must not hold up the restarts of others.
        threading.Thread(target=self._restart, args=(member,), name=f"grav-restart-{member.name}", daemon=True).start()

    def _restart(self, member: Member) -> None:
        if self._is_stopping:
            return
        incarnation = member.incarnation
        try:
            self._start(member)
        except GravError as exc:
            member.ending = Ending("crash", str(exc.args[0] if exc.args else exc), getattr(exc, "remote_traceback", ""))
            member.state = MemberState.BACKOFF
            self._later(0.0, lambda: self._ended(member, incarnation))

    def _give_up(self, member: Member, decision: GiveUp) -> None:
        member.state = MemberState.FAILED
        self._has_given_up = True
        text = (
            f"actor {member.name} failed once more after {decision.restarts} restarts within {decision.within:g} s "
            f"(last: {member.cause})"
        )
        threading.Thread(target=self._context.give_up, args=(text,), name="grav-give-up", daemon=True).start()

    def _later(self, delay: float, job: Job) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="grav-supervisor", daemon=True)
                self._thread.start()
            heapq.heappush(self._jobs, (time.monotonic() + delay, next(self._order), job))
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._is_stopping and (not self._jobs or self._jobs[0][0] > time.monotonic()):
                    self._changed.wait(self._jobs[0][0] - time.monotonic() if self._jobs else None)
                if self._is_stopping:
                    return
                _, _, job = heapq.heappop(self._jobs)
            try:
                job()
            except Exception:
                logger.exception("the supervisor met an error")

    # Stopping

    def stop(self, timeout: float) -> None:
        """Stop all actors, the last started first, then the processes behind them. Idempotent."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        deadline = time.monotonic() + timeout
        for member in reversed(list(self._members.values())):
            self._stop_member(member, "shutdown", max(0.1, deadline - time.monotonic()))
            self._strike(member)
        if self._host is not None:
            self._host.stop(max(0.0, deadline - time.monotonic()))

    def _stop_member(self, member: Member, reason: str, limit: float = float("inf")) -> None:
        member.state = MemberState.DRAINING
        patience = min(member.child.shutdown, limit)
        if member.runtime is not None:
            member.runtime.stop(reason)
            if not member.ended.is_set() and not member.runtime.wait(patience):
                logger.error("actor %s has not stopped within %g s; its thread is left behind", member.name, patience)
        process = member.process
        if process is not None and process.is_alive():
            process.terminate()
            if not process.wait(patience):
                logger.error("actor %s has not stopped within %g s and is killed", member.name, patience)
                process.kill()
                process.wait(5.0)
        member.state = MemberState.STOPPED

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each actor, in the order of their start."""
        with self._lock:
            return [member.describe(os.getpid()) for member in self._members.values()]

    def is_degraded(self) -> bool:
        """Whether an actor is not ready."""
        with self._lock:
            return any(
                member.state in (MemberState.BACKOFF, MemberState.FAILED) for member in self._members.values()
            )
