"""`events`: what happens, as it happens."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import click

from grav_actors.cli.params import bus_option, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from grav_actors.message import Message

FIRST = ("name", "reason", "error", "next")
"""What stands first in a line, if the event says it; the rest of its fields is left to `--json`."""
TEXT_WIDTH = 200


@click.command("events")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--count", type=click.IntRange(min=1), help="End after this many events.")
@json_option
@bus_option
def command(patterns: tuple[str, ...], count: int | None, as_json: bool, bus: str | None) -> None:
    """Print events as they happen: actors that start, crash, restart or end, dead letters, slow pods, other nodes.

    A PATTERN is one of types below grav.sys, such as 'actor.*' or 'dead'; without one all are printed. Ends with
    Ctrl-C, or with --count.
    """
    from grav_actors.cli.client import joined, when_ended
    from grav_actors.cli.sub import Feed
    from grav_actors.filters import FilterSet
    from grav_actors.pattern import check_pattern

    filters = FilterSet(listening=True, exclusive=True)
    for pattern in patterns or (">",):
        filters.set_type(check_pattern(pattern if pattern.startswith("grav.sys.") else f"grav.sys.{pattern}"), True)
    with joined(bus) as node:
        # Never `block`: nobody must wait because somebody has stopped his terminal.
        pod = node.connect(overflow="drop_oldest")
        over: SimpleQueue[Exception | None] = SimpleQueue()
        when_ended(pod, over.put)
        pod._set_handler(Feed(_formatter(as_json=as_json), count, 0, over).take, filters)
        outcome = over.get()
        if outcome is not None:
            raise outcome


def _formatter(*, as_json: bool) -> Callable[[Message], None]:
    from grav_actors.cli.render import to_json

    def show(message: Message) -> None:
        if as_json:
            click.echo(to_json({"type": message.type, "timestamp": message.timestamp, "data": message.data}))
        else:
            at = message.timestamp.astimezone()
            click.echo(f"{at:%H:%M:%S} {line(message.type.removeprefix('grav.sys.'), message.data)}")

    return show


def line(event: str, data: Any) -> str:
    """Return an event in one line: its type without `grav.sys.`, who, why, and what comes next."""
    from grav_actors.cli.render import to_json

    if not isinstance(data, dict):
        return f"{event} {to_json(data)}"
    if not event.startswith("actor."):
        text = to_json({key: value for key, value in data.items() if not isinstance(value, bytes)})
    else:
        text = "; ".join(" ".join(str(data[key]).split()) for key in FIRST if data.get(key))
    return f"{event} {text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 3] + '...'}"
