"""How beacons are sent and heard, as the user may set it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, Final

from grav_actors.discovery.beacon_frame import SHORTEST_SECRET
from grav_actors.discovery.beacon_port import GROUP
from grav_actors.errors import ConfigError
from grav_actors.options import OptionError, check_flag, check_int, check_text, did_you_mean, show
from grav_actors.private_file import read_file

PORT: Final = 7471
"""UDP port of the beacons."""


@dataclass(frozen=True, slots=True)
class BeaconSettings:
    """How beacons are sent, and which are heard; the same on all nodes that are to find each other.

    Attributes:
        port: UDP port, 1 to 65535.
        group: IPv4 multicast group.
        interfaces: Names of those to use; empty: every one.
        ipv6: Whether to send by IPv6 too; what comes by it is used for nodes that IPv4 does not bring.
        secret: Signs beacons; those without its signature are not heard. At least 16 bytes; empty for none.
        secret_file: A file that holds the secret, readable by its user alone; white space around it does not
            count. Read when the beacon starts.

    Raises:
        ConfigError: A value is wrong.
    """

    port: int = PORT
    group: str = GROUP
    interfaces: tuple[str, ...] = ()
    ipv6: bool = True
    secret: bytes = field(default=b"", repr=False)
    secret_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse wrong values, bring the others into their form."""
        check_int("port", self.port, 1, 65535)
        check_flag("ipv6", self.ipv6)
        try:
            is_group = IPv4Address(self.group).is_multicast
        except (AddressValueError, TypeError):
            is_group = False
        if not is_group:
            raise OptionError(f'group must be an IPv4 multicast group like "{GROUP}", not {show(self.group)}', "group")
        names: Any = self.interfaces
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise OptionError(f'interfaces must be a list of names like ["eth0"], not {show(names)}', "interfaces")
        object.__setattr__(self, "interfaces", tuple(names))
        for name in self.interfaces:
            check_text("interfaces", name)
        given: Any = self.secret
        secret: Any = given.encode() if isinstance(given, str) else given
        if not isinstance(secret, bytes) or 0 < len(secret) < SHORTEST_SECRET:
            # Its value is not shown: errors end in logs.
            raise OptionError(f"secret must be at least {SHORTEST_SECRET} bytes; leave it out for none", "secret")
        object.__setattr__(self, "secret", secret)
        if self.secret_file is not None:
            if not isinstance(self.secret_file, str | Path) or not str(self.secret_file):
                raise OptionError(f"secret_file must be a path, not {show(self.secret_file)}", "secret_file")
            if secret:
                raise OptionError("secret_file and secret are both given; leave one out", "secret_file")
            object.__setattr__(self, "secret_file", Path(self.secret_file))

    def read_secret(self) -> bytes:
        """Return the secret, wherever it is; empty for none.

        Raises:
            ConfigError: The file cannot be read, others can read it too, or it holds too little.
        """
        if self.secret_file is None:
            return self.secret
        secret = read_file(self.secret_file, is_secret=True).strip().encode()
        if len(secret) < SHORTEST_SECRET:
            raise ConfigError(f"{self.secret_file} holds no secret of at least {SHORTEST_SECRET} bytes")
        return secret


def settings_from(custom: object, default: BeaconSettings) -> BeaconSettings:
    """Return the settings that a node's configuration asks for.

    Args:
        custom: None, a `BeaconSettings`, or a mapping with some of its fields.
        default: What a mapping changes.

    Raises:
        ConfigError: It is none of these, or a value is wrong.
    """
    if custom is None:
        return default
    if isinstance(custom, BeaconSettings):
        return custom
    if not isinstance(custom, Mapping):
        raise ConfigError(f"the settings of a beacon must be a BeaconSettings or a mapping, not {show(custom)}")
    allowed = [each.name for each in fields(BeaconSettings)]
    for key in custom:
        if key not in allowed:
            raise ConfigError(f"a beacon has no setting {show(key)}{did_you_mean(key, allowed)}; it has {allowed}")
    values: dict[str, Any] = dict(custom)
    return replace(default, **values)
