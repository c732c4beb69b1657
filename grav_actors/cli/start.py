"""`start`: start actors that are down."""

from __future__ import annotations

import click

from grav_actors.cli.order import PATIENCE, give
from grav_actors.cli.params import bus_option, timeout_option


@click.command("start")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@timeout_option("How long to wait for all of them.", PATIENCE)
@bus_option
def command(names: tuple[str, ...], timeout: float, bus: str | None) -> None:
    """Start actors that are down, and come back when they are ready.

    NAME is an actor, or a pool for all its instances. One that runs is left alone; one that waits for its restart
    is started now.
    """
    give([("start", name, 0) for name in names], timeout, bus)
