"""What the bus tells its gateway, put together: changes, and all of it when it is told anew. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grav_actors.mesh.relay_frames import Groups, Names
from grav_actors.protocol import STAGE_BEGIN, STAGE_END


@dataclass(frozen=True, slots=True)
class LocalChange:
    """What is different on the bus.

    Attributes:
        is_all: It is everything: what is not in it is no more.
        wants: `(pattern, wanted)` of pods that are in no group.
        groups, names: As in the news between nodes.
    """

    is_all: bool
    wants: tuple[tuple[str, bool], ...]
    groups: Groups
    names: Names


class LocalNews:
    """Takes LOCAL frames in order."""

    def __init__(self) -> None:
        self._all: tuple[list[Any], list[Any], list[Any]] | None = None

    def take(
        self, stage: int, wants: tuple[Any, ...], groups: tuple[Any, ...], names: tuple[Any, ...]
    ) -> LocalChange | None:
        """Return what a frame changes; None while more is to come."""
        if stage & STAGE_BEGIN:
            self._all = ([], [], [])
        if self._all is None:
            return LocalChange(False, wants, groups, names)
        for part, items in zip(self._all, (wants, groups, names), strict=True):
            part.extend(items)
        if not stage & STAGE_END:
            return None
        whole, self._all = self._all, None
        return LocalChange(True, tuple(whole[0]), tuple(whole[1]), tuple(whole[2]))
