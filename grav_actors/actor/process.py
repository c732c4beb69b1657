"""An actor in a process of its own: what the parent sends, and the program of the child."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from queue import Empty, SimpleQueue
from typing import Any

from grav_actors.actor.arguments import dump_arguments, load_arguments
from grav_actors.actor.keeping import make_runtime
from grav_actors.actor.origin import ClassOrigin
from grav_actors.actor.remote import remote_spawn
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Slate, slate_size
from grav_actors.actor.snapshot import Snapshot
from grav_actors.actor.spec import ActorSpec, Ending
from grav_actors.errors import ActorStartError
from grav_actors.pod.link import Link

ENTRY = "grav_actors.actor.process:main"

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class ChildPayload:
    """What a child process is started with; it travels through an anonymous pipe from its own parent."""

    endpoint: str
    send_timeout: float
    origin: ClassOrigin
    arguments: bytes
    name: str
    service: str
    group: str
    supervisor: bytes
    incarnation: int
    cause: str
    snapshot: Snapshot | None
    log_level: int


def make_payload(spec: ActorSpec, endpoint: str, send_timeout: float) -> bytes:
    """Return the payload of a child.

    Raises:
        ActorStartError: A child could not find the class, or the arguments cannot be pickled.
    """
    origin = ClassOrigin.of(spec.actor_class)
    try:
        arguments = dump_arguments((spec.args, spec.kwargs))
    except Exception as exc:
        raise ActorStartError(
            f"the arguments of actor {spec.name!r} cannot be carried to a process: {exc}; pass plain data, or use "
            'kind="thread"'
        ) from exc
    level = logging.getLogger("grav_actors").getEffectiveLevel()
    payload = ChildPayload(
        endpoint, send_timeout, origin, arguments, spec.name, spec.service, spec.group, spec.supervisor,
        spec.incarnation, spec.cause, spec.snapshot, level,
    )  # fmt: skip
    return pickle.dumps(payload)


def main(payload: bytes, report: Report, slate: mmap) -> None:
    """Run one actor until it ends. Exit code 0 if that was asked for, 1 if it failed."""
    content: ChildPayload = pickle.loads(payload)  # noqa: S301  (from the own parent, through a pipe)
    _configure_logging(content.log_level)
    events = Events()

    def tell_ready() -> None:
        events.catch(signal.SIGTERM, "shutdown")
        events.catch(signal.SIGINT, "stop")
        report({"event": "ready"})

    try:
        link, runtime = _start(content, events.put, slate, tell_ready)
    except BaseException as exc:
        report({"event": "failed", **_describe(content.name, exc)})
        sys.exit(1)
    while isinstance(ending := events.get(), str):
        runtime.stop(ending)
    link.close()
    report({"event": "ended", "reason": ending.reason, "error": ending.error, "traceback": ending.traceback})
    if ending.reason == "crash":
        sys.stderr.write(ending.traceback)
        sys.exit(1)


class Events:
    """What the main thread waits for: the end of its actor, and signals that tell it to end."""

    def __init__(self) -> None:
        # A queue, not locks: a signal handler may run in the middle of anything, also of itself.
        self._queue: SimpleQueue[Ending | str] = SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def catch(self, number: int, event: str) -> None:
        """Have a signal be an event."""
        # Handlers run in the main thread alone, but the kernel may give the signal to another one, as it does after a
        # SIGCONT: a wait for the queue would then go on.
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(number, lambda *_: self.put(event))

    def put(self, event: Ending | str) -> None:
        """Add an event, on any thread."""
        self._queue.put(event)
        with suppress(BlockingIOError):  # full: it will wake up
            os.write(self._wake_write, b"\0")

    def get(self) -> Ending | str:
        """Wait for the next event; only in the main thread."""
        while True:
            try:
                return self._queue.get_nowait()
            except Empty:
                os.read(self._wake_read, 4096)

    def close(self) -> None:
        """Close its descriptors; nothing is put or caught any more."""
        os.close(self._wake_read)
        os.close(self._wake_write)


def _describe(name: str, exc: BaseException) -> dict[str, str]:
    if isinstance(exc, ActorStartError) and exc.remote_traceback:
        return {"error": str(exc.args[0]), "traceback": exc.remote_traceback}
    text = f"actor {name!r} did not start: {type(exc).__name__}: {exc}"
    return {"error": text, "traceback": traceback.format_exc()}


def _start(
    content: ChildPayload, on_end: Callable[[Ending], None], memory: mmap, on_ready: Callable[[], None]
) -> tuple[Link, ActorRuntime]:
    spec = ActorSpec(
        content.origin.load(),
        content.name,
        service=content.service,
        group=content.group,
        supervisor=content.supervisor,
        incarnation=content.incarnation,
        cause=content.cause,
        snapshot=content.snapshot,
    )
    link = Link(content.endpoint, send_timeout=content.send_timeout)
    try:
        slots = slate_size(spec.actor_class.concurrency)
        room = memoryview(memory)[slots:] if spec.actor_class._grav_handlers.keeps_state else None
        runtime = make_runtime(spec, link, on_end, None, room)
        runtime.note_on(Slate(memoryview(memory)[:slots]))
        runtime.spawner = partial(remote_spawn, runtime.pod)
        try:
            spec.args, spec.kwargs = load_arguments(content.arguments, runtime.pod._port)
        except Exception as exc:
            raise ActorStartError(
                f"the arguments of actor {content.name!r} cannot be read in its process: {exc}; define their classes "
                "in a module",
                remote_traceback=traceback.format_exc(),
            ) from exc
        runtime.start(None, on_ready)  # the parent keeps the time
    except BaseException:
        link.close()
        raise
    return link, runtime


def _configure_logging(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
    logging.getLogger("grav_actors").setLevel(level)
