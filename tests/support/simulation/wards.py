"""The supervisor's half of an actor: starts the next incarnation, with or without delay, or gives up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from grav_actors.bus.inquiry import RELEASE
from grav_actors.protocol import BUS_NAME, BYE_CRASHED, KIND_ASK
from support.simulation.history import Struck
from support.simulation.pods import Post, SimPod

if TYPE_CHECKING:
    from support.simulation.world import World

OVER = ("left", "stopping")
"""Ends that were asked for, after which nobody is started again."""


class Ward:
    """One supervised actor.

    Attributes:
        start: Starts an incarnation, by its number.
        is_given_up: No next incarnation comes.
        due: When the next incarnation is started; None while one lives.
    """

    def __init__(self, name: str, start: Callable[[int], SimPod]) -> None:
        self.name = name
        self.start = start
        self.incarnation = 0
        self.pod = start(0)
        self.is_given_up = False
        self.due: float | None = None
        self._to_tell: list[Post] = []

    def ended(self, world: World, how: str, *, delay: float, gives_up: bool, tells: bool) -> None:
        """Decide what comes after the end of its pod.

        Args:
            delay: Seconds until the next incarnation.
            tells: The bus is told at once that this one has crashed, so that its askers need not wait.
        """
        if how in OVER:
            self.is_given_up = True
        elif gives_up:
            self.is_given_up = True
            world.record(Struck, self.name)
            self._tell("pod_lost")
        else:
            self.due = world.now + delay
            if tells:
                self._tell(BYE_CRASHED)

    def _tell(self, reason: str) -> None:
        named = [[sender, seq] for sender, seq in self.pod.was_handling]
        self._to_tell.append(Post(KIND_ASK, RELEASE, BUS_NAME, data=[self.name, self.incarnation, reason, "", named]))

    def look(self, world: World, supervisor: SimPod) -> None:
        """Do what is due."""
        # What had left a process when it died comes to the bus before its supervisor knows of the death.
        is_known = self.pod.wire.is_alive or not self.pod.wire.up
        while is_known and self._to_tell and supervisor.is_here and supervisor.post(self._to_tell[0]):
            self._to_tell.pop(0)
        if self.due is not None and world.now >= self.due and not self._to_tell:
            self.due = None
            self.incarnation += 1
            self.pod = self.start(self.incarnation)
