"""The tables of a configuration file, as values; each checks itself.

`[bus]` has its class, `BusOptions`, in `grav_actors.options`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from grav_actors.errors import ConfigError
from grav_actors.options import (
    OptionError,
    RestartLimits,
    check_choice,
    check_flag,
    check_int,
    check_name,
    check_seconds,
    check_significant,
    check_text,
    is_name,
    show,
)
from grav_actors.target import split_target

if TYPE_CHECKING:
    from grav_actors.discovery.beacon_settings import BeaconSettings

Kind = Literal["process", "thread"]
RestartRule = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
STRATEGIES: Final[tuple[str, ...]] = get_args(Strategy)

_ENDPOINT = re.compile(r"([a-z][a-z0-9+-]*)://(\S+)")
_HOST_PORT = re.compile(r"(?:[^\s:\[\]/]+|\[[0-9A-Fa-f:.%a-z]+\]):([0-9]{1,5})")
_HIGHEST_PORT: Final = 65535
_LOCAL_BY_DEFAULT: Final = ("loopback", "zmq")
"""Transports that this machine alone can reach when nothing is said of where to listen."""
_MOST_INSTANCES: Final = 10_000


@dataclass(frozen=True, slots=True)
class NodeTable:
    """`[node]`: what the node is called and what it offers."""

    name: str | None = None
    belongs_to: str = "*"
    interests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse wrong values."""
        if self.name is not None:
            check_name("name", self.name)
        check_text("belongs_to", self.belongs_to)
        _check_texts("interests", self.interests)


@dataclass(frozen=True, slots=True)
class SupervisorTable:
    """`[supervisor]`: the root supervisor."""

    strategy: Strategy = "one_for_one"
    limits: RestartLimits = field(default_factory=RestartLimits)

    def __post_init__(self) -> None:
        """Refuse wrong values."""
        check_choice("strategy", self.strategy, STRATEGIES)
        check_int("max_restarts", self.limits.max_restarts, 1)


@dataclass(frozen=True, slots=True)
class ActorTable:
    """`[actors.NAME]`: a child of the root supervisor.

    Attributes:
        name: The table's own name.
        target: `module:Class`, the key `class` of the file; not imported yet.
        args: Keyword arguments for the class.
    """

    name: str
    target: str
    kind: Kind = "process"
    instances: int = 1
    group: str | None = None
    restart: RestartRule = "permanent"
    significant: bool = False
    args: Mapping[str, Any] = field(default_factory=dict)
    start_timeout: float = 30.0
    shutdown: float = 5.0
    handler_timeout: float | None = None

    def __post_init__(self) -> None:
        """Refuse wrong values."""
        check_name("name", self.name)
        try:
            split_target(self.target)
        except ConfigError as exc:
            raise OptionError(f"class: {exc}", "class") from exc
        check_choice("kind", self.kind, get_args(Kind))
        check_int("instances", self.instances, 1, _MOST_INSTANCES)
        longest = self.name if self.instances == 1 else f"{self.name}-{self.instances}"
        if not is_name(longest):
            raise OptionError(f"instances make too long a name, {show(longest)}", "instances")
        if self.group is not None:
            check_name("group", self.group)
        check_choice("restart", self.restart, get_args(RestartRule))
        check_flag("significant", self.significant)
        check_significant(self.significant, self.restart)
        _check_arguments("args", self.args)
        check_seconds("start_timeout", self.start_timeout)
        check_seconds("shutdown", self.shutdown, zero=True)
        check_seconds("handler_timeout", self.handler_timeout, optional=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its instances: its own, or `NAME-1`, `NAME-2` when there are several."""
        if self.instances == 1:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.instances + 1))


@dataclass(frozen=True, slots=True)
class MeshTable:
    """`[mesh]`: how other nodes are found and reached. Whether its transport exists is not looked at here.

    Attributes:
        listen: Endpoint to listen on; None: the transport's default.
        discovery: Names; with `peers`, `static` need not be among them.
        peers: Endpoints that are dialled besides.
        keys: Folder with the node's key pair, relative to the file; None: where the keys commands put it.
        insecure: Do without keys, also beyond this machine.
        beacon: `[mesh.beacon]`, for the discovery of that name; None: its defaults.
    """

    transport: str = "zmq"
    listen: str | None = None
    discovery: tuple[str, ...] = ("beacon",)
    peers: tuple[str, ...] = ()
    keys: Path | None = None
    insecure: bool = False
    beacon: "BeaconSettings | None" = None

    def __post_init__(self) -> None:
        """Refuse wrong values."""
        check_name("transport", self.transport)
        if self.listen is not None:
            check_endpoint("listen", self.listen, lowest_port=0)
        _check_texts("discovery", self.discovery)
        for name in self.discovery:
            check_name("discovery", name)
        _check_unique("discovery", self.discovery)
        _check_texts("peers", self.peers)
        for peer in self.peers:
            check_endpoint("peers", peer, lowest_port=1)
        _check_unique("peers", self.peers)
        check_flag("insecure", self.insecure)
        if self.insecure and self.keys is not None:
            raise OptionError(
                "insecure is true, which means without keys, and keys names some; take one out", "insecure"
            )
        if "static" in self.discovery and not self.peers:
            raise OptionError('discovery names "static", which dials peers, and there are none; add peers', "discovery")
        if self.beacon is not None and "beacon" not in self.discovery:
            raise OptionError('beacon has settings, but discovery does not name "beacon"; add it there', "beacon")

    @property
    def is_exposed(self) -> bool:
        """Whether other machines may reach the listener; so it is taken to be unless it says that they cannot."""
        if self.listen is None or self.transport == "loopback":
            return self.transport not in _LOCAL_BY_DEFAULT
        return not is_local(self.listen)


def _check_texts(option: str, value: object) -> None:
    if not isinstance(value, tuple):
        raise OptionError(f"{option} must be a list of texts, not {show(value)}", option)
    for item in value:
        if not isinstance(item, str) or not item.strip() or not item.isprintable():
            raise OptionError(f"{option} must be a list of printable texts; {show(item)} is none", option)


def _check_arguments(option: str, value: object) -> None:
    if not isinstance(value, Mapping):
        form = 'a table of keyword arguments, like { site = "roof" }'
        raise OptionError(f"{option} must be {form}, not {show(value)}", option)
    for key in value:
        if not isinstance(key, str) or not key.isidentifier():
            raise OptionError(f"{option} has a key that can name no argument: {show(key)}", option)


def _check_unique(option: str, values: tuple[str, ...]) -> None:
    for at, value in enumerate(values):
        if value in values[:at]:
            raise OptionError(f"{option} names {show(value)} twice; take one out", option)


def is_local(endpoint: str) -> bool:
    """Tell whether an endpoint to listen on can be reached from its own machine alone."""
    scheme, _, address = endpoint.partition("://")
    if scheme in ("ipc", "inproc"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, a wildcard, an interface, or a transport's own form
        return False


def check_endpoint(option: str, value: object, *, lowest_port: int) -> None:
    """Refuse all but an endpoint; one of TCP needs a host and a port of `lowest_port` to 65535."""
    match = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise OptionError(f'{option} must be an endpoint like "tcp://host:7470", not {show(value)}', option)
    scheme, address = match.groups()
    if scheme != "tcp":
        return  # a transport of its own may have addresses of its own
    port = _HOST_PORT.fullmatch(address)
    if port is None or not lowest_port <= int(port[1]) <= _HIGHEST_PORT:
        form = f"tcp://host:port with a port of {lowest_port} to {_HIGHEST_PORT}"
        raise OptionError(f"{option} must be {form}, not {show(value)}", option)
