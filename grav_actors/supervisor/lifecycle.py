"""How far the children of one supervisor have come: whose life begins next, and who is told to end, and how firmly."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from grav_actors.supervisor.effects import (
    Changed,
    Effect,
    Ended,
    Exit,
    Kill,
    MemberState,
    Start,
    Stop,
    Terminate,
    Verdict,
)
from grav_actors.supervisor.place import Place, Round, Step
from grav_actors.supervisor.rounds import Rounds

TERMINATE_PATIENCE = 1.0
"""Seconds between terminating a life and killing it."""
LEAST_PATIENCE = 0.1
"""Seconds that a life has to end in order when the time of the whole supervisor has run out."""


class Lifecycle:
    """Takes places through their lives, step by step, and reports each step. Which lives there are to be it is told.

    Attributes:
        effects: What is to be carried out, in this order.
    """

    def __init__(self, rounds: Rounds) -> None:
        self.effects: list[Effect] = []
        self._rounds = rounds
        self._lives: dict[int, Place] = {}
        self._ending: dict[int, Place] = {}
        self._delayed: list[Round] = []
        self._timed: dict[Place, float] = {}
        self._limit: float | None = None
        self._life_numbers = itertools.count(1)

    # Questions

    def place_of(self, life: int) -> Place | None:
        """Return whose life this is; None when it is not known any more."""
        return self._lives.get(life)

    def has_lives(self) -> bool:
        """Whether a life has begun and not ended."""
        return bool(self._lives)

    def deadline(self) -> float | None:
        """Return when `tick` is to be called, in monotonic seconds; None if no time is waited for."""
        return min([*self._timed.values(), *self._rounds.deadlines()], default=None)

    # Rounds

    def advance(self, work: Round | None, now: float) -> None:
        """Take the next step of a round, if there is nothing to wait for."""
        if work is None or work not in self._rounds:
            return
        if self._ending:
            self._delayed.append(work)  # until all ends of this moment are known
            return
        leaving = [place for place in work.places if place.leaving]
        if leaving:
            if leaving[-1].step is Step.WAITING:
                self._tell(leaving[-1], now)
        elif now >= work.due and work.places[0].life is None:
            self._begin(work.places[0])

    def await_turn(self, place: Place, work: Round, now: float) -> None:
        """Have a place wait in a round for its next life."""
        self.change(place, MemberState.BACKOFF if now < work.due else MemberState.STARTING)

    def tick(self, now: float) -> None:
        """Do what has become due."""
        for place in [place for place, deadline in self._timed.items() if now >= deadline]:
            self._press(place, now)
        for work in self._rounds:
            self.advance(work, now)

    def _begin(self, place: Place) -> None:
        place.incarnation += 1
        place.restarts += place.is_restart
        place.is_restart = False
        place.life = next(self._life_numbers)
        self._lives[place.life] = place
        self.change(place, MemberState.STARTING)
        cause = place.cause if place.incarnation else ""
        self.effects.append(Start(place.name, place.rules.pool, place.life, place.incarnation, cause))

    # Ends

    def begin_ends(self, lives: Iterable[int]) -> dict[Place, int]:
        """Take note of lives that end together, and return the known ones; no step is taken until `finish_ends`."""
        self._ending = {life: self._lives[life] for life in lives if life in self._lives}
        return {place: life for life, place in self._ending.items()}

    def end(self, life: int, exit: Exit) -> Place:
        """Have one of them ended; return whose it was."""
        place = self._ending.pop(life)
        del self._lives[life]
        place.life = None
        place.last = exit
        return place

    def finish_ends(self, now: float) -> None:
        """Take the steps that had to wait until all of them were known."""
        while self._delayed:
            self.advance(self._delayed.pop(0), now)

    def has_left(self, place: Place) -> None:
        """Take note that a life has ended that was to: no time runs for it any longer."""
        place.leaving, place.step = "", Step.WAITING
        self._timed.pop(place, None)

    # Telling lives to end, ever less politely

    def limit(self, until: float, now: float) -> None:
        """Have all of them end by a time, whatever their own may be."""
        self._limit = until if self._limit is None else min(self._limit, until)
        for place, deadline in self._timed.items():
            if place.step is Step.STOPPED:
                self._timed[place] = min(deadline, now + self._patience(place, now))

    def _tell(self, place: Place, now: float) -> None:
        assert place.life is not None
        patience = self._patience(place, now)
        if place.state is MemberState.STARTING or patience == 0:
            self.kill(place, place.life)  # what has not started cannot end well
            return
        self.change(place, MemberState.DRAINING)
        place.step = Step.STOPPED
        self._timed[place] = now + patience
        self.effects.append(Stop(place.name, place.life, place.leaving, patience))

    def _patience(self, place: Place, now: float) -> float:
        patience = place.rules.shutdown
        return patience if self._limit is None else min(patience, max(LEAST_PATIENCE, self._limit - now))

    def _press(self, place: Place, now: float) -> None:
        assert place.life is not None
        if place.step is Step.STOPPED:
            place.step = Step.TERMINATED
            self._timed[place] = now + TERMINATE_PATIENCE
            self.effects.append(Terminate(place.name, place.life))
        else:
            self.kill(place, place.life)

    def kill(self, place: Place, life: int) -> None:
        """End a life without asking it."""
        self.change(place, MemberState.DRAINING)
        place.step = Step.KILLED
        self._timed.pop(place, None)
        self.effects.append(Kill(place.name, life))

    # What is told

    def change(self, place: Place, state: MemberState) -> None:
        """Give a place its state, and tell of it."""
        if place.state is not state:
            place.state = state
            self.effects.append(Changed(place.name, state, place.incarnation, place.last.cause))

    def tell_end(
        self, place: Place, life: int, exit: Exit, verdict: Verdict, delay: float = 0.0, *, was_leaving: bool = False
    ) -> None:
        """Tell that a life has ended, and what becomes of its child."""
        restarts = place.restarts + place.is_restart
        self.effects.append(Ended(place.name, life, exit, verdict, delay, restarts, was_leaving))
