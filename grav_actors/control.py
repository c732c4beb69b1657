"""The actor through which a node is asked and told: `grav.node` on its bus."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.handlers import on_type
from grav_actors.actor.remote import SPAWN
from grav_actors.errors import ActorStartError
from grav_actors.message import Message
from grav_actors.reference import ActorRef
from grav_actors.supervisor.spec import Child
from grav_actors.target import load_target

if TYPE_CHECKING:
    from grav_actors.node import Grav

PS = "grav.sys.node.ps"
"""The actors of the node: `{actors: [...], degraded: bool, node: {...}}`."""
DOWN = "grav.sys.node.down"
"""End the node; answered before it does."""


class NodeControl(Actor):
    """Answers for the node. It is no child of the supervisor: it lives and ends with the node."""

    concurrency = 8

    def __init__(self, node: Grav) -> None:
        self._node = node

    @on_type(PS)
    def ps(self, msg: Message) -> dict[str, Any]:
        """List the actors with their mailboxes."""
        return self._node._status()

    @on_type(DOWN)
    def down(self, msg: Message) -> bool:
        """End the node, soon."""
        # On a thread of its own: the node ends its actors, this one too.
        threading.Thread(target=self._node._ask_to_end, name="grav-down", daemon=True).start()
        return True

    @on_type(SPAWN)
    def start(self, msg: Message) -> ActorRef:
        """Start an actor for an actor in another process."""
        request = msg.data
        try:
            actor_class = load_target(request["class"], base=Actor)
            child = Child(
                actor_class,
                name=request["name"],
                args=tuple(request["args"]),
                kwargs=request["kwargs"],
                kind=request["kind"],
            )
        except (KeyError, TypeError) as exc:
            raise ActorStartError(f"a malformed request to start an actor: {exc}") from exc
        return self._node.spawn(child)
