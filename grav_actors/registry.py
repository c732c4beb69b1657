"""Plug-ins, found by name: those that ship with this package, then the entry points of installed ones."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from grav_actors.errors import ConfigError
from grav_actors.options import did_you_mean, show


def plugin_names(group: str, builtin: Mapping[str, str]) -> list[str]:
    """Return every name that `load_plugin` knows, sorted. Imports none of what they stand for."""
    return sorted(_registered(group, builtin))


def load_plugin(group: str, kind: str, name: str, builtin: Mapping[str, str]) -> type[Any]:
    """Return the class that is registered under `name`.

    What ships with this package comes first: an installed package cannot take its names. Of two packages
    with one name the first on the import path counts. Reads the metadata of all installed packages: for
    start-up, not for loops.

    Args:
        group: The group of entry points in which third parties register theirs.
        kind: The word for such a plug-in in errors, such as `transport`.
        name: As in a configuration file; upper and lower case differ.
        builtin: What ships with this package: `module:Class` by name.

    Raises:
        ConfigError: Nothing is registered under `name`, or what is cannot be imported or is no class.
    """
    registered = _registered(group, builtin)
    entry_point = registered.get(name)
    if entry_point is None:
        near = did_you_mean(name, registered)
        raise ConfigError(
            f"no {kind} is called {show(name)}{f'{near} Registered' if near else '; registered'} are"
            f" {', '.join(sorted(registered)) or 'none'}; a package adds one with an entry point in the group"
            f' "{group}"'
        )
    origin = f"{kind} {show(name)} ({entry_point.value}" + (
        f" of {entry_point.dist.name})" if entry_point.dist is not None else ")"
    )
    try:
        loaded = entry_point.load()
    except Exception as exc:  # importing a stranger's module can raise anything
        raise ConfigError(f"{origin} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not isinstance(loaded, type):
        raise ConfigError(f"{origin} is {show(loaded)}, not a class")
    return loaded


def plugin_instance(
    option: str, given: Any, load: Callable[[str], type[Any]], contract: type[Any], allowed: str
) -> Any:
    """Return what a user has given for a plug-in: an instance as it is, of a name one of its class.

    Args:
        option: What the value was given for, as errors call it.
        load: Returns the class of a name; raises ConfigError.
        contract: What it has to be.
        allowed: What the user may give, in words.

    Returns:
        An instance of the contract, which may be abstract: hence no type of its own.

    Raises:
        ConfigError: It is neither.
    """
    made = load(given)() if isinstance(given, str) else given
    if not isinstance(made, contract):
        raise ConfigError(f"{option} is {show(given)}: allowed are {allowed}")
    return made


def _registered(group: str, builtin: Mapping[str, str]) -> dict[str, EntryPoint]:
    found = {name: EntryPoint(name, target, group) for name, target in builtin.items()}
    for entry_point in entry_points(group=group):
        found.setdefault(entry_point.name, entry_point)
    return found
