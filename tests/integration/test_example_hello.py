"""The hello example, run as its README says; the leak guard sees to it that nothing stays behind."""

import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from support.programs import COMMAND_LIMIT, GRAV_ACTORS, Program
from support.projects import copy_example

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the example, so that every test is a project directory of its own."""
    return copy_example("hello", tmp_path / "example")


@pytest.fixture
def program(folder: pathlib.Path, start_program: Callable[..., Program]) -> Program:
    """The running example; killed if the test did not end it."""
    return start_program(folder, "up", "greenhouse:Thermometer", "greenhouse:Display")


def test_send_then_ask_from_the_command_line(program: Program) -> None:
    sent = program.run(*GRAV_ACTORS, "send", "--wait", "sensor.poll")
    assert sent.returncode == 0, sent.stderr
    asked = program.run(*GRAV_ACTORS, "ask", "display.last")
    assert (asked.returncode, asked.stdout) == (0, "21.5\n"), asked.stderr


def test_nothing_was_shown_yet(program: Program) -> None:
    asked = program.run(*GRAV_ACTORS, "ask", "--to", "display", "display.last")
    assert (asked.returncode, asked.stdout) == (0, "null\n"), asked.stderr

    # Whoever asks nobody in particular gets no None: it would be an answer from everybody who knows nothing.
    published = program.run(*GRAV_ACTORS, "ask", "display.last")
    assert (published.returncode, published.stdout) == (5, ""), published.stderr


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
