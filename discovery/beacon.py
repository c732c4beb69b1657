"""Discovery by beacons: small UDP multicasts on every interface, by which nodes of one network find each other.

docs/mesh-discovery.md specifies them. What is decided about them stands in `beacon_core`; here are the thread
and its sockets.
"""

import contextlib
import errno
import random
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from grav_actors.discovery.announcement import Announcement
from grav_actors.discovery.base import DiscoveryFunc, DiscoveryOptions
from grav_actors.discovery.beacon_core import Hint, Neighbours, Schedule
from grav_actors.discovery.beacon_frame import BeaconError, Kind, decode, encode
from grav_actors.discovery.beacon_port import GROUP_IPV6, BeaconPort
from grav_actors.discovery.beacon_settings import BeaconSettings, settings_from
from grav_actors.discovery.interfaces import Interface, list_interfaces
from grav_actors.errors import ConfigError

MOST_INTERFACES: Final = 64
"""Interfaces that are used; with more, those with the lowest numbers, or those that are named."""

_SCAN_EVERY: Final = 1.0
_BATCH: Final = 64
_Key = tuple[int, str, socket.AddressFamily, str]


@dataclass(frozen=True, slots=True)
class BeaconStatus:
    """What a beacon has seen so far.

    Attributes:
        interfaces: Names of those that it uses now.
        sent: Beacons sent, one for each interface and family.
        heard: Beacons of other nodes.
        echoes: Beacons of its own that came back: multicast works at all.
        endpoints: Endpoints that are remembered now.
        refused: Datagrams that were dropped, by reason (`beacon_frame.REASONS`).
        errors: Why sending failed last, by interface.
    """

    interfaces: tuple[str, ...]
    sent: int
    heard: int
    echoes: int
    endpoints: int
    refused: Mapping[str, int]
    errors: Mapping[str, str]


class Beacon:
    """A discovery that announces its node by UDP multicast, and hears those that do the same.

    Args:
        settings: Default: those of `BeaconSettings`. `DiscoveryOptions.custom`, a `BeaconSettings` or a
            mapping with its fields, changes them.
    """

    def __init__(self, settings: BeaconSettings | None = None) -> None:
        self._settings = settings if settings is not None else BeaconSettings()
        self._ports: dict[_Key, BeaconPort] = {}
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._neighbours: Neighbours | None = None
        self._counts: Counter[str] = Counter()
        self._errors: dict[str, str] = {}
        self._logged: set[str] = set()

    def start(self, options: DiscoveryOptions, discovered: DiscoveryFunc) -> None:
        """Begin to announce the node and to hear others; see `Discovery.start`.

        `transport_uri` may be an endpoint, as a transport returns it, or a part of one, such as `ws:///mesh`.
        A node that listens on one address is announced only where that address is; one without a port is
        not announced at all.

        Raises:
            ConfigError: The uuid is none, a setting is wrong, the port is taken by another program, or this
                was started before.
        """
        if self._thread is not None or self._is_stopping:
            raise ConfigError("this beacon was started before; make a new one")
        self._settings = settings_from(options.custom, self._settings)
        self._log = options.logger
        self._discovered = discovered
        self._announcement = Announcement.of(options)
        frame, secret = self._announcement.frame, self._settings.read_secret()
        self._secret = secret
        self._frames = {kind: encode(replace(frame, kind=kind), secret) for kind in Kind} if frame else {}
        now = time.monotonic()
        self._schedule = Schedule(now, random.random)
        neighbours = self._neighbours = Neighbours(self._announcement.uuid, now, random.random)
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        try:
            self._selector.register(self._wake, selectors.EVENT_READ)
            self._scan(is_first=True)
            if not self._ports:
                self._warn("no interface", "no network interface can carry beacons now; looking again each second")
            thread = threading.Thread(target=self._run, args=(neighbours,), name="grav-beacon", daemon=True)
            thread.start()
        except BaseException:
            self._close()
            raise
        self._thread = thread

    def stop(self) -> None:
        """Say goodbye and free everything; see `Discovery.stop`."""
        self._is_stopping = True
        thread = self._thread
        if thread is not None:
            with contextlib.suppress(OSError):
                self._waker.send(b"x")
            thread.join()

    def status(self) -> BeaconStatus:
        """Return what was seen so far; from any thread, also after `stop`."""
        counts = self._counts.copy()
        return BeaconStatus(
            interfaces=tuple(sorted({name for _, name, *_ in list(self._ports)})),
            sent=counts.pop("sent", 0),
            heard=counts.pop("heard", 0),
            echoes=counts.pop("echoes", 0),
            endpoints=len(self._neighbours) if self._neighbours is not None else 0,
            refused=dict(counts),  # as plain as it is told to others
            errors=dict(self._errors),
        )

    # The thread

    def _run(self, neighbours: Neighbours) -> None:
        scan_at = time.monotonic() + _SCAN_EVERY
        try:
            while not self._is_stopping:
                now = time.monotonic()
                if now >= scan_at:
                    self._scan()
                    scan_at = now + _SCAN_EVERY
                if self._schedule.advance(now):
                    self._send(Kind.HERE)
                wait = min(self._schedule.due, scan_at) - time.monotonic()
                for key, _ in self._selector.select(max(0.0, wait)):
                    if isinstance(key.fileobj, BeaconPort):
                        self._hear(key.fileobj, neighbours)
            self._send(Kind.BYE)
        except Exception:  # nothing above is meant to raise; a silent end of this thread would be worse
            self._log.exception("discovery by beacons has ended because of an error")
        finally:
            self._close()

    def _hear(self, port: BeaconPort, neighbours: Neighbours) -> None:
        """Take in what has come, in bounded batches: a flood must not keep this node from sending."""
        for _ in range(_BATCH):
            received = port.receive()
            if received is None or self._is_stopping:
                return
            raw, address = received
            try:
                frame = decode(raw, self._secret)
            except BeaconError as exc:
                self._counts[exc.reason] += 1
                self._warn(exc.reason, "dropped a beacon from %s: %s; more of its kind are only counted", address, exc)
                continue
            if frame.uuid == self._announcement.uuid:
                self._counts["echoes"] += 1
                continue
            self._counts["heard"] += 1
            now = time.monotonic()
            is_news, hint = neighbours.heard(frame, address, now)
            if is_news:
                self._schedule.answer(now)
            if hint is not None:
                self._tell(hint)

    def _tell(self, hint: Hint) -> None:
        try:
            self._discovered(*hint)
        except Exception as exc:  # the contract forbids it; the next hint may fare better
            self._warn("discovered", "a hint (%s) was not taken: %r", hint.endpoint, exc)

    def _send(self, kind: Kind) -> None:
        raw = self._frames.get(kind)
        if raw is None:
            return
        ports = [port for port in self._ports.values() if self._announcement.is_for(port.interface, port.family)]
        if not ports and self._ports:
            text = "the node listens on %s, the first address of no interface: beacons cannot announce it"
            self._warn("host", text, self._announcement.host)
        for port in ports:
            name = port.interface.name
            if error := port.send(raw):
                self._errors[name] = error
                self._warn(f"send {name}", "no beacon can be sent on %s: %s", name, error)
            else:
                self._counts["sent"] += 1
                self._errors.pop(name, None)

    # Interfaces, which come and go

    def _scan(self, *, is_first: bool = False) -> None:
        """Take up interfaces that are new or have changed, let go of those that are gone."""
        try:
            wanted = self._wanted()
        except OSError as exc:  # out of file descriptors, say: what is open goes on
            self._warn("list", "the network interfaces cannot be listed: %s", exc)
            return
        for key in [key for key in self._ports if key not in wanted]:
            port = self._ports.pop(key)
            self._selector.unregister(port)
            port.close()
            self._errors.pop(port.interface.name, None)
        opened = [self._open(key, each, is_first=is_first) for key, each in wanted.items() if key not in self._ports]
        if any(opened):
            self._schedule.hurry(time.monotonic())

    def _wanted(self) -> dict[_Key, Interface]:
        names = self._settings.interfaces
        usable = [each for each in list_interfaces() if not names or each.name in names]
        if len(usable) > MOST_INTERFACES:
            text = "%d network interfaces, only the first %d carry beacons; name those that should in `interfaces`"
            self._warn("interfaces", text, len(usable), MOST_INTERFACES)
            usable = usable[:MOST_INTERFACES]
        wanted = {(each.index, each.name, socket.AF_INET, each.ipv4): each for each in usable if each.ipv4}
        if self._settings.ipv6:
            wanted |= {(each.index, each.name, socket.AF_INET6, each.ipv6): each for each in usable if each.ipv6}
        return wanted

    def _open(self, key: _Key, interface: Interface, *, is_first: bool) -> bool:
        family, number = key[2], self._settings.port
        group = self._settings.group if family == socket.AF_INET else GROUP_IPV6
        try:
            port = BeaconPort(interface, family, group, number)
        except OSError as exc:
            if is_first and exc.errno == errno.EADDRINUSE:
                text = f"UDP port {number} is taken by another program that does not share it; set another `port`"
                raise ConfigError(text) from exc
            self._errors[interface.name] = exc.strerror or str(exc)
            self._warn(f"open {interface.name}", "no beacons on %s: %s", interface.name, exc)
            return False
        self._selector.register(port, selectors.EVENT_READ)
        self._ports[key] = port
        return True

    def _close(self) -> None:
        self._is_stopping = True
        for port in self._ports.values():
            port.close()
        self._ports.clear()
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def _warn(self, cause: str, text: str, *values: object) -> None:
        """Log, once for each cause."""
        if cause not in self._logged:
            self._logged.add(cause)
            self._log.warning(text, *values)
