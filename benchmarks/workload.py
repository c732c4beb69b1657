"""What every side is given to do, and what it reports: plain data that travels between processes as JSON."""

import dataclasses
import time
import typing

PAYLOAD = b"x" * 100
"""The data of each message."""

DATA = "bench.data"
END = "bench.end"
QUESTION = "bench.ask"

CHECK_EVERY = 256
"""Messages between two looks at the clock, so that looking costs nothing."""

WARM_UP = 200
"""Questions that are asked and not measured."""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """How long to go on: for a number of seconds, or until so many messages are sent when that is not 0."""

    seconds: float = 2.0
    messages: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A sender's report. Times are of the monotonic clock, which the processes of one machine share."""

    messages: int
    started: float


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A receiver's report: what had come when the end marker came, which follows everything."""

    messages: int
    size: int
    finished: float


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """An asker's report; `p50` and `p99` are microseconds."""

    questions: int
    elapsed: float
    p50: float = 0.0
    p99: float = 0.0


class Pace:
    """Decides whether a sender goes on. `next_batch` is asked once for each batch."""

    def __init__(self, load: Load) -> None:
        self._messages = load.messages
        self.started = time.monotonic()
        self._deadline = self.started + load.seconds

    def next_batch(self, sent: int) -> int:
        """Return how many messages to send before asking again; 0 is the end."""
        if self._messages:
            return min(CHECK_EVERY, self._messages - sent)
        return CHECK_EVERY if time.monotonic() < self._deadline else 0


def is_enough(load: Load, questions: int, started: float) -> bool:
    """Tell whether an asker has measured enough questions since `started`."""
    if questions < 1:
        return False
    return questions >= load.messages if load.messages else time.monotonic() - started >= load.seconds


def asked(nanoseconds: list[int], elapsed: float) -> Asked:
    """Make a report from the time that each question took."""
    ordered = sorted(nanoseconds)
    count = len(ordered)
    return Asked(
        questions=count,
        elapsed=elapsed,
        p50=ordered[count // 2] / 1000,
        p99=ordered[min(count - 1, count * 99 // 100)] / 1000,
    )


def to_json(report: Sent | Received | Asked) -> dict[str, typing.Any]:
    """Return a report as plain data."""
    return dataclasses.asdict(report)
