"""Discoveries, found by name.

The contract stands in `grav_actors.discovery.base`; each implementation is a module of its own beside it.
None is imported before it is asked for. A package of a third party adds one with an entry point, and needs
no change here:

    [project.entry-points."grav_actors.discovery"]
    phone-book = "phonebook.nodes:PhoneBook"
"""

from importlib.metadata import EntryPoint, entry_points

from grav_actors.discovery.base import Discovery
from grav_actors.errors import ConfigError
from grav_actors.options import did_you_mean, show

ENTRY_POINT_GROUP = "grav_actors.discovery"
"""The group in which third parties register theirs."""

_BUILT_IN: dict[str, str] = {}  # name -> "module:Class"


def names() -> list[str]:
    """Return every registered name, sorted: what ships with this package and what installed packages add."""
    return sorted(_registered())


def load(name: str) -> type[Discovery]:
    """Return the class that is registered under `name`.

    What ships with this package comes first: an installed package cannot take its names. Of two packages
    with one name the first on the import path counts. Reads the metadata of all installed packages: for
    start-up, not for loops.

    Args:
        name: As in a configuration file; upper and lower case differ.

    Raises:
        ConfigError: Nothing is registered under `name`, or what is cannot be imported or is no class.
    """
    registered = _registered()
    entry_point = registered.get(name)
    if entry_point is None:
        raise ConfigError(
            f"no discovery is called {show(name)}{did_you_mean(name, registered)}; registered are"
            f" {', '.join(sorted(registered)) or 'none'}; a package adds one with an entry point in the group"
            f' "{ENTRY_POINT_GROUP}"'
        )
    origin = f"discovery {show(name)} ({entry_point.value}" + (
        f" of {entry_point.dist.name})" if entry_point.dist is not None else ")"
    )
    try:
        loaded = entry_point.load()
    except Exception as exc:  # importing a stranger's module can raise anything
        raise ConfigError(f"{origin} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not isinstance(loaded, type):
        raise ConfigError(f"{origin} is {show(loaded)}, not a class")
    return loaded


def _registered() -> dict[str, EntryPoint]:
    found = {name: EntryPoint(name, target, ENTRY_POINT_GROUP) for name, target in _BUILT_IN.items()}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(entry_point.name, entry_point)
    return found
