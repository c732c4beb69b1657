"""Question and answer between two processes: one at a time, or many outstanding."""

import contextlib
import dataclasses

from benchmarks.sides import Side
from benchmarks.throughput import start_bus
from benchmarks.worker import Worker
from benchmarks.workload import Asked, Load

FINISH_LIMIT = 60.0
"""Seconds beyond the load that an asker may need."""


def measure(side: Side, load: Load, outstanding: int) -> Asked:
    """Run one side once and return what the asker measured."""
    settings = {**side.settings, "outstanding": outstanding, "load": dataclasses.asdict(load)}
    with contextlib.ExitStack() as stack:
        if side.is_whole:
            asker = stack.enter_context(Worker(side.module, "ask", **settings))
        else:
            settings["endpoint"] = start_bus(side, stack)[1]
            answerer = stack.enter_context(Worker(side.module, "answerer", **settings))
            answerer.ready()
            answerer.go()
            asker = stack.enter_context(Worker(side.module, "asker", **settings))
        asker.ready()
        asker.go()
        return Asked(**asker.read(load.seconds + FINISH_LIMIT))
