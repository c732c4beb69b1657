"""How commands reach a bus that runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from grav_actors.errors import BusBusyError, BusNotFoundError
from grav_actors.node import Grav
from grav_actors.pod.pod import Pod
from grav_actors.project import NODE_LOCK

PROBE_TIMEOUT = 5.0
"""Seconds that a host named with `--bus` may take to accept a connection."""


@contextmanager
def joined(address: str | None) -> Generator[Grav]:
    """Join the bus at an address, or that of this directory; leave it again without waiting for receivers.

    Raises:
        BusNotFoundError: None runs there.
    """
    node = join(address)
    try:
        yield node
    finally:
        node.stop(timeout=0.0)


def join(address: str | None) -> Grav:
    """Join the bus at an address, or that of this directory; see `joined`."""
    if address is not None:
        check_listening(address)
    try:
        return Grav(bus=address if address is not None else "auto")
    except BusBusyError as exc:
        raise BusNotFoundError(str(exc)) from exc


def check_listening(address: str) -> None:
    """Find out at once when nobody listens at an address: the bus's own socket would try for long.

    Raises:
        BusNotFoundError: Nobody does.
    """
    try:
        if address.startswith("ipc://"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(address.removeprefix("ipc://"))
        elif address.startswith("tcp://"):
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            if host and port.isdigit():
                socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT).close()
    except (OSError, OverflowError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise BusNotFoundError(
            f"no bus listens at {address}: {reason}; `grav-actors bus` or `grav-actors up` starts one"
        ) from exc


def lock_of(address: str) -> Path | None:
    """Return the lock file of the node whose bus this is; None for a bus that is reached by TCP."""
    if not address.startswith("ipc://"):
        return None
    return Path(address.removeprefix("ipc://")).parent / NODE_LOCK


def when_ended(pod: Pod, notify: Callable[[Exception], None]) -> None:
    """Have `notify` called, on another thread, when the bus ends a pod: it was stopped, say."""
    pod._on_end = notify  # what actors do too; users have the waits that raise
