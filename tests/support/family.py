"""A supervisor's decider with children that only exist on paper, and what must hold at every step."""

from __future__ import annotations

from collections.abc import Iterable

from grav_actors.options import Backoff, RestartLimits
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
from grav_actors.supervisor.place import Rules

LIMITS = RestartLimits(5, 30.0, Backoff(first=1.0, max=30.0, factor=2.0, jitter=0.0))


def rules(names: str, **options: object) -> list[Rules]:
    """Return the rules of children, named in one text; `name?` is transient, `name!` temporary."""
    found = []
    for word in names.split():
        restart = {"?": "transient", "!": "temporary"}.get(word[-1], "permanent")
        found.append(Rules(word.rstrip("?!"), restart=restart, **options))  # type: ignore[arg-type]
    return found


class Family:
    """Feeds a decider, keeps what it tells, and checks it against what must hold always.

    Attributes:
        said: What the decider has told its driver since the last `take`, in short words.
        alive: The life of each child that has one.
        told: The last thing that each of these lives was told: `stop`, `terminate` or `kill`.
    """

    def __init__(self, strategy: str = "one_for_one", limits: RestartLimits = LIMITS) -> None:
        self.core = SupervisorCore(strategy, limits, lambda: 0.5)
        self.limits = limits
        self.now = 0.0
        self.said: list[str] = []
        self.alive: dict[str, int] = {}
        self.told: dict[str, str] = {}
        self.ready_ones: set[str] = set()
        self.answers: dict[int, Answer] = {}
        self.over: Over | None = None
        self.failures: list[float] = []
        self.ends: list[Ended] = []
        self._next_request = 0
        self._lives: set[int] = set()
        self._states: dict[str, MemberState] = {}

    # What happens

    def start(self, children: Iterable[Rules]) -> int:
        """Ask for new children; return the request's number."""
        return self._ask(lambda number: self.core.start(number, children, self.now))

    def run(self, names: str, **options: object) -> None:
        """Ask for new children and have them all ready."""
        children = rules(names, **options)
        number = self.start(children)
        for child in children:
            self.ready(child.name)
        assert self.answers[number] == Answer(number)
        self.take()

    def start_again(self, name: str) -> int:
        """Ask for a child to be started by hand."""
        return self._ask(lambda number: self.core.start_again(number, name, self.now))

    def restart(self, name: str) -> int:
        """Ask for a child to be restarted by hand."""
        return self._ask(lambda number: self.core.restart(number, name, self.now))

    def stop_child(self, name: str) -> int:
        """Ask for a child to be stopped by hand."""
        return self._ask(lambda number: self.core.stop_child(number, name, self.now))

    def remove(self, name: str) -> int:
        """Ask for a child or a pool to be stopped and forgotten."""
        return self._ask(lambda number: self.core.remove(number, name, self.now))

    def scale(self, pool: str, count: int) -> int:
        """Ask for so many instances."""
        return self._ask(lambda number: self.core.scale(number, pool, count, self.now))

    def _ask(self, event: object) -> int:
        self._next_request += 1
        self._take_in(event(self._next_request))  # type: ignore[operator]
        return self._next_request

    def ready(self, name: str) -> None:
        """Have a start succeed."""
        self.ready_ones.add(name)
        self._take_in(self.core.ready(self.alive[name], self.now))

    def crash(self, name: str, cause: str = "boom") -> None:
        """Have a life end with an error, or a start fail."""
        self.end(name, How.CRASHED, cause)

    def end(self, name: str, how: How = How.ASKED, cause: str = "") -> None:
        """Have a life end."""
        self._take_in(self.core.ended(self._bury(name), Exit(how, cause), self.now))

    def end_together(self, names: str, how: How = How.CRASHED, cause: str = "boom", displaced: str = "") -> None:
        """Have the lives of a process end with it; those in `displaced` through no fault of theirs."""
        exits = {self._bury(name): Exit(how, cause) for name in names.split()}
        exits |= {self._bury(name): Exit(How.DISPLACED, "replaced") for name in displaced.split()}
        self._take_in(self.core.ended_together(exits, self.now))

    def _bury(self, name: str) -> int:
        self.told.pop(name, None)
        self.ready_ones.discard(name)
        return self.alive.pop(name)

    def wait(self, seconds: float) -> None:
        """Have time pass; the decider is woken whenever it asked for that."""
        until = self.now + seconds
        while (due := self.core.deadline()) is not None and due <= until:
            assert due >= self.now, "it asks to be woken in the past, which would spin"
            self.now = due
            self._take_in(self.core.tick(self.now))
            assert self.core.deadline() != due, "it did nothing when it was due"
        self.now = until

    def stop(self, limit: float = 100.0) -> None:
        """Ask the supervisor to end."""
        self._take_in(self.core.stop(self.now, limit))

    def abort(self) -> None:
        """Ask the supervisor to end at once."""
        self._take_in(self.core.abort(self.now))

    def obey(self) -> None:
        """Have all lives end that were told to, one after another, until nobody is left that was."""
        while self.told:
            self.end(next(iter(self.told)))

    # What is seen

    def take(self) -> list[str]:
        """Return what was said since the last time."""
        said, self.said = self.said, []
        return said

    def states(self) -> dict[str, str]:
        """Return the states of all children."""
        return {name: place.state.value for name, place in self.core.places.items()}

    # What must hold

    def _take_in(self, effects: list[Effect]) -> None:
        if any(isinstance(effect, Ended) and _is_counted(effect) for effect in effects):
            recent = [then for then in self.failures if self.now - then < self.limits.within]
            assert len(recent) < self.limits.max_restarts, "more restarts than allowed"
            self.failures.append(self.now)
        for effect in effects:
            self._check(effect)
            if (text := _word(effect)) is not None:
                self.said.append(text)
        self._check_whole()

    def _check(self, effect: Effect) -> None:
        assert self.over is None or isinstance(effect, Answer), f"{effect} after the end"
        match effect:
            case Start(name, _, life):
                assert not self.core.is_closing, "nothing is started any more"
                assert name not in self.alive, f"two lives of {name}"
                assert life not in self._lives
                self._lives.add(life)
                self.alive[name] = life
            case Stop(name, life):
                self._check_told(name, life, (None,), "stop")
                assert name in self.ready_ones, f"{name} is not ready, and cannot stop in order"
            case Terminate(name, life):
                self._check_told(name, life, ("stop",), "terminate")
            case Kill(name, life):
                self._check_told(name, life, (None, "stop", "terminate"), "kill")
            case Answer(request):
                assert request not in self.answers, "one answer for each request"
                self.answers[request] = effect
            case Ended():
                self.ends.append(effect)
            case Over():
                self.over = effect
                assert not self.alive, f"{self.alive} are left"
            case Changed(name, state):
                assert state is MemberState.STARTING or self._states.get(name) is not state, "no change"
                self._states[name] = state
            case Gone(name, _, is_forgotten):
                assert name not in self.alive, f"{name} lives"
                if is_forgotten:
                    del self._states[name]

    def _check_told(self, name: str, life: int, before: tuple[str | None, ...], now: str) -> None:
        assert self.alive.get(name) == life, f"{now} is told to a life of {name} that is none"
        assert self.told.get(name) in before, f"{now} after {self.told.get(name)}"
        self.told[name] = now

    def _check_whole(self) -> None:
        core = self.core
        for name, place in core.places.items():
            assert (name in self.alive) == (place.life is not None)
            match place.state:
                case MemberState.READY:
                    assert name in self.ready_ones
                case MemberState.STARTING:
                    assert place.is_wanted or place.leaving
                    assert place.life is not None or place.round is not None, f"{name} is forgotten"
                case MemberState.BACKOFF:
                    assert place.life is None
                    assert place.round is not None, f"{name} is never restarted"
                case MemberState.DRAINING:
                    assert self.told[name]
                case MemberState.FAILED | MemberState.STOPPED:
                    assert place.life is None
                    assert place.round is None
                    assert not place.is_wanted
        if core.is_closing:
            assert core.is_over == (self.over is not None) == (not self.alive)
            assert self.told or not self.alive, "nobody is told to end, and the supervisor waits"
        assert all(place.round in core._rounds for place in core.places.values() if place.round is not None)
        for work in core._rounds:
            assert work.places
            assert all(place.round is work for place in work.places)
            order = list(core.places.values())
            assert [order.index(place) for place in work.places] == sorted(order.index(place) for place in work.places)
            is_moving = any(place.name in self.alive for place in work.places)
            assert is_moving or work.due > self.now, "a round that nothing moves"
            leaving = [place for place in work.places if place.leaving]
            starting = [place for place in work.places if place.life is not None and not place.leaving]
            if leaving:
                assert leaving[-1].name in self.told, "the last one started is stopped first"
            else:
                assert len(starting) <= 1, "starts of one round are one after another"
                assert starting in ([], work.places[:1]), "the first is started first"


def _is_counted(end: Ended) -> bool:
    """Return whether an end is a failure of those that are counted, several of one event as one."""
    return end.verdict is Verdict.RESTART and not end.was_leaving and end.exit.how is not How.DISPLACED


def _word(effect: Effect) -> str | None:
    """Return an effect in short words; None for states, which tests look at as a whole."""
    match effect:
        case Start(name, _, _, incarnation, cause):
            return f"start {name} {incarnation}" + (f" ({cause})" if cause else "")
        case Stop(name, _, reason, patience):
            return f"stop {name} {reason} {patience:g}"
        case Terminate(name):
            return f"terminate {name}"
        case Kill(name):
            return f"kill {name}"
        case Ended(name, _, _, verdict, delay, restarts):
            when = f" {restarts} in {delay:g}" if verdict is Verdict.RESTART else ""
            return f"{name}: {verdict.value}{when}"
        case Gone(name, _, is_forgotten):
            return f"gone {name}" + (" forgotten" if is_forgotten else "")
        case Answer(_, error, culprit):
            return f"answer {culprit}: {error}" if culprit else f"answer {error}".rstrip()
        case Over(text, has_failed):
            return f"over {'failed' if has_failed else 'well'} {text}".rstrip()
        case _:
            return None
