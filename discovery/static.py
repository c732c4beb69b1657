"""Discovery by a list: the endpoints that the user has written down, dialled again and again."""

import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from grav_actors.discovery.base import DiscoveryFunc, DiscoveryOptions
from grav_actors.errors import ConfigError
from grav_actors.options import OptionError, check_seconds, did_you_mean, show
from grav_actors.tables import check_endpoint

JITTER: Final = 0.2
FACTOR: Final = 2.0


@dataclass(frozen=True, slots=True)
class StaticSettings:
    """Which endpoints, and how often they are dialled.

    Attributes:
        peers: Endpoints, as `tcp://host:port`; a name is looked up at each dial.
        first: Seconds between the first two dials.
        longest: Seconds between two dials later on; each wait is twice the one before until then, more or
            less a fifth of it.

    Raises:
        ConfigError: A value is wrong.
    """

    peers: tuple[str, ...] = ()
    first: float = 0.5
    longest: float = 5.0

    def __post_init__(self) -> None:
        """Refuse wrong values, drop repetitions."""
        peers: Any = self.peers
        if isinstance(peers, str) or not isinstance(peers, Iterable):
            raise OptionError(f"peers must be a list of endpoints, not {show(peers)}", "peers")
        object.__setattr__(self, "peers", tuple(dict.fromkeys(peers)))
        for peer in self.peers:
            check_endpoint("peers", peer, lowest_port=1)
        check_seconds("first", self.first)
        check_seconds("longest", self.longest)
        if self.longest < self.first:
            raise OptionError(f"longest must be at least first ({self.first:g} s), not {self.longest:g} s", "longest")

    def wait(self, dials: int, chance: float) -> float:
        """Return the seconds to wait after so many dials; `chance` from 0 to 1 is the jitter."""
        wait = self.longest
        if dials < 64:  # beyond, the power would leave the floats
            wait = min(self.longest, self.first * FACTOR ** (dials - 1))
        return wait * (1 + JITTER * (2 * chance - 1))


class StaticPeers:
    """A discovery that reports the endpoints of a list, again and again: the hub dials those it has no link to.

    It announces nothing: its node must stand in the lists of the others, or be found another way.

    Args:
        peers: Endpoints. `DiscoveryOptions.custom` goes before: a list of endpoints, a `StaticSettings`, or a
            mapping with its fields.
    """

    def __init__(self, peers: Iterable[str] = ()) -> None:
        given: Any = peers if isinstance(peers, str) else tuple(peers)  # a text is refused as it is
        self._settings = StaticSettings(given)
        self._thread: threading.Thread | None = None
        self._is_stopped = threading.Event()

    def start(self, options: DiscoveryOptions, discovered: DiscoveryFunc) -> None:
        """Report every endpoint, then again and again; see `Discovery.start`.

        Raises:
            ConfigError: An endpoint or a setting is wrong, or this was started before.
        """
        if self._thread is not None or self._is_stopped.is_set():
            raise ConfigError("this list of peers was started before; make a new one")
        self._settings = _settings_from(options.custom, self._settings)
        self._discovered = discovered
        self._log = options.logger
        thread = threading.Thread(target=self._run, name="grav-static", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """End; see `Discovery.stop`."""
        self._is_stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        dials = 0
        while True:
            for peer in self._settings.peers:
                if self._is_stopped.is_set():
                    return
                try:
                    self._discovered(peer, "")
                except Exception as exc:  # the contract forbids it; the next one may fare better
                    self._log.warning("a peer (%s) was not taken: %r", peer, exc)
            dials += 1
            if self._is_stopped.wait(self._settings.wait(dials, random.random())):
                return


def _settings_from(custom: object, default: StaticSettings) -> StaticSettings:
    if custom is None:
        return default
    if isinstance(custom, StaticSettings):
        return custom
    if not isinstance(custom, Mapping):
        if isinstance(custom, str) or not isinstance(custom, Iterable):
            raise ConfigError(f"static peers must be a list of endpoints, not {show(custom)}")
        return StaticSettings(tuple(custom))
    allowed = [each.name for each in fields(StaticSettings)]
    for key in custom:
        if key not in allowed:
            raise ConfigError(f"static peers have no setting {show(key)}{did_you_mean(key, allowed)}")
    values: dict[str, Any] = {"peers": default.peers, **custom}
    return StaticSettings(**values)
