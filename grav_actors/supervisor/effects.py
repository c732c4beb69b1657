"""What a supervisor's decider asks its driver to do, and what it tells: plain data.

A *life* is one incarnation of a child; its number is unique in one supervisor. After `Start` the driver says
`ready` or `ended` of that life, and after `Stop`, `Terminate` or `Kill` it says `ended`: in any case once.
"""

from dataclasses import dataclass
from enum import Enum


class MemberState(Enum):
    """Where an actor stands with its supervisor; the table of states is in `docs/supervision.md`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    FAILED = "failed"
    STOPPED = "stopped"


class How(Enum):
    """How a life ended, as far as its supervisor cares.

    Attributes:
        ASKED: The actor itself was told to end, or asked to: `stop()`.
        WELL: Unasked, but without an error: exit code 0.
        DISPLACED: Its process was replaced because of another life in it: the fault is not its own.
        CRASHED: Anything else, a start that failed too.
    """

    ASKED = "asked"
    WELL = "well"
    DISPLACED = "displaced"
    CRASHED = "crashed"


class Verdict(Enum):
    """What becomes of a child whose life has ended.

    Attributes:
        RESTART: It is started again.
        STOPPED: It was told to end, and stays ended.
        ENDED: It is not started again.
        GIVE_UP: It would be, but that was too often: its supervisor ends.
    """

    RESTART = "restart"
    STOPPED = "stopped"
    ENDED = "ended"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a life.

    Attributes:
        cause: Why, in one line.
    """

    how: How
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a life.

    Attributes:
        pool: The pool that the child is an instance of, or "".
        incarnation: Counts the lives of this name, from 0.
        cause: Why the life before ended; "" in the first.
    """

    name: str
    pool: str
    life: int
    incarnation: int
    cause: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell a life to end in its own time.

    Attributes:
        reason: `stop` (it is taken out of service), `shutdown` (its supervisor ends) or `restart` (its next life
            is to come: it keeps name and mailbox).
        patience: Seconds that it has.
    """

    name: str
    life: int
    reason: str
    patience: float


@dataclass(frozen=True, slots=True)
class Terminate:
    """Tell a life that has overrun its time to end at once."""

    name: str
    life: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a life without asking it."""

    name: str
    life: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Told: a child has another state. A new one begins as `starting`, which is not told.

    Attributes:
        cause: Why its last life ended, or "".
    """

    name: str
    state: MemberState
    incarnation: int
    cause: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Told: a life has ended, and what comes of it. It goes before the other effects of that end.

    Attributes:
        delay: Seconds until the restart.
        restarts: How often the supervisor has restarted the child so far, with this one.
        was_leaving: It was to end in any case, so that nothing else comes of its end.
    """

    name: str
    life: int
    exit: Exit
    verdict: Verdict
    delay: float
    restarts: int
    was_leaving: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """Told: a child is down for good, unless somebody starts it by hand.

    Attributes:
        is_forgotten: Its name is free again.
    """

    name: str
    exit: Exit
    is_forgotten: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a request.

    Attributes:
        error: Why it could not be fulfilled, or "".
        culprit: The name of the child whose start failed, or "".
    """

    request: int
    error: str = ""
    culprit: str = ""


@dataclass(frozen=True, slots=True)
class Over:
    """The supervisor has ended, and all its children have.

    Attributes:
        text: Why, if nobody asked for it.
        has_failed: It gave up, or a significant child crashed.
    """

    text: str
    has_failed: bool


Effect = Start | Stop | Terminate | Kill | Changed | Ended | Gone | Answer | Over
