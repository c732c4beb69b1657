"""`ask`: a question, and its answer on standard output."""

from __future__ import annotations

import sys
from typing import Any

import click

from grav_actors.cli.failure import as_failure
from grav_actors.cli.params import bus_option, data_argument, timeout_option
from grav_actors.errors import HandlerError


@click.command("ask")
@click.argument("type")
@data_argument
@click.option("--to", metavar="NAME", help="Ask this actor; without it whoever handles the type.")
@timeout_option("How long to wait.", "5s")
@click.option("--json", "as_json", is_flag=True, help='Print an object, {"data": ...}, with bytes as base64.')
@click.option("--traceback", "with_traceback", is_flag=True, help="Show where a handler failed.")
@bus_option
def command(
    type: str,
    data: Any,
    to: str | None,
    timeout: float,
    as_json: bool,
    with_traceback: bool,
    bus: str | None,
) -> None:
    """Ask a question and print the answer as one line of JSON, bytes as they are.

    DATA is JSON text, @FILE, or - for standard input. Ends with 5 when nobody answers, with 1 when the
    handler failed.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import to_json

    with joined(bus) as node:
        try:
            answer = node.ask(type, data, to=to, timeout=timeout)
        except HandlerError as exc:
            raise as_failure(exc, with_traceback=with_traceback) from exc
    if as_json:
        click.echo(to_json({"data": answer}))
    elif isinstance(answer, bytes):
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    else:
        click.echo(to_json(answer))
