"""A tree of supervisors, looked through before anything of it starts."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.errors import ConfigError
from grav_actors.options import show
from grav_actors.supervisor.spec import Child


def base_name(child: Child, taken: Collection[str]) -> str:
    """Return the name of a child: its own, else that of its class in lower case, with `-2`, `-3` if that is taken."""
    if child.name is not None:
        return child.name
    base = child.actor_class.__name__.lower()
    if base not in taken:
        return base
    return next(name for number in itertools.count(2) if (name := f"{base}-{number}") not in taken)


def instance_names(base: str, instances: int) -> list[str]:
    """Return the names of a child's instances: its own, or `base-1`, `base-2` when there are several."""
    return [base] if instances == 1 else [f"{base}-{number}" for number in range(1, instances + 1)]


def children_of(actor_class: type[Actor]) -> Sequence[Child]:
    """Return the children that the class of a supervisor names; none if it is no supervisor."""
    return getattr(actor_class, "children", ()) if actor_class._grav_supervises else ()


def names_below(children: Iterable[Any], path: Sequence[type[Actor]] = ()) -> dict[str, str]:
    """Return the names of children and of all below them, each with where it stands.

    Args:
        path: The supervisors above.

    Raises:
        ConfigError: Something is no `Child`, a name appears twice, or a supervisor stands below itself.
    """
    where = " > ".join(above.__qualname__ for above in path) or "the node"
    own: set[str] = set()
    found: dict[str, str] = {}
    for child in children:
        if not isinstance(child, Child):
            raise ConfigError(f"children of {where} must be Child(...), not {show(child)}")
        base = base_name(child, own)
        names = [base, *instance_names(base, child.instances)] if child.instances > 1 else [base]
        own.update(names)
        _add(found, dict.fromkeys(names, where))
        cls = child.actor_class
        if not cls._grav_supervises:
            continue
        if cls in path:
            circle = " > ".join(above.__qualname__ for above in (*path[path.index(cls) :], cls))
            raise ConfigError(f"a supervisor cannot supervise itself: {circle}")
        _add(found, names_below(children_of(cls), (*path, cls)))
    return found


def _add(found: dict[str, str], more: dict[str, str]) -> None:
    for name, where in more.items():
        if name in found:
            places = f"under {where}" if found[name] == where else f"under {found[name]} and under {where}"
            raise ConfigError(f"two actors would be called {name!r}, {places}; give one of them another name")
        found[name] = where
