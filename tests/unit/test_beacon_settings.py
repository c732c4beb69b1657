"""The secret of beacons: where it may be, who may read it, and that it does not show."""

from pathlib import Path
from typing import Any

import pytest

from grav_actors.discovery.beacon_settings import BeaconSettings, settings_from
from grav_actors.errors import ConfigError

SECRET: Any = "a secret of some length"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "beacon.secret"
    path.write_text(f"\n{SECRET}\n")
    path.chmod(0o600)
    return path


def test_secret_is_taken_from_its_file_without_white_space(file: Path) -> None:
    assert BeaconSettings(secret_file=file).read_secret() == SECRET.encode()


def test_secret_may_be_given_as_text_or_bytes() -> None:
    assert BeaconSettings(secret=SECRET).read_secret() == BeaconSettings(secret=SECRET.encode()).read_secret()
    assert BeaconSettings().read_secret() == b""


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_file_that_others_could_read_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)

    with pytest.raises(ConfigError, match=rf"beacon\.secret has mode {mode:04o}, so others may have read the secret"):
        BeaconSettings(secret_file=file).read_secret()


@pytest.mark.parametrize("text", ["", "too short", "too short" + " " * 20])
def test_file_with_too_little_is_refused_without_showing_it(file: Path, text: str) -> None:
    file.write_text(text)

    with pytest.raises(ConfigError, match=r"beacon\.secret holds no secret of at least 16 bytes$"):
        BeaconSettings(secret_file=file).read_secret()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"beacon\.secret: no such file$"):
        BeaconSettings(secret_file=tmp_path / "beacon.secret").read_secret()


def test_one_place_is_enough(file: Path) -> None:
    with pytest.raises(ConfigError, match="secret_file and secret are both given"):
        BeaconSettings(secret=SECRET, secret_file=file)


def test_secret_does_not_show() -> None:
    assert SECRET not in repr(BeaconSettings(secret=SECRET))


def test_mapping_changes_what_it_names() -> None:
    default = BeaconSettings(port=7000)

    assert settings_from({"ipv6": False}, default) == BeaconSettings(port=7000, ipv6=False)
    assert settings_from(BeaconSettings(), default) == BeaconSettings()
    assert settings_from(None, default) is default
