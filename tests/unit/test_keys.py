"""The folder of keys: who may read what, what is accepted, and that changes are seen."""

import logging
import os
import stat
import threading
from pathlib import Path

import pytest
import zmq

from grav_actors.errors import ConfigError
from grav_actors.mesh.certificate import Certificate
from grav_actors.mesh.keys import AllowedKeys, KeyFolder, default_folder, read_certificate


def new_key(name: str = "") -> Certificate:
    return Certificate(zmq.curve_keypair()[0].decode(), name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "config" / "keys")


# The own pair


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_new_pair_is_readable_by_its_user_alone_whatever_the_umask(keys: KeyFolder, umask: int) -> None:
    keys.path.mkdir(parents=True, mode=0o700)
    before = os.umask(umask)
    try:
        pair = keys.new("roof")
    finally:
        os.umask(before)

    assert (mode(keys.pair_file), mode(keys.public_file)) == (0o600, 0o644)
    assert keys.pair() == pair
    assert read_certificate(keys.public_file) == pair.public()
    assert zmq.curve_public(pair.secret_key.encode()).decode() == pair.public_key
    assert sorted(path.name for path in keys.path.iterdir()) == ["node.key", "node.key_secret"]


def test_folders_that_are_made_are_private(keys: KeyFolder) -> None:
    keys.new("roof")
    keys.allow(new_key("cellar"))

    assert (mode(keys.path), mode(keys.allowed_folder)) == (0o700, 0o700)


def test_pair_is_kept_unless_it_is_to_be_replaced(keys: KeyFolder) -> None:
    first = keys.new("roof")
    with pytest.raises(ConfigError, match=r"node\.key_secret is there already, .* `--force` replaces it"):
        keys.new("roof")
    assert keys.pair() == first

    second = keys.new("roof", replace=True)

    assert keys.pair() == second != first
    assert read_certificate(keys.public_file).public_key == second.public_key


@pytest.mark.parametrize("wrong", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_secret_that_others_could_read_is_refused(keys: KeyFolder, wrong: int) -> None:
    keys.new("roof")
    keys.pair_file.chmod(wrong)

    with pytest.raises(ConfigError, match=f"has mode {wrong:04o}, so others may have read the secret; .*chmod 600"):
        keys.pair()
    keys.pair_file.chmod(0o400)
    assert keys.pair().name == "roof"


def test_missing_pair_says_how_to_make_one(keys: KeyFolder) -> None:
    with pytest.raises(ConfigError, match=r'no such file; make a key pair with "grav-actors keys new --dir '):
        keys.pair()


def test_pair_of_two_different_keys_is_refused(keys: KeyFolder) -> None:
    one = keys.new("roof")
    keys.pair_file.write_text(Certificate(new_key().public_key, "roof", one.secret_key).text())

    with pytest.raises(ConfigError, match="the two keys are no pair"):
        keys.pair()


def test_public_key_is_no_pair(keys: KeyFolder) -> None:
    keys.new("roof")
    keys.pair_file.write_text(keys.public_file.read_text())

    with pytest.raises(ConfigError, match="holds no secret key"):
        keys.pair()


@pytest.mark.parametrize("wrong", [0o770, 0o702, 0o777])
def test_folder_in_which_others_can_write_is_refused(keys: KeyFolder, wrong: int) -> None:
    keys.new("roof")
    keys.allow(new_key("cellar"))
    keys.path.chmod(wrong)
    for call in (keys.pair, keys.allowed, lambda: keys.allow(new_key("barn"))):
        with pytest.raises(ConfigError, match=f"has mode {wrong:04o}, so others can write there; chmod 700"):
            call()
    keys.path.chmod(0o755)
    keys.allowed_folder.chmod(wrong)
    with pytest.raises(ConfigError, match="allowed has mode"):
        keys.allowed()


def test_file_of_another_user_is_refused(keys: KeyFolder) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    keys.new("roof")
    os.chown(keys.pair_file, 12345, -1)

    with pytest.raises(ConfigError, match=r"node\.key_secret belongs to user 12345, not to 0"):
        keys.pair()


def test_name_must_be_one(keys: KeyFolder) -> None:
    with pytest.raises(ConfigError, match="name must be a name of 1 to 64 characters"):
        keys.new("../roof")


# Those that are accepted


def test_allowed_keys_have_the_names_of_their_files(keys: KeyFolder) -> None:
    roof, cellar = new_key("roof"), new_key("cellar")
    path = keys.allow(roof)
    keys.allow(cellar, "below")

    assert path == keys.allowed_folder / "roof.key"
    assert keys.allowed() == {"below": cellar.public_key, "roof": roof.public_key}
    assert read_certificate(path) == roof


def test_nothing_is_allowed_without_a_folder(keys: KeyFolder) -> None:
    assert keys.allowed() == {}
    assert not keys.path.exists()


def test_allowing_twice_does_no_harm(keys: KeyFolder) -> None:
    roof = new_key("roof")

    assert keys.allow(roof) == keys.allow(roof)
    assert len(keys.allowed()) == 1


def test_one_key_has_one_name_and_one_name_one_key(keys: KeyFolder) -> None:
    roof = new_key("roof")
    keys.allow(roof)
    with pytest.raises(ConfigError, match=r'allowed already, as "roof"; remove .*/allowed/roof\.key first'):
        keys.allow(roof, "other")
    with pytest.raises(ConfigError, match=r'another key is allowed as "roof".*; choose another --name, or use --force'):
        keys.allow(new_key("roof"))

    other = new_key("roof")
    keys.allow(other, replace=True)

    assert keys.allowed() == {"roof": other.public_key}


def test_own_and_secret_keys_are_not_allowed(keys: KeyFolder) -> None:
    pair = keys.new("roof")
    with pytest.raises(ConfigError, match="this is a secret key"):
        keys.allow(pair)
    for own in (pair.public_key, pair.secret_key):
        with pytest.raises(ConfigError, match="this is this node's own key") as refused:
            keys.allow(Certificate(own), "other")
        assert pair.secret_key not in str(refused.value)
    assert keys.allowed() == {}


@pytest.mark.parametrize(("name", "error"), [("", "comes without a name; .*--name"), ("a/b", "must be a name")])
def test_name_is_needed_and_checked(keys: KeyFolder, name: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        keys.allow(new_key(), name)


def test_file_that_is_no_key_is_named_with_its_line(keys: KeyFolder) -> None:
    keys.allow(new_key("roof"))
    (keys.allowed_folder / "bad.key").write_text("curve\n?\n")

    with pytest.raises(ConfigError, match=r"/allowed/bad\.key:2: neither a section nor"):
        keys.allowed()


@pytest.mark.parametrize("kind", ["folder", "pipe", "large", "binary", "missing"])
def test_what_is_no_file_with_a_key_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "roof.key"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "large":
            path.write_bytes(b"#" * 70_000)
        case "binary":
            path.write_bytes(bytes(range(256)))
        case _:
            pass

    with pytest.raises(ConfigError, match=r"roof\.key"):
        read_certificate(path)


# Read again when it changes


def test_changes_are_seen_at_the_next_question(keys: KeyFolder) -> None:
    allowed = AllowedKeys(keys)
    roof, cellar = new_key("roof"), new_key("cellar")
    assert allowed.name_of(roof.public_key) is None

    path = keys.allow(roof)
    assert allowed.name_of(roof.public_key) == "roof"
    keys.allow(cellar)
    assert dict(allowed.names()) == {roof.public_key: "roof", cellar.public_key: "cellar"}
    keys.allow(new_key(), "cellar", replace=True)
    assert allowed.name_of(cellar.public_key) is None
    path.unlink()
    assert allowed.name_of(roof.public_key) is None


def test_unchanged_folder_is_not_read_again(keys: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.allow(new_key("roof"))
    allowed = AllowedKeys(keys)
    first = allowed.names()
    monkeypatch.setattr(keys, "_allowed_key", None)

    assert allowed.names() is first


def test_bad_file_is_logged_once_and_the_others_are_accepted(keys: KeyFolder, caplog: pytest.LogCaptureFixture) -> None:
    roof = new_key("roof")
    keys.allow(roof)
    (keys.allowed_folder / "bad.key").write_text("?\n")
    allowed = AllowedKeys(keys)
    with caplog.at_level(logging.WARNING):
        assert dict(allowed.names()) == {roof.public_key: "roof"}
        keys.allow(new_key("cellar"))
        assert len(allowed.names()) == 2

    (line,) = caplog.messages
    assert "bad.key:1:" in line


def test_folder_that_is_opened_to_others_accepts_nobody(keys: KeyFolder, caplog: pytest.LogCaptureFixture) -> None:
    roof = new_key("roof")
    keys.allow(roof)
    allowed = AllowedKeys(keys)
    assert allowed.name_of(roof.public_key) == "roof"

    with caplog.at_level(logging.WARNING):
        keys.allowed_folder.chmod(0o777)
        assert allowed.name_of(roof.public_key) is None
    assert "so others can write there" in caplog.text

    keys.allowed_folder.chmod(0o700)
    assert allowed.name_of(roof.public_key) == "roof"


def test_several_threads_may_ask(keys: KeyFolder) -> None:
    roof = new_key("roof")
    keys.allow(roof)
    allowed = AllowedKeys(keys)
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(allowed.name_of(roof.public_key))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == ["roof"] * 8


def test_default_folder_is_in_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "grav-actors" / "keys"

    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".config" / "grav-actors" / "keys"
