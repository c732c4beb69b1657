"""The actor through which a node is asked and told: `grav.node` on its bus."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.handlers import on_type
from grav_actors.actor.remote import SPAWN, read_request
from grav_actors.errors import ActorStartError, ConfigError
from grav_actors.message import Message
from grav_actors.overview import UNREADY
from grav_actors.supervisor.branch import DONE, FAILED, INSPECT, ORDER, REFUSED, outcome

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
        look = self._node._overview.look()
        return {"node": self._node._describe(), "actors": look.rows, "degraded": look.is_degraded}

    @on_type(HEALTH)
    def health(self, msg: Message) -> dict[str, Any]:
        """Tell whether all that should run does."""
        waiting = {row["name"]: row["state"] for row in self._node._overview.look().rows if row["state"] in UNREADY}
        return {"ready": self._node._is_filled and not waiting, "waiting": waiting}

    @on_type(NODES)
    def nodes(self, msg: Message) -> dict[str, Any]:
        """List the peers of the node."""
        node = self._node
        if node._hub is None:
            return {"node": node._describe(), "mesh": None}
        from grav_actors.meshing import describe_mesh  # noqa: PLC0415  (most nodes have no mesh, and do not load it)

        return {"node": node._describe(), "mesh": describe_mesh(node._hub)}

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
        self._defer(msg, self._reload)

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

    def _reload(self) -> dict[str, Any]:
        if self._node._on_reload is None:
            text = "this node has no configuration to read again; one that `grav-actors up` runs has"
            return {**outcome(REFUSED, text), "changes": []}
        try:
            return {**outcome(DONE), "changes": self._node._on_reload()}
        except ConfigError as exc:
            return {**outcome("mistake", str(exc)), "changes": []}
        except ActorStartError as exc:
            return {**outcome(FAILED, str(exc.args[0]), exc.remote_traceback), "changes": []}

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
