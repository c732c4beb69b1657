"""The driver of a supervisor: it starts, tells and watches processes and threads as the decider says."""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from grav_actors.actor.keeping import make_runtime
from grav_actors.actor.process import ENTRY, make_payload
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Handling, Slate, slate_size
from grav_actors.actor.snapshot import snapshot_size
from grav_actors.actor.spec import Ending, Spawn
from grav_actors.errors import ActorStartError
from grav_actors.options import RestartLimits
from grav_actors.pod.link import Link
from grav_actors.protocol import BYE_CRASHED
from grav_actors.reference import check_actor_name
from grav_actors.supervisor.agenda import Agenda
from grav_actors.supervisor.announcer import Announcer, Publish
from grav_actors.supervisor.core import SupervisorCore
from grav_actors.supervisor.effects import (
    Answer,
    Changed,
    Effect,
    Ended,
    Exit,
    Gone,
    How,
    Kill,
    MemberState,
    Over,
    Start,
    Stop,
    Terminate,
    Verdict,
)
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.hangs import HandlerClock
from grav_actors.supervisor.lanes import Lanes
from grav_actors.supervisor.member import Life, Member
from grav_actors.supervisor.place import Place, Rules
from grav_actors.supervisor.process import ProcessHost
from grav_actors.supervisor.spec import Child
from grav_actors.supervisor.tree import base_name, children_of, instance_names, names_below

logger = logging.getLogger(__name__)

KILL_LIMIT = 5.0
"""Seconds that a process may take to be gone once it was killed, or has said that it ends."""
JOIN_LIMIT = 1.0
"""Seconds that the threads of actors may take to be gone once these have ended."""
NAMED = 5
"""Messages that were in handlers which the report of a crash names."""

OnLine = Callable[[str, str, str], None]
"""Takes a line that a process actor wrote: its name, `stdout` or `stderr`, the line."""


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What a runner needs of its node, or of the actor whose children it runs.

    Attributes:
        link: Link of this process, for thread actors.
        supervisor: Uuid of the pod that stands for the supervisor: it marks the names that outlive their processes.
        release: Tells the bus that an incarnation has ended: its name, its number, why (`crashed` if a next one is
            to come), what it failed with, or "", and what was in its handlers.
        end: Called, on a thread of its own, when the supervisor has ended and nobody had asked for that: why, and
            whether it has failed.
        spawn: Starts further actors for actors of this process.
        on_line: Takes what processes write; None leaves it to the terminal.
        first_incarnation: What the incarnations of its children are counted from, on the bus.
        name: The supervisor's; "" for the root.
        publish: Publishes an event: its type, and what it says; None tells nobody. It may wait.
    """

    link: Link
    supervisor: bytes
    limits: RestartLimits
    release: Callable[[str, int, str, str, tuple[Handling, ...]], None]
    end: Callable[[str, bool], None]
    spawn: Spawn
    on_line: OnLine | None = None
    strategy: str = "one_for_one"
    first_incarnation: int = 0
    name: str = ""
    publish: Publish | None = None


class Request:
    """What somebody waits for: an answer of the decider, and the bus, which has to know of the ends before it."""

    def __init__(self) -> None:
        self.error: ActorStartError | None = None
        self.releases: tuple[threading.Event, ...] = ()
        self._answered = threading.Event()

    def answer(self) -> None:
        """Let who waits go on."""
        self._answered.set()

    def wait(self) -> None:
        """Wait for the answer; raise the error that it is."""
        self._answered.wait()
        for release in self.releases:
            release.wait()
        if self.error is not None:
            raise self.error


class Runner:
    """Runs the children of one supervisor.

    Events go to the decider under the lock, whichever thread they come on, and what it says is done in its order;
    what may take long (starting, telling the bus) on a lane for each child. Nothing is waited for under the lock.
    """

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._core = SupervisorCore(context.strategy, context.limits, random.random)
        self._children: dict[str, Child] = {}
        self._members: dict[str, Member] = {}
        self._lives: dict[int, Life] = {}
        self._processes: dict[ChildProcess, Life] = {}
        self._early: dict[ChildProcess, list[Callable[[Life], None]]] = {}
        self._requests: dict[int, Request] = {}
        self._start_errors: dict[str, ActorStartError] = {}
        self._releases: set[threading.Event] = set()
        self._request_numbers = itertools.count(1)
        self._effects: deque[Effect] = deque()
        self._is_acting = False
        self._lock = threading.RLock()
        self._host: ProcessHost | None = None
        self._agenda = Agenda("grav-supervisor")
        self._lanes = Lanes("grav-child")
        self._announcer = Announcer(context.name, context.publish)
        self._wake_at: float | None = None
        self._left_behind: list[ActorRuntime] = []
        self._is_stopping = False
        self._over = threading.Event()

    # Requests

    def spawn(self, child: Child, *, is_lasting: bool = False) -> list[str]:
        """Start an actor, all its instances; return their names when each `on_start` has returned.

        Args:
            is_lasting: It stays listed when it has ended.

        Raises:
            ActorStartError: One did not start; those that had are stopped again.
        """
        with self._lock:
            names, rules = self._enter(child, is_lasting=is_lasting)
            request = self._ask(lambda number, now: self._core.start(number, rules, now))
        try:
            request.wait()
        except ActorStartError:
            raise
        except BaseException:  # Ctrl-C, say: nobody will know of them
            for name in names:
                if name in self._core.places:
                    self._ask(lambda number, now, name=name: self._core.stop_child(number, name, now))  # type: ignore[misc]
            raise
        return names

    def start_child(self, name: str) -> None:
        """Start an actor that is down, and wait until it is ready.

        Raises:
            KeyError: There is none of that name.
            ActorStartError: It did not start.
        """
        self._ask(lambda number, now: self._core.start_again(number, name, now)).wait()

    def restart_child(self, name: str) -> None:
        """Stop an actor and start it again, and wait until it is ready; errors as of `start_child`."""
        self._ask(lambda number, now: self._core.restart(number, name, now)).wait()

    def stop_child(self, name: str) -> None:
        """Stop an actor for good, and wait until it has ended.

        Raises:
            KeyError: There is none of that name.
        """
        self._ask(lambda number, now: self._core.stop_child(number, name, now)).wait()

    def remove(self, name: str) -> None:
        """Stop an actor, or all instances of a pool, for good, and forget it: its name is free.

        Raises:
            KeyError: There is none of that name.
        """
        self._ask(lambda number, now: self._core.remove(number, name, now)).wait()

    def scale(self, pool: str, count: int) -> None:
        """Have so many instances, and wait until they are ready, or have ended.

        Raises:
            KeyError: There is no pool of that name.
            ActorStartError: One did not start; further ones were stopped again.
        """
        self._ask(lambda number, now: self._core.scale(number, pool, count, now)).wait()

    def _enter(self, child: Child, *, is_lasting: bool) -> tuple[list[str], list[Rules]]:
        """Choose the names of a child's instances; raise ActorStartError for those that are taken."""
        if self._core.is_closing:
            raise ActorStartError("this node is stopping; no actor can be started")
        taken = self._core.taken_names() | self._names_below()
        base = base_name(child, taken)
        names = instance_names(base, child.instances)
        cls = child.actor_class
        for name in {base, *names, *names_below(children_of(cls), (cls,))}:
            check_actor_name(name)
            if name in taken:
                raise ActorStartError(f"an actor named {name!r} runs on this node already; choose another name")
        self._children[base] = child
        pool = base if child.instances > 1 else ""
        return names, [
            Rules(name, pool, child.restart, child.significant, child.stop_patience, is_lasting) for name in names
        ]

    def _names_below(self) -> set[str]:
        """Return the names that the children of its supervisors have, as far as their classes say so."""
        children = [child for child in self._children.values() if child.actor_class._grav_supervises]
        return {name for child in children for name in names_below(children_of(child.actor_class))}

    def _ask(self, event: Callable[[int, float], list[Effect]]) -> Request:
        request = Request()
        with self._lock:
            number = next(self._request_numbers)
            self._requests[number] = request
            try:
                self._tell(lambda now: event(number, now))
            except BaseException:
                self._requests.pop(number, None)
                raise
        return request

    # The decider

    def _tell(self, event: Callable[[float], list[Effect]]) -> None:
        """Have the decider decide about an event, and do what it says."""
        with self._lock:
            self._effects += event(time.monotonic())
            if self._is_acting:
                return  # on top of an effect: the loop below goes on
            self._is_acting = True
            try:
                while self._effects:
                    self._try(self._effects.popleft())
            finally:
                self._is_acting = False
            self._set_alarm()

    def _set_alarm(self) -> None:
        due = self._core.deadline()
        if due is not None and (self._wake_at is None or due < self._wake_at):
            self._wake_at = due
            self._agenda.add(max(0.0, due - time.monotonic()), self._ring)

    def _ring(self) -> None:
        with self._lock:
            self._wake_at = None
            self._tell(self._core.tick)

    def _try(self, effect: Effect) -> None:
        try:
            self._act(effect)
        except Exception:  # a process that has become another user's, say: the other effects are still due
            logger.exception("the supervisor could not do this: %s", effect)

    def _act(self, effect: Effect) -> None:
        match effect:
            case Start():
                self._begin(effect)
            case Stop(_, key, reason, patience):
                life = self._lives[key]
                life.told = reason
                if life.process is not None:
                    life.process.send_signal(signal.SIGINT if reason == "stop" else signal.SIGTERM)
                elif life.runtime is not None:
                    life.runtime.patience = patience
                    life.runtime.stop("stop" if reason == "stop" else "shutdown")
            case Terminate(_, key):
                life = self._lives[key]
                if life.process is not None:
                    life.process.terminate()
            case Kill(_, key):
                self._kill(self._lives[key])
            case Ended():
                self._note_end(effect)
            case Changed(name, MemberState.READY | MemberState.STOPPED | MemberState.FAILED as state, _, cause):
                member = self._members.get(name)
                if member is not None and member.life is not None:  # else it has not even begun
                    self._announcer.changed(member, member.life, state, cause)
            case Gone(name, _, is_forgotten):
                self._let_go(name, is_forgotten=is_forgotten)
            case Answer(number, error, culprit):
                self._answer(number, error, culprit)
            case Over(text, has_failed):
                self._over.set()
                if text and not self._is_stopping:
                    threading.Thread(
                        target=self._context.end, args=(text, has_failed), name="grav-give-up", daemon=True
                    ).start()
            case _:
                pass

    def _answer(self, number: int, error: str, culprit: str) -> None:
        request = self._requests.pop(number)
        if error:
            request.error = self._start_errors.pop(culprit, None) or ActorStartError(error)
        request.releases = tuple(self._releases)
        request.answer()

    def _let_go(self, name: str, *, is_forgotten: bool) -> None:
        """Have the bus give up a name that it keeps for a life which does not come, as of an actor in backoff."""
        member = self._members.get(name)
        if member is not None and member.is_kept and member.life is not None:
            self._tell_bus(member.life, "stopping", "")
        if member is not None:
            member.snapshot = None  # who is started by hand begins afresh
        if is_forgotten:
            self._forget(name)

    def _forget(self, name: str) -> None:
        member = self._members.pop(name, None)
        base = member.service or name if member is not None else name
        if not self._core.is_taken(base):
            self._children.pop(base, None)

    def _member(self, name: str, pool: str) -> Member:
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = Member(name, self._children[pool or name], pool)
        return member

    # Lives

    def _begin(self, start: Start) -> None:
        member = self._member(start.name, start.pool)
        life = member.life = Life(member, start.life, self._context.first_incarnation + start.incarnation, start.cause)
        self._lives[life.key] = life
        self._lanes.add(member.name, lambda: self._start(life))

    def _start(self, life: Life) -> None:
        """Begin a life, on the lane of its child, and wait until it is ready or over."""
        try:
            if life.is_killed:
                raise ActorStartError(f"actor {life.member.name!r} is being stopped")
            if life.member.child.kind == "thread":
                self._start_thread(life)
            else:
                self._start_process(life)
        except Exception as exc:
            life.start_error = exc if isinstance(exc, ActorStartError) else _as_start_error(life, exc)
            self._has_ended(life)

    def _start_thread(self, life: Life) -> None:
        context = self._context
        member = life.member

        def on_end(ending: Ending) -> None:
            life.ending = ending
            self._is_ready(life)  # it was, or this would not be called
            self._has_ended(life)

        if room := self._snapshot_room(member):
            life.memory = mmap(-1, room)
        runtime = make_runtime(member.spec(life, context.supervisor), context.link, on_end, context.spawn, life.memory)
        if member.child.handler_timeout is not None:
            life.notes = bytearray(slate_size(member.child.actor_class.concurrency))
            runtime.note_on(Slate(life.notes))
        with self._lock:
            life.runtime = runtime
            life.joins()
            if life.is_killed:
                runtime.stop("stop")
        runtime.start(member.child.start_patience)
        self._is_ready(life)

    def _start_process(self, life: Life) -> None:
        context = self._context
        member = life.member
        timeout = member.child.start_patience
        deadline = time.monotonic() + timeout
        link = context.link
        payload = make_payload(member.spec(life, context.supervisor), link.endpoint, link.send_timeout)
        process = self._process_host().spawn(
            member.name,
            ENTRY,
            payload,
            capture=context.on_line is not None,
            slate_size=slate_size(member.child.actor_class.concurrency) + self._snapshot_room(member),
        )
        self._register(process, life)
        if not life.outcome.wait(max(0.0, deadline - time.monotonic())):
            life.start_error = ActorStartError(f"actor {member.name!r} did not finish on_start within {timeout:g} s")
            process.kill()

    def _snapshot_room(self, member: Member) -> int:
        """Return the bytes of memory for the state that an actor keeps; 0 if it keeps none."""
        if not member.child.actor_class._grav_handlers.keeps_state:
            return 0
        return snapshot_size(max(pod._core.max_message for pod in self._context.link.pods()))

    def _process_host(self) -> ProcessHost:
        with self._lock:
            if self._host is None:
                if self._is_stopping:
                    raise ActorStartError("this node is stopping; no actor can be started")
                self._host = ProcessHost(self._on_exit, self._on_output, self._on_report)
            return self._host

    def prepare(self) -> None:
        """Start what processes are forked from, so that the first process actor starts as fast as the others."""
        self._process_host().prepare()

    def _kill(self, life: Life) -> None:
        was_ready = life.outcome.is_set()
        life.end_now()
        if life.process is not None:
            if was_ready:
                logger.error("actor %s has not stopped in time and is killed", life.member.name)
        elif life.runtime is not None:
            # A thread cannot be killed. One that has only now been told to end may still do so, when its hook returns.
            patience = 0.0 if life.told else max(life.member.child.shutdown, JOIN_LIMIT)
            self._agenda.add(patience, lambda: self._leave_behind(life))

    def _leave_behind(self, life: Life) -> None:
        if not life.is_over and life.runtime is not None:
            logger.error("actor %s has not stopped in time; its thread is left behind", life.member.name)
            self._has_ended(life)

    # What becomes of lives, told by the host's thread, their lane, or their own

    def _register(self, process: ChildProcess, life: Life) -> None:
        """Take a process into account, and what it has said since it was made."""
        with self._lock:
            life.process = process
            life.joins()
            self._processes[process] = life
            for event in self._early.pop(process, ()):
                event(life)
            if life.is_killed:
                process.kill()

    def _hear(self, process: ChildProcess, event: Callable[[Life], None]) -> None:
        with self._lock:
            life = self._processes.get(process)
            if life is None:
                self._early.setdefault(process, []).append(event)
            else:
                event(life)

    def _on_report(self, process: ChildProcess, report: dict[str, Any]) -> None:
        self._hear(process, lambda life: self._reported(life, report))

    def _reported(self, life: Life, report: dict[str, Any]) -> None:
        event = report.get("event")
        error, traceback = str(report.get("error", "")), str(report.get("traceback", ""))
        if event == "ready":
            self._is_ready(life)
        elif event == "failed":
            life.start_error = ActorStartError(error, remote_traceback=traceback)
        elif event == "ended":
            life.ending = Ending(str(report.get("reason", "")), error, traceback)
            self._agenda.add(KILL_LIMIT, lambda: self._end_remains(life))

    @staticmethod
    def _end_remains(life: Life) -> None:
        """Kill a process that has said that it ends, and which a thread of the user keeps."""
        process = life.process
        if process is not None and process.is_alive():
            logger.error(
                "process %d of actor %s has not ended after it said so; it is killed", process.pid, process.name
            )
            process.kill()

    def _on_output(self, process: ChildProcess, stream: str, line: str) -> None:
        if self._context.on_line is not None:
            self._context.on_line(process.name, stream, line)

    def _on_exit(self, process: ChildProcess) -> None:
        self._hear(process, self._exited)

    def _exited(self, life: Life) -> None:
        process = life.process
        assert process is not None
        del self._processes[process]
        if not life.outcome.is_set() and life.start_error is None:
            life.start_error = ActorStartError(
                f"actor {life.member.name!r} did not start: its process ended with {process.describe_exit()}",
                remote_traceback="\n".join(process.stderr_tail),
            )
        self._has_ended(life)

    def _is_ready(self, life: Life) -> None:
        with self._lock:
            if not life.is_over and not life.outcome.is_set():
                life.outcome.set()
                self._tell(lambda now: self._core.ready(life.key, now))
                limit = life.member.child.handler_timeout
                if limit is not None:
                    self._look_at_handlers(life, HandlerClock(limit))

    def _look_at_handlers(self, life: Life, clock: HandlerClock) -> None:
        """End a process with a handler that hangs, report one in a thread, and look again later."""
        if life.is_over or life.is_killed:
            return
        hung = clock.look(life.at_work, time.monotonic())
        if hung:
            text = f"its handler of {hung[0]} has not returned within {clock.limit:g} s"
            if life.process is not None:
                life.hung = text
                life.process.kill()
                return
            logger.error("actor %s hangs: %s; a thread cannot be ended from outside", life.member.name, text)
        self._agenda.add(clock.interval, lambda: self._look_at_handlers(life, clock))

    def _has_ended(self, life: Life) -> None:
        with self._lock:
            if life.is_over:
                return
            life.is_over = True
            life.outcome.set()
            if life.runtime is not None:
                self._left_behind = [runtime for runtime in self._left_behind if not runtime.wait(0)]
                self._left_behind.append(life.runtime)
            end = Exit(life.how, life.cause)
            self._tell(lambda now: self._core.ended(life.key, end, now))

    def _note_end(self, end: Ended) -> None:
        """Report an end, and have the bus told what will become of the name."""
        life = self._lives.pop(end.life)
        name = life.member.name
        life.reason = _reason(life, end)
        life.member.snapshot = life.snapshot or life.member.snapshot
        life.member.restarts = end.restarts
        if life.start_error is not None and end.verdict is Verdict.ENDED:
            self._start_errors[name] = life.start_error  # for whoever has asked for it
        elif _is_news(life, end):
            self._report_crash(life, _next_step(end))
        if end.verdict is Verdict.RESTART:
            self._announcer.restarting(life, end, _next_step(end))
        if not (life.has_joined or life.member.is_kept):
            return
        if end.verdict is Verdict.RESTART:
            # Before the next one joins: the bus is told which messages to charge, and who has asked need not wait.
            # Also when it has said so itself: its word may have been lost with a connection.
            self._release(life, end, BYE_CRASHED)
        elif end.exit.how is not How.ASKED or not life.has_joined:  # else the bus needs no word but its own
            is_in_order = end.exit.how is How.WELL and life.ending is not None
            was_stopped = end.verdict is Verdict.STOPPED and (life.start_error is None or not life.has_joined)
            self._release(life, end, "stopping" if is_in_order or was_stopped else "pod_lost")

    def _report_crash(self, life: Life, next_step: str) -> None:
        report = _crash_report(life, next_step)
        life.member.report = report
        life.member.reported_at = time.time()
        logger.error("%s", report)
        self._announcer.crashed(life, report, next_step)

    def _release(self, life: Life, end: Ended, reason: str) -> None:
        # One that was killed because others end has not failed.
        has_failed = end.exit.how is How.CRASHED and not (end.was_leaving and life.ending is None)
        self._tell_bus(life, reason, end.exit.cause if has_failed else "")

    def _tell_bus(self, life: Life, reason: str, error: str) -> None:
        """Have the bus told, on the lane of its child, that a life has ended, and what becomes of the name."""
        life.member.is_kept = reason == BYE_CRASHED
        done = threading.Event()
        self._releases.add(done)

        def tell() -> None:
            try:
                self._context.release(life.member.name, life.number, reason, error, life.handling)
            finally:
                with self._lock:
                    self._releases.discard(done)
                done.set()

        self._lanes.add(life.member.name, tell)

    # Stopping

    def stop(self, timeout: float) -> None:
        """Stop all actors, the last started first, then the processes behind them. Idempotent."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._is_stopping = True
            self._tell(lambda now: self._core.stop(now, timeout))
            host = self._host
        self._over.wait(timeout + KILL_LIMIT)
        self._lanes.join(max(JOIN_LIMIT, deadline - time.monotonic()))
        self._announcer.close(max(JOIN_LIMIT, deadline - time.monotonic()))
        self._agenda.close()
        if host is not None:
            host.stop(max(0.0, deadline - time.monotonic()))
        joined_by = time.monotonic() + JOIN_LIMIT
        for runtime in self._left_behind:
            runtime.join(max(0.0, joined_by - time.monotonic()))

    # Watching

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each actor, in the order of their start."""
        with self._lock:
            own_pid = os.getpid()
            return [self._member_at(place).describe(place, own_pid) for place in self._core.places.values()]

    def pools(self) -> list[str]:
        """Return the names of the pools, those without an instance too."""
        with self._lock:
            return self._core.pool_names()

    def instances(self, name: str) -> list[str]:
        """Return the names of the instances of a pool in the order of their start, or that of the actor itself.

        Raises:
            KeyError: There is neither.
        """
        with self._lock:
            if name in self._core.places:
                return [name]
            if name not in self._core.pool_names():
                raise KeyError(name)
            return [place.name for place in self._core.places.values() if place.rules.pool == name]

    def inspect(self, name: str) -> dict[str, Any]:
        """Return all that is known of an actor; raise KeyError if there is none of that name."""
        with self._lock:
            place = self._core.places[name]
            return self._member_at(place).describe_whole(place, os.getpid())

    def _member_at(self, place: Place) -> Member:
        return self._member(place.name, place.rules.pool)

    def is_degraded(self) -> bool:
        """Whether an actor is not ready."""
        with self._lock:
            return self._core.is_degraded


def _as_start_error(life: Life, exc: Exception) -> ActorStartError:
    return ActorStartError(f"actor {life.member.name!r} did not start: {type(exc).__name__}: {exc}")


def _is_news(life: Life, end: Ended) -> bool:
    """Return whether an end is to be reported: it was not asked for, by whomever."""
    if end.was_leaving:
        return end.exit.how is How.CRASHED and not life.is_killed
    return end.verdict in (Verdict.RESTART, Verdict.GIVE_UP) or end.exit.how is How.CRASHED


def _next_step(end: Ended) -> str:
    match end.verdict:
        case Verdict.RESTART:
            return f"restart {end.restarts} " + ("at once" if end.delay == 0 else f"in {end.delay:.2g} s")
        case Verdict.GIVE_UP:
            return "that was too often: giving up"
        case Verdict.STOPPED:
            return "it was being stopped"
        case Verdict.ENDED:
            return "it is not started again"


def _reason(life: Life, end: Ended) -> str:
    """Return in one word why a life ended; the words are in `docs/supervision.md`."""
    if end.was_leaving:
        return life.told or "stop"
    return {How.ASKED: "stop", How.WELL: "done", How.CRASHED: "crash"}[end.exit.how]


def _crash_report(life: Life, next_step: str) -> str:
    lines = [f"actor {life.member.name} crashed: {life.cause}; {next_step}"]
    handling = life.handling
    if handling:
        more = f" and {len(handling) - NAMED} more" if len(handling) > NAMED else ""
        lines.append(f"it was handling {', '.join(map(str, handling[:NAMED]))}{more}")
    words = life.last_words
    if words:
        lines.append(f"the last that it wrote:\n{words}")
    return "\n".join(lines)
