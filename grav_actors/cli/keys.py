"""`keys`: the key pair of this node, and those of the nodes that it accepts."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grav_actors.cli.params import json_option
from grav_actors.errors import ConfigError

if TYPE_CHECKING:
    from grav_actors.config import NodeConfig
    from grav_actors.mesh.certificate import Certificate
    from grav_actors.mesh.keys import KeyFolder

_dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="The folder of the keys. Default: `keys` of [mesh] in grav.toml, else the user's configuration folder.",
)


@click.group("keys")
def command() -> None:
    """Keys by which nodes trust each other.

    Each node has a key pair of its own; two nodes link up when each allows the other's public key.
    """


@command.command("new")
@click.option("--name", metavar="NAME", help="What this node is called. Default: as in grav.toml, else the host.")
@click.option("--force", is_flag=True, help="Replace the key pair; other nodes then have to allow the new one.")
@_dir_option
@json_option
def new(name: str | None, force: bool, folder: Path | None, as_json: bool) -> None:
    """Make the key pair of this node."""
    config = _config()
    keys = _folder(folder, config)
    pair = keys.new(name or config.node.name or _host_name(), replace=force)
    _print_own(keys, pair, as_json=as_json)
    if not as_json:
        say = f'every other node needs it: "grav-actors keys allow FILE", with the file {keys.public_file}'
        click.echo(say, err=True)


@command.command("show")
@_dir_option
@json_option
def show(folder: Path | None, as_json: bool) -> None:
    """Print the public key of this node, as a file for `keys allow` on another."""
    keys = _folder(folder, _config())
    pair = keys.pair()
    if as_json:
        _print_own(keys, pair, as_json=True)
    else:
        click.echo(pair.public().text(), nl=False)


@command.command("allow")
@click.argument("key")
@click.option("--name", metavar="NAME", help="What to call its node here. Default: what the file says.")
@click.option("--force", is_flag=True, help="Replace another key of that name.")
@_dir_option
@json_option
def allow(key: str, name: str | None, force: bool, folder: Path | None, as_json: bool) -> None:
    """Accept the node with this public key, from now on.

    KEY is a file that `keys show` of that node has written, `-` for standard input, or the 40 characters of the
    key. Running nodes see the change by themselves; removing the file takes it back.
    """
    from grav_actors.cli.render import to_json

    keys = _folder(folder, _config())
    certificate = _read_key(key)
    path = keys.allow(certificate, name or "", replace=force)
    if as_json:
        click.echo(to_json({"name": path.stem, "public_key": certificate.public_key, "file": str(path)}))
    else:
        click.echo(f"{path.stem} is allowed: {path}")


@command.command("list")
@_dir_option
@json_option
def list_(folder: Path | None, as_json: bool) -> None:
    """List the keys that are allowed."""
    from grav_actors.cli.render import table, to_json

    keys = _folder(folder, _config())
    rows = [
        {"name": name, "public_key": key, "file": str(keys.allowed_folder / f"{name}.key")}
        for name, key in keys.allowed().items()
    ]
    if not rows and not as_json:
        click.echo(f'no key is allowed in {keys.allowed_folder}; "grav-actors keys allow FILE" adds one', err=True)
        return
    for line in map(to_json, rows) if as_json else table(rows, ("name", "public_key")):
        click.echo(line)


def _config() -> NodeConfig:
    """Return the configuration of this project, or that of a node without one."""
    from grav_actors.config import NodeConfig, find_project, load_config

    path = find_project(Path.cwd())
    return load_config(path) if path is not None else NodeConfig()


def _folder(given: Path | None, config: NodeConfig) -> KeyFolder:
    from grav_actors.mesh.keys import KeyFolder, default_folder

    configured = config.mesh.keys if config.mesh is not None else None
    return KeyFolder(given or configured or default_folder())


def _host_name() -> str:
    """Return this host's name as far as it can name a node."""
    return re.sub(r"[^A-Za-z0-9._-]", "", socket.gethostname())[:64] or "node"


def _read_key(given: str) -> Certificate:
    from grav_actors.mesh.certificate import Certificate, is_key, parse_certificate
    from grav_actors.mesh.keys import read_certificate
    from grav_actors.private_file import LARGEST_FILE

    if given == "-":
        text = sys.stdin.buffer.read(LARGEST_FILE).decode("utf-8-sig", "replace")
        try:
            return Certificate(text.strip()) if is_key(text.strip()) else parse_certificate(text)
        except ConfigError as exc:
            raise ConfigError(f"standard input:{exc}") from exc
    if is_key(given) and not Path(given).exists():
        return Certificate(given)
    return read_certificate(Path(given))


def _print_own(keys: KeyFolder, pair: Certificate, *, as_json: bool) -> None:
    from grav_actors.cli.render import to_json

    row = {"name": pair.name, "public_key": pair.public_key, "file": str(keys.public_file)}
    if as_json:
        click.echo(to_json(row))
    else:
        click.echo(f"{pair.name} has the public key {pair.public_key}")
