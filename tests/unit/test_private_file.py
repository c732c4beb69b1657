"""Files that others must not read: written whole under their mode, read only when they are what they should be."""

import os
import stat
from pathlib import Path

import pytest

from grav_actors.errors import ConfigError
from grav_actors.private_file import LARGEST_FILE, check_folder, read_file, write_file


def test_file_is_written_under_its_mode_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_file(tmp_path / "secret", "text", 0o600, replace=False)

    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert read_file(tmp_path / "secret", is_secret=True) == "text"


def test_file_that_is_there_goes_only_when_it_may(tmp_path: Path) -> None:
    write_file(tmp_path / "secret", "first", 0o600, replace=False)
    with pytest.raises(ConfigError, match="secret is there already"):
        write_file(tmp_path / "secret", "second", 0o600, replace=False)
    assert read_file(tmp_path / "secret", is_secret=True) == "first"

    write_file(tmp_path / "secret", "third", 0o600, replace=True)

    assert read_file(tmp_path / "secret", is_secret=True) == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_old_file_stays_when_the_new_one_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_file(tmp_path / "secret", "first", 0o600, replace=False)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match="secret: cannot be written: No space left on device"):
        write_file(tmp_path / "secret", "second", 0o600, replace=True)

    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "first"


def test_link_at_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "secret").symlink_to(target)

    write_file(tmp_path / "secret", "text", 0o600, replace=True)

    assert target.read_text() == "mine"
    assert not (tmp_path / "secret").is_symlink()


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere/secret: cannot be written: No such file or directory"):
        write_file(tmp_path / "nowhere" / "secret", "text", 0o600, replace=True)


def test_what_is_not_secret_may_be_read_by_others(tmp_path: Path) -> None:
    write_file(tmp_path / "public", "text", 0o644, replace=False)

    assert read_file(tmp_path / "public", is_secret=False) == "text"
    with pytest.raises(
        ConfigError, match="has mode 0644, so others may have read the secret; make a new one, or chmod"
    ):
        read_file(tmp_path / "public", is_secret=True)


@pytest.mark.parametrize(("size", "fits"), [(LARGEST_FILE, True), (LARGEST_FILE + 1, False)])
def test_large_file_is_not_read(tmp_path: Path, size: int, fits: bool) -> None:
    (tmp_path / "public").write_bytes(b"x" * size)
    try:
        found = len(read_file(tmp_path / "public", is_secret=False))
    except ConfigError as exc:
        found = 0
        text = str(exc)
    else:
        text = ""

    assert (found == size, "is larger than 65536 bytes" in text) == (fits, not fits)


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; make one$"):
        read_file(tmp_path / "secret", is_secret=True, missing="make one")


def test_missing_folder_is_no_mistake(tmp_path: Path) -> None:
    check_folder(tmp_path / "nowhere")
    check_folder(tmp_path)


def test_folder_that_others_can_write_to_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="has mode 0777, so others can write there; chmod 700"):
        check_folder(tmp_path)
