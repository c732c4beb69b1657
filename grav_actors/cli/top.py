"""`top`: what `ps` shows, again and again."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Any

import click

from grav_actors.cli.params import bus_option, duration, json_option

CLEAR = "\x1b[H\x1b[J"
"""Moves to the upper left of a terminal, and clears what is behind."""
ORDERS: dict[str, Any] = {
    "start": None,
    "name": lambda row: row["name"],
    "mailbox": lambda row: -row["mailbox"],
    "in": lambda row: -(row["rate_in"] or 0.0),
    "out": lambda row: -(row["rate_out"] or 0.0),
    "memory": lambda row: -(row["memory"] or 0),
    "restarts": lambda row: -(row["restarts"] or 0),
}


@click.command("top")
@click.option(
    "--interval", metavar="DURATION", callback=duration, default="2s", show_default=True, help="Between looks."
)
@click.option("--count", type=click.IntRange(min=1), help="End after this many looks.")
@click.option(
    "--sort",
    type=click.Choice(list(ORDERS)),
    default="start",
    show_default=True,
    help="Which stand first: those with most of it.",
)
@json_option
@bus_option
def command(interval: float, count: int | None, sort: str, as_json: bool, bus: str | None) -> None:
    """Show the actors as `ps` does, again and again, until Ctrl-C, or with --count.

    On a terminal each look replaces the one before, and shows as many actors as there is room for; else they follow one
    another. With --json each actor is an object a line, with the time of the look.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.ps import list_actors
    from grav_actors.cli.render import to_json

    order = ORDERS[sort]
    is_terminal = sys.stdout.isatty() and not as_json
    with joined(bus) as node:
        looks = 0
        while True:
            began = time.monotonic()
            rows, _ = list_actors(node)
            if order is not None:
                rows.sort(key=order)
            if as_json:
                now = datetime.now(UTC)
                lines = [to_json({"time": now, **row}) for row in rows]
            else:
                lines = screen(rows, shutil.get_terminal_size() if is_terminal else None)
            click.echo((CLEAR if is_terminal else "") + "\n".join(lines), nl=bool(lines))
            sys.stdout.flush()
            looks += 1
            if looks == count:
                return
            time.sleep(max(0.0, began + interval - time.monotonic()))


def screen(rows: list[dict[str, Any]], size: tuple[int, int] | None) -> list[str]:
    """Return the lines of one look: how many actors are in which state, and a table of them.

    Args:
        size: Columns and lines of the terminal; None shows all.
    """
    from grav_actors.cli.ps import COLUMNS, shown
    from grav_actors.cli.render import table

    states: dict[str, int] = {}
    for row in rows:
        states[row["state"]] = states.get(row["state"], 0) + 1
    waiting = sum(row["mailbox"] for row in rows)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    now = datetime.now(UTC).astimezone()
    head = f"{now:%H:%M:%S}  {len(rows)} actors{': ' if counts else ''}{counts}; {waiting} messages wait"
    lines = [head, "", *table(map(shown, rows), COLUMNS)]
    if size is None:
        return [*lines, ""]
    columns, height = size
    if len(lines) > height - 1:
        left = len(lines) - (height - 2)
        lines = [*lines[: height - 2], f"and {left} more"]
    return [line[:columns] for line in lines]
