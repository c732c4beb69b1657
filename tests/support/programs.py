"""Programs as a user starts them: long-running ones, and commands that end by themselves."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

import pytest

GRAV_ACTORS = (sys.executable, "-m", "grav_actors")
START_LIMIT = 20.0
COMMAND_LIMIT = 20.0
STOP_LIMIT = 20.0


class Program:
    """A long-running command as a user starts it: own session, output read by a thread.

    Args:
        command: What the arguments are for.
        env: The environment; default: that of the tests.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *arguments: str,
        command: Sequence[str] = GRAV_ACTORS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._has_ended = False
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        self.wait_line(r"\bready\b")

    def wait_line(self, pattern: str, limit: float = START_LIMIT) -> str:
        """Wait for a line of output, also an earlier one, and return it."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        with self._changed:
            in_time = self._changed.wait_for(lambda: found() or self._has_ended, limit)
            assert found(), f"{'ended without' if in_time else 'no'} line {pattern!r}:\n{self.output}"
            return found()[0]

    def wait_count(self, pattern: str, count: int) -> None:
        """Wait for so many lines of output."""

        def found() -> int:
            return sum(re.search(pattern, line) is not None for line in self.lines)

        with self._changed:
            assert self._changed.wait_for(lambda: found() >= count, START_LIMIT), (
                f"{found()} of {count}:\n{self.output}"
            )

    @staticmethod
    def ended(
        folder: pathlib.Path,
        *arguments: str,
        command: Sequence[str] = GRAV_ACTORS,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that ends by itself in a folder where nothing need run; the rest as for `Program`."""
        return subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT,
            check=False,
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the user in the same folder."""
        return subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT,
            check=False,
        )

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        try:
            code = self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            pytest.fail(f"not ended in {STOP_LIMIT} s:\n{self.output}")
        self._reader.join(STOP_LIMIT)
        return code

    def close(self) -> None:
        """End what a failed test left running. What an ended program left behind is the leak guard's."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_LIMIT)
        self._reader.join(STOP_LIMIT)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Piped:
    """A command whose two outputs are apart."""

    def __init__(self, folder: pathlib.Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*GRAV_ACTORS, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout, self.stderr = self._process.stdout, self._process.stderr

    def wait_ready(self) -> None:
        assert any("ready" in line for line in iter(self.stderr.readline, ""))

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self._process.wait(STOP_LIMIT)

    def close(self) -> None:
        """End what a failed test left running."""
        self._process.kill()
        self._process.wait(STOP_LIMIT)
        self.stdout.close()
        self.stderr.close()
