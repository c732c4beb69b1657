"""What was found about one thing, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, or may work, but not as well as it should, or not everywhere."""
    WRONG = "wrong"
    """A node does not work so, or cannot do what its configuration asks for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: What was looked at, in a word or two.
        seen: What was found.
        remedy: What to do, when it is not ok.
    """

    check: str
    state: State
    seen: str
    remedy: str = ""


def ok(check: str, seen: str) -> Finding:
    """Return that all is well."""
    return Finding(check, State.OK, seen)


def warning(check: str, seen: str, remedy: str) -> Finding:
    """Return that something may not work."""
    return Finding(check, State.WARNING, seen, remedy)


def wrong(check: str, seen: str, remedy: str) -> Finding:
    """Return that something does not work."""
    return Finding(check, State.WRONG, seen, remedy)


def worst(findings: Iterable[Finding]) -> State:
    """Return the worst state of all; ok when there are none."""
    order = list(State)
    return max((finding.state for finding in findings), key=order.index, default=State.OK)
