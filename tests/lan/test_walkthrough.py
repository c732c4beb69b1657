"""Two machines from nothing to a chat, command by command as docs/mesh-walkthrough.md has it."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.lanlab import Host, Lan
from support.programs import GRAV_ACTORS, Program
from support.projects import EXAMPLES, copy_example
from support.terminal import Terminal

LISTEN_HERE = 'listen = "tcp://127.0.0.1:0"'
LISTEN_EVERYWHERE = 'listen = "tcp://0.0.0.0:7470"'

pytestmark = pytest.mark.timeout(120)


class Machine:
    """A host of the lab with its user's folder, and the example in it."""

    def __init__(self, name: str, host: Host, home: pathlib.Path) -> None:
        self.name, self.host = name, host
        self.folder = copy_example("lan_chat", home / "lan_chat")
        self._env = host.env({"XDG_CONFIG_HOME": str(home / "config")})
        self._opened: list[Program | Terminal] = []

    def edit(self, old: str, new: str) -> None:
        file = self.folder / "grav.toml"
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return Program.ended(self.folder, *arguments, command=self.host.argv(GRAV_ACTORS), env=self._env)

    def up(self) -> Program:
        program = Program(self.folder, "up", command=self.host.argv(GRAV_ACTORS), env=self._env)
        self._opened.append(program)
        program.wait_ready()
        return program

    def chat(self) -> Terminal:
        command = self.host.argv([sys.executable, "chat.py", self.name])
        terminal = Terminal(self.folder, *command, env=self._env)
        self._opened.append(terminal)
        terminal.wait_line(f"* you are {self.name}; ")
        return terminal

    def findings(self) -> dict[str, list[dict[str, str]]]:
        """Return what the doctor finds, by check."""
        done = self.command("doctor", "--listen", "0.1s", "--json")
        found: dict[str, list[dict[str, str]]] = {}
        for row in map(json.loads, done.stdout.splitlines()):
            found.setdefault(row["check"], []).append(row)
        return found

    def close(self) -> None:
        for opened in reversed(self._opened):
            opened.close()


@pytest.fixture
def machines(lan: Lan, tmp_path: pathlib.Path) -> Iterator[tuple[Machine, Machine]]:
    found = [Machine(name, lan.host(number), tmp_path / name) for number, name in enumerate(("ann", "ben"))]
    yield found[0], found[1]
    for machine in found:
        machine.close()


def states(findings: dict[str, list[dict[str, str]]], check: str) -> set[str]:
    return {finding["state"] for finding in findings[check]}


def trust_each_other(machines: tuple[Machine, Machine]) -> None:
    for machine in machines:
        assert machine.command("keys", "new", "--name", machine.name).returncode == 0
    for machine, other in (machines, reversed(machines)):
        carried = machine.folder / f"{other.name}.key"
        carried.write_text(other.command("keys", "show").stdout, encoding="utf-8")
        assert machine.command("keys", "allow", carried.name).returncode == 0


@pytest.mark.lan(hosts=2)
def test_two_machines_come_to_a_chat_that_outlives_a_pulled_cable(lan: Lan, machines: tuple[Machine, Machine]) -> None:
    ann, ben = machines
    for machine in machines:
        machine.edit(LISTEN_HERE, LISTEN_EVERYWHERE)
    refused = ann.command("check")
    assert refused.returncode == 2
    assert "grav-actors keys new" in refused.stderr
    assert states(ann.findings(), "keys") == {"wrong"}

    trust_each_other(machines)
    assert ann.command("check").returncode == 0
    first, second = ann.up(), ben.up()
    first.wait_line(f"has joined, tcp://{ben.host.ip}:7470")
    second.wait_line(f"has joined, tcp://{ann.host.ip}:7470")

    listed = ann.command("nodes", "--json")
    (row,) = map(json.loads, listed.stdout.splitlines())
    assert (row["endpoint"], row["state"]) == (f"tcp://{ben.host.ip}:7470", "up")
    findings = ann.findings()
    for check in ("multicast", "port", "keys", "allowed keys", "peer", "beacons", "clock of peer"):
        assert states(findings, check) == {"ok"}, findings[check]

    one, other = ann.chat(), ben.chat()
    one.type("good morning")
    other.wait_line("ann: good morning")

    lan.partition([0])
    first.wait_line("is (silent|gone)")
    for number in range(10):
        one.type(f"line {number}")
    lan.heal()
    other.wait_line("ann: line 9")
    said = [line for line in other.lines if line.startswith("ann:")]
    assert said == ["ann: good morning", *(f"ann: line {number}" for number in range(10))]
    assert [terminal.leave() for terminal in (one, other)] == [0, 0]


@pytest.mark.lan(hosts=2)
def test_list_of_peers_does_where_there_are_no_beacons(machines: tuple[Machine, Machine]) -> None:
    ann, ben = machines
    for machine in machines:
        machine.edit(LISTEN_HERE, f"{LISTEN_EVERYWHERE}\ndiscovery = []")
    ann.edit("discovery = []", f'discovery = []\npeers = ["tcp://{ben.host.ip}:7470"]')
    trust_each_other(machines)

    assert states(ann.findings(), "peer") == {"warning"}
    second = ben.up()
    assert states(ann.findings(), "peer") == {"ok"}
    ann.up().wait_line("has joined")
    second.wait_line("has joined")


@pytest.mark.lan(hosts=2)
def test_key_that_only_one_side_allows_is_told_where_it_is_turned_away(machines: tuple[Machine, Machine]) -> None:
    ann, ben = machines
    for machine in machines:
        machine.edit(LISTEN_HERE, LISTEN_EVERYWHERE)
    trust_each_other(machines)
    (ben.folder.parent / "config" / "grav-actors" / "keys" / "allowed" / "ann.key").unlink()

    first, second = ann.up(), ben.up()
    second.wait_line(f"a node at {ann.host.ip} was turned away: its key .* is not allowed")
    assert not any("has joined" in line for line in first.lines)

    assert ben.command("keys", "allow", "ann.key").returncode == 0
    first.wait_line("has joined")


def test_page_has_the_commands_that_these_tests_type() -> None:
    page = (EXAMPLES.parent / "docs" / "mesh-walkthrough.md").read_text(encoding="utf-8")
    for command in ("check", "keys new", "keys show", "keys allow", "up", "nodes", "doctor"):
        assert f"grav-actors {command}" in page
    assert LISTEN_EVERYWHERE in page
