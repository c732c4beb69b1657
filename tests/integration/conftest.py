"""For tests of the node and its pods: a node and pods on it. For the tests of examples: programs as a user
starts them.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grav_actors import Grav, Pod

GRAV_ACTORS = (sys.executable, "-m", "grav_actors")
START_LIMIT = 20.0
COMMAND_LIMIT = 20.0
STOP_LIMIT = 20.0


@pytest.fixture(scope="module")
def grav() -> Iterator[Grav]:
    """A node for all tests of a file that do not disturb each other."""
    with Grav() as node:
        yield node


@pytest.fixture
def connect(grav: Grav) -> Iterator[Callable[..., Pod]]:
    """Return `connect(name=None, **options)`, as of the node; these pods leave after the test."""
    pods: list[Pod] = []

    def connect(name: str | None = None, **options: Any) -> Pod:
        pods.append(grav.connect(name, **options))
        return pods[-1]

    yield connect
    for pod in pods:
        pod.disconnect()


@pytest.fixture
def gate(connect: Callable[..., Pod]) -> Iterator[threading.Event]:
    """An event on which handlers wait; it is set before pods leave, whatever a test does."""
    event = threading.Event()
    yield event
    event.set()


class Program:
    """A long-running command as a user starts it: own session, output read by a thread."""

    def __init__(self, folder: pathlib.Path, *arguments: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._is_ready = threading.Event()
        self._process = subprocess.Popen(
            [*GRAV_ACTORS, *arguments],
            cwd=folder,
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
            self.lines.append(line)
            if re.search(r"\bready\b", line):
                self._is_ready.set()
        self._is_ready.set()  # the output has ended: let whoever waits look at the lines

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_ready(self) -> None:
        assert self._is_ready.wait(START_LIMIT), f"not ready in {START_LIMIT} s:\n{self.output}"
        assert re.search(r"\bready\b", self.output), self.output

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

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self._process.send_signal(signal.SIGINT)
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


@pytest.fixture
def start_program() -> Iterator[Callable[..., Program]]:
    """Return `start(folder, *arguments)`, which runs grav-actors there and waits until it is ready.

    What the test did not end is killed.
    """
    started: list[Program] = []

    def start(folder: pathlib.Path, *arguments: str) -> Program:
        started.append(Program(folder, *arguments))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for program in reversed(started):
        program.close()
