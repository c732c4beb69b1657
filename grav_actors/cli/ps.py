"""`ps`: the actors of the node, and those that other programs run on its bus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from grav_actors.cli.failure import DEGRADED
from grav_actors.cli.params import bus_option, json_option
from grav_actors.errors import NoRespondersError

if TYPE_CHECKING:
    from grav_actors.node import Grav

COLUMNS = ("name", "kind", "state", "pid", "restarts", "mailbox", "in/s", "out/s", "memory", "error")
MEASURED = 0.25
"""Seconds over which rates are measured."""
ERROR_WIDTH = 60
SIZES = ("B", "KiB", "MiB", "GiB")


@click.command("ps")
@json_option
@bus_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, bus: str | None) -> None:
    """List the actors: where they run, how often they were restarted, how much waits for them, what they get.

    STATE is starting, ready, draining, backoff (it waits for its restart), failed or stopped. IN/S and OUT/S are
    the messages delivered to it and sent by it in a second, MEMORY that of its process, ERROR why it last ended.
    Those of other programs on this bus, as of `grav-actors run`, have no kind, pid and restarts here. Ends with 3
    when an actor is not running that should.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import table, to_json

    with joined(bus) as node:
        rows, is_degraded = list_actors(node)
    for line in map(to_json, rows) if as_json else table(map(shown, rows), COLUMNS):
        click.echo(line)
    if is_degraded:
        ctx.exit(DEGRADED)


def list_actors(node: Grav) -> tuple[list[dict[str, Any]], bool]:
    """Return a row for each actor on a bus, with its rates, and whether one does not run that should."""
    from grav_actors.bus.inquiry import PODS
    from grav_actors.control import PS
    from grav_actors.protocol import BUS_NAME, NODE_NAME

    before, began = node.ask(PODS, to=BUS_NAME), time.monotonic()
    try:
        status: dict[str, Any] = node.ask(PS, to=NODE_NAME, timeout=10.0)
    except NoRespondersError:  # a bus alone
        status = {"actors": [], "degraded": False}
    time.sleep(max(0.0, MEASURED - (time.monotonic() - began)))
    after, ended = node.ask(PODS, to=BUS_NAME), time.monotonic()
    rows: list[dict[str, Any]] = status["actors"]
    known = {row["name"] for row in rows}
    for pod in after:
        if pod["actor"] and pod["name"] not in known and not pod["name"].startswith("grav."):
            state = "ready" if pod["connected"] else "away"
            empty = dict.fromkeys(("kind", "pid", "restarts", "memory"))
            rows.append({**empty, "name": pod["name"], "state": state, "mailbox": pod["mailbox"], "error": ""})
    found = rates(before, after, ended - began)
    for row in rows:
        row["rate_in"], row["rate_out"] = found.get(row["name"], (None, None))
    return rows, bool(status["degraded"])


def rates(before: list[dict[str, Any]], after: list[dict[str, Any]], seconds: float) -> dict[str, tuple[float, float]]:
    """Return what each actor was given and has sent in a second, by name, from two looks at the pods of a bus."""
    first = {pod["uuid"]: pod for pod in before}
    found: dict[str, tuple[float, float]] = {}
    for pod in after:
        old = first.get(pod["uuid"])
        if pod["actor"] and old is not None:
            # A bus that was restarted in between counts anew.
            given, sent = (max(0, pod[key] - old[key]) / seconds for key in ("delivered", "sent"))
            found[pod["name"]] = (round(given, 1), round(sent, 1))
    return found


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as people read it."""
    return {
        **row,
        "in/s": _rate_text(row["rate_in"]),
        "out/s": _rate_text(row["rate_out"]),
        "memory": size_text(row["memory"]) if row["memory"] is not None else None,
        "error": " ".join(row["error"].split())[:ERROR_WIDTH],
    }


def _rate_text(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.0f}"


def size_text(size: float) -> str:
    """Return a size in the unit that suits it: `34 MiB`."""
    unit = 0
    while size >= 1024 and unit < len(SIZES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {SIZES[unit]}"
