"""What is said of the end of a life: in a word, in a line, in a report."""

from __future__ import annotations

from grav_actors.supervisor.effects import Ended, How, Verdict
from grav_actors.supervisor.life import Life

NAMED = 5
"""Messages that were in handlers which a report names."""


def is_news(life: Life, end: Ended) -> bool:
    """Return whether an end is to be reported: it was not asked for, by whomever."""
    if end.exit.how is How.DISPLACED:
        return False  # what is to be said was said of the one that is to blame
    if end.was_leaving:
        return end.exit.how is How.CRASHED and not life.is_killed
    return end.verdict in (Verdict.RESTART, Verdict.GIVE_UP) or end.exit.how is How.CRASHED


def next_step(end: Ended) -> str:
    """Return what comes of an end, in words."""
    match end.verdict:
        case Verdict.RESTART:
            return f"restart {end.restarts} " + ("at once" if end.delay == 0 else f"in {end.delay:.2g} s")
        case Verdict.GIVE_UP:
            return "that was too often: giving up"
        case Verdict.STOPPED:
            return "it was being stopped"
        case Verdict.ENDED:
            return "it is not started again"


def reason_of(life: Life, end: Ended) -> str:
    """Return in one word why a life ended; the words are in `docs/supervision.md`."""
    if end.was_leaving:
        return life.told or "stop"
    return {How.ASKED: "stop", How.WELL: "done", How.DISPLACED: "restart", How.CRASHED: "crash"}[end.exit.how]


def crash_report(life: Life, next_step: str) -> str:
    """Return the report of a crash: the cause, what comes of it, what was in its handlers, what it wrote last."""
    lines = [f"actor {life.member.name} crashed: {life.cause}; {next_step}"]
    handling = life.handling
    if handling:
        more = f" and {len(handling) - NAMED} more" if len(handling) > NAMED else ""
        lines.append(f"it was handling {', '.join(map(str, handling[:NAMED]))}{more}")
    words = life.last_words
    if words:
        lines.append(f"the last that it wrote:\n{words}")
    return "\n".join(lines)
