"""`health`: for the probes of whoever watches over the node."""

from __future__ import annotations

import click

from grav_actors.cli.failure import DEGRADED, NO_ANSWER, Failure
from grav_actors.cli.params import bus_option, timeout_option
from grav_actors.errors import AskTimeoutError, NoRespondersError


@click.command("health")
@click.option("--ready", "must_be_ready", is_flag=True, help="Whether all actors are ready that should run.")
@timeout_option("How long to wait for the answer.", "5s")
@bus_option
@click.pass_context
def command(ctx: click.Context, must_be_ready: bool, timeout: float, bus: str | None) -> None:
    """Tell whether the node and its bus answer: 0 if they do, 4 if there is no bus, 5 if nobody answers.

    With --ready: 3 while an actor that should run is not ready. Those that ended in order, or were stopped, are
    not missed.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.order import no_node
    from grav_actors.control import HEALTH
    from grav_actors.protocol import NODE_NAME

    with joined(bus) as node:
        try:
            health = node.ask(HEALTH, to=NODE_NAME, timeout=timeout)
        except NoRespondersError:
            raise Failure(no_node(node.bus_endpoint), NO_ANSWER) from None
        except AskTimeoutError:
            raise Failure(f"the node has not answered within {timeout:g} s", NO_ANSWER) from None
    if must_be_ready and not health["ready"]:
        waiting = ", ".join(f"{name} is {_word(state)}" for name, state in health["waiting"].items())
        click.echo(f"grav-actors: not ready: {waiting or 'actors are still to be started'}", err=True)
        ctx.exit(DEGRADED)
    click.echo("ready" if health["ready"] else "running")


def _word(state: str) -> str:
    return "in backoff" if state == "backoff" else state
