"""What `up` says of the mesh: where the node can be reached, and who comes and goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from grav_actors.mesh.view import Peer
    from grav_actors.tables import MeshTable

REMEMBERED = 1024
"""Nodes that are known to have been up before; past it the oldest are forgotten."""


def mesh_line(table: MeshTable, endpoint: str, keys: Path | None = None) -> str:
    """Return where the node listens, how it finds others, and whom it trusts.

    Args:
        keys: The folder of its keys; None without any.
    """
    alone = "" if table.is_exposed else ", for this machine alone"
    where = f"listens on {endpoint}{alone}" if endpoint else "does not listen"
    ways = [name for name in table.discovery if name != "static"]
    if table.peers:
        ways.append(f"a list of {len(table.peers)}")
    finds = f"finds others by {' and '.join(ways)}" if ways else "looks for nobody"
    trusts = f"; trusts the keys in {keys}" if keys is not None else ""
    return f"mesh: {where}; {finds}{trusts}"


class PeerNews:
    """Tells in plain words which nodes come and go.

    Args:
        say: Takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._were_up: OrderedDict[str, None] = OrderedDict()

    def tell(self, peer: Peer, reason: str) -> None:
        """Take a peer whose state has changed, and why."""
        line = self._line(peer, reason)
        if line:
            self._say(line)

    def _line(self, peer: Peer, reason: str) -> str:
        who, why = peer.name or peer.uuid, f": {reason}" if reason else ""
        was_up = peer.uuid in self._were_up
        match peer.state:
            case "up":
                self._note(peer.uuid)
                where = f", {peer.endpoint}" if peer.endpoint else ""
                return f"node {who} is back" if was_up else f"node {who} has joined{where}"
            case "suspect":
                return f"node {who} is silent{why}; waiting for it"
            case "down":
                return f"node {who} is gone{why}" if was_up else f"node {who} does not come up{why}"
            case "withdrawn":
                self._were_up.pop(peer.uuid, None)
                return f"node {who} has left"
            case _:  # joining: it is soon up, or down with a reason
                return ""

    def _note(self, uuid: str) -> None:
        self._were_up[uuid] = None
        self._were_up.move_to_end(uuid)
        if len(self._were_up) > REMEMBERED:
            self._were_up.popitem(last=False)
