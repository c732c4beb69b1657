"""`ps`: the actors of the node, and those that other programs run on its bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from grav_actors.cli.failure import DEGRADED
from grav_actors.cli.params import bus_option, json_option
from grav_actors.errors import NoRespondersError

if TYPE_CHECKING:
    from grav_actors.node import Grav

COLUMNS = ("name", "kind", "state", "pid", "restarts", "mailbox")


@click.command("ps")
@json_option
@bus_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, bus: str | None) -> None:
    """List the actors: where they run, how often they were restarted, how much waits for them.

    Those of other programs on this bus, as of `grav-actors run`, have no kind, pid and restarts here. Ends
    with 3 when an actor is not running that should.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import table, to_json

    with joined(bus) as node:
        rows, is_degraded = _list_actors(node)
    for line in map(to_json, rows) if as_json else table(rows, COLUMNS):
        click.echo(line)
    if is_degraded:
        ctx.exit(DEGRADED)


def _list_actors(node: Grav) -> tuple[list[dict[str, Any]], bool]:
    from grav_actors.bus.inquiry import PODS
    from grav_actors.control import PS
    from grav_actors.protocol import BUS_NAME, NODE_NAME

    try:
        status: dict[str, Any] = node.ask(PS, to=NODE_NAME)
    except NoRespondersError:  # a bus alone
        status = {"actors": [], "degraded": False}
    rows: list[dict[str, Any]] = status["actors"]
    known = {row["name"] for row in rows}
    for pod in node.ask(PODS, to=BUS_NAME):
        if pod["actor"] and pod["name"] not in known and not pod["name"].startswith("grav."):
            state = "ready" if pod["connected"] else "away"
            empty = dict.fromkeys(COLUMNS)
            rows.append({**empty, "name": pod["name"], "state": state, "mailbox": pod["mailbox"]})
    return rows, bool(status["degraded"])
