"""`send`: a message to whoever wants it, or to one actor."""

from __future__ import annotations

from typing import Any

import click

from grav_actors.cli.params import bus_option, data_argument, timeout_option


@click.command("send")
@click.argument("type")
@data_argument
@click.option("--to", metavar="NAME", help="Send to this actor alone.")
@click.option("--wait", is_flag=True, help="Come back when every receiver has handled it.")
@timeout_option("How long at most; without it for ever.")
@bus_option
def command(type: str, data: Any, to: str | None, wait: bool, timeout: float | None, bus: str | None) -> None:
    """Publish a message, or send it to one actor; back when the bus has accepted it.

    DATA is JSON text, @FILE, or - for standard input. That nobody receives it is no error, but it is said.
    """
    from grav_actors.bus.inquiry import CONNECTED, RECEIVERS
    from grav_actors.cli.client import joined
    from grav_actors.message import Message
    from grav_actors.protocol import BUS_NAME

    with joined(bus) as node, node.connect() as pod:
        if to is None:
            is_received = bool(pod.ask(RECEIVERS, type, to=BUS_NAME))
            pod.publish(type, data)
        else:
            is_received = bool(pod.ask(CONNECTED, to, to=BUS_NAME))
            pod._tell(to, Message(type, data))  # a reference would tell from another pod
        pod.flush(timeout, settled=wait)
    if not is_received:
        nobody = f"nobody receives {type}" if to is None else f"there is no actor {to} now"
        click.echo(f"grav-actors: {nobody}; `grav-actors ps` lists the actors", err=True)
