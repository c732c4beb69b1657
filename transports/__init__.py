"""Transports, found by name.

The contract stands in `grav_actors.transports.base`; each implementation is a module of its own beside it.
None is imported before it is asked for. A package of a third party adds one with an entry point, and needs
no change here:

    [project.entry-points."grav_actors.transports"]
    carrier-pigeon = "pigeon.loft:PigeonTransport"
"""

from grav_actors.registry import load_plugin, plugin_names
from grav_actors.transports.base import BridgeTransport, Transport

ENTRY_POINT_GROUP = "grav_actors.transports"
"""The group in which third parties register theirs."""

_BUILT_IN: dict[str, str] = {  # name -> "module:Class"
    "loopback": "grav_actors.transports.loopback:LoopbackTransport",
    "zmq": "grav_actors.transports.zeromq:ZeroMQTransport",
}


def names() -> list[str]:
    """Return every registered name, sorted: what ships with this package and what installed packages add."""
    return plugin_names(ENTRY_POINT_GROUP, _BUILT_IN)


def load(name: str) -> type[Transport] | type[BridgeTransport]:
    """Return the class that is registered under `name`.

    What ships with this package comes first: an installed package cannot take its names. Of two packages
    with one name the first on the import path counts. Reads the metadata of all installed packages: for
    start-up, not for loops.

    Args:
        name: As in a configuration file; upper and lower case differ.

    Raises:
        ConfigError: Nothing is registered under `name`, or what is cannot be imported or is no class.
    """
    return load_plugin(ENTRY_POINT_GROUP, "transport", name, _BUILT_IN)
