"""The request-reply example, run as its README says; the leak guard sees to it that nothing stays behind."""

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

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "request_reply"
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
    running = Program(folder, "up")
    try:
        running.wait_ready()
        yield running
    finally:
        running.close()


def test_client_prints_what_the_readme_shows(program: Program) -> None:
    done = program.run(sys.executable, "client.py")
    assert (done.returncode, done.stderr) == (0, "")
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("$ python client.py\n")[2].partition("$ ")[0]
    assert done.stdout == shown


def test_ask_from_the_command_line(program: Program) -> None:
    counted = program.run(*GRAV_ACTORS, "ask", "stock.count", '{"article": "bolt"}')
    assert (counted.returncode, counted.stdout) == (0, "100\n"), counted.stderr
    sold = program.run(*GRAV_ACTORS, "ask", "--to", "till", "till.sell", '{"article": "bolt", "pieces": 30}')
    assert (sold.returncode, sold.stdout) == (0, '{"sold": true, "left": 70}\n'), sold.stderr


def test_many_customers_never_sell_more_than_there_is(program: Program) -> None:
    def sell(sold: list[bool]) -> None:
        done = program.run(
            *GRAV_ACTORS, "ask", "--to", "till", "till.sell", '{"article": "nut", "pieces": 1}'
        )
        assert done.returncode == 0, done.stderr
        sold.append('"sold": true' in done.stdout)

    answers: list[bool] = []
    customers = [threading.Thread(target=sell, args=(answers,)) for _ in range(5)]
    for customer in customers:
        customer.start()
    for customer in customers:
        customer.join()
    assert sorted(answers) == [False, False, True, True, True]


def test_client_without_the_shop_says_what_to_do(folder: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "client.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert "grav-actors up" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupt_ends_it_and_leaves_nothing(program: Program) -> None:
    assert program.interrupt() == 130, program.output
    assert "Traceback" not in program.output
