"""`grav-actors up` with supervisors: the root's strategy, trees, and what is left of them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import crew
from support.collecting import LIMIT
from support.programs import GRAV_ACTORS, Program

TOGETHER = """\
[supervisor]
strategy = "one_for_all"
[actors.a]
class = "my_crew:Hand"
[actors.b]
class = "my_crew:Hand"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(crew.__file__, tmp_path / "my_crew.py")
    return tmp_path


def pids_of(program: Program, *names: str) -> list[int]:
    asked = [program.run(*GRAV_ACTORS, "ask", "--to", name, "--timeout", "20", "pid") for name in names]
    assert all(done.returncode == 0 for done in asked), asked
    return [int(done.stdout) for done in asked]


def wait_dead(*pids: int) -> None:
    deadline = time.monotonic() + LIMIT
    for pid in pids:
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, f"{pid} lives"


def test_strategy_of_the_root(folder: Path, start_program: Callable[..., Program]) -> None:
    (folder / "grav.toml").write_text(TOGETHER)
    program = start_program(folder, "up")
    before = pids_of(program, "a", "b")
    os.kill(before[1], signal.SIGKILL)
    wait_dead(*before)
    assert not set(pids_of(program, "a", "b")) & set(before)
    assert program.interrupt() == 130


def test_tree_ends_with_its_node_in_order(folder: Path, start_program: Callable[..., Program]) -> None:
    program = start_program(folder, "up", "my_crew:Together")
    pids = pids_of(program, "together", "a", "b", "c")
    assert len(set(pids)) == 4
    assert program.interrupt() == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "crashed" not in program.output
    assert "Traceback" not in program.output


def test_tree_dies_with_a_killed_node(folder: Path, start_program: Callable[..., Program]) -> None:
    program = start_program(folder, "up", "my_crew:Together")
    pids = pids_of(program, "together", "a", "b", "c")
    program.signal(signal.SIGKILL)
    program.wait()
    wait_dead(*pids)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_storm_below_the_root_ends_it_with_1(folder: Path, kind: str) -> None:
    (folder / "grav.toml").write_text(
        '[supervisor]\nmax_restarts = 1\nbackoff = { first = 0 }\n[actors.storm]\nclass = "my_crew:Storm"\n'
        f'kind = "{kind}"\n'
    )
    program = Program(folder, "up")
    try:
        assert program.wait() == 1
    finally:
        program.close()
    last = program.lines[-1]
    assert last.startswith("grav-actors: gave up: actor storm failed once more after 1 restart within 30 s"), last
    assert "actor fragile failed once more after 1 restart within 30 s" in last


def test_name_that_two_branches_have_starts_nothing(folder: Path) -> None:
    program = Program(folder, "up", "my_crew:Together", "my_crew:Rest")
    try:
        assert program.wait() == 2
    finally:
        program.close()
    (line,) = program.lines
    assert "two actors would be called 'a', under Together and under Rest; give one of them another name" in line
