"""The actor through which a node is asked and told: `grav.node` on its bus."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.handlers import on_type
from grav_actors.actor.remote import SPAWN, read_request
from grav_actors.message import Message
from grav_actors.supervisor.branch import INSPECT, ORDER

if TYPE_CHECKING:
    from grav_actors.node import Grav

# Not under grav.sys.node: those are events of the mesh, and grav.sys.node.down tells of a peer.
PS = "grav.sys.control.ps"
"""The actors of the node: `{actors: [...], degraded: bool, node: {...}}`."""
HEALTH = "grav.sys.control.health"
"""Whether all is ready: `{ready: bool, waiting: {name: state}}`."""
NODES = "grav.sys.control.nodes"
"""The mesh: `{node: {...}, mesh: None | {listens, peers: [...], unreached: {endpoint: why}, discoveries: [...]}}`."""
RELOAD = "grav.sys.control.reload"
"""Apply a changed configuration; answered with what was changed when that is done."""
DOWN = "grav.sys.control.down"
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

    @on_type(HEALTH)
    def health(self, msg: Message) -> dict[str, Any]:
        """Tell whether all that should run does."""
        return self._node._health()

    @on_type(NODES)
    def nodes(self, msg: Message) -> dict[str, Any]:
        """List the peers of the node."""
        return self._node._describe_mesh()

    @on_type(INSPECT)
    def inspect(self, msg: Message) -> dict[str, Any]:
        """Describe one actor."""
        return self._node._overview.inspect(msg.data)

    @on_type(ORDER)
    def order(self, msg: Message) -> None:
        """Start, stop, restart or scale actors; answered when it is done."""
        self._defer(msg, lambda: self._node._overview.order(*msg.data))

    @on_type(RELOAD)
    def reload(self, msg: Message) -> None:
        """Apply a changed configuration; answered when it is done."""
        self._defer(msg, self._node._reload)

    @on_type(DOWN)
    def down(self, msg: Message) -> bool:
        """End the node, soon."""
        # On a thread of its own: the node ends its actors, this one too.
        threading.Thread(target=self._node._ask_to_end, name="grav-down", daemon=True).start()
        return True

    @on_type(SPAWN)
    def spawn_for(self, msg: Message) -> None:
        """Start an actor for an actor in another process; answered when it has started."""
        self._defer(msg, lambda: self._node.spawn(read_request(msg.data)))

    def _defer(self, msg: Message, job: Callable[[], Any]) -> None:
        # On a thread of its own: what starts may have further ones started, which must not wait for it here.
        self.defer_reply(msg)
        threading.Thread(target=self._answer, args=(msg, job), name="grav-order", daemon=True).start()

    def _answer(self, msg: Message, job: Callable[[], Any]) -> None:
        try:
            answer = job()
        except Exception as exc:
            self._runtime.answers.fail(msg, exc)
        else:
            self.reply(msg, answer)
