"""`scale`: how many instances pools have."""

from __future__ import annotations

import click

from grav_actors.cli.order import PATIENCE, give
from grav_actors.cli.params import bus_option, timeout_option


@click.command("scale")
@click.argument("sizes", nargs=-1, required=True, metavar="NAME=N...")
@timeout_option("How long to wait for all of them.", PATIENCE)
@bus_option
def command(sizes: tuple[str, ...], timeout: float, bus: str | None) -> None:
    """Have N instances of a pool, and come back when they are ready, or have ended.

    A pool is an actor that was given `instances` above 1. Those with the highest numbers are stopped, and finish
    what they are doing. The next `up` begins with the number of the configuration again.
    """
    give([("scale", *_read(size)) for size in sizes], timeout, bus)


def _read(size: str) -> tuple[str, int]:
    name, _, number = size.partition("=")
    if not name or not number.isascii() or not number.isdigit():
        raise click.UsageError(f"{size!r} is no NAME=N, such as temp=4")
    return name, int(number)
