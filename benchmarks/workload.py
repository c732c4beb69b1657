"""What every side is given to do, and what it reports: plain data that travels between processes as JSON."""

import dataclasses
import time
import typing

SIZE = 100
"""Bytes of data of a message, where nothing else is measured."""

PAYLOAD = b"x" * SIZE
"""The data of each question."""

DATA = "bench.data"
END = "bench.end"
QUESTION = "bench.ask"

CHECK_EVERY = 256
"""Messages between two looks at the clock, so that looking costs nothing."""

WARM_UP = 200
"""Questions that are asked and not measured."""

WINDOW = 4096
"""Messages that a sender may have under way, where flow control is left to the benchmark."""

WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes of them."""


def window(size: int) -> int:
    """Return how many messages of so many bytes a sender may have under way."""
    return max(4, min(WINDOW, WINDOW_BYTES // size))


def ack_every(size: int) -> int:
    """Return after how many messages a receiver tells its sender so: eight times a window."""
    return max(1, window(size) // 8)


def batch(size: int) -> int:
    """Return how many messages to send between two looks at the clock: at most about 1 MiB, if that is several."""
    return max(1, min(CHECK_EVERY, 1024 * 1024 // size))


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
    """An asker's report: what part of the questions took at most so many microseconds."""

    questions: int
    elapsed: float
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0


class Pace:
    """Decides whether a sender goes on. `next_batch` is asked once for each batch."""

    def __init__(self, load: Load, size: int = SIZE) -> None:
        self._messages = load.messages
        self._batch = batch(size)
        self.started = time.monotonic()
        self._deadline = self.started + load.seconds

    def next_batch(self, sent: int) -> int:
        """Return how many messages to send before asking again; 0 is the end."""
        if self._messages:
            return min(self._batch, self._messages - sent)
        return self._batch if time.monotonic() < self._deadline else 0


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
        p999=ordered[min(count - 1, count * 999 // 1000)] / 1000,
    )


def to_json(report: Sent | Received | Asked) -> dict[str, typing.Any]:
    """Return a report as plain data."""
    return dataclasses.asdict(report)
