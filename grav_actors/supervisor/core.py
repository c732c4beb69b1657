"""What a supervisor decides: events and the time come in, effects go out. No process, thread or clock.

States, events and rules are in `docs/supervision.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from grav_actors.options import RestartLimits
from grav_actors.supervisor.effects import Answer, Effect, Exit, Gone, How, MemberState, Over, Verdict
from grav_actors.supervisor.lifecycle import Lifecycle
from grav_actors.supervisor.place import Place, Request, Round, Rules, Step
from grav_actors.supervisor.policy import GiveUp, Restart, RestartPolicy
from grav_actors.supervisor.rounds import Rounds
from grav_actors.supervisor.siblings import Siblings

ASKED_RESTART = "a restart was asked for"
STOPPING = "its supervisor is stopping"


@dataclass(slots=True)
class Failure:
    """What the policy has decided about lives that end together, once one of them has failed."""

    decision: Restart | GiveUp | None = None


class SupervisorCore:
    """The children of one supervisor. Not thread-safe.

    Every event returns its effects, to be carried out in that order. `deadline` says when `tick` is due.

    Args:
        strategy: `one_for_one`, `one_for_all` or `rest_for_one`.
        chance: A number from 0 up to 1, as `random.random`, for the jitter of the backoff.

    Attributes:
        is_over: It has ended, and nothing is left of its children.
    """

    def __init__(self, strategy: str, limits: RestartLimits, chance: Callable[[], float]) -> None:
        self.is_over = False
        self._siblings = Siblings()
        self._rounds = Rounds(self._siblings)
        self._lifecycle = Lifecycle(self._rounds)
        self._strategy = strategy
        self._policy = RestartPolicy(limits)
        self._chance = chance
        self._requests: dict[Request, None] = {}
        self._closing: Over | None = None

    # Questions

    @property
    def is_closing(self) -> bool:
        """Whether it ends, or has ended."""
        return self._closing is not None

    @property
    def places(self) -> dict[str, Place]:
        """The children in the order of their start, by name."""
        return self._siblings.places

    @property
    def is_degraded(self) -> bool:
        """Whether a child that should run does not, or one has failed for good."""
        down = (MemberState.BACKOFF, MemberState.FAILED)
        return any(place.state in down for place in self.places.values())

    def taken_names(self) -> set[str]:
        """Return the names that no new child may have: those of children and of their pools."""
        return self._siblings.taken_names()

    def is_taken(self, name: str) -> bool:
        """Return whether a name is that of a child or pool."""
        return self._siblings.is_taken(name)

    def pool_names(self) -> list[str]:
        """Return the names of the pools, those without an instance too."""
        return list(self._siblings.pools)

    def deadline(self) -> float | None:
        """Return when `tick` is to be called, in monotonic seconds; None if no time is waited for."""
        return self._lifecycle.deadline()

    # Requests from outside; each is answered once, by an `Answer` of its number

    def start(self, request: int, children: Iterable[Rules], now: float) -> list[Effect]:
        """Add children and start them in their order, each when the one before is ready.

        If one does not start, those of this request that have are stopped again, and all are forgotten.

        Raises:
            ValueError: A name is taken; nothing has changed.
        """
        children = list(children)
        pools = tuple(dict.fromkeys(rules.pool for rules in children if rules.pool))
        names = [*(rules.name for rules in children), *pools]
        taken = [name for name in names if self.is_taken(name) or names.count(name) > 1]
        if taken:
            raise ValueError(f"the name {taken[0]!r} is taken")
        if self._refuses(request):
            return self._effects()
        added = self._siblings.add(children)
        self._begin(Request(request, added, frozenset(added), pools), now)
        return self._effects()

    def start_again(self, request: int, name: str, now: float) -> list[Effect]:
        """Start a child that is down. One that waits for a restart need not wait any longer; this is all it does then.

        Raises:
            KeyError: There is no child of that name.
        """
        place = self.places[name]
        if self._refuses(request):
            return self._effects()
        if not place.is_wanted:
            place.cause = ""
            place.is_surplus = False
            self._begin(Request(request, (place,)), now)
            return self._effects()
        self._lifecycle.effects.append(Answer(request))
        if place.round is not None:
            place.round.due = min(place.round.due, now)
            self._lifecycle.advance(place.round, now)
        return self._effects()

    def restart(self, request: int, name: str, now: float) -> list[Effect]:
        """Stop a child and start it again; this counts as no failure. One that is not ready is just started.

        Raises:
            KeyError: There is no child of that name.
        """
        place = self.places[name]
        if place.state is not MemberState.READY or place.leaving:
            return self.start_again(request, name, now)
        if self._refuses(request):
            return self._effects()
        place.cause = ASKED_RESTART
        place.leaving = "restart"
        self._begin(Request(request, (place,)), now)
        return self._effects()

    def stop_child(self, request: int, name: str, now: float) -> list[Effect]:
        """Stop a child; it is not started again unless somebody asks for it.

        Raises:
            KeyError: There is no child of that name.
        """
        self._dismiss(Request(request), (self.places[name],), now)
        return self._effects()

    def remove(self, request: int, name: str, now: float) -> list[Effect]:
        """Stop a child, or all instances of a pool, and forget it, also if it is lasting or down.

        Raises:
            KeyError: There is neither of that name.
        """
        places = self._siblings.named(name)
        if self._refuses(request):
            return self._effects()
        for place in places:
            place.is_surplus = True
            if place.is_down:
                del self.places[place.name]
                self._lifecycle.effects.append(Gone(place.name, place.last, True))
        self._dismiss(Request(request), [place for place in places if not place.is_down], now)
        self._siblings.pools.pop(name, None)
        return self._effects()

    def scale(self, request: int, pool: str, count: int, now: float) -> list[Effect]:
        """Have so many instances: start further ones, or stop those with the highest numbers.

        Those that are down are started first, then new ones with the lowest numbers that are free; these come behind
        the others of the pool in the order.

        Raises:
            KeyError: There is no pool of that name.
            ValueError: The count is negative.
        """
        if count < 0:
            raise ValueError(f"a pool cannot have {count} instances")
        if pool not in self._siblings.pools:
            raise KeyError(pool)
        if self._refuses(request):
            return self._effects()
        instances = self._siblings.instances(pool)
        present = [place for place in instances if place.is_wanted]
        missing = count - len(present)
        if missing <= 0:
            surplus = present[count:]
            for place in surplus:
                place.is_surplus = True
            self._dismiss(Request(request), surplus, now)
            return self._effects()
        down = [place for place in instances if not place.is_wanted][:missing]
        for place in down:
            place.cause = ""
        added = self._siblings.add_instances(pool, missing - len(down))
        self._begin(Request(request, (*down, *added), frozenset(added)), now)
        return self._effects()

    def stop(self, now: float, limit: float) -> list[Effect]:
        """End: stop all children, the last started first, and begin nothing more. It ends with `Over`.

        Args:
            limit: Seconds for all of them together, whatever their own may be.
        """
        self._lifecycle.limit(now + limit, now)
        if self._closing is None:
            self._close(Over("", False), now)
        return self._effects()

    def abort(self, now: float) -> list[Effect]:
        """End, and kill all children at once."""
        if self._closing is None:
            self._close(Over("", False), now)
        for place in reversed(self.places.values()):
            if place.life is not None and place.step is not Step.KILLED:
                self._lifecycle.kill(place, place.life)
        return self._effects()

    # What the driver tells of lives; a life that is not known any more is ignored

    def ready(self, life: int, now: float) -> list[Effect]:
        """Take note that a start has succeeded."""
        place = self._lifecycle.place_of(life)
        if place is None or place.state is not MemberState.STARTING:
            return []
        self._lifecycle.change(place, MemberState.READY)
        if place.leaving:
            return self._effects()
        work = self._rounds.take_out(place)
        request, place.request = place.request, None
        if request is not None:
            request.starting.discard(place)
            self._try_answer(request)
        self._lifecycle.advance(work, now)
        return self._effects()

    def ended(self, life: int, exit: Exit, now: float) -> list[Effect]:
        """Take note that a life has ended, or that a start has failed."""
        return self.ended_together({life: exit}, now)

    def ended_together(self, exits: Mapping[int, Exit], now: float) -> list[Effect]:
        """Take note that lives have ended by one cause, as those in one process do; at most one failure is counted.

        Those that were displaced, which is no failure of theirs, come after the others.
        """
        lives = self._lifecycle.begin_ends(exits)
        failure = Failure()
        in_order = [lives[place] for place in self._siblings.in_order(lives)]
        for life in sorted(in_order, key=lambda life: exits[life].how is How.DISPLACED):
            self._end(life, exits[life], now, failure)
        self._lifecycle.finish_ends(now)
        return self._effects()

    def _end(self, life: int, exit: Exit, now: float, failure: Failure) -> None:
        place = self._lifecycle.end(life, exit)
        if place.leaving:
            self._has_left(place, life, exit, now)
        elif exit.how is How.DISPLACED:
            self._was_displaced(place, life, exit, now)
        elif place.state is not MemberState.STARTING and _is_final(place.rules.restart, exit):
            self._has_finished(place, life, exit, now)
        elif place.state is MemberState.STARTING and place.request is not None:
            self._lifecycle.tell_end(place, life, exit, Verdict.ENDED)
            self._fail(place.request, place, exit.cause, now)
        else:
            self._has_failed(place, life, exit, now, failure)
        self._note_end(place)

    def tick(self, now: float) -> list[Effect]:
        """Do what has become due."""
        self._lifecycle.tick(now)
        return self._effects()

    # Ends of lives

    def _has_left(self, place: Place, life: int, exit: Exit, now: float) -> None:
        """A life has ended that had to."""
        work = place.round
        self._lifecycle.has_left(place)
        if place.is_wanted and work is not None:
            self._lifecycle.tell_end(place, life, exit, Verdict.RESTART, max(0.0, work.due - now), was_leaving=True)
            self._lifecycle.await_turn(place, work, now)
        else:
            self._lifecycle.tell_end(place, life, exit, Verdict.STOPPED, was_leaving=True)
            self._put_down(place, MemberState.STOPPED)
        self._lifecycle.advance(work, now)

    def _has_finished(self, place: Place, life: int, exit: Exit, now: float) -> None:
        """A life has ended by itself, for good."""
        self._lifecycle.tell_end(place, life, exit, Verdict.ENDED)
        is_crash = exit.how is How.CRASHED
        self._put_down(place, MemberState.FAILED if is_crash else MemberState.STOPPED)
        if place.rules.significant:
            text = f"actor {place.name} has ended, which its supervisor depends on"
            self._close(Over(f"{text} ({exit.cause})" if is_crash else text, is_crash), now)

    def _was_displaced(self, place: Place, life: int, exit: Exit, now: float) -> None:
        """A life has ended because of another one; nothing is counted, and its child is started again at once."""
        if place.rules.restart == "temporary" and place.request is None:
            self._lifecycle.tell_end(place, life, exit, Verdict.STOPPED)
            self._lifecycle.advance(self._put_down(place, MemberState.STOPPED), now)
            return
        place.is_restart = place.request is None
        self._lifecycle.tell_end(place, life, exit, Verdict.RESTART)
        place.cause = exit.cause
        work = self._rounds.join([place], now)
        self._lifecycle.await_turn(place, work, now)
        self._lifecycle.advance(work, now)

    def _has_failed(self, place: Place, life: int, exit: Exit, now: float, failure: Failure) -> None:
        """A life has ended, or a restart has failed, and its child is to be started again."""
        if failure.decision is None:
            failure.decision = self._policy.failed(now, self._chance)
        decision = failure.decision
        if isinstance(decision, GiveUp):
            self._lifecycle.tell_end(place, life, exit, Verdict.GIVE_UP)
            self._put_down(place, MemberState.FAILED)
            text = f"actor {place.name} failed once more after {decision} (last: {exit.cause})"
            self._close(Over(text, True), now)
            return
        place.is_restart = True
        self._lifecycle.tell_end(place, life, exit, Verdict.RESTART, decision.delay)
        place.cause = exit.cause
        others = self._affected(place)
        for other in others:
            if other.life is not None and not other.leaving:
                is_last = other.rules.restart == "temporary" and other.request is None
                other.is_wanted = not is_last
                other.leaving = "shutdown" if is_last else "restart"
                other.is_restart = other.request is None
                other.cause = f"actor {place.name} failed: {exit.cause}"
        work = self._rounds.join([place, *others], now + decision.delay)
        for other in work.places:
            if other.life is None:
                self._lifecycle.await_turn(other, work, now)
        self._lifecycle.advance(work, now)

    def _affected(self, place: Place) -> list[Place]:
        """Return the others that are restarted with a child, by the strategy."""
        if self._strategy == "one_for_one":
            return []
        return self._siblings.behind(place, and_before=self._strategy == "one_for_all")

    def _close(self, over: Over, now: float) -> None:
        """Begin the end of the supervisor."""
        if self._closing is not None:
            return
        self._closing = over
        for request in self._requests:
            if request.starting:
                request.error = over.text or STOPPING
                request.ending |= request.starting
                request.starting.clear()
        places = list(self.places.values())
        for place in places:
            place.is_wanted = False
            place.request = None
            if place.life is not None and place.step is Step.WAITING:
                place.leaving = "shutdown"
        work = self._rounds.join([place for place in places if place.life is not None], now)
        waiting = [place for place in places if place.life is None and not place.is_down]
        for place in waiting:
            self._put_down(place, MemberState.STOPPED)
        for place in waiting:
            self._note_end(place)
        self._lifecycle.advance(work, now)
        self._try_end()

    def _try_end(self) -> None:
        if self._closing is not None and not self._lifecycle.has_lives() and not self.is_over:
            self.is_over = True
            self._lifecycle.effects.append(self._closing)

    def _put_down(self, place: Place, state: MemberState) -> Round | None:
        """A child is down, and stays down; return the round that it was part of."""
        work = self._rounds.take_out(place)
        place.is_wanted = False
        self._lifecycle.change(place, state)
        is_forgotten = place.is_surplus or not place.rules.is_lasting
        if is_forgotten:
            self._siblings.forget(place)
        self._lifecycle.effects.append(Gone(place.name, place.last, is_forgotten))
        return work

    def _note_end(self, place: Place) -> None:
        """Answer who waits for the end of a life, or of what had not begun."""
        for request in list(self._requests):
            request.ending.discard(place)
            self._try_answer(request)
        self._try_end()

    # Requests

    def _refuses(self, request: int) -> bool:
        if self._closing is not None:
            self._lifecycle.effects.append(Answer(request, self._closing.text or STOPPING))
        return self._closing is not None

    def _begin(self, request: Request, now: float) -> None:
        """Start the places of a request, once their present lives have ended."""
        self._requests[request] = None
        request.starting.update(request.places)
        work = self._rounds.join(request.places, now)
        for place in request.places:
            place.is_wanted = True
            place.request = request
            if place.life is None:
                self._lifecycle.await_turn(place, work, now)
        self._lifecycle.advance(work, now)
        self._try_answer(request)

    def _fail(self, request: Request, culprit: Place, error: str, now: float) -> None:
        """Undo a request: stop what it has started."""
        request.error, request.culprit = error, culprit.name
        request.starting.clear()
        for place in request.places:
            if place.request is request:
                place.request = None
            place.is_surplus |= place in request.added
        for pool in request.pools:
            self._siblings.pools.pop(pool, None)
        self._dismiss(request, request.places, now, culprit)

    def _dismiss(self, request: Request, places: Collection[Place], now: float, culprit: Place | None = None) -> None:
        """Stop children for good; the request is answered when they have ended."""
        self._requests[request] = None
        request.ending.update(place for place in places if place.life is not None)
        for place in places:
            if place.request is not None:
                self._fail(place.request, place, f"actor {place.name} was stopped", now)
        for place in places:
            place.is_wanted = False
            if place.life is not None and place.step is Step.WAITING:
                place.leaving = place.leaving if self._closing is not None else "stop"
        rounds = {place.round: None for place in places if place.life is None and place.round is not None}
        for place in places:
            if place.life is None and not place.is_down:
                self._put_down(place, MemberState.FAILED if place is culprit else MemberState.STOPPED)
        work = self._rounds.join([place for place in places if place.life is not None], now)
        for each in (work, *rounds):
            self._lifecycle.advance(each, now)
        self._try_answer(request)

    def _try_answer(self, request: Request) -> None:
        if not request.starting and not request.ending and request in self._requests:
            del self._requests[request]
            self._lifecycle.effects.append(Answer(request.number, request.error, request.culprit))

    def _effects(self) -> list[Effect]:
        effects, self._lifecycle.effects = self._lifecycle.effects, []
        return effects


def _is_final(restart: str, exit: Exit) -> bool:
    """Return whether a life that has ended by itself was the last."""
    return exit.how is How.ASKED or restart == "temporary" or (restart == "transient" and exit.how is How.WELL)
