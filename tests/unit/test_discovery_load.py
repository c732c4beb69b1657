"""Discoveries are found by name: built-in ones first, then those of installed packages."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from grav_actors import discovery
from grav_actors.errors import ConfigError, GravError

Install = Callable[..., None]

GROUP = "grav_actors.discovery"
SOURCE = "class Pigeon:\n    pass\n"


def test_class_of_a_third_party_is_loaded_by_its_entry_point(install_plugin: Install) -> None:
    install_plugin(GROUP, "pigeon", "pigeon_discovery:Pigeon", SOURCE)

    loaded: type[Any] = discovery.load("pigeon")

    assert (loaded.__module__, loaded.__name__) == ("pigeon_discovery", "Pigeon")


def test_nothing_is_imported_to_list_the_names(install_plugin: Install) -> None:
    install_plugin(GROUP, "pigeon", "pigeon_discovery:Pigeon", "raise RuntimeError")

    assert "pigeon" in discovery.names()
    assert "pigeon_discovery" not in sys.modules


@pytest.mark.parametrize("name", ["", "no-such-discovery", "Pigeon"])
def test_unknown_name_says_what_was_asked_and_how_to_register(name: str) -> None:
    with pytest.raises(ConfigError) as failure:
        discovery.load(name)

    text = str(failure.value)
    assert f'no discovery is called "{name}"' in text
    assert all(registered in text for registered in discovery.names() or ["none"])
    assert f'entry point in the group "{GROUP}"' in text
    assert "\n" not in text


def test_config_error_is_both_ours_and_a_value_error() -> None:
    with pytest.raises(GravError) as failure:
        discovery.load("no-such-discovery")

    assert isinstance(failure.value, ValueError)


def test_unknown_name_gets_the_nearest_and_all_registered_ones(install_plugin: Install) -> None:
    install_plugin(GROUP, "pigeon", "pigeon_discovery:Pigeon", SOURCE)

    with pytest.raises(ConfigError, match=r'"pidgeon"; did you mean "pigeon"\? Registered are .*pigeon'):
        discovery.load("pidgeon")


def test_built_in_class_cannot_be_taken_by_a_package(install_plugin: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(discovery._BUILT_IN, "pigeon", "collections:OrderedDict")
    install_plugin(GROUP, "pigeon", "pigeon_discovery:Pigeon", SOURCE)

    loaded: type[Any] = discovery.load("pigeon")

    assert loaded.__name__ == "OrderedDict"


def test_first_package_on_the_path_wins_a_name(install_plugin: Install) -> None:
    install_plugin(GROUP, "pigeon", "behind_discovery:Pigeon", SOURCE, package="behind")
    install_plugin(GROUP, "pigeon", "ahead_discovery:Pigeon", SOURCE, package="ahead")

    assert discovery.load("pigeon").__module__ == "ahead_discovery"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "ModuleNotFoundError: No module named 'pigeon_discovery'"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise RuntimeError('broken wing')", "RuntimeError: broken wing"),
        ("class Other: pass", "AttributeError: "),
    ],
)
def test_what_cannot_be_imported_names_entry_point_package_and_cause(
    install_plugin: Install, source: str, reason: str
) -> None:
    install_plugin(GROUP, "pigeon", "pigeon_discovery:Pigeon", source)

    with pytest.raises(ConfigError) as failure:
        discovery.load("pigeon")

    assert 'discovery "pigeon" (pigeon_discovery:Pigeon of third-party) cannot be imported: ' in str(failure.value)
    assert reason in str(failure.value)
    assert failure.value.__cause__ is not None


def test_what_is_no_class_is_refused(install_plugin: Install) -> None:
    install_plugin(GROUP, "pigeon", "pigeon_discovery:Pigeon", "Pigeon = 7")

    with pytest.raises(ConfigError, match="is 7, not a class"):
        discovery.load("pigeon")
