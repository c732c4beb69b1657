"""DATA on the command line: JSON, a file, standard input, or nothing."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from grav_actors.cli.params import data_argument, timeout_option


@click.command()
@data_argument
@timeout_option("How long.", "5s")
def show(data: Any, timeout: float) -> None:
    click.echo(repr((data, timeout)))


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(show, arguments, input=stdin)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"site": "roof", "celsius": 21.5}', {"site": "roof", "celsius": 21.5}),
        ('"roof"', "roof"),
        ("[1, null, true]", [1, None, True]),
        ("21.5", 21.5),
        ("18446744073709551615", 2**64 - 1),
        ("null", None),
        (' "padded" ', "padded"),
    ],
)
def test_json_is_data(text: str, value: Any) -> None:
    assert run(text).output == f"{(value, 5.0)!r}\n"


def test_nothing_is_none() -> None:
    assert run().output == "(None, 5.0)\n"


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"a": "ä"}), encoding="utf-8")
    assert run(f"@{path}").output == f"{({'a': 'ä'}, 5.0)!r}\n"


def test_standard_input_is_read() -> None:
    assert run("-", stdin=b"[1, 2]\n").output == "([1, 2], 5.0)\n"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("roof", """text needs quotes: '"roof"'"""),
        ("it's", """text needs quotes: '"it'"'"'s"'"""),
        ("{site: 1}", "names and texts in it need double quotes"),
        ("[1, 2", "at character 6"),
        ('"roof', "at character 1"),
        ("", "text needs quotes: '\"\"'"),
        ("NaN", "NaN is no number in JSON"),
        ("@no-such-file.json", "no-such-file.json cannot be read: No such file"),
    ],
)
def test_what_is_no_json_ends_with_2_and_a_hint(text: str, hint: str) -> None:
    result = run(text)
    assert result.exit_code == 2
    assert hint in result.output


def test_deep_nesting_is_refused() -> None:
    result = run("[" * 100_000)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_bad_standard_input_says_where() -> None:
    result = run("-", stdin=b"\xff\xfe")
    assert result.exit_code == 2
    assert "standard input is no JSON: byte 0 is no UTF-8" in result.output

    result = run("-", stdin=b"roof")
    assert "standard input is no JSON" in result.output


@pytest.mark.parametrize(("text", "seconds"), [("200ms", 0.2), ("3", 3.0), ("10m", 600.0), ("0", 0.0)])
def test_durations_are_those_of_the_configuration(text: str, seconds: float) -> None:
    assert run("--timeout", text).output == f"{(None, seconds)!r}\n"


@pytest.mark.parametrize("text", ["-1", "soon", "5 parsecs"])
def test_bad_duration_is_a_usage_error(text: str) -> None:
    result = run("--timeout", text)
    assert result.exit_code == 2
    assert "--timeout" in result.output
