"""`doctor` on this machine; multicast is tried on the loopback alone."""

import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from grav_actors.cli import main
from grav_actors.discovery.beacon_frame import BeaconFrame, Kind, encode
from grav_actors.discovery.beacon_port import GROUP, BeaconPort
from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.discovery.interfaces import list_interfaces
from grav_actors.doctor.network import Echo, Firewall, Listening
from grav_actors.doctor.network_probe import dial, hear_own_beacons, look_for_firewall, try_to_listen
from grav_actors.mesh.keys import KeyFolder
from support.ports import free_udp_port
from support.programs import GRAV_ACTORS, Program


@pytest.fixture
def listener() -> Iterator[int]:
    """A TCP port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def on_loopback(**fields: Any) -> BeaconSettings:
    return BeaconSettings(port=free_udp_port(), interfaces=("lo",), **fields)


def test_own_beacon_is_heard_on_the_loopback() -> None:
    assert hear_own_beacons(on_loopback(), b"", 0.0) == [Echo("lo", "127.0.0.1", is_loopback=True, came_back=True)]


def test_signed_beacon_is_heard_too() -> None:
    (echo,) = hear_own_beacons(on_loopback(), b"a secret of some length", 0.0)
    assert echo.came_back


def test_beacons_of_other_nodes_are_counted_once_each_and_those_of_the_own_node_not() -> None:
    settings = on_loopback()
    me, other = os.urandom(16), os.urandom(16)
    (interface,) = [each for each in list_interfaces() if each.name == "lo"]
    # What is sent before anybody listens is lost: so they are sent right behind the probe's own.
    sender = BeaconPort(interface, socket.AF_INET, GROUP, settings.port)
    try:
        original = BeaconPort.send

        def send(port: BeaconPort, raw: bytes) -> str:
            error = original(port, raw)
            for uuid in (me, other, other):
                original(sender, encode(BeaconFrame(Kind.HERE, uuid, 7470)))
            return error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BeaconPort, "send", send)
            # Within a machine a datagram has come when `send` returns, and what has come is read.
            (echo,) = hear_own_beacons(settings, b"", 0.0, me)
    finally:
        sender.close()
    assert (echo.came_back, echo.others) == (True, 1)


def test_port_that_a_program_does_not_share_is_told() -> None:
    settings = on_loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", settings.port))
        (echo,) = hear_own_beacons(settings, b"", 0.0)
    assert f"UDP port {settings.port} is taken" in echo.error
    assert not echo.came_back


def test_interface_that_is_not_there_has_no_echo() -> None:
    assert hear_own_beacons(BeaconSettings(port=free_udp_port(), interfaces=("nowhere0",)), b"", 0.0) == []


def test_endpoint_is_free_taken_or_not_of_this_machine(listener: int) -> None:
    assert try_to_listen("tcp://127.0.0.1:0").listening is Listening.FREE
    assert try_to_listen("tcp://lo:0").listening is Listening.FREE
    assert try_to_listen("tcp://*:*").listening is Listening.FREE
    assert try_to_listen(f"tcp://127.0.0.1:{listener}").listening is Listening.TAKEN
    assert try_to_listen("tcp://192.0.2.77:0").listening is Listening.NO_ADDRESS
    assert try_to_listen("loopback://farm").listening is Listening.UNKNOWN


def test_endpoint_of_the_node_that_runs_is_its_own(listener: int) -> None:
    running = f"tcp://127.0.0.1:{listener}"
    assert try_to_listen(f"tcp://0.0.0.0:{listener}", running).listening is Listening.OWN
    assert try_to_listen("tcp://127.0.0.1:0", running).listening is Listening.OWN


def test_peers_are_dialled_and_what_is_no_tcp_is_left_out(listener: int) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        nobody = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        somebody, silent = dial([f"tcp://127.0.0.1:{listener}", "loopback://farm", nobody])
    assert (somebody.endpoint, somebody.error) == (f"tcp://127.0.0.1:{listener}", "")
    assert silent.endpoint == nobody
    assert "refused" in silent.error
    assert dial([]) == []


@pytest.mark.parametrize(
    ("ufw", "firewalld", "name"),
    [("ENABLED=yes\n", False, "ufw"), ("ENABLED=no\n", True, "firewalld"), (None, False, "")],
)
def test_firewall_is_seen_by_its_files(tmp_path: pathlib.Path, ufw: str | None, firewalld: bool, name: str) -> None:
    if ufw is not None:
        (tmp_path / "ufw.conf").write_text(f"# Set to yes\n{ufw}")
    if firewalld:
        (tmp_path / "firewalld").mkdir()
    assert look_for_firewall(tmp_path / "ufw.conf", [tmp_path / "firewalld"]) == Firewall(name)


# The command


@pytest.fixture
def project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], pathlib.Path]:
    """Return `project(text)`, which makes a project directory with that mesh, and goes there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def configure(mesh: str) -> pathlib.Path:
        beacon = f'[mesh.beacon]\nport = {free_udp_port()}\ninterfaces = ["lo"]\n'
        (folder / "grav.toml").write_text(f'[node]\nname = "farm"\n{mesh}{beacon}')
        return folder

    return configure


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main.commands, ["doctor", "--listen", "0.01s", *arguments])


def found(result: Result) -> dict[str, dict[str, str]]:
    """Return the findings by check; of several the worst."""
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return {row["check"]: row for row in sorted(rows, key=lambda row: ["ok", "warning", "wrong"].index(row["state"]))}


def test_mesh_of_this_machine_has_nothing_wrong(project: Callable[[str], pathlib.Path]) -> None:
    project('[mesh]\ntransport = "loopback"\n')
    result = doctor("--json")
    assert result.exit_code in (0, 3), result.output  # 3 where no time service keeps the clock
    rows = found(result)
    assert {row["state"] for row in rows.values()} <= {"ok", "warning"}
    assert rows["multicast"]["state"] == "ok"
    assert rows["keys"]["state"] == "ok"
    assert "none runs" in rows["node"]["seen"]


def test_what_is_wrong_is_told_with_the_remedy_and_ends_with_1(
    project: Callable[[str], pathlib.Path], listener: int
) -> None:
    project(f'[mesh]\ntransport = "loopbak"\nlisten = "tcp://0.0.0.0:{listener}"\n')
    result = doctor("--json")
    assert result.exit_code == 1
    rows = found(result)
    assert {check for check, row in rows.items() if row["state"] == "wrong"} == {"configuration", "port", "keys"}
    assert 'did you mean "loopback"?' in rows["configuration"]["seen"]
    assert "grav-actors keys new" in rows["keys"]["remedy"]
    assert "ss -ltnp" in rows["port"]["remedy"]

    text = doctor()
    assert text.exit_code == 1
    assert "things are wrong" in text.stderr


def test_keys_and_peers_are_looked_at(project: Callable[[str], pathlib.Path], listener: int) -> None:
    folder = project(
        f'[mesh]\ntransport = "loopback"\nlisten = "tcp://127.0.0.1:0"\nkeys = "trust"\n'
        f'peers = ["tcp://127.0.0.1:{listener}"]\n'
    )
    KeyFolder(folder / "trust").new("farm")
    rows = found(doctor("--json"))
    assert rows["keys"]["state"] == "ok"
    assert rows["allowed keys"]["state"] == "warning"
    assert rows["peer"]["state"] == "ok"
    assert rows["port"]["state"] == "ok"


def test_broken_configuration_is_a_finding(project: Callable[[str], pathlib.Path]) -> None:
    folder = project("[mesh]\nlisen = 3\n")
    result = doctor("--json")
    assert result.exit_code == 1
    assert "grav.toml:4" in found(result)["configuration"]["seen"], folder


def test_node_that_runs_is_asked(project: Callable[[str], pathlib.Path], start_program: Callable[..., Program]) -> None:
    folder = project('[mesh]\ntransport = "loopback"\n')
    program = start_program(folder, "up")
    asked = program.run(*GRAV_ACTORS, "doctor", "--listen", "10ms", "--json")
    rows = {row["check"]: row for row in map(json.loads, asked.stdout.splitlines())}
    assert asked.returncode == 3, asked.stderr
    assert f"farm runs here, process {program.pid}" in rows["node"]["seen"]
    assert rows["peers"]["state"] == "warning"
    assert "loopback://" in rows["port"]["seen"]
    assert program.interrupt() == 130
