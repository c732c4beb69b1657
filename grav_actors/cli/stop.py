"""`stop`: stop actors for good."""

from __future__ import annotations

import click

from grav_actors.cli.order import PATIENCE, give
from grav_actors.cli.params import bus_option, timeout_option


@click.command("stop")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@timeout_option("How long to wait for all of them.", PATIENCE)
@bus_option
def command(names: tuple[str, ...], timeout: float, bus: str | None) -> None:
    """Stop actors, and come back when they have ended. They are not restarted; `start` does that.

    NAME is an actor, or a pool for all its instances. They finish what they are doing.
    """
    give([("stop", name, 0) for name in names], timeout, bus)
