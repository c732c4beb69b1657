"""Writing and reading histories of real processes: a file for each process, each event written when it happened.

What was written outlives a kill of the process. The clock is that of the machine, which all processes share.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack

from support.simulation import history
from support.simulation.history import Ended, Event, Started

EVENTS: dict[str, type[Event]] = {
    name: item for name, item in vars(history).items() if isinstance(item, type) and issubclass(item, Event)
}
SUFFIX = ".events"


class Recorder:
    """Appends events to a file of its own; any thread may use it."""

    def __init__(self, folder: str | Path, label: str) -> None:
        path = Path(folder) / f"{label}-{os.getpid()}{SUFFIX}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, event_class: type[Event], *fields: Any, at: float | None = None) -> None:
        """Write an event that happens now, or happened at a time of `time.monotonic`."""
        when = time.monotonic() if at is None else at
        os.write(self._descriptor, msgpack.packb([event_class.__name__, when, *fields]))

    def close(self) -> None:
        os.close(self._descriptor)


def process(pid: int) -> str:
    """Return what stands for the last pod of a process in an `Ended` that another writes, who knows no uuid."""
    return f"process {pid}"


def read_history(folder: Path) -> list[Event]:
    """Return the events of all processes, in the order in which they happened.

    The end of a process that had no pod yet is left out.
    """
    events: list[Event] = []
    pods: dict[str, str] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        pid = int(path.name.removesuffix(SUFFIX).rpartition("-")[2])
        with path.open("rb") as file:
            for name, *fields in msgpack.Unpacker(file, use_list=False, raw=False):
                event = EVENTS[name](*fields)
                events.append(event)
                if isinstance(event, Started):
                    pods[process(pid)] = event.pod
    events.sort(key=lambda event: event.at)
    return [found for event in events if (found := _resolved(event, pods)) is not None]


def _resolved(event: Event, pods: dict[str, str]) -> Event | None:
    if isinstance(event, Ended) and event.pod.startswith("process "):
        return replace(event, pod=pods[event.pod]) if event.pod in pods else None
    return event
