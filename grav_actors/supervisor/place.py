"""A child's place under its supervisor, as the decider sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from grav_actors.supervisor.effects import Exit, How, MemberState


@dataclass(frozen=True, slots=True)
class Rules:
    """What the decider is told of a child.

    Attributes:
        pool: Name of the pool that it is an instance of, or "".
        restart: `permanent`, `transient` or `temporary`.
        significant: When it ends for good by itself, its supervisor ends.
        shutdown: Seconds that it has to end when it is told to; 0 kills it at once.
        is_lasting: It stays listed when it is down, so that it can be started by hand; else it is forgotten.
    """

    name: str
    pool: str = ""
    restart: str = "permanent"
    significant: bool = False
    shutdown: float = 5.0
    is_lasting: bool = True


class Step(IntEnum):
    """How far a life that has to end was told so."""

    WAITING = 0
    STOPPED = 1
    TERMINATED = 2
    KILLED = 3


@dataclass(eq=False, slots=True)
class Place:
    """One child, over all its lives.

    Attributes:
        is_wanted: It is to run: it does, or it is started when its turn comes.
        life: The life that has begun and has not ended.
        leaving: Why that life has to end, as `Stop.reason`; "" if it has not.
        step: How far it was told so.
        incarnation: Lives that have begun, less one.
        restarts: How often its supervisor has started it again because something had failed.
        is_restart: Its next life is one of these.
        cause: What its next life is told of the end of the one before.
        last: How its last life ended.
        round: The work that it is part of, if something is to be done with it.
        request: The request that waits until it is ready.
        is_surplus: It is forgotten when it has ended, even if it is lasting.
    """

    rules: Rules
    state: MemberState = MemberState.STARTING
    is_wanted: bool = True
    life: int | None = None
    leaving: str = ""
    step: Step = Step.WAITING
    incarnation: int = -1
    restarts: int = 0
    is_restart: bool = False
    cause: str = ""
    last: Exit = field(default_factory=lambda: Exit(How.ASKED))
    round: Round | None = None
    request: Request | None = None
    is_surplus: bool = False

    @property
    def name(self) -> str:
        """The child's name."""
        return self.rules.name

    @property
    def is_down(self) -> bool:
        """Whether it has ended for good, as far as its supervisor is concerned."""
        return self.state in (MemberState.FAILED, MemberState.STOPPED)


@dataclass(eq=False, slots=True)
class Round:
    """Places with which something is to be done.

    First those that have to end, the last started first, each when the one before has ended; then, when it is due,
    those that have to start, each when the one before is ready.

    Attributes:
        places: In the order of their start.
        due: Monotonic seconds before which nothing is started.
    """

    places: list[Place]
    due: float


@dataclass(eq=False, slots=True)
class Request:
    """Something that was asked from outside, and is answered when it is done.

    Attributes:
        places: What it starts, all of it.
        added: What of that was not there before; it is forgotten if the request fails.
        pools: The pools that it has added.
        starting: What is not ready yet.
        ending: What has to end before it is answered.
        error, culprit: See `Answer`.
    """

    number: int
    places: tuple[Place, ...] = ()
    added: frozenset[Place] = frozenset()
    pools: tuple[str, ...] = ()
    starting: set[Place] = field(default_factory=set)
    ending: set[Place] = field(default_factory=set)
    error: str = ""
    culprit: str = ""
