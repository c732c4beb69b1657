"""A program at which a user types."""

import pathlib
import subprocess
import threading
from collections.abc import Mapping

LIMIT = 20.0


class Terminal:
    """A program that reads lines and prints lines; its output is read by a thread."""

    def __init__(self, folder: pathlib.Path, *command: str, env: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def type(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def wait_line(self, text: str) -> None:
        """Wait for a line that contains this, also an earlier one."""
        with self._changed:
            found = self._changed.wait_for(lambda: any(text in line for line in self.lines), LIMIT)
            assert found, f"no line {text!r} in {self.lines}"

    def leave(self) -> int:
        """Press Ctrl-D and return the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(LIMIT)

    def close(self) -> None:
        """End what a failed test left running."""
        self._process.kill()
        self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
