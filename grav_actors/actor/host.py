"""A host: the program of a process in which the thread actors of one supervisor live.

Its supervisor orders what is to start and to stop, on a pipe, and is told what becomes of it by reports:

    [START, life, offset, size, kept_offset, kept_size, payload]
                                           begin a life; its part of the slate, that for its state, its `ChildPayload`
    [STOP, life, reason, patience]         have it end: `stop` or `shutdown`, in so many seconds
    [END]                                  have all of them end, and the process

    {life, event: "ready"}
    {life, event: "failed", error, traceback}
    {life, event: "ended", reason, error, traceback, has_left}   has_left: a thread of it has not ended
    {event: "ending"}                                            the process was told to end, from outside
    {event: "line", name, stream, line}                          an actor has written a line
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from typing import Any

from grav_actors.actor.process import (
    ChildPayload,
    Events,
    Report,
    configure_logging,
    describe_failure,
    make_runtime,
)
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Slate
from grav_actors.actor.spec import Ending
from grav_actors.actor.streams import ActorStream, tell_lines_apart
from grav_actors.pod.link import Link
from grav_actors.supervisor.pipes import MAX_ORDER, READ_SIZE, FrameBuffer

ENTRY = "grav_actors.actor.host:main"
SLATE_SIZE = 4 * 1024 * 1024
"""Bytes of a host's slate, for 13,000 handlers at a time; what is not written costs no memory."""

KEPT_SIZE = 1024 * 1024 * 1024
"""Bytes behind the slate for the states of actors that keep theirs; 430 of them if states may have 1 MiB each."""

START, STOP, END = "start", "stop", "end"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostPayload:
    """What a host is started with; it travels through an anonymous file from its own parent."""

    endpoint: str
    send_timeout: float
    tells_lines: bool
    log_level: int


def make_host_payload(endpoint: str, send_timeout: float, *, tells_lines: bool) -> bytes:
    """Return the payload of a host.

    Args:
        tells_lines: What its actors print is reported, instead of written to its standard streams.
    """
    level = logging.getLogger("grav_actors").getEffectiveLevel()
    return pickle.dumps(HostPayload(endpoint, send_timeout, tells_lines, level))


def main(payload: bytes, report: Report, slate: mmap, orders: int) -> None:
    """Run thread actors until the supervisor, or a signal, has this process end."""
    content: HostPayload = pickle.loads(payload)  # noqa: S301  (from the own parent, through an anonymous file)
    if content.tells_lines:
        tell_lines_apart(report)
    configure_logging(content.log_level)
    events = Events()
    events.catch(signal.SIGTERM, "shutdown")
    events.catch(signal.SIGINT, "stop")
    threading.Thread(target=_read_orders, args=(orders, events), name="grav-orders", daemon=True).start()
    link = Link(content.endpoint, send_timeout=content.send_timeout)
    Host(link, report, slate, events).serve()
    link.close()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, ActorStream):
            stream.finish()


@dataclass(slots=True)
class Guest:
    """An actor in the host: its runtime when it has one, and why it is to end, if it was told so before."""

    runtime: ActorRuntime | None = None
    told: tuple[str, float | None] | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """An actor is no more in the host; `ending` is None if it did not start."""

    life: int
    ending: Ending | None


class Host:
    """Starts and stops actors as it is ordered to. Orders and ends come as events, to the main thread."""

    def __init__(self, link: Link, report: Report, slate: mmap, events: Events) -> None:
        self._link = link
        self._report = report
        self._slate = memoryview(slate)
        self._events = events
        self._guests: dict[int, Guest] = {}
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._is_ending = False

    def serve(self) -> None:
        """Do what is ordered until the process is to end and nobody is left in it."""
        while not (self._is_ending and not self._guests):
            match self._events.get():
                case [str(verb), *arguments]:
                    self._obey(verb, arguments)
                case Left(life, ending):
                    self._let_go(life, ending)
                case str(reason):
                    self._report({"event": "ending"})
                    self._end(reason)
                case _:  # None: the supervisor is gone
                    self._end("shutdown")

    def _obey(self, verb: str, arguments: list[Any]) -> None:
        if verb == START:
            life, offset, size, kept_offset, kept_size, payload = arguments
            with self._lock:
                self._guests[life] = Guest(told=("stop", None) if self._is_ending else None)
            slate = Slate(self._slate[offset : offset + size])
            kept = self._slate[kept_offset : kept_offset + kept_size]
            # On a thread of its own: what it imports, and its hooks, may take long.
            threading.Thread(
                target=self._start, args=(life, slate, kept, payload), name=f"grav-start-{life}", daemon=True
            ).start()
        elif verb == STOP:
            life, reason, patience = arguments
            self._stop(life, reason, patience)
        elif verb == END:
            self._end("shutdown")

    def _start(self, life: int, slate: Slate, kept: memoryview, payload: bytes) -> None:
        content: ChildPayload = pickle.loads(payload)  # noqa: S301  (from the own parent, through a pipe)
        try:
            with self._loading:  # one after another: while a class is imported, nothing else may make a node
                actor_class = content.origin.load()
            runtime = make_runtime(actor_class, content, self._link, partial(self._has_ended, life), kept, self._report)
            runtime.note_on(slate)
            with self._lock:
                guest = self._guests[life]
                guest.runtime = runtime
                if guest.told is not None:
                    runtime.stop(guest.told[0])
            runtime.start(None, lambda: self._report({"life": life, "event": "ready"}))  # the parent keeps the time
        except BaseException as exc:
            self._report({"life": life, "event": "failed", **describe_failure(content.name, exc)})
            self._events.put(Left(life, None))

    def _has_ended(self, life: int, ending: Ending) -> None:
        self._events.put(Left(life, ending))

    def _let_go(self, life: int, ending: Ending | None) -> None:
        with self._lock:
            guest = self._guests.pop(life)
        if ending is None:
            return
        assert guest.runtime is not None
        self._report(
            {
                "life": life,
                "event": "ended",
                "reason": ending.reason,
                "error": ending.error,
                "traceback": ending.traceback,
                "has_left": not guest.runtime.is_idle(),
            }
        )

    def _stop(self, life: int, reason: str, patience: float | None) -> None:
        with self._lock:
            guest = self._guests.get(life)
            if guest is None:
                return
            guest.told = (reason, patience)
            if guest.runtime is not None:
                guest.runtime.patience = patience
                guest.runtime.stop(reason)

    def _end(self, reason: str) -> None:
        self._is_ending = True
        for life in list(self._guests):
            self._stop(life, reason, None)


def _read_orders(fd: int, events: Events) -> None:
    frames = FrameBuffer(MAX_ORDER)
    while chunk := os.read(fd, READ_SIZE):
        for order in frames.feed(chunk):
            events.put(order)
    events.put(None)
