"""A node in the foreground: it runs until a signal, until it is told to end, or until it gives up."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, Protocol, TypeVar

from grav_actors.cli.failure import FAILED, Failure

INTERRUPTED = 130
LOOK_INTERVAL = 0.2
"""Seconds between looks at whether an actor is left, where that is asked for."""


class Node(Protocol):
    """What is needed of a node, which is a `Grav`."""

    def stop(self) -> None:
        """End it well."""
        ...

    def _actors(self) -> list[dict[str, Any]]:
        """Return a row for each actor."""
        ...

    def _kill_bus(self) -> None:
        """Kill its bus, if it has one of its own."""
        ...


N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal came."""

    number: int


@dataclass(frozen=True, slots=True)
class Told:
    """The node is to end: `reason` is why it gave up, or "" when somebody asked for it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Made:
    """The node runs, without actors yet."""

    node: Node


@dataclass(frozen=True, slots=True)
class Started:
    """All actors have started."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The node or one of its actors did not start."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Stopped:
    """The node has ended."""

    error: BaseException | None


Event = Signalled | Told | Made | Started | Failed | Stopped


class Foreground:
    """Waits on the main thread for what happens, while others start and stop the node.

    The first SIGINT or SIGTERM ends the node well; the second ends it at once. Signal handlers only note the
    signal.

    Args:
        say: Writes a line for the user.
        clean_up: Removes the files that a node leaves which is ended at once.
        until_idle: Whether it ends when no actor is left.
        on_stopping: Called once when the end begins.
        on_hangup: Called on a thread of its own for each SIGHUP once all actors have started; None leaves that
            signal alone. A terminal that is gone sends the same signal: then it ends the node.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        clean_up: Callable[[], object] = lambda: None,
        *,
        until_idle: bool = False,
        on_stopping: Callable[[], object] = lambda: None,
        on_hangup: Callable[[], object] | None = None,
    ) -> None:
        self._on_stopping = on_stopping
        self._on_hangup = on_hangup
        self._had_terminal = _has_terminal()
        self._say = say
        self._clean_up = clean_up
        self._until_idle = until_idle
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._node: Node | None = None
        self._cause: Signalled | Told | Failed | None = None
        self._has_started = False
        self._is_stopping = False
        self._signals = 0

    def end(self, reason: str) -> None:
        """Have the node ended: it gave up for a reason, or somebody asked for it (""). From any thread."""
        self._events.put(Told(reason))

    def run(self, make: Callable[[], N], fill: Callable[[N], None]) -> int:
        """Make a node, start its actors, and return the exit code when it has ended.

        Raises:
            Failure: It gave up.
            GravError: It did not start; what had started is stopped.
        """
        with self._caught_signals():
            starter = threading.Thread(target=self._start, args=(make, fill), name="grav-start", daemon=True)
            starter.start()
            while not self._take(self._next()):
                continue
        return self._result()

    def _next(self) -> Event:
        while True:
            try:
                return self._events.get(timeout=LOOK_INTERVAL if self._until_idle else None)
            except Empty:
                if self._has_started and self._node is not None and not self._node._actors():
                    return Told("")

    def _take(self, event: Event) -> bool:
        """Act on an event; return whether that was the last."""
        match event:
            case Signalled(signal.SIGHUP) if not self._had_terminal or _has_terminal():
                self._hang_up()
                return False
            case Signalled():
                self._signals += 1
                if self._signals > 1:
                    self._end_at_once()
                name = signal.Signals(event.number).name
                self._say(f"{name}: stopping; once more ends it at once")
                return self._stop(event)
            case Told():
                return self._stop(event)
            case Made():
                self._node = event.node
                return self._cause is not None and self._stop(self._cause)
            case Started():
                self._has_started = True
                return False
            case Failed():
                # While it stops, what is being started must fail.
                return self._stop(event)
            case Stopped():
                if event.error is not None:
                    raise event.error
                return True

    def _hang_up(self) -> None:
        if self._is_stopping or self._on_hangup is None:
            return
        if not self._has_started:
            self._say("SIGHUP: the actors are still being started; nothing is reloaded")
            return
        threading.Thread(target=self._on_hangup, name="grav-reload", daemon=True).start()

    def _start(self, make: Callable[[], N], fill: Callable[[N], None]) -> None:
        try:
            node = make()
            self._events.put(Made(node))
            fill(node)
        except BaseException as exc:  # raised on the main thread
            self._events.put(Failed(exc))
        else:
            self._events.put(Started())

    def _stop(self, cause: Signalled | Told | Failed) -> bool:
        """Begin to stop, if there is what to stop; return whether there is nothing to wait for."""
        if self._cause is None:
            self._cause = cause
            self._on_stopping()
        if self._node is None:
            return isinstance(cause, Failed)  # else it is being made
        if not self._is_stopping:
            self._is_stopping = True
            threading.Thread(target=self._stop_node, args=(self._node,), name="grav-stop", daemon=True).start()
        return False

    def _stop_node(self, node: Node) -> None:
        try:
            node.stop()
        except BaseException as exc:  # raised on the main thread
            self._events.put(Stopped(exc))
        else:
            self._events.put(Stopped(None))

    def _end_at_once(self) -> NoReturn:
        """Kill: the bus here, the actors' processes by the end of this one, which they do not outlive."""
        if self._node is not None:
            self._node._kill_bus()
        self._clean_up()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(INTERRUPTED)

    def _result(self) -> int:
        cause = self._cause
        if isinstance(cause, Failed):
            raise cause.error
        if isinstance(cause, Told) and cause.reason:
            raise Failure(f"gave up: {cause.reason}", FAILED)
        return INTERRUPTED if cause == Signalled(signal.SIGINT) else 0

    @contextmanager
    def _caught_signals(self) -> Generator[None]:
        def note(number: int, frame: object) -> None:
            self._events.put(Signalled(number))  # a SimpleQueue may be put to in a signal handler

        numbers = [signal.SIGINT, signal.SIGTERM]
        if self._on_hangup is not None and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not under nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
