"""Starting an actor from an actor's own process: the node is asked to."""

from __future__ import annotations

from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.errors import ActorStartError, HandlerError
from grav_actors.pod.pod import Pod
from grav_actors.protocol import NODE_NAME
from grav_actors.reference import ActorRef

SPAWN = "grav.sys.node.spawn"
"""`{class, args, kwargs, name, kind}`: start an actor; the answer is its reference."""


def remote_spawn(
    pod: Pod,
    actor_class: type[Actor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str | None,
    kind: str,
) -> ActorRef:
    """Ask the node that owns the bus to start an actor.

    Raises:
        ActorStartError: It did not start there, or its class is in a script that the node cannot import.
        MessageEncodeError: The arguments cannot travel in a message.
    """
    if actor_class.__module__ in ("__main__", "__grav_script__"):
        raise ActorStartError(
            f"{actor_class.__qualname__} is defined in a script; move it to a module, so that the node can import it"
        )
    request = {
        "class": f"{actor_class.__module__}:{actor_class.__qualname__}",
        "args": list(args),
        "kwargs": kwargs,
        "name": name,
        "kind": kind,
    }
    try:
        reference: ActorRef = pod.ask(SPAWN, request, to=NODE_NAME, timeout=60.0)
    except HandlerError as exc:
        raise ActorStartError(exc.error, remote_traceback=exc.remote_traceback) from None
    return reference
