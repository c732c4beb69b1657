"""The output of several actors in one terminal: every line begins with the name of who wrote it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from grav_actors.cli.journal import Journal

NODE = "grav"
"""What stands before the lines of the node itself."""
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
ERROR_COLOUR = 31

_ACTOR_LOGGERS = "grav_actors.actor."
_OWN_LOGGERS = "grav_actors."


class Output:
    """Writes whole lines, `name | line`, in one column. Any thread may write.

    A stream whose reader is gone is not written to any more: the actors run on.

    Args:
        names: Names that are known to come, for the width; a longer one moves the column.
        journal: Is given all of it first.
    """

    def __init__(self, names: Iterable[str] = (), journal: Journal | None = None) -> None:
        self._journal = journal
        self._width = max(map(len, (NODE, *names)))
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}
        self._broken: set[str] = set()
        self._is_coloured = {
            "stdout": may_colour(sys.stdout),
            "stderr": may_colour(sys.stderr),
        }

    def say(self, line: str) -> None:
        """Write a line of the node to standard error."""
        self.log(NODE, line)

    def log(self, name: str, text: str, *, is_told: bool = False) -> None:
        """Write what this process logs, to standard error.

        Args:
            is_told: The journal has it from elsewhere.
        """
        if self._journal is not None and not is_told:
            self._journal.write(name, "log", text)
        self._show(name, "stderr", text)

    def write(self, name: str, stream: str, text: str) -> None:
        """Write the lines of a text to `stdout` or `stderr`; never raises for the sake of the stream."""
        if self._journal is not None:
            self._journal.write(name, stream, text)
        self._show(name, stream, text)

    def _show(self, name: str, stream: str, text: str) -> None:
        with self._lock:
            self._width = max(self._width, len(name))
            prefix = f"{name.ljust(self._width)} |"
            if self._is_coloured[stream]:
                prefix = f"\x1b[{colour_of(name, self._colours)}m{prefix}\x1b[0m"
            lines = "".join(f"{prefix} {line}\n" for line in text.split("\n"))
            self._put(stream, lines)

    def _put(self, stream: str, lines: str) -> None:
        if stream in self._broken:
            return
        file: TextIO = sys.stdout if stream == "stdout" else sys.stderr
        try:
            file.write(lines)
            file.flush()
        except (OSError, ValueError):
            self._broken.add(stream)


def colour_of(name: str, colours: dict[str, int]) -> int:
    """Return the colour of a name, and remember it: the next name gets the next one."""
    return 90 if name == NODE else colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])


def may_colour(file: TextIO) -> bool:
    """Return whether colours can be shown there, and are wanted."""
    return not os.environ.get("NO_COLOR") and file.isatty()


class LogHandler(logging.Handler):
    """Writes log records of this process among the output of the actors."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record under the name of its actor, else under that of the node."""
        try:
            name, text = NODE, self.format(record)
            if record.name.startswith(_ACTOR_LOGGERS):
                name = record.name.removeprefix(_ACTOR_LOGGERS)
            elif not record.name.startswith(_OWN_LOGGERS):
                text = f"{record.name}: {text}"
            is_told = getattr(record, "is_event", False)
            self._output.log(name, f"{record.levelname} {text}", is_told=is_told)
        except Exception:  # logging never raises
            self.handleError(record)


def log_among(output: Output) -> None:
    """Have this process log among the output of the actors."""
    _log_to(LogHandler(output))


def log_plainly() -> None:
    """Have this process log to standard error, as an actor's own process does."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    _log_to(handler)


def _log_to(handler: logging.Handler) -> None:
    logging.getLogger().addHandler(handler)
    # What the project says from INFO, others from WARNING; actor processes take it over.
    logging.getLogger("grav_actors").setLevel(logging.INFO)
