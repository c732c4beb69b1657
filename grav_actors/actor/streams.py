"""What the actors of a host print, told apart: each line goes to the supervisor with the name of its actor."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from grav_actors.supervisor.pipes import MAX_LINE

LINE = "line"
"""The event of a report `{event, name, stream, line}`: an actor has written a line."""
ACTOR_THREADS = ("grav-pod-", "grav-pool-", "grav-loop-")
"""How the names of the threads begin on which actors run; the actor's own name follows."""

Tell = Callable[[dict[str, Any]], None]


def tell_lines_apart(tell: Tell) -> None:
    """Have what actors print from now on told line by line; what other threads print stays where it is."""
    sys.stdout = ActorStream("stdout", sys.stdout, tell)
    sys.stderr = ActorStream("stderr", sys.stderr, tell)


class ActorStream(io.TextIOBase):
    """Stands in the place of a standard stream. Any thread may write.

    Args:
        name: `stdout` or `stderr`.
        stream: What threads write to that are no actor's.
        tell: Takes the report of a line; it may wait.
    """

    def __init__(self, name: str, stream: TextIO, tell: Tell) -> None:
        self._name = name
        self._stream = stream
        self._tell = tell
        self._lock = threading.Lock()
        self._begun: dict[str, str] = {}

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream behind it."""
        return self._stream.encoding

    @property
    def buffer(self) -> Any:
        """The stream behind it for bytes, which are nobody's in particular."""
        return self._stream.buffer

    def fileno(self) -> int:
        """Return the descriptor of the stream behind it."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """It can be written to."""
        return True

    def write(self, text: str) -> int:
        """Tell the lines that are complete; the rest waits for its end."""
        actor = actor_of(threading.current_thread().name)
        if actor is None:
            return self._stream.write(text)
        with self._lock:
            *lines, rest = (self._begun.pop(actor, "") + text).split("\n")
            if rest:
                self._begun[actor] = rest[: MAX_LINE + 1]
        for line in lines:
            self._tell_line(actor, line)
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind it; lines are told as they are complete."""
        self._stream.flush()

    def finish(self) -> None:
        """Tell lines that have no end."""
        with self._lock:
            begun, self._begun = self._begun, {}
        for actor, line in begun.items():
            self._tell_line(actor, line)

    def _tell_line(self, actor: str, line: str) -> None:
        if len(line) > MAX_LINE:
            line = f"{line[:MAX_LINE]} [cut]"
        self._tell({"event": LINE, "name": actor, "stream": self._name, "line": line})


def actor_of(thread: str) -> str | None:
    """Return the actor that a thread of that name belongs to; None if it is no actor's."""
    for beginning in ACTOR_THREADS:
        if thread.startswith(beginning):
            return thread.removeprefix(beginning)
    return None
