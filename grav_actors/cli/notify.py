"""What systemd is told of a node that it has started: ready, alive, reloading, stopping. See sd_notify(3)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

PARTS = 3
"""Of the time that systemd waits for a sign of life, the node is asked after each of so many parts."""


class Notifier:
    """Writes to the socket that systemd has named; what cannot be sent is left out.

    Args:
        address: Path of the socket; with `@` in front, a name that stands in no file system.
        patience: Seconds without a sign of life after which systemd ends the node; None waits for none.
    """

    def __init__(self, address: str, patience: float | None = None) -> None:
        self.patience = patience
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier | None:
        """Return the one that the environment asks for, None if it does not; its variables are removed.

        So actors' processes are not taken for the node.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        patience, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        is_watched = patience.isdigit() and int(patience) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(patience) / 1e6 if is_watched else None)

    def ready(self, status: str) -> None:
        """Say that all has started."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` says that it has been."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def watch(self, is_alive: Callable[[float], bool]) -> None:
        """Give signs of life from now on, if systemd waits for them, whenever `is_alive` is true.

        Args:
            is_alive: Finds out within the seconds that it is given.
        """
        if self.patience is None or self._thread is not None:
            return
        self._thread = threading.Thread(
            target=self._watch, args=(is_alive, self.patience / PARTS), name="grav-watchdog", daemon=True
        )
        self._thread.start()

    def _watch(self, is_alive: Callable[[float], bool], interval: float) -> None:
        while True:
            began = time.monotonic()
            if is_alive(interval):
                self._send("WATCHDOG=1")
            if self._over.wait(max(0.0, began + interval - time.monotonic())):
                return

    def close(self) -> None:
        """Give no more signs of life."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _send(self, text: str) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            client.setblocking(False)  # a full socket must not hold up the node
            client.sendto(text.encode(), self._address)
