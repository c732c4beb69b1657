"""One UDP socket that sends and hears beacons on one interface, by IPv4 or IPv6."""

import socket
import struct
from typing import Final

from grav_actors.discovery.interfaces import Interface

GROUP: Final = "239.255.71.82"
"""IPv4 group of the beacons, of administrative scope."""

GROUP_IPV6: Final = "ff02::6772:6176"
"""IPv6 group of the beacons, of one link."""

# Names that the socket module lacks; values of Linux.
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29

_BUFFER_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 2048


class BeaconPort:
    """A socket that is a member of the group on one interface, and of no other.

    One for each interface: a socket can join only 20 groups, and what it hears comes from its interface alone.

    Raises:
        OSError: The interface is gone, or the port is taken by a program that does not share it.
    """

    def __init__(self, interface: Interface, family: socket.AddressFamily, group: str, port: int) -> None:
        self.interface = interface
        self.family = family
        self._group = group
        self._port = port
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            # Several nodes of a host hear the same group and port. Not SO_REUSEPORT, which wants one user for all.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            if family == socket.AF_INET:
                self._join_ipv4()
            else:
                self._join_ipv6()
        except BaseException:
            self._socket.close()
            raise

    def _join_ipv4(self) -> None:
        option = self._socket.setsockopt
        membership = struct.pack("=4s4si", socket.inet_aton(self._group), bytes(4), self.interface.index)
        # With the source address: on the loopback the kernel would take that of another interface.
        own = socket.inet_aton(self.interface.ipv4)
        outgoing = struct.pack("=4s4si", bytes(4), own, self.interface.index)
        # Otherwise a socket hears what any program on the host has joined, on any interface.
        option(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        # Bound to the group, it hears nothing that is sent to the host's own addresses.
        self._socket.bind((self._group, self._port))
        option(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        option(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, outgoing)
        option(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        option(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)

    def _join_ipv6(self) -> None:
        option, index = self._socket.setsockopt, self.interface.index
        option(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        option(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        self._socket.bind((self._group, self._port, 0, index))
        membership = socket.inet_pton(socket.AF_INET6, self._group) + struct.pack("=I", index)
        option(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        option(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        option(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        option(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def send(self, raw: bytes) -> str:
        """Send a beacon; return why it could not be sent, or ""."""
        target: tuple[str, int] | tuple[str, int, int, int] = (self._group, self._port)
        if self.family == socket.AF_INET6:
            target = (self._group, self._port, 0, self.interface.index)
        try:
            self._socket.sendto(raw, target)
        except BlockingIOError:  # the next one will do
            return ""
        except OSError as exc:  # no carrier, no address, a firewall
            return exc.strerror or str(exc)
        return ""

    def receive(self) -> tuple[bytes, str] | None:
        """Return a datagram and the address from which it came; None when there is none."""
        try:
            raw, source = self._socket.recvfrom(_READ_BYTES)
        except OSError:  # nothing there, or an error of the interface, which is told once
            return None
        address = str(source[0])
        if self.family == socket.AF_INET6:
            address = f"{address.partition('%')[0]}%{self.interface.name}"
        return raw, address

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()
