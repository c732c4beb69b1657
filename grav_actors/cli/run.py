"""`run`: one actor on a bus that runs, in the foreground."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from grav_actors.cli.failure import REFUSED, Failure
from grav_actors.cli.params import bus_option
from grav_actors.errors import ActorStartError, ConfigError

if TYPE_CHECKING:
    from grav_actors.node import Grav
    from grav_actors.supervisor.spec import Child


@click.command("run")
@click.argument("target")
@click.option("--name", help="Its name; default: the class name in lower case.")
@click.option(
    "--kind",
    type=click.Choice(["process", "thread"]),
    default="process",
    show_default=True,
    help="What it runs in; a process is started again when it dies.",
)
@bus_option
@click.pass_context
def command(ctx: click.Context, target: str, name: str | None, kind: str, bus: str | None) -> None:
    """Run one actor, TARGET as module:Class, on the bus that runs here; until it stops, or Ctrl-C.

    It is no part of the node that started the bus: `down` ends it too, `ps` lists it without a process id.
    """
    from grav_actors.cli.client import join
    from grav_actors.cli.foreground import Foreground
    from grav_actors.cli.output import log_plainly

    child = _make_child(target, name, kind)
    log_plainly()
    foreground = Foreground(_say, until_idle=True)

    def make() -> Grav:
        node = join(bus)
        node._report_end(foreground.end)  # made for this command
        return node

    ctx.exit(foreground.run(make, lambda node: _fill(node, child)))


def _make_child(target: str, name: str | None, kind: str) -> Child:
    from grav_actors.actor.actor import Actor
    from grav_actors.cli.plan import wrong_arguments
    from grav_actors.supervisor.spec import Child
    from grav_actors.target import load_target

    actor_class = load_target(target, base=Actor)
    for _, reason in wrong_arguments(actor_class, {}):
        raise ConfigError(f'"{target}": {reason}; `grav-actors up` gives arguments, from grav.toml')
    try:
        return Child(actor_class, name=name if name is not None else actor_class.__name__.lower(), kind=kind)
    except ActorStartError as exc:  # a bad name, which is a mistake in the command
        raise ConfigError(f"--name: {exc}") from exc


def _fill(node: Grav, child: Child) -> None:
    from grav_actors.bus.inquiry import CONNECTED
    from grav_actors.protocol import BUS_NAME

    if node.ask(CONNECTED, child.name, to=BUS_NAME):
        raise Failure(f"an actor named {child.name} runs on this bus already; choose another --name", REFUSED)
    node.spawn(child)
    _say(f"{child.name} is ready on bus {node.bus_endpoint}")


def _say(line: str) -> None:
    click.echo(f"grav-actors: {line}", err=True)
    sys.stderr.flush()
