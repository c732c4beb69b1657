"""Looks at the network: sends beacons and hears them, tries to listen, dials peers."""

from __future__ import annotations

import errno
import os
import re
import selectors
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from grav_actors.discovery.beacon_frame import BeaconError, BeaconFrame, Kind, decode, encode
from grav_actors.discovery.beacon_port import GROUP_IPV6, BeaconPort
from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.discovery.interfaces import Interface, list_interfaces
from grav_actors.doctor.network import Echo, Firewall, Listener, Listening, Reach

ECHO_PATIENCE = 1.0
"""Seconds after which a beacon that has not come back is lost."""
MOST_LATE = 1000
"""Rounds of reading after the time is up."""
DIAL_TIMEOUT = 1.5
"""Seconds that a peer may take to accept a connection."""
MOST_DIALS = 64
MOST_INTERFACES = 64

_TCP = re.compile(r"tcp://(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5}|\*)")
_NOWHERE_PORT = 1
_Id = tuple[str, str]


def hear_own_beacons(settings: BeaconSettings, secret: bytes, listen: float, own_node: bytes = b"") -> list[Echo]:
    """Send one beacon on each interface and wait until it comes back.

    It is a farewell of a node that never was: whoever hears it does nothing.

    Args:
        secret: Signs it; empty for none.
        listen: Seconds to hear others at least.
        own_node: Uuid of the node that runs here, 16 bytes, which is not one of the others.
    """
    me = os.urandom(16)
    raw = encode(BeaconFrame(Kind.BYE, me, _NOWHERE_PORT), secret)
    echoes: dict[_Id, Echo] = {}
    ports: dict[_Id, BeaconPort] = {}
    try:
        for interface in _usable(settings):
            for family, address in _families(interface, settings):
                key = (interface.name, address)
                error = ""
                try:
                    group = settings.group if family == socket.AF_INET else GROUP_IPV6
                    ports[key] = BeaconPort(interface, family, group, settings.port)
                    error = ports[key].send(raw)
                except OSError as exc:
                    error = _open_error(exc, settings.port)
                echoes[key] = Echo(interface.name, address, interface.is_loopback, error)
        awaited = {key for key, echo in echoes.items() if not echo.error}
        came, others = _hear(ports, awaited, secret, listen, me, own_node)
    finally:
        for port in ports.values():
            port.close()
    return [
        Echo(echo.interface, echo.address, echo.is_loopback, echo.error, key in came, len(others.get(key, ())))
        for key, echo in echoes.items()
    ]


def _usable(settings: BeaconSettings) -> list[Interface]:
    names = settings.interfaces
    return [each for each in list_interfaces() if not names or each.name in names][:MOST_INTERFACES]


def _families(interface: Interface, settings: BeaconSettings) -> list[tuple[socket.AddressFamily, str]]:
    found = [(socket.AF_INET, interface.ipv4)] if interface.ipv4 else []
    if interface.ipv6 and settings.ipv6:
        found.append((socket.AF_INET6, interface.ipv6))
    return found


def _open_error(exc: OSError, port: int) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"UDP port {port} is taken by a program that does not share it; `ss -lunp` shows which"
    return exc.strerror or str(exc)


def _hear(
    ports: dict[_Id, BeaconPort], awaited: set[_Id], secret: bytes, listen: float, me: bytes, own_node: bytes
) -> tuple[set[_Id], dict[_Id, set[bytes]]]:
    """Return where the own beacon came back, and which others were heard."""
    came: set[_Id] = set()
    others: dict[_Id, set[bytes]] = {}
    began = time.monotonic()
    late = 0
    with selectors.DefaultSelector() as selector:
        for key, port in ports.items():
            selector.register(port, selectors.EVENT_READ, key)
        while True:
            limit = listen if awaited <= came else max(listen, ECHO_PATIENCE)
            left = began + limit - time.monotonic()
            ready = selector.select(max(0.0, left)) if ports else []
            late += left <= 0
            # What has come in time is read, also when this process was held up; a flood does not keep it longer.
            if left <= 0 and (not ready or late > MOST_LATE):
                return came, others
            for event, _ in ready:
                received = ports[event.data].receive()
                if received is None:
                    continue
                try:
                    frame = decode(received[0], secret)
                except BeaconError:
                    continue  # a node that runs counts and tells these
                if frame.uuid == me:
                    came.add(event.data)
                elif frame.kind is Kind.HERE and frame.uuid != own_node:
                    others.setdefault(event.data, set()).add(frame.uuid)


def try_to_listen(endpoint: str, running: str = "") -> Listener:
    """Find out whether a node could listen on an endpoint, and let go of it at once.

    Args:
        running: Where the node of this directory listens now; "" when none runs.
    """
    match = _TCP.fullmatch(endpoint)
    if match is None:
        return Listener(endpoint, Listening.UNKNOWN)
    port = 0 if match["port"] == "*" else int(match["port"])
    if running and (port == 0 or port_of(running) == port):
        return Listener(running, Listening.OWN)
    host = match["host"].strip("[]")
    try:
        found = socket.getaddrinfo(_address(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as probe:
            # As the transport does: what is left of an earlier connection is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as exc:
        return Listener(endpoint, Listening.NO_ADDRESS, exc.strerror or str(exc))
    except OSError as exc:
        return Listener(endpoint, _LISTENING.get(exc.errno or 0, Listening.UNKNOWN), exc.strerror or str(exc))
    return Listener(endpoint, Listening.FREE)


_LISTENING = {
    errno.EADDRINUSE: Listening.TAKEN,
    errno.EADDRNOTAVAIL: Listening.NO_ADDRESS,
    errno.EACCES: Listening.FORBIDDEN,
    errno.EPERM: Listening.FORBIDDEN,
}


def _address(host: str) -> str | None:
    """Return what stands for a host in `getaddrinfo`: None for every address."""
    if host in ("", "*"):
        return None
    return next((each.ipv4 or each.ipv6 for each in list_interfaces() if each.name == host), host)


def port_of(endpoint: str) -> int | None:
    """Return the TCP port of an endpoint; None when it has none, or leaves it open."""
    match = _TCP.fullmatch(endpoint)
    if match is None or match["port"] in ("*", "0"):
        return None
    return int(match["port"])


def look_for_firewall(
    ufw: Path = Path("/etc/ufw/ufw.conf"), firewalld: Iterable[Path] = (Path("/run/firewalld"),)
) -> Firewall:
    """Return the firewall that is on, as far as that can be seen without being root."""
    try:
        is_ufw = re.search(r"(?m)^\s*ENABLED=yes\s*$", ufw.read_text("utf-8", "replace")) is not None
    except OSError:
        is_ufw = False
    if is_ufw:
        return Firewall("ufw")
    return Firewall("firewalld" if any(path.exists() for path in firewalld) else "")


def dial(endpoints: Sequence[str], timeout: float = DIAL_TIMEOUT) -> list[Reach]:
    """Try to connect to endpoints, all at once; those that are not of TCP are left out."""
    dialled = [endpoint for endpoint in endpoints if port_of(endpoint) is not None][:MOST_DIALS]
    if not dialled:
        return []
    with ThreadPoolExecutor(len(dialled), thread_name_prefix="grav-doctor") as pool:
        return list(pool.map(lambda endpoint: _dial(endpoint, timeout), dialled))


def _dial(endpoint: str, timeout: float) -> Reach:
    match = _TCP.fullmatch(endpoint)
    assert match is not None
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout).close()
    except (OSError, OverflowError) as exc:
        return Reach(endpoint, getattr(exc, "strerror", None) or str(exc))
    return Reach(endpoint)
