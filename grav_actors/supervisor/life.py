"""One incarnation of a child: what it runs in, what it was told, how it ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grav_actors.actor.slate import Handling
from grav_actors.actor.snapshot import Snapshot
from grav_actors.actor.spec import Ending
from grav_actors.errors import ActorStartError
from grav_actors.supervisor.effects import How
from grav_actors.supervisor.vessel import Vessel

if TYPE_CHECKING:
    from grav_actors.supervisor.member import Member


@dataclass(eq=False)
class Life:
    """One incarnation of a member.

    Attributes:
        key: What the decider calls it.
        number: Counts the incarnations of the member, from 0.
        vessel: What it runs in, once it has begun.
        told: What it was told when it was ended: `stop`, `shutdown` or `restart`; "" if it was not.
        is_killed: It has to end at once, also if it has not begun.
        has_joined: It may have said hello to the bus.
        start_error: Why it did not start.
        ending: What it said of its end, if it could.
        outcome: Set when it is ready, or has ended.
        is_over: The decider knows that it has ended.
        hung: What is said of its end when it was killed for a handler that hung, or "".
        displaced: Why its process was replaced, when that was the fault of another life in it, or "".
        reason: In one word why it ended; "" while it has not.
    """

    member: Member
    key: int
    number: int
    start_cause: str
    vessel: Vessel | None = None
    told: str = ""
    is_killed: bool = False
    has_joined: bool = False
    start_error: ActorStartError | None = None
    ending: Ending | None = None
    outcome: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False
    hung: str = ""
    displaced: str = ""
    reason: str = ""

    @property
    def pid(self) -> int | None:
        """The process that it is in, or was; None if it has not begun."""
        return self.vessel.pid if self.vessel is not None else None

    @property
    def cause(self) -> str:
        """Why it ended, in one line."""
        if self.start_error is not None:
            return str(self.start_error.args[0])
        if self.hung or self.displaced:
            return self.hung or self.displaced
        exit_text = self.vessel.exit_text if self.vessel is not None else ""
        if self.ending is not None and self.ending.error:
            return f"{self.ending.error} ({exit_text})" if exit_text else self.ending.error
        if self.ending is not None and self.ending.reason == "stop":
            return "it was asked to end"
        if self.ending is not None and self.ending.reason == "shutdown":
            return "a signal has told it to end"
        return exit_text or "it ended without a word"

    @property
    def handling(self) -> tuple[Handling, ...]:
        """What was in its handlers when it ended, and is charged with that: nothing if it was displaced."""
        if self.displaced or self.vessel is None:
            return ()
        return self.vessel.handling(self.ending)

    @property
    def snapshot(self) -> Snapshot | None:
        """The state that it had kept when it ended; None if it kept none."""
        return self.vessel.snapshot if self.vessel is not None else None

    @property
    def at_work(self) -> list[Handling]:
        """What is in its handlers now."""
        return self.vessel.at_work if self.vessel is not None else []

    @property
    def last_words(self) -> str:
        """The end of what it wrote to standard error, or the traceback of its crash."""
        words = self.vessel.last_words if self.vessel is not None else ""
        if self.ending is not None and self.ending.traceback and self.ending.traceback.rstrip() not in words:
            words = f"{words}\n{self.ending.traceback.rstrip()}".lstrip("\n")
        return words

    @property
    def how(self) -> How:
        """How it ended, as its supervisor sees it."""
        if self.start_error is not None:
            return How.CRASHED
        if self.displaced:
            return How.DISPLACED
        if self.ending is not None and self.ending.reason != "shutdown":
            return How.ASKED if self.ending.reason == "stop" else How.CRASHED
        ended_well = self.vessel is not None and self.vessel.ended_well(self.ending)
        return How.WELL if ended_well else How.CRASHED

    def joins(self) -> None:
        """Note that it may say hello to the bus from now on."""
        self.has_joined = True
        self.member.is_kept = False
