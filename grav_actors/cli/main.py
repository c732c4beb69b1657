"""`grav-actors`: the click group that all commands are in."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from grav_actors import __version__
from grav_actors.cli.failure import USAGE, Failure, as_failure, usage_failure
from grav_actors.errors import GravError
from grav_actors.options import did_you_mean

INTERRUPTED = 130

OF_THE_MACHINE = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM,
})  # fmt: skip
"""Errors for which nobody needs a traceback: a full disk, a folder that may not be written to, no room."""

SHOWS_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What a group of commands raises that none is named of; click before 8.2 shows the help and raises nothing."""

COMMANDS = {
    "up": "Start the actors of this project; runs until Ctrl-C.",
    "down": "End what `up` started for this directory.",
    "check": "Check configuration and classes; starts nothing.",
    "run": "Run one actor on the bus that runs here.",
    "bus": "Run a bus alone; other programs bring the actors.",
    "ps": "List the actors.",
    "top": "Show the actors again and again, with rates and memory.",
    "tree": "Draw the supervisors with what they run.",
    "inspect": "Show all that is known of one actor.",
    "start": "Start actors that are down.",
    "stop": "Stop actors for good.",
    "restart": "Stop actors and start them again.",
    "scale": "Choose how many instances a pool has.",
    "reload": "Apply a changed grav.toml.",
    "nodes": "List the other nodes of the mesh.",
    "logs": "Print what actors wrote, and what happened to them.",
    "events": "Print what happens, as it happens.",
    "doctor": "Look for what keeps a node or its mesh from working.",
    "health": "Tell whether the node answers, or is ready; for probes.",
    "send": "Publish a message, or send it to one actor.",
    "ask": "Ask a question and print the answer.",
    "sub": "Print the messages that are published.",
    "dead": "List, show, retry or purge dead letters.",
    "keys": "Make, show and allow the keys by which nodes trust each other.",
}
"""Every command with its line in `--help`: that must not load their files."""


class Commands(click.Group):
    """Loads the file of a command when it is needed, and turns errors into one line and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options that stand before the command; a mistake ends with one line."""
        try:
            return super().parse_args(ctx, args)
        except SHOWS_HELP:
            raise
        except click.UsageError as exc:
            failure = usage_failure(exc)
            failure.show()
            raise click.exceptions.Exit(failure.code) from exc

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"grav_actors.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; name the nearest when there is none."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no such command: {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> None:
        """Run the command."""
        try:
            super().invoke(ctx)
            return
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except SHOWS_HELP:
            raise
        except click.UsageError as exc:
            failure = usage_failure(exc)
        except Failure as exc:
            failure = exc
        except BrokenPipeError:
            # Whoever read the output has had enough; the interpreter must not complain when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except GravError as exc:
            failure = as_failure(exc)
        except OSError as exc:
            if exc.errno not in OF_THE_MACHINE:
                raise
            where = f"{exc.filename}: " if exc.filename is not None else ""
            failure = Failure(f"{where}{exc.strerror}; `grav-actors doctor` looks for what is wrong here")
        failure.show()
        ctx.exit(failure.code)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 running but degraded, 4 no bus, "
    "5 timed out or nobody answers, 6 refused by what runs already, 130 interrupted.",
)
@click.version_option(__version__, prog_name="grav-actors")
def commands() -> None:
    """Actors on a supervised message bus.

    Commands find the bus of the directory they are run in, or of one above it.
    """
    try:
        Path.cwd()
    except FileNotFoundError as exc:
        raise Failure("the working directory is gone; change to one that exists", USAGE) from exc


def main() -> None:
    """Run the command line."""
    commands.main(prog_name="grav-actors")
