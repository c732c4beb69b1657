"""`reload`: applies a changed configuration to the node that runs."""

from __future__ import annotations

import click

from grav_actors.cli.failure import FAILED, NO_ANSWER, REFUSED, USAGE, Failure
from grav_actors.cli.order import PATIENCE, no_node
from grav_actors.cli.params import bus_option, json_option, timeout_option
from grav_actors.errors import NoRespondersError

CODES = {"failed": FAILED, "mistake": USAGE, "refused": REFUSED}


@click.command("reload")
@timeout_option("How long to wait until it is done.", PATIENCE)
@json_option
@bus_option
def command(timeout: float, as_json: bool, bus: str | None) -> None:
    """Apply what has changed in grav.toml to the node that `up` runs; SIGHUP does the same.

    Actors whose table is new are started, those whose table is gone are stopped, those whose table has changed
    are stopped and started anew; of a pool only its number may change. All others run on. With a mistake in the
    file nothing is changed. Other tables, and changed code, take effect with the next `up`.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import to_json
    from grav_actors.control import RELOAD
    from grav_actors.protocol import NODE_NAME

    with joined(bus) as node:
        try:
            answer = node.ask(RELOAD, to=NODE_NAME, timeout=timeout)
        except NoRespondersError:
            raise Failure(no_node(node.bus_endpoint), NO_ANSWER) from None
    if answer["status"] != "done":
        raise Failure(answer["text"], CODES[answer["status"]], answer["traceback"])
    for line in answer["changes"]:
        click.echo(to_json({"change": line}) if as_json else line)
    if not answer["changes"]:
        click.echo("grav-actors: nothing has changed", err=True)
