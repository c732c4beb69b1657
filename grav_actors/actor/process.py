"""An actor in a process of its own: what the parent sends, and the program of the child."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from queue import SimpleQueue
from typing import Any

from grav_actors.actor.arguments import dump_arguments, load_arguments
from grav_actors.actor.origin import ClassOrigin
from grav_actors.actor.remote import remote_spawn
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Slate
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
        spec.incarnation, spec.cause, level,
    )  # fmt: skip
    return pickle.dumps(payload)


def main(payload: bytes, report: Report, slate: mmap) -> None:
    """Run one actor until it ends. Exit code 0 if that was asked for, 1 if it failed."""
    content: ChildPayload = pickle.loads(payload)  # noqa: S301  (from the own parent, through a pipe)
    _configure_logging(content.log_level)
    # A queue, not locks: a signal handler may run in the middle of anything, also of itself.
    events: SimpleQueue[Ending | None] = SimpleQueue()
    try:
        link, runtime = _start(content, events.put, Slate(slate))
    except BaseException as exc:
        report({"event": "failed", **_describe(content.name, exc)})
        sys.exit(1)
    signal.signal(signal.SIGTERM, lambda *_: events.put(None))
    report({"event": "ready"})
    while (ending := events.get()) is None:
        runtime.stop("shutdown")
    link.close()
    report({"event": "ended", "reason": ending.reason, "error": ending.error, "traceback": ending.traceback})
    if ending.reason == "crash":
        sys.stderr.write(ending.traceback)
        sys.exit(1)


def _describe(name: str, exc: BaseException) -> dict[str, str]:
    if isinstance(exc, ActorStartError) and exc.remote_traceback:
        return {"error": str(exc.args[0]), "traceback": exc.remote_traceback}
    text = f"actor {name!r} did not start: {type(exc).__name__}: {exc}"
    return {"error": text, "traceback": traceback.format_exc()}


def _start(content: ChildPayload, on_end: Callable[[Ending], None], slate: Slate) -> tuple[Link, ActorRuntime]:
    spec = ActorSpec(
        content.origin.load(),
        content.name,
        service=content.service,
        group=content.group,
        supervisor=content.supervisor,
        incarnation=content.incarnation,
        cause=content.cause,
    )
    link = Link(content.endpoint, send_timeout=content.send_timeout)
    try:
        runtime = ActorRuntime(spec, link, on_end, None)
        runtime.note_on(slate)
        runtime.spawner = partial(remote_spawn, runtime.pod)
        try:
            spec.args, spec.kwargs = load_arguments(content.arguments, runtime.pod._port)
        except Exception as exc:
            raise ActorStartError(
                f"the arguments of actor {content.name!r} cannot be read in its process: {exc}; define their classes "
                "in a module",
                remote_traceback=traceback.format_exc(),
            ) from exc
        runtime.start(None)  # the parent keeps the time
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
