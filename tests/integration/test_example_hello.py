"""The hello example, run as its README says; the leak guard sees to it that nothing stays behind."""

import collections.abc
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "hello"
GRAV_ACTORS = (sys.executable, "-m", "grav_actors")
START_LIMIT = 20.0
COMMAND_LIMIT = 20.0
STOP_LIMIT = 20.0

pytestmark = pytest.mark.timeout(120)


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
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the example, so that every test is a project directory of its own."""
    copy = tmp_path / "example"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def program(folder: pathlib.Path) -> collections.abc.Iterator[Program]:
    """The running example; killed if the test did not end it."""
    running = Program(folder, "up", "greenhouse:Thermometer", "greenhouse:Display")
    try:
        running.wait_ready()
        yield running
    finally:
        running.close()


def test_send_then_ask_from_the_command_line(program: Program) -> None:
    sent = program.run(*GRAV_ACTORS, "send", "--wait", "sensor.poll")
    assert sent.returncode == 0, sent.stderr
    asked = program.run(*GRAV_ACTORS, "ask", "display.last")
    assert (asked.returncode, asked.stdout) == (0, "21.5\n"), asked.stderr


def test_nothing_was_shown_yet(program: Program) -> None:
    asked = program.run(*GRAV_ACTORS, "ask", "display.last")
    assert (asked.returncode, asked.stdout) == (0, "null\n"), asked.stderr


def test_interrupt_ends_it_and_leaves_nothing(program: Program) -> None:
    assert program.interrupt() == 130, program.output
    assert "Traceback" not in program.output


def test_down_ends_it_and_leaves_nothing(program: Program) -> None:
    assert program.run(*GRAV_ACTORS, "down").returncode == 0
    assert program.wait() == 0, program.output


def test_script_prints_the_temperature_and_leaves_nothing(folder: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "21.5\n", "")
