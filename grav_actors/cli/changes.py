"""What a changed configuration means for a node that runs: the difference, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from grav_actors.cli.plan import Plan, children_of
from grav_actors.config import find_project, load_config
from grav_actors.errors import ActorStartError, ConfigError
from grav_actors.supervisor.spec import Child

if TYPE_CHECKING:
    from grav_actors.node import Grav

TABLES = ("node", "bus", "supervisor", "mesh")
"""Those that hold for the life of a node."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between two configurations.

    Attributes:
        removed: Names of actors that are to run no more.
        replaced: Actors that are made otherwise: they are stopped and started as these.
        scaled: Pools of which only the number of instances has changed.
        added: New actors.
        later: Names of tables that have changed, which only the next `up` honours.
    """

    removed: tuple[str, ...] = ()
    replaced: tuple[Child, ...] = ()
    scaled: tuple[tuple[str, int], ...] = ()
    added: tuple[Child, ...] = ()
    later: tuple[str, ...] = ()


def difference(before: Iterable[Child], after: Iterable[Child]) -> Changes:
    """Return what has changed between two lists of actors, each of which has a name."""
    old = {str(child.name): child for child in before}
    new = {str(child.name): child for child in after}
    both = [(old[name], child) for name, child in new.items() if name in old and old[name] != child]
    scaled = [is_only_scaled(one, other) for one, other in both]
    return Changes(
        removed=tuple(name for name in old if name not in new),
        replaced=tuple(child for (_, child), only in zip(both, scaled, strict=True) if not only),
        scaled=tuple((str(child.name), child.instances) for (_, child), only in zip(both, scaled, strict=True) if only),
        added=tuple(child for name, child in new.items() if name not in old),
    )


def is_only_scaled(one: Child, other: Child) -> bool:
    """Return whether two pools differ in their number alone; one instance is no pool."""
    return min(one.instances, other.instances) > 1 and replace(one, instances=other.instances) == other


class Reloader:
    """Reads the configuration of a node again and applies what has changed. Any thread may call `reload`.

    Args:
        plan: What the node was started with.
        children: Its actors, those of the command line too, which stay as they are.
        say: Takes a line for whoever watches the node.
    """

    def __init__(self, plan: Plan, children: Iterable[Child], say: Callable[[str], None]) -> None:
        self._plan = plan
        self._children = {str(child.name): child for child in children if child.name is not None}
        self._say = say
        self._lock = threading.Lock()

    def reload(self, node: Grav) -> list[str]:
        """Apply the present configuration, and return what was done, one line each.

        Raises:
            ConfigError: It is wrong, or gone; nothing was changed.
            ActorStartError: An actor did not start; the other changes were made.
        """
        with self._lock:
            if not node._is_filled:
                raise ConfigError("the node is still starting its actors; reload it when it is ready")
            plan = self._read()
            wanted = {str(child.name): child for child in children_of(plan) if child.name is not None}
            changes = replace(
                difference(self._children.values(), wanted.values()),
                later=tuple(name for name in TABLES if getattr(plan.config, name) != getattr(self._plan.config, name)),
            )
            return self._apply(node, changes, wanted)

    def _read(self) -> Plan:
        path = find_project(self._plan.folder)
        if path is None or path.parent != self._plan.folder:
            raise ConfigError(f"{self._plan.folder} has no grav.toml; nothing was changed, `grav-actors down` ends all")
        return Plan(self._plan.folder, load_config(path), self._plan.targets)

    def _apply(self, node: Grav, changes: Changes, wanted: dict[str, Child]) -> list[str]:
        done: list[str] = []

        def note(line: str) -> None:
            done.append(line)
            self._say(line)

        for name in reversed(changes.removed):
            node._runner.remove(name)
            del self._children[name]
            note(f"{name}: removed")
        failures: list[ActorStartError] = []
        steps: list[tuple[str, str, Callable[[], Any]]] = [
            *((str(child.name), "replaced", _replacing(node, child)) for child in changes.replaced),
            *((name, f"scaled to {count}", _scaling(node, name, count)) for name, count in changes.scaled),
            *((str(child.name), "added", _adding(node, child)) for child in changes.added),
        ]
        for name, word, step in steps:
            try:
                step()
            except ActorStartError as exc:
                if word == "replaced":
                    del self._children[name]  # so that the next time adds it
                failures.append(exc)
                self._say(str(exc.args[0]))
            else:
                self._children[name] = wanted[name]
                note(f"{name}: {word}")
        for name in changes.later:
            note(f"[{name}] has changed: that takes effect with the next `up`")
        if failures:
            raise failures[0]
        return done


def _replacing(node: Grav, child: Child) -> Callable[[], None]:
    def step() -> None:
        node._runner.remove(str(child.name))
        node._launch(child)

    return step


def _scaling(node: Grav, name: str, count: int) -> Callable[[], None]:
    return lambda: node._runner.scale(name, count)


def _adding(node: Grav, child: Child) -> Callable[[], None]:
    return lambda: node._launch(child)
