"""What tests of whole nodes ask again and again."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from grav_actors import ActorRef, Backoff, Grav
from grav_actors.bus.process import BusSpec
from grav_actors.options import BusOptions, RestartLimits
from grav_actors.project import private_folder, remove_private_folder
from support.collecting import LIMIT, Collector


def collect(grav: Grav, message_type: str) -> Collector:
    """Return what collects messages of a type from now on, on a pod of its own."""
    collector = Collector()
    grav.connect().on_type(message_type, collector)
    return collector


@contextmanager
def hosting_node(**options: Any) -> Generator[Grav]:
    """Run a node whose thread actors live in hosts, as that of `grav-actors up`."""
    limits = RestartLimits(options.pop("max_restarts", 5), 30.0, Backoff(first=0))
    folder = private_folder()
    grav = Grav._in_folder(
        BusSpec(str(folder), "", 128, 1 << 20),
        name=None,
        belongs_to="*",
        interests=(),
        options=BusOptions(),
        limits=limits,
        strategy=options.pop("strategy", "one_for_one"),
        on_line=options.pop("on_line", None),
        on_end=lambda text: None,
    )
    try:
        yield grav
    finally:
        grav.stop(**options)
        remove_private_folder(folder)


def wait_gone(grav: Grav, ref: ActorRef) -> None:
    """Return when neither the bus nor the node's supervisor has an actor of that name any more."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if not ref.is_alive() and all(row["name"] != ref.name for row in grav._runner.rows()):
            return
    raise AssertionError(f"{ref.name} has not gone within {LIMIT} s")


def wait_dead_letters(grav: Grav, count: int) -> dict[str, int]:
    """Return the dead letters by reason when there are so many."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        letters: dict[str, int] = grav.stats()["dead_letters"]
        if sum(letters.values()) >= count:
            return letters
    raise AssertionError(f"there were no {count} dead letters within {LIMIT} s: {grav.stats()}")


def wait_restarts(grav: Grav, ref: ActorRef, count: int) -> None:
    """Return when an actor was started again so often, and is ready."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        rows = [row for row in grav._runner.rows() if row["name"] == ref.name]
        if rows and rows[0]["restarts"] == count and rows[0]["state"] == "ready":
            return
        grav.stats()
    raise AssertionError(f"{ref.name} has not been restarted {count} times: {grav._runner.rows()}")
