"""`nodes`, asked of nodes that are linked in this process."""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from grav_actors import ConfigError, Grav
from grav_actors.cli import main
from grav_actors.mesh.bulletin import MAX_REFUSALS
from support.programs import GRAV_ACTORS, Program

PATIENCE = 20.0
Make = Callable[..., Grav]


@pytest.fixture
def make() -> Iterator[Make]:
    nodes: list[Grav] = []

    def start(name: str, **options: Any) -> Grav:
        node = Grav(name=name, transport="loopback", **options)
        nodes.append(node)
        return node

    yield start
    for node in reversed(nodes):
        node.stop()


def endpoint(node: Grav) -> str:
    return f"loopback://{node.node_uuid}"


def ask_nodes(node: Grav, *arguments: str) -> Result:
    return CliRunner().invoke(main.commands, ["nodes", "--bus", node.bus_endpoint, *arguments])


def test_peers_are_listed_with_their_state_round_trip_and_lag(make: Make) -> None:
    farm, cellar = make("farm", interests=["vision"], belongs_to="here"), make("cellar")
    cellar.connect_endpoint(endpoint(farm), PATIENCE)

    result = ask_nodes(cellar, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row["uuid"], row["name"], row["state"], row["endpoint"]) == (farm.node_uuid, "farm", "up", endpoint(farm))
    assert row["rtt"] is not None
    assert row["version"] == 1
    assert row["drift"] is not None
    assert (row["lag_in"], row["belongs_to"], row["interests"]) == (0, "here", ["vision"])

    header, line = ask_nodes(cellar).stdout.splitlines()
    assert header.split()[:4] == ["NAME", "ENDPOINT", "STATE", "RTT"]
    assert line.split()[:3] == ["farm", endpoint(farm), "up"]


def test_named_node_must_be_up(make: Make) -> None:
    farm, cellar = make("farm"), make("cellar")
    cellar.connect_endpoint(endpoint(farm), PATIENCE)
    assert ask_nodes(cellar, "farm").exit_code == 0

    missing = ask_nodes(cellar, "farn")
    assert missing.exit_code == 3
    assert 'did you mean "farm"?' in missing.stderr

    farm.withdraw(PATIENCE)
    gone = ask_nodes(cellar, "farm")
    assert gone.exit_code == 3
    assert "withdrawn" in gone.stdout
    assert ask_nodes(cellar).exit_code == 0, "a node that has left is nothing wrong unless it was asked for"


def test_refused_node_is_told_with_the_reason(make: Make) -> None:
    farm, cellar = make("farm", belongs_to="farm"), make("cellar", belongs_to="cellar")
    with pytest.raises(ConnectionError):
        cellar.connect_endpoint(endpoint(farm), PATIENCE)
    result = ask_nodes(cellar)
    assert result.exit_code == 0
    assert f"no node at {endpoint(farm)}: " in result.stderr
    assert "belongs to 'farm'" in result.stderr


def test_only_so_many_refusals_are_remembered_the_latest(make: Make) -> None:
    cellar = make("cellar")
    assert cellar._hub is not None
    for number in range(MAX_REFUSALS + 5):
        cellar._hub.undiallable(f"tcp://{number}:1", ConfigError("no such endpoint"))
    told = cellar._hub.unreached()
    assert len(told) == MAX_REFUSALS
    assert "tcp://4:1" not in told
    assert told[f"tcp://{MAX_REFUSALS + 4}:1"] == "no such endpoint"


def test_bus_without_a_node_ends_with_5(tmp_path: pathlib.Path, start_program: Callable[..., Program]) -> None:
    program = start_program(tmp_path, "bus")
    asked = program.run(*GRAV_ACTORS, "nodes")
    assert asked.returncode == 5
    assert "a bus alone" in asked.stderr
    assert program.interrupt() == 130


def test_node_without_a_mesh_refuses() -> None:
    with Grav() as node:
        result = ask_nodes(node)
    assert result.exit_code == 6
    assert "[mesh]" in result.stderr


def test_up_starts_the_mesh_of_the_file_and_reload_leaves_it_to_the_next_up(
    tmp_path: pathlib.Path, start_program: Callable[..., Program]
) -> None:
    file = tmp_path / "grav.toml"
    file.write_text('[node]\nname = "farm"\n[mesh]\ntransport = "loopback"\ndiscovery = []\n')
    program = start_program(tmp_path, "up")
    assert "mesh: listens on loopback://" in program.wait_line("mesh: ")

    listed = program.run(*GRAV_ACTORS, "nodes")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "no other node is known; this node listens on loopback://" in listed.stderr

    file.write_text('[node]\nname = "farm"\n[mesh]\ntransport = "loopback"\nlisten = "loopback://x"\n')
    reloaded = program.run(*GRAV_ACTORS, "reload")
    assert reloaded.stdout == "[mesh] has changed: that takes effect with the next `up`\n", reloaded.stderr
    assert program.interrupt() == 130
