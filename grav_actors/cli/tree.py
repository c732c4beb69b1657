"""`tree`: the supervisors with what they run."""

from __future__ import annotations

from typing import Any

import click

from grav_actors.cli.failure import DEGRADED, NO_ANSWER, Failure
from grav_actors.cli.params import bus_option, json_option
from grav_actors.errors import NoRespondersError

Row = dict[str, Any]


@click.command("tree")
@json_option
@bus_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, bus: str | None) -> None:
    """Draw the node with its actors, each under its supervisor, in the order of their start.

    Ends with 3 when an actor is not running that should.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.order import no_node
    from grav_actors.cli.render import to_json
    from grav_actors.control import PS
    from grav_actors.protocol import NODE_NAME

    with joined(bus) as node:
        try:
            status = node.ask(PS, to=NODE_NAME, timeout=10.0)
        except NoRespondersError:
            raise Failure(no_node(node.bus_endpoint), NO_ANSWER) from None
    if as_json:
        for row in status["actors"]:
            click.echo(to_json(row))
    else:
        for line in draw(status["node"], status["actors"]):
            click.echo(line)
    if status["degraded"]:
        ctx.exit(DEGRADED)


def draw(node: Row, rows: list[Row]) -> list[str]:
    """Return the lines of a tree.

    Args:
        node: Its `name` and `pid`.
        rows: The actors, each with its `supervisor`, "" for the node itself.
    """
    below: dict[str, list[Row]] = {}
    for row in rows:
        below.setdefault(row["supervisor"], []).append(row)
    lines = [f"{node['name']}  process {node['pid']}"]
    _draw(lines, below, "", "")
    return lines


def _draw(lines: list[str], below: dict[str, list[Row]], supervisor: str, indent: str) -> None:
    rows = below.get(supervisor, [])
    for row in rows:
        is_last = row is rows[-1]
        lines.append(f"{indent}{'└─ ' if is_last else '├─ '}{_describe(row)}")
        _draw(lines, below, row["name"], indent + ("   " if is_last else "│  "))


def _describe(row: Row) -> str:
    words = [f"{row['name']}  {row['state']}", row["kind"]]
    if row["kind"] == "process" and row["pid"] is not None:
        words[-1] = f"process {row['pid']}"
    if row["restarts"]:
        words.append(f"{row['restarts']} {'restart' if row['restarts'] == 1 else 'restarts'}")
    if row["error"] and row["state"] in ("backoff", "failed"):
        words.append(" ".join(row["error"].split()))
    return ", ".join(words)
