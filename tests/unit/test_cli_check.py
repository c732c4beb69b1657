"""`check`, and the mistakes for which `up` starts nothing."""

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from grav_actors.cli import main

SOURCE = """
from grav_actors import Actor, on_type

class Thermometer(Actor):
    def __init__(self, site: str, period: float = 1.0) -> None:
        self.site = site

class Display(Actor):
    @on_type("sensor.temp")
    def show(self, msg):
        pass

class Greedy(Actor):
    def __init__(self, *args, **kwargs) -> None:
        pass

class Plain:
    pass
"""

numbers = itertools.count(1)


class Project:
    """A folder with a module of its own name, and the commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = f"check_project_{next(numbers)}"
        (folder / f"{self.module}.py").write_text(SOURCE, encoding="utf-8")

    def configure(self, text: str, file: str = "grav.toml") -> None:
        (self.folder / file).write_text(text.replace("MODULE", self.module), encoding="utf-8")

    def run(self, command: str, *targets: str) -> Result:
        arguments = [target.replace("MODULE", self.module) for target in targets]
        return CliRunner().invoke(main.commands, [command, *arguments])

    def check(self, *targets: str) -> Result:
        return self.run("check", *targets)


@pytest.fixture
def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Project]:
    """Return `make(folder)`: a project in which the test stands."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(name: str = "project") -> Project:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        return Project(folder)

    return make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()


def test_all_is_fine(project: Project) -> None:
    project.configure("""
        [actors.roof]
        class = "MODULE:Thermometer"
        instances = 2
        args = { site = "roof" }
        [actors.display]
        class = "MODULE:Display"
        kind = "thread"
        [actors.greedy]
        class = "MODULE:Greedy"
        args = { anything = 1 }
    """)
    result = project.check("MODULE:Display")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.replace(project.module, "MODULE").splitlines() == [
        "roof: MODULE:Thermometer (process x 2) is fine",
        "display: MODULE:Display (thread) is fine",
        "greedy: MODULE:Greedy (process) is fine",
        "MODULE:Display (process) is fine",
    ]


def test_json_is_an_object_a_line(project: Project) -> None:
    project.configure('[actors.roof]\nclass = "MODULE:Thermometer"\nargs = { site = "roof" }\n')
    (line,) = project.check("--json").stdout.splitlines()
    row = json.loads(line)
    assert row == {
        "name": "roof",
        "class": f"{project.module}:Thermometer",
        "kind": "process",
        "instances": 1,
        "args": {"site": "roof"},
    }


def test_configuration_above_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.configure('[tool.grav-actors.actors.display]\nclass = "MODULE:Display"\n', "pyproject.toml")
    inner = project.folder / "inner"
    inner.mkdir()
    (inner / "inner_module.py").write_text("from grav_actors import Actor\nclass Inner(Actor): pass\n")
    monkeypatch.chdir(inner)
    result = project.check("inner_module:Inner")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 2
    assert Path.cwd() == project.folder


MISTAKES = [
    ('class = "MODULE:Thermometer"', "grav.toml:1:", "args: Thermometer needs the argument 'site'"),
    (
        'class = "MODULE:Thermometer"\n[actors.a.args]\nsite = "roof"\nperoid = 2',
        "grav.toml:5:",
        "takes no argument 'peroid'; did you mean \"period\"?",
    ),
    ('class = "MODULE:Dispaly"', "grav.toml:2:", 'did you mean "Display"?'),
    ('class = "MODULE:Plain"', "grav.toml:2:", "is not derived from Actor"),
    ('class = "no_such_module:A"', "grav.toml:2:", 'no module named "no_such_module"'),
    ('class = "MODULE:Display"\nkind = "proces"', "grav.toml:3:", 'did you mean "process"?'),
    ('class = "MODULE:Display"\nsignificant = true', "grav.toml:3:", 'significant goes with restart = "transient"'),
]


@pytest.mark.parametrize("command", ["check", "up"])
@pytest.mark.parametrize(("text", "place", "reason"), MISTAKES)
def test_mistake_has_file_and_line(project: Project, command: str, text: str, place: str, reason: str) -> None:
    project.configure(f"[actors.a]\n{text}\n")
    result = project.run(command)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    # `check` reads like a compiler; what ends any other command begins with its name.
    start = place if command == "check" else f"grav-actors: {place}"
    assert line.startswith(start)
    assert reason in line
    assert result.stdout == ""


MESH_MISTAKES = [
    ('[mesh]\n\ntransport = "loopbak"\n', "grav.toml:3: [mesh] transport: ", 'did you mean "loopback"?'),
    ('[mesh]\ntransport = "loopback"\ndiscovery = ["becon"]\n', "grav.toml:3: [mesh] ", 'did you mean "beacon"?'),
    ('[mesh]\ntransport = "loopback"\nkeys = "nowhere"\n', "grav.toml:3: [mesh] keys: ", "grav-actors keys new --dir"),
    (
        '[mesh]\ntransport = "loopback"\n[mesh.beacon]\nsecret_file = "nowhere"\n',
        "grav.toml:4: [mesh.beacon] secret_file: ",
        "no such file",
    ),
]


@pytest.mark.parametrize("command", ["check", "up"])
@pytest.mark.parametrize(("text", "place", "reason"), MESH_MISTAKES)
def test_mistake_of_the_mesh_has_file_and_line(
    project: Project, command: str, text: str, place: str, reason: str
) -> None:
    project.configure(text)
    result = project.run(command)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.removeprefix("grav-actors: ").startswith(place)
    assert reason in line


def test_mesh_that_is_right_is_no_mistake(project: Project) -> None:
    project.configure('[mesh]\ntransport = "loopback"\npeers = ["tcp://cellar:7470"]\n')
    assert project.check().exit_code == 0


def test_check_names_every_mistake(project: Project) -> None:
    project.configure("""[actors.a]
class = "MODULE:Thermometer"
[actors.b]
class = "MODULE:Display"
[actors.c]
class = "MODULE:Nothing"
""")
    result = project.check("MODULE:Thermometer")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.partition(" ")[0] for line in lines[:2]] == ["grav.toml:1:", "grav.toml:6:"]
    assert "arguments go into grav.toml" in lines[2]
    assert result.stdout.startswith("b: ")


@pytest.mark.parametrize("command", ["check", "up"])
def test_failing_module_is_told_from_a_missing_one(project: Project, command: str) -> None:
    (project.folder / f"{project.module}_bad.py").write_text("x = 1\nraise ValueError('no')\n")
    result = project.run(command, "MODULE_bad:A")
    assert result.exit_code == 2
    assert "failed while importing" in result.stderr
    assert f"{project.module}_bad.py:2: ValueError: no" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["check", "up"])
def test_nothing_to_run_says_what_to_do(project: Project, command: str) -> None:
    result = project.run(command)
    assert result.exit_code == 2
    assert "`grav-actors up module:Class`" in result.stderr


def test_mistake_in_a_class_has_the_line_of_the_class(project: Project) -> None:
    source = "from grav_actors import Actor\n\nclass Odd(Actor):\n    concurrency = 0\n"
    (project.folder / f"{project.module}_odd.py").write_text(source)
    result = project.check("MODULE_odd:Odd")
    assert result.exit_code == 2
    assert f"{project.module}_odd.py:3: " in result.stderr
    assert "concurrency must be at least 1" in result.stderr


def test_mistakes_start_nothing(project: Project) -> None:
    project.configure('[actors.a]\nclass = "MODULE:Nothing"\n')
    assert project.run("up").exit_code == 2
    run_folders = list(Path(os.environ["XDG_RUNTIME_DIR"]).rglob("bus.sock"))
    assert not run_folders
