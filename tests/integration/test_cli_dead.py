"""`grav-actors dead` on a node that runs, and what the node prints of dead letters."""

import json
import pathlib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.programs import GRAV_ACTORS, Program

MOODY = """
from grav_actors import Actor, Reject, on_type

class Moody(Actor):
    is_willing = False

    @on_type("moody.cheer")
    def cheer(self, msg):
        self.is_willing = True

    @on_type("moody.do")
    def do(self, msg):
        if not self.is_willing:
            raise Reject("not today")
        print("did", msg.data, msg.redelivered, flush=True)
"""

Done = subprocess.CompletedProcess[str]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def program(tmp_path: pathlib.Path, start_program: Callable[..., Program]) -> Iterator[Program]:
    """A node with one actor that rejects what it is told."""
    (tmp_path / "moods.py").write_text(MOODY, encoding="utf-8")
    program = start_program(tmp_path, "up", "moods:Moody")
    yield program
    program.interrupt()


@pytest.fixture
def run(program: Program) -> Callable[..., Done]:
    """Return `run(*arguments)`, which runs a command in the folder of the node to its end."""
    return lambda *arguments: program.run(*GRAV_ACTORS, *arguments)


def rows(done: Done) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_dead_letters_from_the_command_line(program: Program, run: Callable[..., Done]) -> None:
    empty = run("dead", "list")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "there are no dead letters" in empty.stderr
    assert run("send", "--wait", "moody.do", '{"n": 1}', "--to", "moody").returncode == 0
    assert run("send", "--wait", "moody.do", "2").returncode == 0
    assert run("send", "--wait", "boo", '"hu"', "--to", "ghost").returncode == 0
    program.wait_line("grav .*WARNING dead letter: a message of type moody.do for moody: rejected: Reject: not today")

    table = run("dead", "list").stdout.splitlines()
    assert table[0].split() == ["UUID", "TYPE", "REASON", "TARGET", "ATTEMPTS", "ERROR"]
    assert table[1].split()[1:] == ["moody.do", "rejected", "moody", "1", "Reject:", "not", "today"]
    first, second, third = rows(run("dead", "list", "--json"))
    assert {"uuid", "type", "reason", "target", "attempts", "error"} <= first.keys()
    assert (third["type"], third["reason"], third["target"], third["attempts"]) == ("boo", "no_responders", "ghost", 0)
    assert [row["uuid"] for row in rows(run("dead", "list", "--type", "moody.*", "--json"))] == [
        first["uuid"],
        second["uuid"],
    ]

    (shown,) = rows(run("dead", "show", first["uuid"], "--json"))
    assert shown["data"] == {"n": 1}
    assert shown["uuid"] == first["uuid"]
    text = run("dead", "show", first["uuid"]).stdout
    assert 'data:      {"n": 1}' in text
    assert "reason:    rejected" in text

    assert run("send", "--wait", "moody.cheer").returncode == 0
    retried = run("dead", "retry", second["uuid"])
    assert (retried.returncode, retried.stdout, retried.stderr) == (0, "1 delivered again\n", "")
    program.wait_line("did 2 True")
    everything = run("dead", "retry", "--all")
    assert (everything.returncode, everything.stdout) == (1, "1 delivered again\n")
    assert everything.stderr == "grav-actors: 1 not delivered, and kept: ghost is not on the bus\n"
    program.wait_line("did {'n': 1} True")
    kept = run("dead", "retry", "--reason", "no_responders", "--json")
    assert (kept.returncode, json.loads(kept.stdout)) == (1, {"retried": 0, "kept": {"ghost is not on the bus": 1}})

    assert rows(run("dead", "purge", "--type", "boo", "--json")) == [{"purged": 1}]
    assert run("dead", "list", "--json").stdout == ""


def test_mistakes_have_one_line_and_the_right_code(run: Callable[..., Done]) -> None:
    for arguments, code, text in (
        (("dead", "retry"), 2, "say which dead letters"),
        (("dead", "purge", "--all", "--reason", "expired"), 2, "not both"),
        (("dead", "list", "--reason", "rejectd"), 2, 'did you mean "rejected"?'),
        (("dead", "list", "--type", "a..b"), 2, "empty token"),
        (("dead", "show", "abc"), 1, "there is no dead letter 'abc'"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_bus_it_says_so(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [*GRAV_ACTORS, "dead", "list"], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 4
    assert "no bus runs" in done.stderr
