"""`check`: is the configuration right, and would the classes take their arguments?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from grav_actors.cli.failure import USAGE
from grav_actors.cli.params import json_option

if TYPE_CHECKING:
    from grav_actors.cli.plan import Planned
    from grav_actors.supervisor.spec import Child


@click.command("check")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@json_option
@click.pass_context
def command(ctx: click.Context, targets: tuple[str, ...], as_json: bool) -> None:
    """Read the configuration, import the classes, hold their arguments against their constructors.

    A TARGET is module:Class. Starts nothing. Every mistake gets a line on standard error, `file:line: ...`,
    and the command ends with 2.
    """
    from grav_actors.cli.plan import examine, mistakes_of_node, read_plan
    from grav_actors.cli.render import to_json
    from grav_actors.config import ConfigFileError

    try:
        plan = read_plan(targets)
    except ConfigFileError as exc:
        click.echo(str(exc), err=True)
        ctx.exit(USAGE)
    mistakes = list(mistakes_of_node(plan.config))
    for planned in examine(plan):
        mistakes += planned.mistakes
        if planned.child is not None:
            click.echo(to_json(_row(planned, planned.child)) if as_json else _line(planned, planned.child))
    for mistake in mistakes:
        click.echo(str(mistake), err=True)
    if mistakes:
        ctx.exit(USAGE)


def _row(planned: Planned, child: Child) -> dict[str, object]:
    return {
        "name": planned.name or None,
        "class": planned.target,
        "kind": child.kind,
        "instances": child.instances,
        "args": child.kwargs,
    }


def _line(planned: Planned, child: Child) -> str:
    times = f" x {child.instances}" if child.instances > 1 else ""
    label = f"{planned.name}: " if planned.name else ""
    return f"{label}{planned.target} ({child.kind}{times}) is fine"
