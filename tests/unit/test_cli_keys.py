"""`grav-actors keys`: which folder, what is printed, and that no secret ever is."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from grav_actors.cli import main
from grav_actors.mesh.keys import KeyFolder


def run(*arguments: object, text: str = "") -> Result:
    return CliRunner().invoke(main.commands, ["keys", *map(str, arguments)], input=text)


def said(result: Result) -> str:
    """Return the one line of an error."""
    (line,) = result.stderr.splitlines()
    return str(line)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project, without a configuration; the user's own folder is in another."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


def test_two_nodes_allow_each_other(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("new", "--dir", one, "--name", "roof").exit_code == 0
    assert run("new", "--dir", two, "--name", "cellar").exit_code == 0

    shown = run("show", "--dir", one).stdout
    allowed = run("allow", "-", "--dir", two, text=shown)
    assert (allowed.exit_code, allowed.stdout) == (0, f"roof is allowed: {two}/allowed/roof.key\n")
    assert run("allow", two / "node.key", "--dir", one).exit_code == 0

    key = KeyFolder(one).pair().public_key
    assert run("list", "--dir", two).stdout.split() == ["NAME", "PUBLIC_KEY", "roof", key]


def test_key_may_be_given_as_such(tmp_path: Path) -> None:
    run("new", "--dir", "other")
    key = KeyFolder(Path("other")).pair().public_key

    assert run("allow", key, "--name", "roof").exit_code == 0
    assert run("allow", "-", "--name", "roof", text=f"{key}\n").exit_code == 0
    assert KeyFolder(tmp_path / "config" / "grav-actors" / "keys").allowed() == {"roof": key}
    assert "--name NAME" in said(run("allow", key))


def test_json_has_name_key_and_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    made = json.loads(run("new", "--dir", keys, "--name", "roof", "--json").stdout)
    pair = KeyFolder(keys).pair()
    assert made == {"name": "roof", "public_key": pair.public_key, "file": f"{keys}/node.key"}
    assert json.loads(run("show", "--dir", keys, "--json").stdout) == made

    other = tmp_path / "other"
    allowed = json.loads(run("allow", keys / "node.key", "--dir", other, "--json").stdout)
    assert allowed == {**made, "file": f"{other}/allowed/roof.key"}
    assert [json.loads(line) for line in run("list", "--dir", other, "--json").stdout.splitlines()] == [allowed]


def test_folder_is_that_of_the_option_the_mesh_or_the_user(project: Path, tmp_path: Path) -> None:
    run("new")
    assert (tmp_path / "config" / "grav-actors" / "keys" / "node.key").exists()
    (project / "grav.toml").write_text('[node]\nname = "greenhouse"\n[mesh]\nkeys = "trust"\n')
    run("new")
    assert KeyFolder(project / "trust").pair().name == "greenhouse"
    run("new", "--dir", "here")
    assert (project / "here" / "node.key").exists()


def test_mesh_without_keys_means_the_users_folder(project: Path, tmp_path: Path) -> None:
    (project / "grav.toml").write_text("[mesh]\n")
    run("new")

    assert (tmp_path / "config" / "grav-actors" / "keys" / "node.key").exists()


def test_empty_list_is_no_error() -> None:
    result = run("list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "no key is allowed in " in said(result)
    assert (run("list", "--json").stdout, run("list", "--json").stderr) == ("", "")


def test_second_pair_needs_force() -> None:
    run("new", "--dir", "keys")
    before = KeyFolder(Path("keys")).pair()
    refused = run("new", "--dir", "keys")
    assert (refused.exit_code, KeyFolder(Path("keys")).pair()) == (2, before)
    assert "`--force` replaces it" in said(refused)

    assert run("new", "--dir", "keys", "--force").exit_code == 0

    assert KeyFolder(Path("keys")).pair() != before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["show"], 'make a key pair with "grav-actors keys new'),
        (["allow", "no-such-file"], "no-such-file: no such file"),
        (["allow", "-"], "standard input:1: no `public-key`"),
        (["new", "--name", "a b"], "name must be a name of"),
        (["new", "--dir", "/proc/nowhere/keys"], "choose another folder with --dir"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments: list[str], reason: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said(result).startswith("grav-actors: ")
    assert reason in said(result)


def test_wrong_configuration_is_told() -> None:
    Path("grav.toml").write_text("[mesh]\nkeys = 3\n")

    assert said(run("list")) == "grav-actors: grav.toml:2: [mesh] keys must be a text, not 3"


def test_broken_file_among_the_allowed_is_named() -> None:
    run("new", "--dir", "other", "--name", "roof")
    run("allow", "other/node.key", "--dir", "keys")
    Path("keys/allowed/bad.key").write_text("?")

    result = run("list", "--dir", "keys")

    assert result.exit_code == 2
    assert "keys/allowed/bad.key:1: " in said(result)


def test_no_command_prints_a_secret() -> None:
    results = [run("new", "--dir", "keys", "--name", "roof")]
    pair = KeyFolder(Path("keys")).pair()
    results += [
        run("new", "--dir", "keys"),
        run("show", "--dir", "keys"),
        run("show", "--dir", "keys", "--json"),
        run("allow", "keys/node.key_secret", "--dir", "other"),
        run("allow", "keys/node.key_secret", "--dir", "keys"),
        run("allow", "-", "--dir", "keys", text=pair.secret_key),
        run("allow", "-", "--dir", "keys", text=f"curve\n{pair.secret_key}\n"),
        run("list", "--dir", "keys"),
    ]
    Path("keys/node.key_secret").chmod(0o644)
    results.append(run("show", "--dir", "keys"))

    assert all(pair.secret_key not in result.output + result.stderr for result in results)


def test_unknown_subcommand_is_a_usage_error() -> None:
    assert run("nwe").exit_code == 2
