"""Commands without a bus, and the addresses of a bus."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from grav_actors.cli import main
from grav_actors.cli.bus import check_address
from grav_actors.errors import ConfigError

COMMANDS = [
    ("ps",),
    ("down",),
    ("send", "sensor.poll"),
    ("ask", "display.last"),
    ("sub",),
    ("nodes",),
    ("run", "json:JSONDecoder"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory for which nothing runs."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", COMMANDS[:-1])
def test_no_bus_ends_with_4_and_the_next_command(arguments: tuple[str, ...], folder: Path) -> None:
    result = CliRunner().invoke(main.commands, arguments)
    assert result.exit_code == 4
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"grav-actors: no bus runs for {folder} ")
    assert "`grav-actors up`" in line
    assert not list(folder.iterdir())


@pytest.mark.parametrize("address", ["ipc:///nowhere/bus.sock", "tcp://127.0.0.1:1", "tcp://[::1]:1"])
@pytest.mark.parametrize("arguments", COMMANDS[:-1])
def test_nobody_at_the_address_ends_with_4_at_once(arguments: tuple[str, ...], address: str) -> None:
    result = CliRunner().invoke(main.commands, [*arguments, "--bus", address])
    assert result.exit_code == 4
    assert f"no bus listens at {address}" in result.stderr


def test_no_address_ends_with_2() -> None:
    for address in ("here", "udp://127.0.0.1:1", "tcp://"):
        result = CliRunner().invoke(main.commands, ["ps", "--bus", address])
        assert result.exit_code == 2, result.stderr
        assert result.stderr.startswith("grav-actors: ")
        assert len(result.stderr.splitlines()) == 1


def test_bad_data_ends_before_any_bus_is_looked_for() -> None:
    for command in ("ask", "send"):
        result = CliRunner().invoke(main.commands, [command, "a.b", "roof"])
        assert result.exit_code == 2
        assert """text needs quotes: '"roof"'""" in result.stderr


def test_run_of_what_is_no_actor_ends_with_2() -> None:
    result = CliRunner().invoke(main.commands, COMMANDS[-1])
    assert result.exit_code == 2
    assert "is not derived from Actor" in result.stderr


@pytest.mark.parametrize("name", ["a b", "", "grav.mine"])
def test_run_under_a_bad_name_ends_with_2(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named.py").write_text("from grav_actors import Actor\n\n\nclass Named(Actor):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "named", raising=False)
    result = CliRunner().invoke(main.commands, ["run", "named:Named", "--name", name])
    assert result.exit_code == 2
    assert f"--name: bad actor name {name!r}" in result.stderr


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5555", "tcp://127.0.0.1:*", "tcp://[::1]:0", "tcp://localhost:1"])
def test_loopback_needs_no_word(address: str) -> None:
    check_address(address, insecure=False)


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://eth0:1", "tcp://[::]:1", "tcp://10.0.0.1:1"]
)
def test_beyond_loopback_needs_the_word_insecure(address: str) -> None:
    with pytest.raises(ConfigError, match="--insecure"):
        check_address(address, insecure=False)
    check_address(address, insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1:5555", "tcp://127.0.0.1", "tcp://:1", "tcp://a:99999", "ipc:///x"])
def test_what_is_no_tcp_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="must be an address like"):
        check_address(address, insecure=True)


def test_bus_refuses_before_it_starts(folder: Path) -> None:
    result = CliRunner().invoke(main.commands, ["bus", "--tcp", "tcp://0.0.0.0:5555"])
    assert result.exit_code == 2
    assert "say --insecure" in result.stderr
    result = CliRunner().invoke(main.commands, ["bus", "--max-message", "huge"])
    assert result.exit_code == 2
    result = CliRunner().invoke(main.commands, ["bus", "--replay-limit", "-1"])
    assert result.exit_code == 2
    assert not list(folder.iterdir())
