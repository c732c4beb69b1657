"""`--help` is quick, has no side effects, and lists the commands that there are."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from grav_actors.cli import main

FOLDER = Path(main.__file__).parent
LONG = 0.15
"""Seconds of a processor that `--help` may take."""
WATCH_IMPORTS = """
import json, sys
from grav_actors.cli.main import commands
try:
    commands.main({arguments!r}, prog_name="grav-actors")
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> set[str]:
    code = WATCH_IMPORTS.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


def test_help_lists_every_command_and_no_other() -> None:
    files = {path.stem for path in FOLDER.glob("*.py") if "\ndef command(" in path.read_text("utf-8")}
    assert set(main.COMMANDS) == files

    shown = CliRunner().invoke(main.commands, ["--help"])
    assert shown.exit_code == 0
    for name, line in main.COMMANDS.items():
        assert f"  {name} " in shown.output
        assert line in shown.output


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_its_name_and_help(name: str) -> None:
    shown = CliRunner().invoke(main.commands, [name, "--help"])
    assert shown.exit_code == 0
    assert f"Usage: commands {name}" in shown.output
    command = main.commands.get_command(click.Context(main.commands), name)
    assert command is not None
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("arguments", [("--help",), ("up", "--help"), ("sub", "--help"), ("--version",)])
def test_help_loads_neither_sockets_nor_node(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert not loaded & {"zmq", "msgpack", "asyncio", "grav_actors.node", "grav_actors.pod.pod"}


def test_help_of_all_loads_no_command() -> None:
    loaded = loaded_by("--help")
    assert not {f"grav_actors.cli.{name}" for name in main.COMMANDS} & loaded


def test_help_is_quick() -> None:
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "grav_actors", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    once()  # compiles
    assert min(once() for _ in range(5)) < LONG


def test_help_makes_no_files(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    for arguments in (["--help"], ["up", "--help"], ["bus", "--help"]):
        command = [sys.executable, "-m", "grav_actors", *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert not list(tmp_path.iterdir())


def test_unknown_command_names_the_nearest() -> None:
    result = CliRunner().invoke(main.commands, ["snd", "a.b"])
    assert result.exit_code == 2
    assert 'did you mean "send"?' in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jsn"], "'--jsn'"),
        (["snd"], "no such command: 'snd'; did you mean \"send\"? `grav-actors --help`"),
        (["ps", "--jsn"], "; `grav-actors ps --help` shows the usage"),
        (["ps", "extra"], "extra"),
        (["dead", "lst"], "`grav-actors dead --help`"),
        (["send"], "'TYPE'"),
        (["send", "a.b", "roof"], """text needs quotes: '"roof"'; `grav-actors send --help`"""),
        (["ask", "a.b", "--timeout", "soon"], '"soon" is no duration'),
    ],
)
def test_wrong_usage_is_one_line_with_the_next_command(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main.commands, arguments, prog_name="grav-actors")
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith("grav-actors: ")
    assert said in line
    assert line.endswith("--help` shows the usage")


@pytest.mark.parametrize("arguments", [[], ["dead"]], ids=str)
def test_no_command_is_a_usage_error_with_the_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(main.commands, arguments)
    assert result.exit_code == 2
    assert "Commands:" in result.output
