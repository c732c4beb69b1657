"""The chat example, run as its README says, as two nodes of one machine."""

import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from support.ports import free_udp_port
from support.programs import COMMAND_LIMIT, GRAV_ACTORS, Program
from support.projects import copy_example
from support.terminal import Terminal

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def nodes(tmp_path: pathlib.Path, start_program: Callable[..., Program]) -> dict[str, Program]:
    """Two copies of the example whose nodes have found each other, and find nobody else."""
    beacon = f'\n[mesh.beacon]\nport = {free_udp_port()}\ninterfaces = ["lo"]\n'
    started: dict[str, Program] = {}
    for name in ("ann", "ben"):
        folder = copy_example("lan_chat", tmp_path / name)
        with (folder / "grav.toml").open("a", encoding="utf-8") as file:
            file.write(beacon)
        started[name] = start_program(folder, "up")
    for program in started.values():
        program.wait_line("node .* has joined")
    return started


@pytest.fixture
def chat() -> Iterator[Callable[[Program, str], Terminal]]:
    """Return `chat(node, who)`, which starts a terminal and waits until it can be typed at."""
    terminals: list[Terminal] = []

    def start(node: Program, who: str) -> Terminal:
        terminals.append(Terminal(node.folder, sys.executable, "chat.py", who))
        terminals[-1].wait_line(f"* you are {who}; ")
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def test_what_is_typed_on_one_node_is_read_on_the_other_once_in_order(
    nodes: dict[str, Program], chat: Callable[[Program, str], Terminal]
) -> None:
    ann, ben = chat(nodes["ann"], "ann"), chat(nodes["ben"], "ben")
    for number in range(20):
        ann.type(f"line {number}")
    ben.wait_line("ann: line 19")
    assert [line for line in ben.lines if line.startswith("ann:")] == [f"ann: line {number}" for number in range(20)]
    ben.type("good morning")
    ann.wait_line("ben: good morning")

    late = chat(nodes["ben"], "cleo")
    late.wait_line("ben: good morning")
    assert sum(line.startswith("ann: line") for line in late.lines) == 20

    ann.type("/people")
    ann.wait_line("* ben (1 lines)")
    asked = nodes["ben"].run(*GRAV_ACTORS, "ask", "--to", "room", "chat.people")
    assert '{"who": "ann", "lines": 20}' in asked.stdout, asked.stderr
    assert [terminal.leave() for terminal in (ann, ben, late)] == [0, 0, 0]


def test_terminal_says_when_the_other_node_leaves(
    nodes: dict[str, Program], chat: Callable[[Program, str], Terminal]
) -> None:
    ann = chat(nodes["ann"], "ann")
    assert nodes["ben"].interrupt() == 130
    ann.wait_line("is gone")
    ann.type("/quit")
    assert ann.leave() == 0


def test_terminal_without_a_node_says_what_to_do(tmp_path: pathlib.Path) -> None:
    folder = copy_example("lan_chat", tmp_path / "alone")
    done = subprocess.run(
        [sys.executable, "chat.py"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert "grav-actors up" in done.stderr
    assert "Traceback" not in done.stderr
