"""`dead`: messages that nobody handled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from grav_actors.cli.failure import FAILED
from grav_actors.cli.params import bus_option, json_option

if TYPE_CHECKING:
    from grav_actors.dead_letters import DeadLetter

Command = TypeVar("Command", bound=Callable[..., Any])

COLUMNS = ("uuid", "type", "reason", "target", "attempts", "error")
ERROR_WIDTH = 60
"""Characters of an error in the table; `show` and --json have all of it."""


@click.group("dead")
def command() -> None:
    """Look at the messages that somebody did not handle, and try them again.

    The bus keeps the last 1,000, at most 16 MiB. UUID may be the beginning or the end of one, as long as it
    names one message.
    """


def _filters(command: Command) -> Command:
    command = click.option("--type", metavar="PATTERN", help="Only messages of this type or pattern.")(command)
    return click.option("--reason", metavar="REASON", help="Only those that ended for this reason.")(command)


def _choice(command: Command) -> Command:
    command = click.option("--all", "everything", is_flag=True, help="All dead letters.")(_filters(command))
    return click.argument("uuid", required=False)(command)


@command.command("list")
@_filters
@json_option
@bus_option
def list_(reason: str | None, type: str | None, as_json: bool, bus: str | None) -> None:
    """List dead letters, oldest first."""
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import table, to_json

    with joined(bus) as node:
        letters = node.dead_letters(reason=reason, type=type)
    if as_json:
        for letter in letters:
            click.echo(to_json(_row(letter)))
    elif letters:
        rows = [{**_row(letter), "error": " ".join(letter.error.split())[:ERROR_WIDTH]} for letter in letters]
        for line in table(rows, COLUMNS):
            click.echo(line)
    else:
        which = "such " if reason is not None or type is not None else ""
        click.echo(f"grav-actors: there are no {which}dead letters", err=True)


@command.command("show")
@click.argument("uuid")
@json_option
@bus_option
def show(uuid: str, as_json: bool, bus: str | None) -> None:
    """Show a dead letter with its message; once for each receiver that it was for."""
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import to_json

    with joined(bus) as node:
        letters = node.dead_letters(uuid, with_messages=True)
    for letter in letters:
        row = _row(letter)
        message = letter.message
        if message is not None:
            row |= {
                "data": message.data,
                "parent_id": message.parent_id,
                "reply_to": message.reply_to,
                "timestamp": message.timestamp,
                "headers": dict(message.headers),
            }
        if as_json:
            click.echo(to_json(row))
            continue
        for key, value in row.items():
            text = value if isinstance(value, str) and key != "data" else to_json(value)
            if text:
                click.echo(f"{key + ':':<11}{text.rstrip()}")


@command.command("retry")
@_choice
@json_option
@bus_option
@click.pass_context
def retry(
    ctx: click.Context,
    uuid: str | None,
    reason: str | None,
    type: str | None,
    everything: bool,
    as_json: bool,
    bus: str | None,
) -> None:
    """Deliver dead letters again, each to its target alone, or to its group.

    Attempts are counted anew, and the messages are marked as redelivered. Ends with 1 when some stay: their
    target is not there, no longer takes the type, or has a full mailbox.
    """
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import to_json

    with joined(bus) as node:
        outcome = node.retry_dead(uuid, reason=reason, type=type, all=everything)
    if as_json:
        click.echo(to_json({"retried": outcome.count, "kept": outcome.kept}))
    else:
        click.echo(f"{outcome.count} delivered again")
        for why, count in outcome.kept.items():
            click.echo(f"grav-actors: {count} not delivered, and kept: {why}", err=True)
    if outcome.kept:
        ctx.exit(FAILED)


@command.command("purge")
@_choice
@json_option
@bus_option
def purge(
    uuid: str | None, reason: str | None, type: str | None, everything: bool, as_json: bool, bus: str | None
) -> None:
    """Forget dead letters; they stay counted."""
    from grav_actors.cli.client import joined
    from grav_actors.cli.render import to_json

    with joined(bus) as node:
        count = node.purge_dead(uuid, reason=reason, type=type, all=everything)
    click.echo(to_json({"purged": count}) if as_json else f"{count} purged")


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {field.name: getattr(letter, field.name) for field in fields(letter) if field.name != "message"}
