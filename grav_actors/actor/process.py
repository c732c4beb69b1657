"""An actor in a process of its own: what the parent sends, and the program of the child."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from queue import Empty, SimpleQueue
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.arguments import dump_arguments, load_arguments
from grav_actors.actor.keeping import new_runtime
from grav_actors.actor.origin import INSTEAD, ClassOrigin
from grav_actors.actor.remote import remote_spawn
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Slate, slate_size
from grav_actors.actor.snapshot import Snapshot
from grav_actors.actor.spec import ActorSpec, Ending
from grav_actors.actor.streams import LINE
from grav_actors.errors import ActorStartError
from grav_actors.pod.link import Link
from grav_actors.tracebacks import traceback_text

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
    hosts_threads: bool
    snapshot: Snapshot | None
    is_captured: bool
    log_level: int


def make_payload(spec: ActorSpec, endpoint: str, send_timeout: float, *, is_thread: bool = False) -> bytes:
    """Return the payload of a child.

    Args:
        is_thread: It is for a thread of another process, so that being one is no way out for what cannot travel.

    Raises:
        ActorStartError: A child could not find the class, or the arguments cannot be pickled.
    """
    origin = ClassOrigin.of(spec.actor_class, "" if is_thread else INSTEAD)
    try:
        arguments = dump_arguments((spec.args, spec.kwargs))
    except Exception as exc:
        raise ActorStartError(
            f"the arguments of actor {spec.name!r} cannot be carried to "
            f"{'the process of its thread' if is_thread else 'a process'}: {exc}; pass plain data"
            f"{'' if is_thread else INSTEAD}"
        ) from exc
    level = logging.getLogger("grav_actors").getEffectiveLevel()
    payload = ChildPayload(
        endpoint, send_timeout, origin, arguments, spec.name, spec.service, spec.group, spec.supervisor,
        spec.incarnation, spec.cause, spec.hosts_threads, spec.snapshot,
        spec.is_captured, level,
    )  # fmt: skip
    return pickle.dumps(payload)


def main(payload: bytes, report: Report, slate: mmap) -> None:
    """Run one actor until it ends. Exit code 0 if that was asked for, 1 if it failed."""
    content: ChildPayload = pickle.loads(payload)  # noqa: S301  (from the own parent, through a pipe)
    configure_logging(content.log_level)
    events = Events()

    def tell_ready() -> None:
        events.catch(signal.SIGTERM, "shutdown")
        events.catch(signal.SIGINT, "stop")
        report({"event": "ready"})

    try:
        link, runtime = _start(content, events.put, memoryview(slate), report, tell_ready)
    except BaseException as exc:
        report({"event": "failed", **describe_failure(content.name, exc)})
        sys.exit(1)
    while isinstance(ending := events.get(), str):
        runtime.stop(ending)
    link.close()
    report({"event": "ended", "reason": ending.reason, "error": ending.error, "traceback": ending.traceback})
    if ending.reason == "crash":
        sys.stderr.write(ending.traceback)
        sys.exit(1)


class Events:
    """What the main thread waits for: what becomes of actors, and signals that tell them to end."""

    def __init__(self) -> None:
        # A queue, not locks: a signal handler may run in the middle of anything, also of itself.
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def catch(self, number: int, event: object) -> None:
        """Have a signal be an event."""
        # Handlers run in the main thread alone, but the kernel may give the signal to another one, as it does after a
        # SIGCONT: a wait for the queue would then go on.
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(number, lambda *_: self.put(event))

    def put(self, event: object) -> None:
        """Add an event, on any thread."""
        self._queue.put(event)
        with suppress(BlockingIOError):  # full: it will wake up
            os.write(self._wake_write, b"\0")

    def get(self) -> Any:
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


def describe_failure(name: str, exc: BaseException) -> dict[str, str]:
    """Return what is reported of an actor that did not start."""
    if isinstance(exc, ActorStartError) and exc.remote_traceback:
        return {"error": str(exc.args[0]), "traceback": exc.remote_traceback}
    text = f"actor {name!r} did not start: {type(exc).__name__}: {exc}"
    return {"error": text, "traceback": traceback_text(exc)}


def _start(
    content: ChildPayload,
    on_end: Callable[[Ending], None],
    memory: memoryview,
    report: Report,
    on_ready: Callable[[], None],
) -> tuple[Link, ActorRuntime]:
    actor_class = content.origin.load()
    link = Link(content.endpoint, send_timeout=content.send_timeout)
    try:
        slots = slate_size(actor_class.concurrency)
        runtime = make_runtime(actor_class, content, link, on_end, memory[slots:], report)
        runtime.note_on(Slate(memory[:slots]))
        runtime.start(None, on_ready)  # the parent keeps the time
    except BaseException:
        link.close()
        raise
    return link, runtime


def make_runtime(
    actor_class: type[Actor],
    content: ChildPayload,
    link: Link,
    on_end: Callable[[Ending], None],
    memory: memoryview,
    report: Report,
) -> ActorRuntime:
    """Return what drives an actor that its supervisor has described, before its start.

    Args:
        memory: For the state of an actor that keeps it.
        report: Tells the supervisor what children of the actor write, if it wants to know.

    Raises:
        ActorStartError: Its arguments cannot be read here.
    """
    spec = ActorSpec(
        actor_class,
        content.name,
        service=content.service,
        group=content.group,
        supervisor=content.supervisor,
        incarnation=content.incarnation,
        cause=content.cause,
        hosts_threads=content.hosts_threads,
        snapshot=content.snapshot,
        is_captured=content.is_captured,
    )
    runtime = new_runtime(spec, link, on_end, None, memory)
    if content.is_captured:
        runtime.on_line = lambda name, stream, line: report(
            {"event": LINE, "name": name, "stream": stream, "line": line}
        )
    runtime.spawner = partial(remote_spawn, runtime.pod)
    try:
        spec.args, spec.kwargs = load_arguments(content.arguments, runtime.pod._port)
    except Exception as exc:
        raise ActorStartError(
            f"the arguments of actor {content.name!r} cannot be read in its process: {exc}; define their classes "
            "in a module",
            remote_traceback=traceback_text(exc),
        ) from exc
    return runtime


def configure_logging(level: int) -> None:
    """Have this process log to standard error, what the project says from a level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
    logging.getLogger("grav_actors").setLevel(level)
