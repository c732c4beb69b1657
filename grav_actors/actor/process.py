"""An actor in a process of its own: what the parent sends, and the program of the child."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.runtime import ActorRuntime, ActorSpec, Ending
from grav_actors.errors import ActorStartError, GravError
from grav_actors.pod.link import Link

ENTRY = "grav_actors.actor.process:main"
SCRIPT_MODULE = "__grav_script__"
"""Name under which a script is imported whose classes are to run in a process of their own."""

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class ChildPayload:
    """What a child process is started with; it travels through an anonymous pipe from its own parent.

    Attributes:
        module, qualname: Where the class is; `script` is the file of `__main__` if it is defined there.
        arguments: Pickled `(args, kwargs)`.
    """

    endpoint: str
    send_timeout: float
    start_timeout: float
    module: str
    qualname: str
    script: str
    arguments: bytes
    name: str
    service: str
    group: str
    supervisor: bytes
    incarnation: int
    cause: str
    log_level: int


def make_payload(spec: ActorSpec, endpoint: str, send_timeout: float, start_timeout: float) -> bytes:
    """Return the payload of a child.

    Raises:
        ActorStartError: A child could not find the class, or the arguments cannot be pickled.
    """
    cls = spec.actor_class
    module, script = cls.__module__, ""
    main = sys.modules.get("__main__")
    if module == "__main__":
        path = getattr(main, "__file__", None)
        name = getattr(getattr(main, "__spec__", None), "name", None)
        if name is not None and not name.endswith("__main__"):
            module = name  # python -m module
        elif path is not None and Path(path).is_file():
            script = str(Path(path).resolve())
        else:
            raise ActorStartError(
                f"a process cannot import {cls.__qualname__}, as it is defined at a prompt; put it into a file, or use "
                'kind="thread"'
            )
    if "<locals>" in cls.__qualname__:
        raise ActorStartError(
            f"a process cannot import {cls.__qualname__}, as it is defined inside a function; define it at the top of "
            'a module, or use kind="thread"'
        )
    try:
        arguments = pickle.dumps((spec.args, spec.kwargs))
    except Exception as exc:
        raise ActorStartError(
            f"the arguments of actor {spec.name!r} cannot be carried to a process: {exc}; pass plain data, or use "
            'kind="thread"'
        ) from exc
    payload = ChildPayload(
        endpoint, send_timeout, start_timeout, module, cls.__qualname__, script, arguments, spec.name, spec.service,
        spec.group, spec.supervisor, spec.incarnation, spec.cause, logging.getLogger("grav_actors").getEffectiveLevel(),
    )  # fmt: skip
    return pickle.dumps(payload)


def main(payload: bytes, report: Report) -> None:
    """Run one actor until it ends. Exit code 0 if that was asked for, 1 if it failed."""
    content: ChildPayload = pickle.loads(payload)
    _configure_logging(content.log_level)
    ended = threading.Event()
    endings: list[Ending] = []

    def on_end(ending: Ending) -> None:
        endings.append(ending)
        ended.set()

    try:
        link, runtime = _start(content, on_end)
    except ActorStartError as exc:
        report({"event": "failed", "error": exc.args[0] if exc.args else "", "traceback": exc.remote_traceback})
        sys.exit(1)
    except BaseException as exc:
        text = f"actor {content.name!r} did not start: {type(exc).__name__}: {exc}"
        report({"event": "failed", "error": text, "traceback": traceback.format_exc()})
        sys.exit(1)
    signal.signal(signal.SIGTERM, lambda *_: runtime.stop("shutdown"))
    report({"event": "ready"})
    while not ended.wait(3600.0):
        continue
    link.close()
    ending = endings[0]
    report({"event": "ended", "reason": ending.reason, "error": ending.error, "traceback": ending.traceback})
    if ending.reason == "crash":
        if ending.traceback:
            sys.stderr.write(ending.traceback)
        sys.exit(1)


def _start(content: ChildPayload, on_end: Callable[[Ending], None]) -> tuple[Link, ActorRuntime]:
    cls = _load_class(content)
    args, kwargs = pickle.loads(content.arguments)
    spec = ActorSpec(
        cls, content.name, args, kwargs, content.service, content.group, content.supervisor, content.incarnation,
        content.cause,
    )  # fmt: skip
    link = Link(content.endpoint, send_timeout=content.send_timeout)
    try:
        from grav_actors.actor.remote import remote_spawn  # noqa: PLC0415  (only what is used is loaded)

        runtime = ActorRuntime(spec, link, on_end, lambda *request: remote_spawn(runtime.pod, *request))
        runtime.start(content.start_timeout)
    except BaseException:
        link.close()
        raise
    return link, runtime


def _load_class(content: ChildPayload) -> type[Actor]:
    if content.script:
        module = _load_script(content.script)
    else:
        module = importlib.import_module(content.module)
    found: Any = module
    for part in content.qualname.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise GravError(f"{content.module}:{content.qualname} is no Actor in the new process")
    return found


def _load_script(path: str) -> ModuleType:
    """Import a script under a name of its own, so that its `__main__` part does not run."""
    spec = importlib.util.spec_from_file_location(SCRIPT_MODULE, path)
    if spec is None or spec.loader is None:
        raise GravError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT_MODULE] = module
    sys.modules["__main__"] = module  # so that what was pickled as of __main__ is found
    spec.loader.exec_module(module)
    return module


def _configure_logging(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
    logging.getLogger("grav_actors").setLevel(level if level != logging.NOTSET else logging.WARNING)
