"""`inspect`: all that is known of one actor."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from grav_actors.cli.failure import NO_ANSWER, REFUSED, Failure
from grav_actors.cli.params import bus_option, json_option
from grav_actors.errors import NoRespondersError

LABEL_WIDTH = 15
IN = {"process": "", "thread": "a thread of "}


@click.command("inspect")
@click.argument("name")
@json_option
@bus_option
def command(name: str, as_json: bool, bus: str | None) -> None:
    """Show all that is known of one actor: where it stands, what it is made of, and the report of its last crash."""
    from grav_actors.cli.client import joined
    from grav_actors.cli.order import no_node
    from grav_actors.cli.render import to_json
    from grav_actors.protocol import NODE_NAME
    from grav_actors.supervisor.branch import INSPECT

    with joined(bus) as node:
        try:
            row = node.ask(INSPECT, name, to=NODE_NAME, timeout=10.0)
        except NoRespondersError:
            raise Failure(no_node(node.bus_endpoint), NO_ANSWER) from None
    if "refused" in row:
        raise Failure(row["refused"], REFUSED)
    if as_json:
        click.echo(to_json(row))
        return
    for line in describe(row):
        click.echo(line)


def describe(row: dict[str, Any]) -> list[str]:
    """Return the lines about an actor: `label: value`, and its crash report below."""
    from grav_actors.cli.ps import size_text

    pod = row["pod"] or {}
    where = row["kind"] if row["pid"] is None else f"{IN[row['kind']]}process {row['pid']}"
    rules = [row["restart"], *(["significant"] if row["significant"] else [])]
    facts = {
        "name": row["name"],
        "state": row["state"],
        "runs in": where,
        "supervisor": row["supervisor"] or "the node",
        "pool": row["pool"],
        "class": row["class"],
        "restarts": str(row["restarts"]),
        "memory": size_text(row["memory"]) if row["memory"] is not None else "",
        "mailbox": f"{row['mailbox']} waiting" + (", stuck" if row["stuck"] else ""),
        "failed": f"{pod['failed']} messages wait for another attempt" if pod.get("failed") else "",
        "group": row["group"],
        "handles": ", ".join(row["handles"]),
        "restart": ", ".join(rules),
        "start_timeout": f"{row['start_timeout']:g} s",
        "shutdown": f"{row['shutdown']:g} s",
        "hung after": f"{row['handler_timeout']:g} s" if row["handler_timeout"] is not None else "",
        **{key: _value(value) for key, value in row["options"].items()},
        "last end": " ".join(row["error"].split()),
    }
    lines = [f"{label + ':':<{LABEL_WIDTH}}{value}" for label, value in facts.items() if value]
    if row["report"]:
        when = datetime.fromtimestamp(row["reported_at"]).astimezone()
        lines += ["", f"last crash, {when:%Y-%m-%d %H:%M:%S}:", *(f"  {line}" for line in row["report"].split("\n"))]
    return lines


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
