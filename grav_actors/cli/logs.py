"""`logs`: what the actors of this project's node wrote, and what happened to them; also when it has ended."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from grav_actors.cli.failure import NO_BUS, USAGE, Failure
from grav_actors.cli.params import bus_option, duration, json_option

if TYPE_CHECKING:
    from grav_actors.cli.journal import Entry

LOOK_INTERVAL = 0.1
"""Seconds between looks for what was added, with `--follow`."""


@click.command("logs")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written, until the node ends, or Ctrl-C.")
@click.option("--last", "-n", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines of these.")
@click.option("--since", metavar="DURATION", callback=duration, help="Begin with what is not older, such as 10m.")
@json_option
@bus_option
def command(
    names: tuple[str, ...],
    follow: bool,
    last: int | None,
    since: float | None,
    as_json: bool,
    bus: str | None,
) -> None:
    """Print what the actors of this directory's node wrote, and what happened to them: all, or those of NAME.

    NAME is an actor, a pool (all its instances), or grav for the node itself. The last 4 to 8 MiB are kept, over ends
    of the node too, however it ended.
    """
    from grav_actors.cli.journal import Reader

    folder = find_folder(bus)
    reader = Reader(folder)
    show = _formatter(as_json=as_json)
    earliest = time.time() - since if since is not None else float("-inf")
    is_over = _has_ended(folder)  # before the first look: what is written until the end is seen by a later one
    seen: set[str] = set()

    def chosen() -> Iterable[Entry]:
        for entry in reader.entries():
            seen.add(entry.name)
            if entry.time >= earliest and (not names or any(belongs(entry.name, name) for name in names)):
                yield entry

    for entry in chosen() if last is None else deque(chosen(), maxlen=last):
        show(entry)
    missing = [name for name in names if not any(belongs(one, name) for one in seen)]
    if missing and (is_over or not follow):
        raise Failure(_no_lines(missing[0], seen), USAGE)
    while follow and not is_over:
        sys.stdout.flush()
        time.sleep(LOOK_INTERVAL)
        is_over = _has_ended(folder)
        for entry in chosen():
            show(entry)


def belongs(writer: str, name: str) -> bool:
    """Return whether a line is asked for by a name: its writer's, or that of the pool that it is an instance of."""
    return writer == name or (writer.startswith(f"{name}-") and writer[len(name) + 1 :].isdigit())


def find_folder(bus: str | None) -> Path:
    """Return the run folder with the journal of this directory's node, or of the one at an address.

    Raises:
        Failure: There is none.
    """
    from grav_actors.cli.client import lock_of
    from grav_actors.cli.journal import JOURNAL
    from grav_actors.project import find_run_folder

    here = Path.cwd()
    if bus is None:
        folder = find_run_folder(here, JOURNAL)
        if folder is None:
            raise Failure(
                f"nothing was logged for {here} or a directory above it; `grav-actors up` starts a node there", NO_BUS
            )
        return folder
    lock = lock_of(bus)
    if lock is None or not (lock.parent / JOURNAL).exists():
        raise Failure(
            f"no node on this machine has logged anything at {bus}; `grav-actors logs` needs its folder", NO_BUS
        )
    return lock.parent


def _has_ended(folder: Path) -> bool:
    from grav_actors.project import NODE_LOCK, is_locked

    return not is_locked(folder / NODE_LOCK)


def _no_lines(name: str, seen: set[str]) -> str:
    from grav_actors.options import did_you_mean

    return f"nothing in the log is from {name}{did_you_mean(name, seen) or '; `grav-actors logs` prints all of it'}"


def _formatter(*, as_json: bool) -> Callable[[Entry], None]:
    from grav_actors.cli.output import colour_of, may_colour
    from grav_actors.cli.render import to_json

    is_coloured = may_colour(sys.stdout)
    colours: dict[str, int] = {}
    width = 0

    def show(entry: Entry) -> None:
        nonlocal width
        if as_json:
            row: dict[str, Any] = {
                "time": datetime.fromtimestamp(entry.time, UTC),
                "name": entry.name,
                "stream": entry.stream,
                "text": entry.text,
            }
            print(to_json(row))
            return
        width = max(width, len(entry.name))
        prefix = f"{datetime.fromtimestamp(entry.time):%H:%M:%S} {entry.name.ljust(width)} |"  # noqa: DTZ006  (local)
        if is_coloured:
            prefix = f"\x1b[{colour_of(entry.name, colours)}m{prefix}\x1b[0m"
        print(f"{prefix} {entry.text}")

    return show
