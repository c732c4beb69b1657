"""The network interfaces of this machine, as the kernel lists them now."""

import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFADDR: Final = 0x8915
_IFF_UP: Final = 0x1
_IFF_LOOPBACK: Final = 0x8
_IFF_RUNNING: Final = 0x40
_IFF_MULTICAST: Final = 0x1000
_LINK_LOCAL: Final = 0x20
_TENTATIVE: Final = 0x40
# Of this thread, whose network namespace need not be that of its process.
_IPV6_TABLE: Final = Path("/proc/thread-self/net/if_inet6")


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that is up, has a carrier and can carry multicast.

    Attributes:
        index: The kernel's number for it; one that comes back has a new one.
        name: Such as `eth0`.
        ipv4: Its first address; "" without one.
        ipv6: Its link-local address; "" without one.
        is_loopback: Whether it reaches this machine alone.
    """

    index: int
    name: str
    ipv4: str = ""
    ipv6: str = ""
    is_loopback: bool = False


def list_interfaces() -> list[Interface]:
    """Return those that are up, with a carrier and an address, and carry multicast or are the loopback; by number."""
    link_local = _link_local_addresses()
    found: list[Interface] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for index, name in sorted(socket.if_nameindex()):
            flags = _flags(control, name)
            is_loopback = bool(flags & _IFF_LOOPBACK)
            if not flags & _IFF_UP or not flags & _IFF_RUNNING or not flags & (_IFF_MULTICAST | _IFF_LOOPBACK):
                continue
            ipv4, ipv6 = _ipv4(control, name), "" if is_loopback else link_local.get(name, "")
            if ipv4 or ipv6:
                found.append(Interface(index, name, ipv4, ipv6, is_loopback))
    return found


def _flags(control: socket.socket, name: str) -> int:
    raw = _ioctl(control, _SIOCGIFFLAGS, name)
    return int(struct.unpack_from("=H", raw, 16)[0]) if raw else 0


def _ipv4(control: socket.socket, name: str) -> str:
    raw = _ioctl(control, _SIOCGIFADDR, name)
    return socket.inet_ntoa(raw[20:24]) if raw else ""


def _ioctl(control: socket.socket, request: int, name: str) -> bytes:
    try:
        return fcntl.ioctl(control, request, struct.pack("=256s", name.encode()[:15]))
    except OSError:  # it has gone meanwhile, or has no such address
        return b""


def _link_local_addresses() -> dict[str, str]:
    try:
        lines = _IPV6_TABLE.read_text(encoding="ascii").splitlines()
    except OSError:  # a kernel without IPv6
        return {}
    found: dict[str, str] = {}
    for line in lines:
        address, _, _, scope, flags, name = line.split()
        # One that is still being checked for duplicates cannot send yet; it is there at the next look.
        if int(scope, 16) == _LINK_LOCAL and not int(flags, 16) & _TENTATIVE:
            found.setdefault(name, str(ipaddress.IPv6Address(bytes.fromhex(address))))
    return found
