"""`grav-actors logs`: what actors wrote and what happened to them, while the node runs and afterwards."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support import talking
from support.programs import GRAV_ACTORS, Program

CONFIG = """\
[actors.talk]
class = "my_talking:Talker"
instances = 2
[actors.branch]
class = "my_talking:Branch"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(talking.__file__, tmp_path / "my_talking.py")
    (tmp_path / "grav.toml").write_text(CONFIG)
    return tmp_path


def logs(program: Program, *arguments: str) -> list[str]:
    """Return the lines of `logs`, without their times."""
    done = program.run(*GRAV_ACTORS, "logs", *arguments)
    assert done.returncode == 0, done.stderr
    return [line.partition(" ")[2].replace("  ", " ") for line in done.stdout.splitlines()]


def tell(program: Program, name: str, message_type: str, data: str) -> None:
    done = program.run(*GRAV_ACTORS, "ask", "--to", name, "--timeout", "20", message_type, json.dumps(data))
    assert done.returncode == 0, done.stderr


def test_lines_go_by_the_names_of_their_writers_nested_ones_too(
    folder: Path, start_program: Callable[..., Program]
) -> None:
    program = start_program(folder, "up")
    for name in ("talk-1", "talk-2", "deep", "light"):
        tell(program, name, "talk.say", f"from {name}")
    found = logs(program)
    for name in ("talk-1", "talk-2", "deep", "light"):
        assert f"{name} | out from {name}" in [" ".join(line.split()) for line in found]
    words = [" ".join(line.split()) for line in found]
    assert "light | WARNING grav_actors.actor.light: from light" in words
    assert all(line.startswith("talk-") for line in logs(program, "talk"))
    (entry,) = map(json.loads, program.run(*GRAV_ACTORS, "logs", "deep", "-n", "1", "--json").stdout.splitlines())
    assert (entry["name"], entry["stream"]) == ("deep", "stderr")
    unknown = program.run(*GRAV_ACTORS, "logs", "dep")
    assert unknown.returncode == 2
    assert unknown.stderr == 'grav-actors: nothing in the log is from dep; did you mean "deep"?\n'


def test_the_report_of_a_crash_is_there_after_the_node_was_killed(
    folder: Path, start_program: Callable[..., Program]
) -> None:
    program = start_program(folder, "up")
    done = program.run(*GRAV_ACTORS, "send", "--to", "deep", "--wait", "talk.crash", '"on purpose"')
    assert done.returncode == 0, done.stderr
    program.run(*GRAV_ACTORS, "ask", "--to", "deep", "--timeout", "20", "talk.say", '"alive"')
    program.signal(signal.SIGKILL)
    program.wait()
    lines = logs(program, "deep")
    (first,) = [line for line in lines if "actor deep crashed" in line]
    assert "Crash: on purpose (exit code 1); restart 1 at once" in first
    assert any("it was handling talk.crash" in line for line in lines)
    assert any("started: process" in line and "restart 1" in line for line in lines)


def test_following_ends_with_the_node_and_misses_nothing(folder: Path, start_program: Callable[..., Program]) -> None:
    program = start_program(folder, "up")
    follower = Program(folder, "logs", "--follow", "talk")
    try:
        follower.wait_line("talk-2 +. started")
        tell(program, "talk-2", "talk.say", "late")
        follower.wait_line("talk-2 +. out late")
        assert program.interrupt() == 130
        assert follower.wait() == 0
        assert "talk-2 | stopped: shutdown" in " ".join(follower.output.split())
    finally:
        follower.close()


def test_where_nothing_has_run_there_is_no_log(tmp_path: Path) -> None:
    program = Program(tmp_path, "logs")
    try:
        assert program.wait() == 4
        assert program.output.startswith(f"grav-actors: nothing was logged for {tmp_path}")
    finally:
        program.close()
