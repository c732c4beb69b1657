"""`restart`: stop actors and start them again."""

from __future__ import annotations

import click

from grav_actors.cli.order import PATIENCE, give
from grav_actors.cli.params import bus_option, timeout_option


@click.command("restart")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@timeout_option("How long to wait for all of them.", PATIENCE)
@bus_option
def command(names: tuple[str, ...], timeout: float, bus: str | None) -> None:
    """Stop actors and start them again, and come back when they are ready.

    NAME is an actor, or a pool for all its instances, one after another. What waits for an actor is kept for its
    next life; this counts as no failure. Code that has changed is not loaded anew: `down` and `up` do that.
    """
    give([("restart", name, 0) for name in names], timeout, bus)
