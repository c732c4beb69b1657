"""`down`: ends the node of this directory."""

from __future__ import annotations

import time
from pathlib import Path
from queue import Empty, SimpleQueue

import click

from grav_actors.cli.failure import NO_ANSWER, Failure
from grav_actors.cli.params import bus_option, timeout_option
from grav_actors.errors import ConnectionClosedError, NoRespondersError
from grav_actors.project import is_locked

LOOK_INTERVAL = 0.02


@click.command("down")
@timeout_option("How long to wait for its end.", "15s")
@bus_option
def command(timeout: float, bus: str | None) -> None:
    """End what `up` started for this directory, and come back when it has ended.

    Its actors finish what they are doing.
    """
    from grav_actors.cli.client import joined, lock_of, when_ended
    from grav_actors.control import DOWN
    from grav_actors.protocol import NODE_NAME

    deadline = time.monotonic() + timeout
    closed: SimpleQueue[Exception] = SimpleQueue()
    with joined(bus) as node, node.connect() as pod:
        when_ended(pod, closed.put)
        try:
            node.ask(DOWN, to=NODE_NAME, timeout=timeout)
        except NoRespondersError:
            text = f"no node answers at {node.bus_endpoint}, a bus alone; press Ctrl-C where it was started"
            raise Failure(text, NO_ANSWER) from None
        except ConnectionClosedError:
            pass  # it was ending already
        # Cases: 1. `up` holds its lock until nothing is left; 2. a node of a script has none, but a bus.
        lock = lock_of(node.bus_endpoint)
        if lock is not None and is_locked(lock):
            has_ended = _wait_unlocked(lock, deadline)
        else:
            has_ended = _wait_closed(closed, deadline)
    if not has_ended:
        text = f"the node was told to end, and has not within {timeout:g} s; press Ctrl-C twice where it runs"
        raise Failure(text, NO_ANSWER)


def _wait_closed(closed: SimpleQueue[Exception], deadline: float) -> bool:
    try:
        closed.get(timeout=max(0.0, deadline - time.monotonic()))
    except Empty:
        return False
    return True


def _wait_unlocked(lock: Path, deadline: float) -> bool:
    while is_locked(lock):
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_INTERVAL)
    return True
