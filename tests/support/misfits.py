"""Actors that do not start, beside one that does, for tests; processes can import it too."""

from __future__ import annotations

from typing import Any

from grav_actors import Actor, Child, Supervisor


class Witness(Actor):
    """Starts, and says how it ends."""

    def on_start(self) -> None:
        self.publish("witness", ["start", self.name])

    def on_stop(self, reason: str) -> None:
        self.publish("witness", [reason, self.name])


class Exact(Actor):
    """Takes one argument."""

    def __init__(self, site: str) -> None:
        self.site = site


class Leaving(Actor):
    """Ends its process, or thread, when it is made."""

    def __init__(self) -> None:
        raise SystemExit(3)


class Refusing(Actor):
    """Raises in `on_start`."""

    def on_start(self) -> None:
        raise OSError("no sensor")


def family(actor_class: type[Actor], kind: str, **options: Any) -> type[Supervisor]:
    """Return a supervisor with a witness before such an actor, and one behind it."""
    children = (
        Child(Witness, name="before", kind="thread"),
        Child(actor_class, name="misfit", kind=kind, **options),
        Child(Witness, name="behind", kind="thread"),
    )
    return type("Family", (Supervisor,), {"children": children})
