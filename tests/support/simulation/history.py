"""What a history is made of: plain events, as they happened, whoever wrote them down.

The simulator records them, and so can tests with real processes: each process writes down what it did with the
time of a clock that all share, and the events of all are sorted by that time. The checkers of `checkers.py` go over
them. Identities are text, and mean the same in every event:

- `pod`: one incarnation of a pod, e.g. its uuid. Never used twice.
- `account`: what dead letters call a receiver: its name, and without one its uuid text. All incarnations of a
  supervised actor share it. A test gives no two accounts, groups or services one name.
- `uuid`: a message, as canonical UUID text.

Events need not be complete: a checker passes over what nobody recorded, and says in its docstring what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from grav_actors.filters import FilterWire

Kind = Literal["publish", "reply", "tell", "ask_any", "ask", "answer"]

PUBLISHED: tuple[Kind, ...] = ("publish", "reply", "ask_any")
"""Kinds that go to whoever wants the type."""
QUESTIONS: tuple[Kind, ...] = ("ask_any", "ask")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at: Seconds, of a clock that all who record share.
    """

    at: float


# Pods


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A pod began to join.

    Attributes:
        supervised: Somebody starts its next incarnation if it dies.
        concurrency: Messages that it handles at one time.
        replay: It asks for the replay ring.
    """

    pod: str
    account: str
    filters: FilterWire
    group: str = ""
    service: str = ""
    supervised: bool = False
    incarnation: int = 0
    concurrency: int = 1
    max_deliver: int = 5
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Joined(Event):
    """The bus had confirmed that this pod is there, with the filters with which it started, or asked for since.

    Also when it has joined a new bus, or once more one that had given it up.
    """

    pod: str


@dataclass(frozen=True, slots=True)
class FilterAsked(Event):
    """A pod has changed its filter, and tells the bus; from now on its handler is given nothing else."""

    pod: str
    request: int
    filters: FilterWire


@dataclass(frozen=True, slots=True)
class FilterConfirmed(Event):
    """The bus had confirmed that filter: what is sent from now on follows it."""

    pod: str
    request: int


@dataclass(frozen=True, slots=True)
class Leaving(Event):
    """A pod has begun to leave, with this reason; "" for an ordinary `disconnect`."""

    pod: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """A pod is no more: `left` (the bus has confirmed it), `killed`, or the code with which the bus closed it."""

    pod: str
    how: str


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """The bus no longer expects a pod, which lives and may join again. Only a simulated bus tells."""

    pod: str


@dataclass(frozen=True, slots=True)
class Struck(Event):
    """The supervisor of an account has said that no next incarnation comes."""

    account: str


@dataclass(frozen=True, slots=True)
class Disturbed(Event):
    """Something that delays a pod for a time nobody knows: its connection broke, it was stopped, its handler hangs."""

    pod: str
    what: str


@dataclass(frozen=True, slots=True)
class Calmed(Event):
    """The disturbance of that name is over."""

    pod: str
    what: str


# Messages


@dataclass(frozen=True, slots=True)
class Sent(Event):
    """`send` has returned.

    Attributes:
        seq: Counts what this pod sent; higher for what was sent later.
        dest: Name that a `tell` or `ask` goes to, else "".
        cause: Uuid of the message in whose handler this was sent, or "".
    """

    pod: str
    seq: int
    uuid: str
    type: str
    kind: Kind = "publish"
    dest: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Taken(Event):
    """The bus took a message out of a frame; in the order of these events. Only a simulated bus tells."""

    uuid: str


@dataclass(frozen=True, slots=True)
class Accepted(Event):
    """Its sender knows that the bus has a message, as after `flush()`."""

    uuid: str


@dataclass(frozen=True, slots=True)
class Entrusted(Event):
    """The bus keeps a message that is in flight, so that its sender need not: it is settled, and not finished."""

    uuid: str


@dataclass(frozen=True, slots=True)
class Settled(Event):
    """Its sender knows that every receiver is done with a message, as after `flush(settled=True)`."""

    uuid: str


@dataclass(frozen=True, slots=True)
class Delivered(Event):
    """A handler was called."""

    pod: str
    uuid: str
    sender: str
    type: str
    redelivered: bool = False
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Handled(Event):
    """The handler has returned."""

    pod: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The handler has raised; `rejected` if it was Reject."""

    pod: str
    uuid: str
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """A question has its outcome: `answer`, the code of an error, `none`, or `cancelled` by the asker."""

    pod: str
    uuid: str
    how: str


@dataclass(frozen=True, slots=True)
class Dead(Event):
    """A message became a dead letter. `target` is an account, a group, or the name that was told."""

    uuid: str
    reason: str
    target: str
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Dropped(Event):
    """A question was ended for one of its receivers, an account or group, where others become dead letters.

    Only a simulated bus tells.
    """

    uuid: str
    reason: str
    target: str


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """A message will not be handled by this account (or group), and somebody has counted that."""

    uuid: str
    account: str
    why: str


# The bus, and the record itself


@dataclass(frozen=True, slots=True)
class BusKilled(Event):
    """The bus ended without a word; what it held in memory is gone."""


@dataclass(frozen=True, slots=True)
class BusStarted(Event):
    """A bus began to serve, the first or the next."""


@dataclass(frozen=True, slots=True)
class Measured(Event):
    """How full something bounded was, in its unit."""

    what: str
    used: float
    limit: float


@dataclass(frozen=True, slots=True)
class Quiet(Event):
    """All trouble had ended, and everything has come to rest: what has not happened by now never does."""


@dataclass(frozen=True, slots=True)
class Noted(Event):
    """For whoever reads the history."""

    text: str


def line(event: Event) -> str:
    """Return an event as one line for people, and for comparing histories."""
    values = [
        f"{field.name}={getattr(event, field.name)!r}"
        for field in fields(event)
        if field.name != "at" and getattr(event, field.name) != field.default
    ]
    return f"{event.at:10.3f} {type(event).__name__:15} {' '.join(values)}".rstrip()
