"""Two projects whose nodes find each other: what a user types, and what is printed."""

import json
import pathlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

from support.ports import free_udp_port
from support.programs import GRAV_ACTORS, Program

Start = Callable[..., Program]
LOCAL = "tcp://127.0.0.1:0"

pytestmark = pytest.mark.timeout(120)


class Projects:
    """Makes project directories whose nodes can find each other, and nobody else."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.port = free_udp_port()

    def make(self, name: str, mesh: str = f'listen = "{LOCAL}"\n', discovery: bool = True) -> pathlib.Path:
        folder = self._folder / name
        folder.mkdir()
        beacon = f'[mesh.beacon]\nport = {self.port}\ninterfaces = ["lo"]\n' if discovery else ""
        (folder / "grav.toml").write_text(f'[node]\nname = "{name}"\n[mesh]\n{mesh}{beacon}', encoding="utf-8")
        return folder


@pytest.fixture
def projects(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Projects:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Projects(tmp_path)


def listed(program: Program, *arguments: str) -> list[dict[str, Any]]:
    done = program.run(*GRAV_ACTORS, "nodes", "--json", *arguments)
    assert done.returncode == 0, done.stderr + program.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def found(program: Program) -> list[dict[str, str]]:
    """Return what the doctor finds."""
    done = program.run(*GRAV_ACTORS, "doctor", "--listen", "10ms", "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_nodes_find_each_other_and_say_who_joins_and_leaves(projects: Projects, start_program: Start) -> None:
    farm = start_program(projects.make("farm"), "up")
    cellar = start_program(projects.make("cellar"), "up")
    assert "listens on tcp://127.0.0.1:" in farm.wait_line("mesh: ")
    farm.wait_line("node cellar has joined, tcp://127.0.0.1:")
    cellar.wait_line("node farm has joined, tcp://127.0.0.1:")

    (row,) = listed(farm)
    assert (row["name"], row["state"]) == ("cellar", "up")
    assert row.keys() >= {"uuid", "name", "endpoint", "state", "rtt", "version", "lag_in", "lag_out"}
    assert farm.run(*GRAV_ACTORS, "nodes", "cellar").returncode == 0

    findings = found(farm)
    assert "wrong" not in {finding["state"] for finding in findings}, findings
    (peer,) = [finding for finding in findings if finding["check"] == "peer"]
    assert peer["state"] == "ok"
    assert "node cellar is up at tcp://127.0.0.1:" in peer["seen"]

    assert cellar.interrupt() == 130
    farm.wait_line("node cellar has left")
    gone = farm.run(*GRAV_ACTORS, "nodes", "cellar")
    assert gone.returncode == 3
    assert "withdrawn" in gone.stdout


def test_node_that_is_killed_is_gone_and_its_next_life_joins(projects: Projects, start_program: Start) -> None:
    farm = start_program(projects.make("farm"), "up")
    folder = projects.make("cellar")
    first = start_program(folder, "up")
    farm.wait_line("node cellar has joined")
    first.signal(9)
    first.wait()
    farm.wait_line("node cellar is (gone|silent)")
    before = len([line for line in farm.lines if "cellar has joined" in line])
    second = start_program(folder, "up")
    second.wait_line("node farm has joined")
    farm.wait_count("node cellar has joined", before + 1)


def test_list_of_peers_is_dialled_and_who_is_missing_is_told(projects: Projects, start_program: Start) -> None:
    farm = start_program(projects.make("farm", f'listen = "{LOCAL}"\ndiscovery = []\n', discovery=False), "up")
    endpoint = farm.wait_line("mesh: ").partition("listens on ")[2].partition(",")[0]
    text = f'listen = "{LOCAL}"\ndiscovery = []\npeers = ["{endpoint}", "tcp://127.0.0.1:1"]\n'
    cellar = start_program(projects.make("cellar", text, discovery=False), "up")
    assert "finds others by a list of 2" in cellar.wait_line("mesh: ")
    cellar.wait_line("node farm has joined")
    assert "no node at tcp://127.0.0.1:1: nobody answers" in cellar.run(*GRAV_ACTORS, "nodes").stderr


def test_nodes_with_each_others_keys_link_up_and_a_stranger_does_not(projects: Projects, start_program: Start) -> None:
    mesh = f'listen = "{LOCAL}"\nkeys = "keys"\n'
    folders = {name: projects.make(name, mesh) for name in ("farm", "cellar", "stranger")}
    shown: dict[str, pathlib.Path] = {}
    for name, folder in folders.items():
        made = Program.ended(folder, "keys", "new")
        assert made.returncode == 0, made.stderr
        shown[name] = folder / f"{name}.key"
        shown[name].write_text(Program.ended(folder, "keys", "show").stdout, encoding="utf-8")
    for name, other in (("farm", "cellar"), ("cellar", "farm"), ("stranger", "farm")):
        allowed = Program.ended(folders[name], "keys", "allow", str(shown[other]))
        assert allowed.returncode == 0, allowed.stderr

    farm, cellar, stranger = (start_program(folder, "up") for folder in folders.values())
    farm.wait_line(f"; trusts the keys in {folders['farm'] / 'keys'}")
    farm.wait_line("node cellar has joined")
    cellar.wait_line("node farm has joined")
    farm.wait_line("was turned away: its key .* is not allowed")
    assert [row["name"] for row in listed(farm)] == ["cellar"]
    assert listed(stranger) == []

    # A running node sees the change by itself.
    assert farm.run(*GRAV_ACTORS, "keys", "allow", str(shown["stranger"])).returncode == 0
    farm.wait_line("node stranger has joined")


def test_node_with_a_beacon_secret_hears_only_those_that_share_it(projects: Projects, start_program: Start) -> None:
    folders = [projects.make(name) for name in ("farm", "cellar", "stranger")]
    for folder in folders[:2]:
        (folder / "secret").write_text("what the two of us know", encoding="utf-8")
        (folder / "secret").chmod(0o600)
        with (folder / "grav.toml").open("a", encoding="utf-8") as file:
            file.write('secret_file = "secret"\n')
    farm, cellar, stranger = (start_program(folder, "up") for folder in folders)
    farm.wait_line("node cellar has joined")
    cellar.wait_line("node farm has joined")
    farm.wait_line("dropped a beacon from 127.0.0.1")
    stranger.wait_line("dropped a beacon from 127.0.0.1")
    assert [row["name"] for row in listed(farm)] == ["cellar"]

    (told,) = [finding for finding in found(farm) if finding["seen"].endswith("were refused as unsigned")]
    assert "the same secret_file" in told["remedy"]

    (folders[0] / "secret").chmod(0o644)
    (refused,) = [finding for finding in found(farm) if finding["check"] == "beacon secret"]
    assert refused["state"] == "wrong"
    assert "mode 0644" in refused["seen"]


def test_listener_beyond_this_machine_is_refused_without_keys_and_warned_of_when_insecure(
    projects: Projects, start_program: Start
) -> None:
    mesh = 'listen = "tcp://0.0.0.0:0"\n'
    folder = projects.make("farm", mesh)
    for command in ("up", "check"):
        refused = Program.ended(folder, command)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert "grav.toml:4: [mesh] listen: " in line
        assert "grav-actors keys new" in line
    program = start_program(projects.make("open", f"{mesh}insecure = true\n"), "up")
    assert "insecure: whoever reaches tcp://0.0.0.0:0 can read and send" in program.wait_line("WARNING")


def test_port_that_is_taken_is_told_with_file_and_line(projects: Projects) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        done = Program.ended(projects.make("farm", f'listen = "{endpoint}"\n'), "up")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"grav-actors: grav.toml:4: [mesh] listen: cannot listen on {endpoint}: ")


def test_port_of_beacons_that_is_taken_is_told_with_file_and_line(projects: Projects) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", projects.port))
        done = Program.ended(projects.make("farm"), "up")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("grav-actors: grav.toml:3: [mesh] discovery: UDP port")
