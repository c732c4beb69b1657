"""Start child processes and watch them.

A `ProcessHost` has one fork server (forkserver.py) and one thread (watcher.py), which reads whatever the
children say. Both begin with the first spawn. Nothing that a child sends is executed or un-pickled.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from grav_actors.errors import ActorStartError, ReentrantWaitError, WrongProcessError
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.server import Order, importable_path
from grav_actors.supervisor.watch import DRAIN_LIMIT, Callbacks, Stream
from grav_actors.supervisor.watcher import KILL_LIMIT, Watcher

__all__ = ["DEFAULT_PRELOAD", "START_LIMIT", "ChildProcess", "ProcessHost", "Stream"]

DEFAULT_PRELOAD = ("zmq", "msgpack", "grav_actors.actor.process")

START_LIMIT = 30.0
"""Seconds that a fork server may take to answer a spawn, its own start included."""

_log = logging.getLogger(__name__)


class ProcessHost:
    """Starts child processes and tells what they say and how they end. All methods are thread-safe.

    A child is forked from a small server process that has `preload` imported, so this process may have
    threads and ZeroMQ contexts. It has a process group of its own: Ctrl-C at the terminal does not reach it.
    It is killed when this process ends, however that happens. What a child has started in its process group
    and left behind is killed at its end.

    The callbacks run in one thread, one at a time, and hold up the output of all children while they run. For
    one child they come in order, those for its lines and reports before the one `on_exit`; the first may come
    before `spawn` has returned. They may spawn and signal, but wait for nothing. Their exceptions are logged.

    Args:
        on_exit: Called once for each child, after it has ended and everything it said was delivered. A pipe
            that another process holds open is given up 0.5 s after the child's end.
        on_output: Called for each line of a captured stream, without its end: at most 64 KiB, then a note of
            what was cut. A child that writes faster than this takes is held up; nothing piles up here.
        on_report: Called for each report of a child's entry.
        preload: Modules that the server imports before it forks; they must not start threads. One that cannot
            be imported is logged and left to the child.
    """

    def __init__(
        self,
        on_exit: Callable[[ChildProcess], object],
        on_output: Callable[[ChildProcess, Stream, str], object],
        on_report: Callable[[ChildProcess, dict[str, Any]], object],
        *,
        preload: Sequence[str] = DEFAULT_PRELOAD,
    ) -> None:
        self._callbacks = Callbacks(on_exit, on_output, on_report)
        self._preload = ",".join(preload)
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._stopping = False

    def prepare(self) -> None:
        """Start the server now, without waiting for it, so that the first spawn finds it ready.

        Raises:
            ActorStartError: The host is stopped.
            WrongProcessError: After a fork.
        """
        self._ready_watcher().prepare()

    def spawn(
        self,
        name: str,
        entry: str,
        payload: bytes,
        *,
        capture: bool,
        slate_size: int = 0,
        kept_size: int = 0,
        takes_orders: bool = False,
    ) -> ChildProcess:
        """Start a child process; back when it exists, usually in a millisecond or two.

        The child gets this process's working directory, environment and `sys.path` of this moment. It never
        imports this process's `__main__`.

        Args:
            name: For error messages, `ps` and `top`.
            entry: `module:function`, called as child.py says.
            payload: Opaque bytes for the entry, of any size.
            capture: Whether standard output comes line by line to `on_output`; otherwise the child writes to
                this process's own. Standard error comes to `on_output` always, and is written to this
                process's own too if `capture` is false.
            slate_size: Bytes of memory that the child can write, and that are in its handle when it has ended.
            kept_size: Bytes of further memory, behind that; its handle reads parts of it until `on_exit` has returned.
            takes_orders: Whether it can be given orders by its handle.

        Raises:
            ActorStartError: The host is stopped, the system has no room for another process, or the server
                does not start or has not answered for 30 s. An entry that cannot be imported is no such case:
                that is an exit of the child, with the traceback on its standard error.
            WrongProcessError: After a fork.
        """
        request: dict[str, object] = {
            "name": name,
            "entry": entry,
            "path": importable_path(),
            "cwd": _working_directory(),
            "environment": dict(os.environ),
        }
        watcher = self._ready_watcher()
        order = Order(name, request, payload, capture, slate_size, kept_size, takes_orders)
        watcher.place(order, START_LIMIT)
        if order.lost:
            # It was killed just now, and that was not noticed yet; a new one will do.
            order = Order(name, request, payload, capture, slate_size, kept_size, takes_orders)
            watcher.place(order, START_LIMIT)
        if order.child is None:
            raise ActorStartError(f"{name}: no process: {order.error}")
        return order.child

    def stop(self, timeout: float = 5.0) -> None:
        """End all children and the server; back when nothing is left of them. Idempotent.

        Children get SIGTERM, after `timeout` seconds SIGKILL; 0 kills them at once. Their last output,
        reports and exits are delivered first. What cannot be ended within some seconds more is logged.

        Raises:
            ReentrantWaitError: In a callback, which would wait for itself.
            ValueError: The timeout is negative.
            WrongProcessError: After a fork.
        """
        if timeout < 0:
            raise ValueError(f"timeout is {timeout}; it must not be negative")
        self._check_process()
        with self._lock:
            self._stopping = True
            watcher = self._watcher
        if watcher is None:
            return
        if watcher.is_current_thread():
            raise ReentrantWaitError("stop() in a callback of the process host waits for itself")
        deadline = time.monotonic() + timeout
        if timeout > 0:
            for child in watcher.children():
                with suppress(OSError):
                    child.terminate()
            for child in watcher.children():
                child.wait(max(0.0, deadline - time.monotonic()))
        if not watcher.close(2 * KILL_LIMIT + 2 * DRAIN_LIMIT):
            _log.error("the watcher of child processes has not ended: a callback holds it up")

    def _ready_watcher(self) -> Watcher:
        self._check_process()
        with self._lock:
            if self._stopping:
                raise ActorStartError("the process host is stopped")
            if self._watcher is None:
                self._watcher = Watcher(self._callbacks, self._preload)
            return self._watcher

    def _check_process(self) -> None:
        if os.getpid() != self._owner:
            raise WrongProcessError(
                f"this process host belongs to process {self._owner}; process {os.getpid()} was forked "
                "from it and needs one of its own"
            )


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - the child takes text
    except OSError:  # it was removed
        return None
