"""The contract between a node and its discoveries.

A discovery finds other nodes and makes this one found. It says only where a node may be; whether it is
there, who it is and whether the two fit is settled by the transport's handshake. So what a discovery
reports is a hint: it may be wrong, late, repeated or this node itself, and that a node is no longer
reported means nothing.

Classes need not inherit from `Discovery`; having its members is enough. What is loaded by name
(`grav_actors.discovery.load`) is made without arguments, so settings come in `DiscoveryOptions.custom`.

Errors are those of `grav_actors.errors`. Bytes from the network never raise out of a discovery's threads:
what does not decode is counted, logged once per cause and dropped.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from grav_actors.errors import ConfigError


def _default_logger() -> logging.Logger:
    return logging.getLogger("grav_actors.discovery")


@dataclass(frozen=True, slots=True)
class DiscoveryOptions:
    """What a discovery is told when it is started.

    Attributes:
        node_uuid: UUID of this node, to announce, and to know one's own announcements by.
        transport_port: The port on which this node's transport really listens, 1 to 65535; None when it has
            no port, or does not listen.
        transport_uri: What else peers need to dial this node, in the transport's terms; `""` when nothing.
        logger: For everything the discovery logs. It is the node's: the discovery adds no handlers.
        custom: Whatever else the user has configured for this discovery; None when nothing.

    Raises:
        ConfigError: `node_uuid` is empty, or `transport_port` is out of range.
    """

    node_uuid: str
    transport_port: int | None = None
    transport_uri: str = ""
    logger: logging.Logger = field(default_factory=_default_logger)
    custom: object = None

    def __post_init__(self) -> None:
        if not self.node_uuid:
            raise ConfigError("node_uuid is empty: a discovery needs the UUID of its node")
        if self.transport_port is not None and not 1 <= self.transport_port <= 65535:
            raise ConfigError(
                f"transport_port is {self.transport_port}: allowed are 1 to 65535 (the port that was chosen,"
                " where the configuration said 0), None without a port"
            )


DiscoveryFunc: TypeAlias = Callable[[str, str], None]
"""`discovered(endpoint, uuid)`, see `Discovery.start`."""


@runtime_checkable
class Discovery(Protocol):
    """Finds other nodes and makes this one found. One instance serves one node; a node may have several."""

    def start(self, options: DiscoveryOptions, discovered: DiscoveryFunc) -> None:
        """Begin to announce this node and to look for others.

        Called once, after the transport listens. Returns when both have begun; it does not run the
        discovery's loop.

        `discovered(endpoint, uuid)` may be called from any thread of the discovery, during `start` already,
        until `stop` has returned, and again for what was reported before. It neither blocks nor raises; the
        hub drops itself and repetitions, and limits how often it dials. `endpoint` is what the transport
        can dial; `uuid` is the node's UUID, or `""` where the discovery cannot know it (a list of
        addresses), and is checked in the handshake otherwise.

        A discovery bounds what it remembers: anybody on the network can announce nodes.

        Args:
            options: What the node has configured, and where it listens.
            discovered: Where every hint goes.

        Raises:
            ConfigError: The options do not fit this discovery, or the network cannot be used as asked.
        """
        ...

    def stop(self) -> None:
        """Take the announcement back where that is possible, and free everything: threads, sockets, files.

        Idempotent, from any thread but the discovery's own; also after a `start` that raised. There are no
        calls of `discovered` after it has returned. Never raises.
        """
        ...
