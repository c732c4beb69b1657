"""Question and answer between two processes: one at a time, or many outstanding."""

import contextlib
import dataclasses
import tempfile

from benchmarks.worker import Worker
from benchmarks.workload import Asked, Load

FINISH_LIMIT = 60.0
"""Seconds beyond the load that an asker may need."""


def measure(side: str, load: Load, outstanding: int) -> Asked:
    """Run one side once and return what the asker measured."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        bus = stack.enter_context(Worker(side, "bus", folder=folder))
        endpoint = bus.ready()["endpoint"]
        answerer = stack.enter_context(Worker(side, "answerer", endpoint=endpoint))
        answerer.ready()
        asker = stack.enter_context(
            Worker(side, "asker", endpoint=endpoint, outstanding=outstanding, load=dataclasses.asdict(load))
        )
        asker.ready()
        answerer.go()
        asker.go()
        return Asked(**asker.read(load.seconds + FINISH_LIMIT))
