"""The processes of one supervisor, and who listens to each of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from grav_actors.actor.streams import LINE
from grav_actors.errors import ActorStartError
from grav_actors.supervisor.context import OnLine
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.process import ProcessHost


class Listener(Protocol):
    """Is told what becomes of a process, under the supervisor's lock."""

    def reported(self, report: dict[str, Any]) -> None:
        """The process has reported something."""
        ...

    def wrote(self, name: str, line: str) -> None:
        """An actor in the process has written a line to standard error. Not under the lock, but one at a time."""
        ...

    def exited(self) -> None:
        """The process has ended, and all that it has said was told."""
        ...


class Processes:
    """Starts processes, and tells their listeners of them; any thread may use it.

    The fork server behind them starts with the first.

    Args:
        lock: The supervisor's, under which listeners are called.
        on_line: Takes what processes write; None leaves it to the terminal.
    """

    def __init__(self, lock: threading.RLock, on_line: OnLine | None) -> None:
        self._lock = lock
        self._on_line = on_line
        self._host: ProcessHost | None = None
        self._listeners: dict[ChildProcess, Listener] = {}
        self._early: dict[ChildProcess, list[Callable[[Listener], None]]] = {}
        self._is_closing = False

    def start(
        self,
        name: str,
        entry: str,
        payload: bytes,
        *,
        slate_size: int,
        kept_size: int = 0,
        takes_orders: bool = False,
    ) -> ChildProcess:
        """Start a process; see `ProcessHost.spawn`. It is to be listened to from now on, by `listen`.

        Raises:
            ActorStartError: It cannot be started, or the supervisor has ended.
        """
        return self._ready_host().spawn(
            name,
            entry,
            payload,
            capture=self._on_line is not None,
            slate_size=slate_size,
            kept_size=kept_size,
            takes_orders=takes_orders,
        )

    def listen(self, process: ChildProcess, listener: Listener) -> None:
        """Tell of a process, beginning with what it has said since it was made."""
        with self._lock:
            self._listeners[process] = listener
            for event in self._early.pop(process, ()):
                event(listener)

    def prepare(self) -> None:
        """Start what processes are forked from, so that the first one starts as fast as the others."""
        self._ready_host().prepare()

    def close(self) -> None:
        """Start nothing more."""
        with self._lock:
            self._is_closing = True

    def stop(self, timeout: float) -> None:
        """End all processes, in so many seconds or by force."""
        if self._host is not None:
            self._host.stop(timeout)

    def _ready_host(self) -> ProcessHost:
        with self._lock:
            if self._host is None:
                if self._is_closing:
                    raise ActorStartError("this node is stopping; no actor can be started")
                self._host = ProcessHost(self._on_exit, self._on_output, self._on_report)
            return self._host

    def _hear(self, process: ChildProcess, event: Callable[[Listener], None]) -> None:
        with self._lock:
            listener = self._listeners.get(process)
            if listener is None:
                self._early.setdefault(process, []).append(event)
            else:
                event(listener)

    def _on_report(self, process: ChildProcess, report: dict[str, Any]) -> None:
        if report.get("event") == LINE:
            # Not under the lock: who takes the line may wait.
            name, stream, line = (str(report.get(key, "")) for key in ("name", "stream", "line"))
            listener = self._listeners.get(process)
            if stream == "stderr" and listener is not None:
                listener.wrote(name, line)
            if self._on_line is not None:
                self._on_line(name, stream, line)
            return
        self._hear(process, lambda listener: listener.reported(report))

    def _on_exit(self, process: ChildProcess) -> None:
        def tell(listener: Listener) -> None:
            del self._listeners[process]
            listener.exited()

        self._hear(process, tell)

    def _on_output(self, process: ChildProcess, stream: str, line: str) -> None:
        if self._on_line is not None:
            self._on_line(process.name, stream, line)
