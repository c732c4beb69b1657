"""The census example counts what the plain program counts, shares the work, and ends by itself."""

import json
import pathlib
import subprocess
import sys
import sysconfig
import tomllib
import typing

import pytest

from support.projects import EXAMPLES, copy_example, copy_project

LIMIT = 90.0

TREE = ("asyncio", "email", "json")
"""Folders of the standard library that make up the smaller tree: about eighty files."""

CONFIGURATION = """
[node]
name = "census"

[actors.aggregator]
class = "census:Aggregator"
kind = "thread"
args = {{ output = {output} }}

[actors.parser]
class = "census:Parser"
kind = "process"
instances = 4

[actors.reader]
class = "census:Reader"
kind = "thread"
restart = "transient"
args = {{ root = {root} }}
"""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    """A part of the standard library, and two files that do not parse."""
    copy = tmp_path / "tree"
    for name in TREE:
        source = pathlib.Path(sysconfig.get_paths()["stdlib"]) / name
        copy_project(source, copy / name)
    (copy / "broken.py").write_text("def broken(:\n", encoding="utf-8")
    (copy / "latin.py").write_bytes(b"name = '\xe4'\n")
    return copy


@pytest.fixture
def folder(tmp_path: pathlib.Path, tree: pathlib.Path) -> pathlib.Path:
    """A copy of the example that counts the smaller tree and writes its totals to `census.json`."""
    copy = copy_example("codebase_census", tmp_path / "example")
    output, root = json.dumps(str(copy / "census.json")), json.dumps(str(tree))
    (copy / "grav.toml").write_text(CONFIGURATION.format(output=output, root=root), encoding="utf-8")
    return copy


def count_plainly(folder: pathlib.Path, tree: pathlib.Path) -> dict[str, typing.Any]:
    """Return what the plain program counts."""
    result = folder / "plain.json"
    subprocess.run(
        [sys.executable, "plain.py", str(tree), "--json", str(result)],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    return typing.cast("dict[str, typing.Any]", json.loads(result.read_text(encoding="utf-8")))


def test_census_equals_the_plain_count_and_ends_by_itself(folder: pathlib.Path, tree: pathlib.Path) -> None:
    plain = count_plainly(folder, tree)
    output = folder / "output.txt"
    with output.open("w") as file:  # no pipe: its end would wait for processes that hold it
        done = subprocess.run(
            [sys.executable, "-m", "grav_actors", "up"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
            check=False,
        )
    text = output.read_text(encoding="utf-8")
    assert done.returncode == 0, text
    assert "Traceback" not in text
    assert "files per worker" in text

    census = json.loads((folder / "census.json").read_text(encoding="utf-8"))
    assert census["complete"]
    assert census["totals"] == plain["totals"]
    assert plain["totals"]["unparsable"] == 2

    # Every one of the four took part, each in a process of its own.
    files = {name: worker["files"] for name, worker in census["workers"].items()}
    assert sorted(files) == ["parser-1", "parser-2", "parser-3", "parser-4"]
    assert sum(files.values()) == plain["totals"]["files"]
    assert min(files.values()) >= plain["totals"]["files"] / 10, files
    assert len({pid for worker in census["workers"].values() for pid in worker["pids"]}) == 4


def test_configuration_in_the_test_is_the_one_of_the_example() -> None:
    """The test writes its own arguments; all else must stay what users get."""

    def without_arguments(text: str) -> dict[str, typing.Any]:
        tables = tomllib.loads(text)
        for actor in tables["actors"].values():
            actor.pop("args", None)
        return tables

    example = (EXAMPLES / "codebase_census" / "grav.toml").read_text(encoding="utf-8")
    assert without_arguments(CONFIGURATION.format(output='""', root='""')) == without_arguments(example)
