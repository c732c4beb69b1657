"""How commands fail: one line with the cause and the next step, and an exit code."""

from __future__ import annotations

import click

from grav_actors.errors import (
    ActorStartError,
    BusBusyError,
    BusNotFoundError,
    ConfigError,
    ConnectionClosedError,
    GravError,
    HandlerError,
    MessageEncodeError,
    MessageTooLargeError,
    NoRespondersError,
    WaitTimeoutError,
)
from grav_actors.project import FolderLockedError

FAILED = 1
USAGE = 2
DEGRADED = 3
NO_BUS = 4
NO_ANSWER = 5
REFUSED = 6

_CODES: tuple[tuple[type[GravError], int], ...] = (
    (FolderLockedError, REFUSED),  # before the ConfigError that it is
    (ConfigError, USAGE),
    (MessageEncodeError, USAGE),
    (MessageTooLargeError, USAGE),
    (BusNotFoundError, NO_BUS),
    (ConnectionClosedError, NO_BUS),
    (NoRespondersError, NO_ANSWER),
    (WaitTimeoutError, NO_ANSWER),
    (BusBusyError, NO_ANSWER),
)


class Failure(Exception):
    """Ends the command.

    Args:
        text: The cause and the next step, in one line.
        code: Exit code.
        detail: What goes before that line, such as the traceback of a user's code.
    """

    def __init__(self, text: str, code: int = FAILED, detail: str = "") -> None:
        super().__init__(" ".join(text.split()))
        self.code = code
        self.detail = detail

    def show(self) -> None:
        """Write it to standard error."""
        if self.detail:
            click.echo(self.detail.rstrip(), err=True)
        click.echo(f"grav-actors: {self}", err=True)


def as_failure(exc: GravError, *, with_traceback: bool = False) -> Failure:
    """Return how a command fails that met this error."""
    code = next((code for kind, code in _CODES if isinstance(exc, kind)), FAILED)
    text = str(exc.args[0]) if exc.args else type(exc).__name__
    detail = ""
    if isinstance(exc, HandlerError):
        text = exc.error if text in exc.error else f"{text}: {exc.error}"
        detail = exc.remote_traceback if with_traceback else ""
    elif isinstance(exc, ActorStartError):
        # What went wrong in the user's own code is what the user needs to see.
        detail = exc.remote_traceback
    return Failure(text, code, detail)


def usage_failure(exc: click.UsageError) -> Failure:
    """Return how a command fails that was called wrongly: the cause, and where its usage is explained."""
    path = exc.ctx.command_path if exc.ctx is not None else "grav-actors"
    cause = exc.format_message().rstrip(".")
    return Failure(f"{cause}{'' if cause.endswith('?') else ';'} `{path} --help` shows the usage", USAGE)
