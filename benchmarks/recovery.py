"""How long it takes until an actor, and the pods of a bus, work again after a kill.

$ python -m benchmarks.recovery [--rounds N] [--json FILE]

Each round kills one process with SIGKILL and sends at once; the time is over when what was sent has been handled:
by the actor's next incarnation, or by all pods of the bus. Exit code 1: something never came back.
"""

import argparse
import collections.abc
import contextlib
import json
import os
import pathlib
import signal
import statistics
import sys
import threading
import time

from benchmarks.echo import Echo
from grav_actors import Backoff, Grav, Pod

ROUNDS = 50
PODS = 20
NODES = 4
"""Nodes among which the pods are spread: each has a connection of its own."""
LIMIT = 30.0
"""Seconds after which a round counts as lost."""
ACTOR_TARGET, BUS_TARGET = 0.5, 2.0
"""Seconds that the worst round may take."""


class Arrivals:
    """Waits until a number of receivers have had the message of a round."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: dict[int, set[int]] = {}

    def note(self, number: int, receiver: int) -> None:
        """Note that a receiver has the message of this round."""
        with self._changed:
            self._seen.setdefault(number, set()).add(receiver)
            self._changed.notify_all()

    def wait(self, number: int, count: int) -> bool:
        """Return whether so many receivers had it within the limit."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._seen.get(number, ())) >= count, LIMIT)


def node() -> Grav:
    """Return a node that starts again at once whatever dies."""
    return Grav(max_restarts=1000, backoff=Backoff(first=0, max=0))


def measure_actor(rounds: int) -> list[float]:
    """Return the seconds from each kill of an actor's process until its next incarnation has handled a message."""
    arrivals = Arrivals()
    times: list[float] = []
    with node() as grav:
        grav.connect().on_type("recovery.pong", lambda message: arrivals.note(*message.data))
        ref = grav.spawn(Echo)
        for number in range(rounds):
            pid = next(row["pid"] for row in grav._actors() if row["name"] == ref.name)
            begin = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            ref.tell("recovery.ping", number)
            if not arrivals.wait(number, 1):
                raise TimeoutError(f"the actor has not come back within {LIMIT:g} s in round {number}")
            times.append(time.monotonic() - begin)
    return times


def measure_bus(rounds: int) -> list[float]:
    """Return the seconds from each kill of a bus until all of its pods have handled a message."""
    arrivals = Arrivals()
    times: list[float] = []
    with contextlib.ExitStack() as stack:
        grav = stack.enter_context(node())
        nodes = [stack.enter_context(Grav(bus=grav.bus_endpoint)) for _ in range(NODES)]
        for index in range(PODS):
            _listen(nodes[index % NODES].connect(), index, arrivals)
        for number in range(rounds):
            assert grav._bus is not None
            assert grav._bus.pid is not None
            begin = time.monotonic()
            os.kill(grav._bus.pid, signal.SIGKILL)
            grav.publish("recovery.ping", number)
            if not arrivals.wait(number, PODS):
                raise TimeoutError(f"the pods have not come back within {LIMIT:g} s in round {number}")
            times.append(time.monotonic() - begin)
    return times


def _listen(pod: Pod, index: int, arrivals: Arrivals) -> None:
    pod.on_type("recovery.ping", lambda message: arrivals.note(message.data, index))


MEASURES: dict[str, tuple[collections.abc.Callable[[int], list[float]], float]] = {
    "actor killed to handling again": (measure_actor, ACTOR_TARGET),
    f"bus killed to {PODS} pods back": (measure_bus, BUS_TARGET),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recovery", description="Kill an actor, then a bus, and time until they work again."
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"kills of each (default: {ROUNDS})")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures to FILE too")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    figures: dict[str, object] = {}
    for name, (measure, target) in MEASURES.items():
        try:
            times = measure(options.rounds)
        except TimeoutError as error:
            print(f"{name}: LOST: {error}", file=sys.stderr)
            return 1
        verdict = "met" if max(times) <= target else "MISSED"
        worst, median = max(times) * 1000, statistics.median(times) * 1000
        print(
            f"{name}: worst of {options.rounds} {worst:.0f} ms, median {median:.0f} ms; "
            f"target {target * 1000:.0f} ms: {verdict}"
        )
        figures[name] = {"seconds": times, "target": target}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
