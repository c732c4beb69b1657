"""Orders to the node that runs: `start`, `stop`, `restart` and `scale` are made of this."""

from __future__ import annotations

import time
from collections.abc import Iterable

from grav_actors.cli.failure import FAILED, NO_ANSWER, REFUSED, Failure
from grav_actors.errors import NoRespondersError

PATIENCE = "60s"
"""How long the commands wait for an order, unless they are told otherwise."""


def give(orders: Iterable[tuple[str, str, int]], timeout: float, bus: str | None) -> None:
    """Have orders carried out one after another, and wait for that.

    Args:
        orders: Verb, name of an actor or pool, and how many instances it shall have.
        timeout: Seconds for all together.

    Raises:
        Failure: One was refused, or failed; those behind it are not given.
        AskTimeoutError: It takes longer; it goes on all the same.
    """
    from grav_actors.cli.client import joined
    from grav_actors.protocol import NODE_NAME
    from grav_actors.supervisor.branch import ORDER

    deadline = time.monotonic() + timeout
    with joined(bus) as node:
        for order in orders:
            try:
                limit = max(0.0, deadline - time.monotonic())
                answer = node.ask(ORDER, list(order), to=NODE_NAME, timeout=limit)
            except NoRespondersError:
                raise Failure(no_node(node.bus_endpoint), NO_ANSWER) from None
            check(answer)


def check(answer: dict[str, str]) -> None:
    """Raise Failure if an order was refused, or failed."""
    from grav_actors.supervisor import branch

    if answer["status"] != branch.DONE:
        code = REFUSED if answer["status"] == branch.REFUSED else FAILED
        raise Failure(answer["text"], code, answer["traceback"])


def no_node(endpoint: str) -> str:
    """Return what is said where a bus runs without a node."""
    return f"no node answers at {endpoint}, a bus alone; `grav-actors up` starts a node"
