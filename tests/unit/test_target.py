"""What a target names, and which of the things that can be wrong with one is wrong."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grav_actors.errors import ConfigError
from grav_actors.target import load_target, split_target

Write = Callable[[str, str], None]

GREENHOUSE = """\
class Thermometer:
    class Probe:
        pass

class Display(Thermometer):
    pass

def make():
    pass

SITE = "roof"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Give a function that writes a file into the working directory; what was imported is forgotten after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(target: str, base: type | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_target(target, base=base)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_class_is_loaded_from_the_working_directory(write: Write, tmp_path: Path) -> None:
    write("gh_plain.py", GREENHOUSE)
    cls = load_target("gh_plain:Thermometer")
    assert (cls.__module__, cls.__name__) == ("gh_plain", "Thermometer")
    assert sys.path[0] == str(tmp_path)


def test_a_nested_class_is_loaded(write: Write) -> None:
    write("gh_nested.py", GREENHOUSE)
    assert load_target("gh_nested:Thermometer.Probe").__qualname__ == "Thermometer.Probe"


def test_the_base_itself_is_no_target(write: Write) -> None:
    write("gh_own_base.py", "class Base:\n    pass\n\nclass Mine(Base):\n    pass\n")
    base = load_target("gh_own_base:Base")
    assert "is the base of all actors; name a class that is derived from it" in refused("gh_own_base:Base", base)
    assert load_target("gh_own_base:Mine", base=base).__name__ == "Mine"


def test_a_class_is_loaded_from_a_package(write: Write) -> None:
    write("gh_pkg/__init__.py", "")
    write("gh_pkg/sensors.py", GREENHOUSE)
    assert load_target("gh_pkg.sensors:Display").__name__ == "Display"


def test_a_file_written_after_the_last_import_is_found(write: Write) -> None:
    write("gh_first.py", GREENHOUSE)
    load_target("gh_first:Display")
    write("gh_second.py", GREENHOUSE)
    assert load_target("gh_second:Display").__module__ == "gh_second"


def test_the_working_directory_goes_before_all_else_and_only_once(write: Write, tmp_path: Path) -> None:
    write("gh_once.py", GREENHOUSE)
    load_target("gh_once:Display")
    load_target("gh_once:Thermometer")
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("greenhouse", 'write module:Class, as in "greenhouse:Thermometer"'),
        ("greenhouse:", "write module:Class"),
        (":Thermometer", "write module:Class"),
        ("", "write module:Class"),
        ("a:b:c", "write module:Class"),
        ("a b:C", "write module:Class"),
        (".greenhouse:Thermometer", 'did you mean "greenhouse:Thermometer"?'),
        ("greenhouse.Thermometer", 'did you mean "greenhouse:Thermometer"?'),
        ("greenhouse.py:Thermometer", 'did you mean "greenhouse:Thermometer"?'),
        ("farm/greenhouse.py:Thermometer", 'did you mean "farm.greenhouse:Thermometer"?'),
        ("./greenhouse.py:Thermometer", 'did you mean "greenhouse:Thermometer"?'),
    ],
)
def test_a_text_of_another_form_is_refused_with_the_right_form(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_target(text)
    assert f'"{text}" is no target; ' in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, ["a:B"], b"a:B"])
def test_what_is_no_text_is_no_target(value: object) -> None:
    with pytest.raises(ConfigError, match="is no target"):
        split_target(value)


def test_a_missing_module_is_told_with_the_nearest_of_the_directory(write: Write, tmp_path: Path) -> None:
    write("gh_missing.py", GREENHOUSE)
    assert refused("gh_mising:Thermometer") == (
        f'no module named "gh_mising" in {tmp_path}; did you mean "gh_missing"?'
    )


def test_a_missing_module_without_a_near_one_is_told_plainly(write: Write, tmp_path: Path) -> None:
    write("unrelated.py", "")
    assert refused("zzqqxx:Thermometer") == f'no module named "zzqqxx" in {tmp_path}'


def test_a_missing_module_of_a_package_is_told_with_the_nearest_of_the_package(write: Write) -> None:
    write("gh_farm/__init__.py", "")
    write("gh_farm/sensors.py", GREENHOUSE)
    assert refused("gh_farm.sensor:Display") == (
        'no module named "gh_farm.sensor" in package "gh_farm"; did you mean "gh_farm.sensors"?'
    )


def test_a_module_is_no_package(write: Write) -> None:
    write("gh_single.py", GREENHOUSE)
    assert refused("gh_single.sensors:Display") == (
        'no module named "gh_single.sensors": "gh_single" is a module, not a package'
    )


def test_a_missing_import_inside_the_module_is_no_missing_module(write: Write) -> None:
    write("gh_imports.py", "import os\nimport no_such_library_here\n")
    assert refused("gh_imports:Display") == (
        'module "gh_imports" failed while importing: gh_imports.py:2: '
        "ModuleNotFoundError: No module named 'no_such_library_here'"
    )


def test_a_failing_module_is_told_with_the_last_frame_and_the_error(write: Write) -> None:
    write("gh_inner.py", "def load():\n    raise OSError('no\\nsensor')\n")
    write("gh_outer.py", "import gh_inner\n\n\ngh_inner.load()\n")
    assert refused("gh_outer:Display") == (
        'module "gh_outer" failed while importing: gh_inner.py:2: OSError: no sensor'
    )


def test_an_error_inside_a_library_is_told_at_the_users_line(write: Write) -> None:
    write("gh_library.py", "import json\n\njson.loads('{')\n")
    assert refused("gh_library:Display").startswith(
        'module "gh_library" failed while importing: gh_library.py:3: JSONDecodeError: '
    )


def test_a_syntax_error_is_told_at_its_line(write: Write) -> None:
    write("gh_syntax.py", "x = 1\nclass Display(\n")
    assert refused("gh_syntax:Display") == (
        "module \"gh_syntax\" failed while importing: gh_syntax.py:2: SyntaxError: '(' was never closed"
    )


def test_a_script_that_exits_while_it_is_imported_is_a_failing_module(write: Write) -> None:
    write("gh_script.py", "import sys\nsys.exit(3)\n")
    assert refused("gh_script:Display") == ('module "gh_script" failed while importing: gh_script.py:2: SystemExit: 3')


def test_an_interrupt_is_not_swallowed(write: Write) -> None:
    write("gh_interrupt.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_target("gh_interrupt:Display")


def test_a_long_error_is_cut(write: Write) -> None:
    write("gh_long.py", "raise ValueError('x' * 100_000)\n")
    assert len(refused("gh_long:Display")) < 500


def test_a_missing_class_is_told_with_the_nearest_class(write: Write) -> None:
    write("gh_classes.py", GREENHOUSE)
    assert refused("gh_classes:Thermometr") == (
        'module "gh_classes" has no class "Thermometr"; did you mean "Thermometer"?'
    )
    assert refused("gh_classes:Thermometer.Prob") == (
        '"gh_classes:Thermometer" has no class "Prob"; did you mean "Probe"?'
    )
    assert refused("gh_classes:Zzz") == 'module "gh_classes" has no class "Zzz"'


def test_a_file_hidden_by_a_library_of_its_name_is_told(write: Write) -> None:
    write("json.py", GREENHOUSE)
    assert refused("json:Thermometer").startswith(
        'module "json" has no class "Thermometer"; json.py is hidden by the module of that name ('
    )


@pytest.mark.parametrize(("name", "kind"), [("make", "a function"), ("SITE", "a str"), ("NUMBER", "an int")])
def test_what_is_no_class_is_told_by_its_kind(write: Write, name: str, kind: str) -> None:
    write("gh_kinds.py", GREENHOUSE + "NUMBER = 3\n")
    assert refused(f"gh_kinds:{name}") == f'"gh_kinds:{name}" is {kind}, not a class'


def test_a_module_whose_lookup_of_names_fails_is_a_failing_module(write: Write) -> None:
    write("gh_lazy.py", "def __getattr__(name):\n    raise ValueError(name)\n")
    assert refused("gh_lazy:Display") == ('module "gh_lazy" failed while importing: gh_lazy.py:2: ValueError: Display')


def test_a_class_must_be_derived_from_the_base_that_is_asked_for(write: Write) -> None:
    write("gh_base.py", GREENHOUSE)
    base = load_target("gh_base:Thermometer")
    assert load_target("gh_base:Display", base=base).__name__ == "Display"
    assert refused("gh_base:Thermometer.Probe", base) == (
        '"gh_base:Thermometer.Probe" is not derived from Thermometer; write "class Probe(Thermometer):"'
    )


def test_without_a_base_any_class_will_do(write: Write) -> None:
    write("gh_any.py", GREENHOUSE)
    assert load_target("gh_any:Thermometer.Probe").__name__ == "Probe"
