"""`nodes`: the other nodes of the mesh, as the node that runs here sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from grav_actors.cli.failure import DEGRADED, NO_ANSWER, REFUSED, Failure
from grav_actors.cli.params import bus_option, json_option
from grav_actors.errors import NoRespondersError
from grav_actors.options import did_you_mean

COLUMNS = ("name", "endpoint", "state", "rtt", "lag in", "lag out", "heard", "version", "uuid")
UUID_SHOWN = 8
"""Characters of a uuid in the table."""

Row = dict[str, Any]


@click.command("nodes")
@click.argument("wanted", nargs=-1, metavar="[NODE]...")
@json_option
@bus_option
@click.pass_context
def command(ctx: click.Context, wanted: tuple[str, ...], as_json: bool, bus: str | None) -> None:
    """List the other nodes of the mesh: where they are, whether they answer, what is on its way.

    STATE is joining, up, suspect (silent for 3 s), down or withdrawn. LAG IN counts messages of it that have not come
    yet, LAG OUT those for it that it has not acknowledged, which it does each second; HEARD is how long ago anything
    came from it. VERSION is that of the handshake. Endpoints without a node are told on standard error, and why.

    With names or uuids (or their beginnings) of nodes only these are listed, and the command ends with 3 unless all
    of them are up.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.order import no_node
    from grav_actors.cli.render import table, to_json
    from grav_actors.control import NODES
    from grav_actors.protocol import NODE_NAME

    with joined(bus) as node:
        try:
            answer: Row = node.ask(NODES, to=NODE_NAME)
        except NoRespondersError:
            raise Failure(no_node(node.bus_endpoint), NO_ANSWER) from None
    mesh: Row | None = answer["mesh"]
    if mesh is None:
        raise Failure("this node has no mesh; a table [mesh] in grav.toml gives it one, from the next `up` on", REFUSED)
    peers: list[Row] = mesh["peers"]
    rows, missing = choose(peers, wanted)
    if as_json:
        for row in rows:
            click.echo(to_json(row))
    elif rows:
        for line in table(map(shown, rows), COLUMNS):
            click.echo(line)
    if not as_json:
        for line in notes(mesh, peers):
            click.echo(f"grav-actors: {line}", err=True)
    for line in missing:
        click.echo(f"grav-actors: {line}", err=True)
    if missing or (wanted and any(row["state"] != "up" for row in rows)):
        ctx.exit(DEGRADED)


def choose(peers: Sequence[Row], wanted: Iterable[str]) -> tuple[list[Row], list[str]]:
    """Return the peers that are asked for, and a line for each that there is none of; all when nothing is asked for.

    A node that was started anew is another peer of the same name: of those that are up, if there are any.
    """
    wanted = tuple(wanted)
    if not wanted:
        return list(peers), []
    rows: list[Row] = []
    missing: list[str] = []
    for each in wanted:
        found = [row for row in peers if row["name"] == each] or [row for row in peers if row["uuid"].startswith(each)]
        found = [row for row in found if row["state"] == "up"] or found
        rows += [row for row in found if row not in rows]
        if not found:
            near = did_you_mean(each, [row["name"] for row in peers])
            missing.append(f"there is no node {each}{near or '; `grav-actors nodes` lists them'}")
    return rows, missing


def shown(row: Row) -> Row:
    """Return a peer as people read it."""
    return {
        **row,
        "rtt": duration_text(row["rtt"]) if row["rtt"] is not None else None,
        "lag in": row["lag_in"],
        "lag out": row["lag_out"],
        "heard": duration_text(row["last_seen"]),
        "uuid": row["uuid"][:UUID_SHOWN],
    }


def notes(mesh: Row, peers: Sequence[Row]) -> list[str]:
    """Return what is to be said beside the list: that nobody is there, and endpoints that led to nobody."""
    lines = [f"no node at {endpoint}: {why}" for endpoint, why in sorted(mesh["unreached"].items())]
    if not peers:
        listens = f"this node listens on {mesh['listens']}" if mesh["listens"] else "this node does not listen"
        lines.append(f"no other node is known; {listens}; `grav-actors doctor` looks why")
    return lines


def duration_text(seconds: float) -> str:
    """Return a duration in the unit that suits it: `0.4 ms`, `12 s`."""
    if seconds < 1.0:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
