"""`bus`: a bus alone, in the foreground."""

from __future__ import annotations

import ipaddress
import re
import signal
from pathlib import Path

import click

from grav_actors.cli.params import size
from grav_actors.errors import ConfigError
from grav_actors.options import BusOptions

INTERRUPTED = 130

_TCP = re.compile(r"tcp://(?P<host>[^\s\[\]]+|\[[^\s\[\]]+\]):(?P<port>[0-9]{1,5}|\*)")
_MAPPED = re.compile(r"\[::ffff:([0-9.]+)\]")


@click.command("bus")
@click.option("--tcp", metavar="ADDRESS", default="", help="Listen there besides, as on tcp://127.0.0.1:5555.")
@click.option("--insecure", is_flag=True, help="Let --tcp be reached from other machines, without keys.")
@click.option("--replay-limit", type=int, default=128, show_default=True, help="Messages that it keeps for replay.")
@click.option(
    "--max-message", metavar="SIZE", callback=size, default="1MiB", show_default=True, help="Largest message."
)
@click.pass_context
def command(ctx: click.Context, tcp: str, insecure: bool, replay_limit: int, max_message: int) -> None:
    """Run a bus for this directory without actors, until Ctrl-C or SIGTERM.

    Actors come from `grav-actors run` and from scripts. Where it listens is printed, one address a line.
    """
    from grav_actors.bus.process import BusSpec, serve
    from grav_actors.cli.lock import project_lock
    from grav_actors.cli.output import log_plainly

    options = BusOptions(replay_limit, max_message)
    if tcp:
        check_address(tcp, insecure=insecure)
    log_plainly()
    with project_lock(Path.cwd()) as lock:
        spec = BusSpec(str(lock.path.parent), tcp, options.replay_limit, options.max_message)
        number = serve(spec, on_ready=_show)
    ctx.exit(INTERRUPTED if number == signal.SIGINT else 0)


def check_address(address: str, *, insecure: bool) -> None:
    """Refuse what is no TCP address, or one beyond this machine unless that is wanted.

    Raises:
        ConfigError: It is one of both.
    """
    match = _TCP.fullmatch(address)
    if match is None or (match["port"] != "*" and int(match["port"]) > 65535):
        raise ConfigError(f"--tcp must be an address like tcp://127.0.0.1:5555, not {address!r}")
    if not insecure and not _is_loopback(match["host"].strip("[]")):
        raise ConfigError(
            f"{address} can be reached from other machines, and whoever reaches it may read and send "
            "everything; use tcp://127.0.0.1:PORT, or say --insecure"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "lo")


def _show(endpoints: list[str]) -> None:
    for endpoint in endpoints:
        click.echo(_MAPPED.sub(r"\1", endpoint))  # an IPv4 address as it was given
    click.echo("grav-actors: the bus is ready", err=True)
