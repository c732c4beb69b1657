"""`up`: the node of this directory, in the foreground."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from grav_actors.cli.failure import FAILED, Failure
from grav_actors.errors import BusNotFoundError, GravError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from grav_actors.cli.changes import Reloader
    from grav_actors.cli.foreground import Foreground
    from grav_actors.cli.journal import Journal
    from grav_actors.cli.notify import Notifier
    from grav_actors.cli.output import Output
    from grav_actors.config import NodeConfig
    from grav_actors.message import Message
    from grav_actors.node import Grav
    from grav_actors.supervisor.spec import Child


@click.command("up")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.pass_context
def command(ctx: click.Context, targets: tuple[str, ...]) -> None:
    """Start the actors of this project, and run until Ctrl-C, SIGTERM or `down`.

    What is started stands in grav.toml, or in [tool.grav-actors] of pyproject.toml, in this directory or the
    nearest above it; a TARGET, module:Class, is started besides, as a process.

    Ctrl-C lets the actors finish what they are doing; a second one ends everything at once. SIGHUP, as `reload`,
    applies what has changed in grav.toml. Under systemd it is a service of Type=notify, or notify-reload, and gives
    signs of life for WatchdogSec=.
    """
    from grav_actors.cli.changes import Reloader
    from grav_actors.cli.foreground import Foreground
    from grav_actors.cli.lock import project_lock
    from grav_actors.cli.notify import Notifier
    from grav_actors.cli.output import Output, log_among
    from grav_actors.cli.plan import children_of, read_plan
    from grav_actors.project import clean_folder

    notifier = Notifier.from_environment(os.environ)
    plan = read_plan(targets)
    with project_lock(plan.folder) as lock:
        folder = lock.path.parent
        children = children_of(plan)
        clean_folder(folder, held=(lock,))
        journal = _open_journal(folder)
        output = Output((name for child in children for name in _names(child)), journal)
        log_among(output)
        _print_at_once()
        service = Service(Reloader(plan, children, output.say), notifier, output.say)
        foreground = Foreground(
            output.say,
            lambda: clean_folder(folder, held=(lock,)),
            on_stopping=service.stopping,
            on_hangup=service.hang_up,
        )

        def fill(node: Grav) -> None:
            if journal is not None:
                _note_events(node, journal)
            service.begin(node)
            _fill(node, children, output)
            service.ready()

        try:
            code = foreground.run(lambda: _make(plan.config, folder, output, foreground), fill)
        finally:
            service.close()
            if journal is not None:
                journal.close()
    ctx.exit(code)


def _open_journal(folder: Path) -> Journal | None:
    from grav_actors.cli.journal import Journal

    try:
        journal = Journal(folder)
    except OSError as exc:  # a full disk must not keep a node from running
        click.echo(f"grav-actors: `logs` will show nothing of this node: {exc}", err=True)
        return None
    journal.write("grav", "log", f"up: process {os.getpid()}")
    return journal


def _note_events(node: Grav, journal: Journal) -> None:
    """Have what happens to actors, those of nested supervisors too, noted under their names."""

    def note(message: Message) -> None:
        journal.write(message.data["name"], "event", event_text(message.type.rpartition(".")[2], message.data))

    # Never `block`: what happens to actors must not wait for a disk.
    node.connect(overflow="drop_oldest").on_type("grav.sys.actor.*", note)


def event_text(event: str, data: dict[str, Any]) -> str:
    """Return the line, or lines, that the journal has of an event."""
    if event == "crashed":
        return str(data["report"])
    if event == "started":
        return f"started: {describe(data)}" + (f", restart {data['restarts']}" if data["restarts"] else "")
    words = [data["reason"], " ".join(data["error"].split()), data["next"]]
    return f"{event}: {'; '.join(word for word in words if word)}"


class Service:
    """A node as those see it who watch over it: they are told how it is, and may have it reloaded.

    Args:
        notifier: Tells systemd; None if it did not ask.
        say: Writes a line for the user.
    """

    def __init__(self, reloader: Reloader, notifier: Notifier | None, say: Callable[[str], None]) -> None:
        self._reloader = reloader
        self._notifier = notifier
        self._say = say
        self._node: Grav | None = None
        self._is_stopping = False

    def begin(self, node: Grav) -> None:
        """Watch over a node that has yet to start its actors."""
        self._node = node
        node._on_reload = self.reload
        if self._notifier is not None:
            self._notifier.watch(lambda timeout: self._is_stopping or node._answers(timeout))

    def ready(self) -> None:
        """Tell that all actors have started, or that the configuration was applied."""
        if self._notifier is not None and self._node is not None and not self._is_stopping:
            count = len(self._node._actors())
            self._notifier.ready(f"{count} {'actor' if count == 1 else 'actors'}")

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._is_stopping = True
        if self._notifier is not None:
            self._notifier.stopping()

    def reload(self) -> list[str]:
        """Apply a changed configuration; see `Reloader.reload`."""
        assert self._node is not None
        if self._notifier is not None:
            self._notifier.reloading()
        try:
            return self._reloader.reload(self._node)
        finally:
            self.ready()

    def hang_up(self) -> None:
        """Reload, and say how that went."""
        try:
            changes = self.reload()
        except GravError as exc:
            self._say(f"not reloaded: {exc.args[0]}")
        else:
            self._say("reloaded" if changes else "reloaded: nothing has changed")

    def close(self) -> None:
        """Watch no more."""
        if self._notifier is not None:
            self._notifier.close()


def _make(config: NodeConfig, folder: Path, output: Output, foreground: Foreground) -> Grav:
    from grav_actors.bus.process import BusSpec
    from grav_actors.cli.mesh import PeerNews, mesh_line
    from grav_actors.cli.plan import mesh_of
    from grav_actors.node import Grav

    mesh = mesh_of(config)
    try:
        node = Grav._in_folder(  # made for this command
            BusSpec(str(folder), "", config.bus.replay_limit, config.bus.max_message),
            name=config.node.name,
            belongs_to=config.node.belongs_to,
            interests=config.node.interests,
            options=config.bus,
            limits=config.supervisor.limits,
            strategy=config.supervisor.strategy,
            on_line=output.write,
            on_end=foreground.end,
            plan=mesh,
            on_peer=PeerNews(output.say).tell,
        )
    except BusNotFoundError as exc:
        raise Failure(str(exc), FAILED) from exc  # it is this command that should have started it
    if config.mesh is not None and mesh is not None and node._hub is not None:
        output.say(mesh_line(config.mesh, node._hub.endpoint, mesh.custom["keys"]))
    return node


def _fill(node: Grav, children: list[Child], output: Output) -> None:
    shown: set[str] = set()
    for child in children:
        node._launch(child)
        for row in node._actors():
            if row["name"] not in shown:
                shown.add(row["name"])
                output.say(f"{row['name']}: {describe(row)}")
    node._is_filled = True
    output.say(f"ready: {len(shown)} {'actor' if len(shown) == 1 else 'actors'}, bus {node.bus_endpoint}")


def describe(row: dict[str, Any]) -> str:
    """Return where an actor runs: `process 4711`, or `thread in process 4711`."""
    return f"{'' if row['kind'] == 'process' else 'thread in '}process {row['pid']}"


def _names(child: Child) -> list[str]:
    name = child.name if child.name is not None else child.actor_class.__name__.lower()
    return [name] if child.instances == 1 else [f"{name}-{number}" for number in range(1, child.instances + 1)]


def _print_at_once() -> None:
    """Have what thread actors print shown when they print it, also when the output is a pipe."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)
