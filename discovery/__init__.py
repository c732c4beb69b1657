"""Discoveries, found by name.

The contract stands in `grav_actors.discovery.base`; each implementation is a module of its own beside it.
None is imported before it is asked for. A package of a third party adds one with an entry point, and needs
no change here:

    [project.entry-points."grav_actors.discovery"]
    phone-book = "phonebook.nodes:PhoneBook"
"""

from grav_actors.discovery.base import Discovery
from grav_actors.registry import load_plugin, plugin_names

ENTRY_POINT_GROUP = "grav_actors.discovery"
"""The group in which third parties register theirs."""

_BUILT_IN: dict[str, str] = {  # name -> "module:Class"
    "beacon": "grav_actors.discovery.beacon:Beacon",
    "static": "grav_actors.discovery.static:StaticPeers",
}


def names() -> list[str]:
    """Return every registered name, sorted: what ships with this package and what installed packages add."""
    return plugin_names(ENTRY_POINT_GROUP, _BUILT_IN)


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
    return load_plugin(ENTRY_POINT_GROUP, "discovery", name, _BUILT_IN)
