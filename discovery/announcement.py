"""What a beacon says of its node, and on which interfaces it makes sense to say so."""

import re
import socket
import uuid
from dataclasses import dataclass
from typing import Final, Self

from grav_actors.discovery.base import DiscoveryOptions
from grav_actors.discovery.beacon_frame import LONGEST_FORM, TCP, BeaconFrame, Kind, is_form
from grav_actors.discovery.interfaces import Interface
from grav_actors.errors import ConfigError
from grav_actors.options import show

_EVERY: Final = ("", "*", "[::]")
_EVERY_IPV4: Final = "0.0.0.0"  # noqa: S104  (compared with, not bound to)
_URI = re.compile(r"(?:([a-z][a-z0-9+-]*)://)?(\[[^\]/]*\]|[^/:\[\]]*)(?::(\d{1,5}))?(/.*)?")
_HIGHEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is announced of a node.

    Attributes:
        uuid: Of the node, 16 bytes.
        host: What its transport listens on, as in its endpoint; a wildcard for every address.
        frame: The beacon; None when the node has nothing to dial, and so is not announced.
    """

    uuid: bytes
    host: str
    frame: BeaconFrame | None

    @classmethod
    def of(cls, options: DiscoveryOptions) -> Self:
        """Take it from what a discovery is told of its node.

        Raises:
            ConfigError: The node's uuid is none, or a beacon cannot carry its endpoint.
        """
        try:
            own = uuid.UUID(options.node_uuid).bytes
        except ValueError as exc:
            raise ConfigError(f"a beacon can only carry a UUID, not {show(options.node_uuid)}") from exc
        uri = options.transport_uri
        match = _URI.fullmatch(uri)
        if match is None:
            form = '"", "tcp://host:port" or a form like "ws:///path"'
            raise ConfigError(f"transport_uri is {show(uri)}; a beacon can carry {form}")
        scheme, host, written, path = match.groups(default="")
        port = options.transport_port if options.transport_port is not None else int(written or 0)
        form = f"{scheme}://{path}" if scheme else f"{TCP}{path}"
        if not is_form(form):
            raise ConfigError(f"transport_uri is {show(uri)}; a beacon carries at most {LONGEST_FORM} printable ASCII")
        if port > _HIGHEST_PORT:
            raise ConfigError(f"transport_uri is {show(uri)}; a port is at most {_HIGHEST_PORT}")
        return cls(own, host, BeaconFrame(Kind.HERE, own, port, form) if port else None)

    def is_for(self, interface: Interface, family: socket.AddressFamily) -> bool:
        """Tell whether who hears it there could reach the node at the address it comes from."""
        if self.host in _EVERY:
            return True
        is_ipv4 = family == socket.AF_INET
        if self.host == _EVERY_IPV4:
            return is_ipv4
        if self.host == "localhost" or self.host.startswith("127.") or self.host == "[::1]":
            return interface.is_loopback
        if self.host.startswith("["):
            return not is_ipv4 and self.host[1:-1].partition("%")[0] == interface.ipv6
        if self.host[0].isdigit():
            return is_ipv4 and self.host == interface.ipv4
        return True  # a name or an interface: it may stand for any address
