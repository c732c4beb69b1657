"""How a node gets its mesh: checks what the user asked for, and puts hub, transport and discoveries together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grav_actors.discovery import load as load_discovery
from grav_actors.discovery.base import Discovery, DiscoveryOptions
from grav_actors.discovery.beacon import Beacon
from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.discovery.static import StaticPeers
from grav_actors.errors import ActorStartError, ConfigError
from grav_actors.mesh.handshake import Identity
from grav_actors.mesh.hub import Hub
from grav_actors.mesh.keys import KeyFolder, default_folder
from grav_actors.mesh.view import Peer
from grav_actors.options import show
from grav_actors.pod.link import Link
from grav_actors.pod.pod import Pod
from grav_actors.protocol import GATEWAY_NAME, RETAIN_MESSAGES, PodSettings
from grav_actors.registry import plugin_instance
from grav_actors.tables import MeshTable
from grav_actors.transports import load as load_transport
from grav_actors.transports.base import MeshTransport, TransportOptions

ErrorFor = Callable[[tuple[str, ...], object], ConfigError]
"""`error(keys, reason)`: make the error for what stands at these keys of a configuration file."""


@dataclass(frozen=True, slots=True)
class MeshPlan:
    """What a user has asked for.

    Attributes:
        port, uri: What the transport listens on; see `TransportOptions`.
        custom: What else the transport is told: `keys` (a folder or None) and `insecure`.
        error: Makes the error for a key of the file that asks for the mesh; None without a file.
    """

    transport: MeshTransport
    discoveries: tuple[Discovery, ...]
    port: int | None
    uri: str
    custom: dict[str, Any]
    error: ErrorFor | None = None

    def start(
        self,
        link: Link,
        uuid: str,
        node: Identity,
        logger: logging.Logger,
        report: Callable[[Peer, str], None] | None = None,
    ) -> Hub:
        """Return the hub of a node, which listens, and whose discoveries are started.

        Args:
            uuid: Of the node.
            node: Its other properties; incarnation and endpoints are filled in.
            report: Takes peers whose state has changed, and why; None: they are logged.

        Raises:
            ConfigError: Transport or discovery cannot work as asked.
        """
        settings = PodSettings(prefetch=RETAIN_MESSAGES)  # questions to peers are in its window until they are answered
        try:
            pod = Pod(link, GATEWAY_NAME, settings)._join()
        except ActorStartError as exc:
            raise ConfigError(str(exc)) from exc

        max_message = pod._core.max_message

        def identity(incarnation: bytes, endpoints: tuple[str, ...]) -> Identity:
            return replace(node, uuid=uuid, incarnation=incarnation, endpoints=endpoints, max_message=max_message)

        custom = {**self.custom, "max_message": max_message}
        options = TransportOptions(uuid, self.port, self.uri, logger, custom)
        with _located(self.error, "listen"):
            hub = Hub(pod, self.transport, options, identity, logger=logger, report=report)
        try:
            for discovery in self.discoveries:
                hub.add(discovery)
                with _located(self.error, "discovery"):
                    discovery.start(DiscoveryOptions(uuid, _port_of(hub.endpoint), hub.endpoint, logger), hub.hint)
        except BaseException:
            hub.stop()
            raise
        return hub


def describe_mesh(hub: Hub) -> dict[str, Any]:
    """Return how the mesh is, as the control question `nodes` answers it."""
    return {
        "listens": hub.endpoint,
        "peers": [asdict(peer) for peer in hub.peers()],
        "unreached": hub.unreached(),
        "discoveries": [_describe(discovery) for discovery in hub.discoveries()],
    }


def _describe(discovery: Discovery) -> dict[str, Any]:
    # Not part of the contract: a beacon has it, and others may.
    status = getattr(discovery, "status", None)
    return {"name": type(discovery).__name__, "status": asdict(status()) if status is not None else None}


def plan_table(table: MeshTable, error: ErrorFor) -> MeshPlan:
    """Check the table `[mesh]` of a configuration file as far as that goes without listening.

    Args:
        error: Makes the error for a key: where it stands, and what is wrong.

    Raises:
        ConfigError: As `error` makes it.
    """
    with _located(error, "transport"):
        transport = _transport(table.transport)
    settings = table.beacon if table.beacon is not None else BeaconSettings()
    with _located(error, "beacon", "secret_file"):
        settings.read_secret()
    discoveries: list[Discovery] = []
    for name in dict.fromkeys((*table.discovery, *(("static",) if table.peers else ()))):
        with _located(error, "discovery"):
            discoveries.append(_configured_discovery(name, settings, table.peers))
    folder = table.keys
    if folder is None and table.is_exposed and not table.insecure:
        folder = default_folder()
        if not KeyFolder(folder).pair_file.exists():
            raise error(("mesh", "listen"), _without_keys(table, folder))
    if folder is not None:
        with _located(error, "keys"):
            KeyFolder(folder).pair()
    with _located(error, "listen"):
        port, uri = _listen_on(table.listen)
    return MeshPlan(transport, tuple(discoveries), port, uri, {"keys": folder, "insecure": table.insecure}, error)


@contextmanager
def _located(error: ErrorFor | None, *keys: str) -> Generator[None]:
    """Give an error its place in the file, if there is one."""
    try:
        yield
    except ConfigError as exc:
        if error is None:
            raise
        raise error(("mesh", *keys), exc) from exc


def _configured_discovery(name: str, settings: BeaconSettings, peers: tuple[str, ...]) -> Discovery:
    made = load_discovery(name)
    if made is Beacon:
        return Beacon(settings)
    return StaticPeers(peers) if made is StaticPeers else _discovery(made())


def _without_keys(table: MeshTable, folder: Path) -> str:
    where = "the transport's default" if table.listen is None else table.listen
    return (
        f"other machines can reach {where}, and there are no keys in {folder}: make this node's with \"grav-actors"
        ' keys new" and accept those of the others with "grav-actors keys allow FILE"; or listen on'
        " tcp://127.0.0.1:7470, or say insecure = true"
    )


def plan_mesh(
    transport: Any, discovery: Any, endpoint: Any, keys: str | Path | None, insecure: bool
) -> MeshPlan | None:
    """Check what a user asks of the mesh; None for a node without one.

    Raises:
        ConfigError: A value is wrong, or goes only with a transport.
    """
    discoveries = tuple(_discovery(each) for each in _as_list(discovery))
    if transport is None:
        for option, value in (("discovery", discovery), ("endpoint", endpoint), ("keys", keys), ("insecure", insecure)):
            if value:
                raise ConfigError(f"{option} needs a transport; give transport=... too, or leave it out")
        return None
    port, uri = _listen_on(endpoint)
    return MeshPlan(_transport(transport), discoveries, port, uri, {"keys": keys, "insecure": insecure})


def _transport(transport: Any) -> MeshTransport:
    allowed = "the name of a transport for meshes, or an instance of one; see grav_actors.transports.base.MeshTransport"
    made: MeshTransport = plugin_instance("transport", transport, load_transport, MeshTransport, allowed)
    return made


def _as_list(discovery: Any) -> Iterable[Any]:
    if discovery is None:
        return ()
    return discovery if isinstance(discovery, (list, tuple)) else (discovery,)


def _discovery(discovery: Any) -> Discovery:
    allowed = "the name of a discovery, an instance of one, or a list of these"
    made: Discovery = plugin_instance("discovery", discovery, load_discovery, Discovery, allowed)
    return made


def _listen_on(endpoint: Any) -> tuple[int | None, str]:
    """Return port and uri of what the user has written: an address, or `(port, uri)` with "" for a default."""
    if endpoint is None:
        return None, ""
    if isinstance(endpoint, str):
        head, colon, port = endpoint.rpartition(":")
        return (int(port), head) if colon and port.isascii() and port.isdigit() else (None, endpoint)
    if isinstance(endpoint, tuple) and len(endpoint) == 2 and all(isinstance(each, (str, int)) for each in endpoint):
        port, uri = str(endpoint[0]), str(endpoint[1])
        if not port or (port.isascii() and port.isdigit()):
            return int(port) if port else None, uri
    raise ConfigError(f'endpoint is {show(endpoint)}: allowed are "tcp://host:port" and (port, uri), "" for a default')


def _port_of(endpoint: str) -> int | None:
    _, colon, port = endpoint.rpartition(":")
    if not colon or not port.isdigit():
        return None
    number = int(port)
    return number if 1 <= number <= 65535 else None
