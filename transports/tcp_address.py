"""Addresses of the form `tcp://host:port`, as transports over TCP take and announce them."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, replace
from typing import Final

from grav_actors.errors import ConfigError, ConnectionClosedError
from grav_actors.options import show

SCHEME: Final = "tcp://"
EVERY_IPV4: Final = "0.0.0.0"  # noqa: S104  (every address is what a user asks for by this name)
EVERY_IPV6: Final = "::"
_FORM = re.compile(r"tcp://(\[[^\[\]/\s]+\]|[^\[\]:/\s]+)(?::(\d{1,5}))?")
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port.

    Attributes:
        host: A name or an address, without brackets.
        port: 1 to 65535; 0 for any.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{host}:{self.port}"

    @classmethod
    def parse(cls, endpoint: str) -> TcpAddress | None:
        """Return the address of an endpoint, with port 0 where none is written; None when it is no such endpoint."""
        match = _FORM.fullmatch(endpoint)
        if match is None or int(match[2] or 0) > _HIGHEST_PORT:
            return None
        host = match[1].strip("[]")
        return cls(EVERY_IPV6 if host == "*" else host, int(match[2] or 0))

    def is_wildcard(self) -> bool:
        """Tell whether it stands for every address of a machine."""
        return self.host in (EVERY_IPV4, EVERY_IPV6)

    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach it."""
        return self.host == "localhost" or is_loopback(self.host)

    def seen_from(self, host: str) -> TcpAddress:
        """Return it with the host under which it was reached, where it names none itself."""
        return replace(self, host=host) if self.is_wildcard() else self

    def at(self, port: int) -> TcpAddress:
        """Return another port of the same host."""
        return replace(self, port=port)

    def resolve(self) -> TcpAddress:
        """Return it with an address in place of a name. May take as long as the resolver does.

        Raises:
            ConnectionClosedError: The name is unknown.
        """
        if is_numeric(self.host):
            return self
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            raise ConnectionClosedError(f"{self}: the name {self.host!r} cannot be looked up: {exc}") from exc
        # IPv4 first: a node that listens on every IPv4 address is the usual one, and a name may stand for both.
        found.sort(key=lambda each: each[0] != socket.AF_INET)
        return replace(self, host=str(found[0][4][0]))


def listening_address(port: int | None, uri: str) -> TcpAddress:
    """Return what to listen on, as `TransportOptions` has it; by default any port of the loopback.

    Raises:
        ConfigError: `uri` is neither a host nor `tcp://host[:port]`.
    """
    if not uri:
        return TcpAddress("127.0.0.1", port or 0)
    address = TcpAddress.parse(uri if uri.startswith(SCHEME) else SCHEME + uri)
    if address is None:
        raise ConfigError(
            f'cannot listen on {show(uri)}: allowed are a host like "tcp://0.0.0.0" or "tcp://[::]", with or'
            " without a port"
        )
    if address.host == "localhost":
        address = replace(address, host="127.0.0.1")
    return address if port is None else address.at(port)


def is_numeric(host: str) -> bool:
    """Tell whether a host is an address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether an address is one of the loopback's."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def plain_host(host: str) -> str:
    """Return the address of a peer as it is dialled: IPv4 also where the socket is one for both."""
    try:
        mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None)
    except ValueError:
        return host
    return host if mapped is None else str(mapped)
