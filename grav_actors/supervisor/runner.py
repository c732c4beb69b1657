"""The driver of a supervisor: it starts, tells and watches processes and threads as the decider says."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from grav_actors.errors import ActorStartError
from grav_actors.protocol import BYE_CRASHED
from grav_actors.reference import check_actor_name
from grav_actors.supervisor.agenda import Agenda
from grav_actors.supervisor.announcer import Announcer
from grav_actors.supervisor.context import RunnerContext
from grav_actors.supervisor.core import SupervisorCore
from grav_actors.supervisor.crash_report import crash_report, is_news, next_step, reason_of
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
from grav_actors.supervisor.lanes import Lanes
from grav_actors.supervisor.life import Life
from grav_actors.supervisor.lives import JOIN_LIMIT, KILL_LIMIT, Lives
from grav_actors.supervisor.member import Member
from grav_actors.supervisor.place import Place, Rules
from grav_actors.supervisor.request import Request
from grav_actors.supervisor.spec import Child
from grav_actors.supervisor.tree import base_name, children_of, instance_names, names_below

logger = logging.getLogger(__name__)


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
        self._by_key: dict[int, Life] = {}
        self._requests: dict[int, Request] = {}
        self._start_errors: dict[str, ActorStartError] = {}
        self._releases: set[threading.Event] = set()
        self._request_numbers = itertools.count(1)
        self._effects: deque[Effect] = deque()
        self._is_acting = False
        self._lock = threading.RLock()
        self._agenda = Agenda("grav-supervisor")
        self._lives = Lives(context, self._lock, self._agenda, self)
        self._lanes = Lanes("grav-child")
        self._announcer = Announcer(context.name, context.publish)
        self._wake_at: float | None = None
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
                self._lives.stop(self._by_key[key], reason, patience)
            case Terminate(_, key):
                self._lives.terminate(self._by_key[key])
            case Kill(_, key):
                self._lives.kill(self._by_key[key])
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
                self._lives.end_remains()
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
        self._by_key[life.key] = life
        self._lanes.add(member.name, lambda: self._lives.begin(life))

    def prepare(self) -> None:
        """Start what processes are forked from, so that the first process actor starts as fast as the others."""
        self._lives.processes.prepare()

    # What becomes of lives, told by the host's thread, their lane, or their own

    def note_ready(self, life: Life) -> None:
        """Have the decider know that a life is ready."""
        self._tell(lambda now: self._core.ready(life.key, now))

    def note_ended(self, lives: list[Life]) -> None:
        """Have the decider know that lives have ended, of one cause."""
        ends = {life.key: Exit(life.how, life.cause) for life in lives}
        self._tell(lambda now: self._core.ended_together(ends, now))

    def is_closing(self) -> bool:
        """Whether the supervisor ends."""
        return self._core.is_closing

    def _note_end(self, end: Ended) -> None:
        """Report an end, and have the bus told what will become of the name."""
        life = self._by_key.pop(end.life)
        name = life.member.name
        life.reason = reason_of(life, end)
        life.member.snapshot = life.snapshot or life.member.snapshot
        life.member.restarts = end.restarts
        if life.start_error is not None and end.verdict is Verdict.ENDED:
            self._start_errors[name] = life.start_error  # for whoever has asked for it
        elif is_news(life, end):
            self._report_crash(life, next_step(end))
        if end.verdict is Verdict.RESTART:
            self._announcer.restarting(life, end, next_step(end))
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

    def _report_crash(self, life: Life, step: str) -> None:
        report = crash_report(life, step)
        life.member.report = report
        life.member.reported_at = time.time()
        logger.error("%s", report, extra={"is_event": True})
        self._announcer.crashed(life, report, step)

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
            self._lives.processes.close()
            self._tell(lambda now: self._core.stop(now, timeout))
        self._over.wait(timeout + KILL_LIMIT)
        self._lanes.join(max(JOIN_LIMIT, deadline - time.monotonic()))
        self._announcer.close(max(JOIN_LIMIT, deadline - time.monotonic()))
        self._agenda.close()
        self._lives.stop_processes(max(0.0, deadline - time.monotonic()))

    # Watching

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each actor, in the order of their start."""
        with self._lock:
            return [self._member_at(place).describe(place) for place in self._core.places.values()]

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
            return self._member_at(place).describe_whole(place)

    def _member_at(self, place: Place) -> Member:
        return self._member(place.name, place.rules.pool)

    def is_degraded(self) -> bool:
        """Whether an actor is not ready."""
        with self._lock:
            return self._core.is_degraded
