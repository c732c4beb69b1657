"""Looks at the keys of a node and at the secret of its beacons."""

from __future__ import annotations

import contextlib
from pathlib import Path

from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.doctor.trust import Keys
from grav_actors.errors import ConfigError
from grav_actors.mesh.keys import KeyFolder


def look_at_keys(path: Path) -> Keys:
    """Return how a folder of keys is; reads everything a node reads, and changes nothing."""
    folder = KeyFolder(path)
    refused, problem = folder.problems(), ""
    name = public_key = ""
    allowed: tuple[str, ...] = ()
    with contextlib.suppress(ConfigError):  # which `problems` tells
        # As a node does: a file that is wrong keeps none of the others out.
        allowed = tuple(folder._readable())
    if folder.pair_file.exists():
        try:
            pair = folder.pair()
        except ConfigError as exc:
            problem = str(exc)
        else:
            name, public_key = pair.name, pair.public_key
    return Keys(str(path), name, public_key, problem, allowed, tuple(refused))


def read_secret(settings: BeaconSettings) -> tuple[bytes, str]:
    """Return the secret of beacons, and why it cannot be read; empty what does not apply."""
    try:
        return settings.read_secret(), ""
    except ConfigError as exc:
        return b"", str(exc)
