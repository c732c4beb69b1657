"""Starting an actor from an actor's own process: the node is asked to."""

from __future__ import annotations

import dataclasses
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.origin import ClassOrigin
from grav_actors.errors import ActorStartError, AskTimeoutError, HandlerError
from grav_actors.pod.pod import Pod
from grav_actors.protocol import NODE_NAME
from grav_actors.reference import ActorRef
from grav_actors.supervisor.spec import Child, as_child

SPAWN = "grav.sys.control.spawn"
"""`{class: {...}, child: {...}}`, fields of ClassOrigin and Child: start an actor; the answer is its reference."""
SPARE_TIME = 10.0
"""Seconds for question and answer, besides those for the start."""


def remote_spawn(
    pod: Pod, actor_class: type[Actor] | Child, /, *args: Any, name: str | None, kind: str, **kwargs: Any
) -> ActorRef:
    """Ask the node that owns the bus to start an actor.

    Raises:
        ActorStartError: It did not start there, or the node cannot import its class.
        MessageEncodeError: The arguments cannot travel in a message.
    """
    child = as_child(actor_class, args, kwargs, name, kind)
    request = {
        "class": dataclasses.asdict(ClassOrigin.of(child.actor_class)),
        "child": {
            field.name: getattr(child, field.name) for field in dataclasses.fields(child) if field.name != "actor_class"
        },
    }
    timeout = child.start_timeout * child.instances + SPARE_TIME
    try:
        reference: ActorRef = pod.ask(SPAWN, request, to=NODE_NAME, timeout=timeout)
    except HandlerError as exc:
        error = exc.error.removeprefix("ActorStartError: ")
        raise ActorStartError(error.partition("\n")[0], remote_traceback=exc.remote_traceback) from None
    except AskTimeoutError as exc:
        raise ActorStartError(f"the node has not started {child.actor_class.__qualname__}: {exc}") from None
    return reference


def read_request(data: Any) -> Child:
    """Return the child that a request describes, in the process of the node.

    Raises:
        ActorStartError: The request is malformed, or its class is not found.
        ConfigError: A value is wrong.
        Exception: Whatever the module of the class raised.
    """
    try:
        origin = ClassOrigin(**data["class"])
        fields = dict(data["child"])
        fields["args"] = tuple(fields["args"])
    except (KeyError, TypeError) as exc:
        raise ActorStartError(f"a malformed request to start an actor: {exc}") from exc
    return Child(origin.find(), **fields)
