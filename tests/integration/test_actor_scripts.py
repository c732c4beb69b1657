"""Scripts that start actors, run as users run them: with and without a guard, interrupted, killed."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from support.projects import GREENHOUSE

LIMIT = 30.0
GONE_LIMIT = 2.0
"""Seconds within which nothing may be left of a script that was killed."""

API_SCRIPT = """
# the same from a script, with the bus embedded; no __main__ guard is needed
from grav_actors import Grav
from greenhouse import Display, Thermometer

with Grav() as grav:                                     # starts a bus process of its own
    thermometer = grav.spawn(Thermometer, site="roof", kind="process")
    display = grav.spawn(Display, kind="thread")
    thermometer.ask("sensor.poll")                       # back when the handler has run; what it published is ahead of what follows
    print(display.ask("display.last", timeout=2.0))
"""  # noqa: E501  (as the documentation has it)

OWN_CLASS = """
from dataclasses import dataclass
from grav_actors import Actor, Grav, on_type

@dataclass
class Settings:
    factor: int

class Doubler(Actor):
    def __init__(self, settings):
        self.settings = settings

    @on_type("double")
    def double(self, msg):
        return msg.data * self.settings.factor

    @on_type("spawn")
    def start(self, msg):
        return self.spawn(Tripler)

class Tripler(Actor):
    @on_type("triple")
    def triple(self, msg):
        return msg.data * 3

print("imported")
"""

UNGUARDED = """
with Grav() as grav:
    print(grav.spawn(Doubler, Settings(2)).ask("double", 21, timeout=20))
"""

GUARDED = """
if __name__ == "__main__":
    with Grav() as grav:
        doubler = grav.spawn(Doubler, Settings(2))
        print(doubler.ask("double", 21, timeout=20))
        print(doubler.ask("spawn", timeout=20).ask("triple", 14, timeout=20))
"""


def run(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def write(folder: Path, name: str, source: str) -> str:
    (folder / name).write_text(textwrap.dedent(source))
    return name


def test_script_of_the_documentation(tmp_path: Path) -> None:
    write(tmp_path, "greenhouse.py", GREENHOUSE)
    done = run(tmp_path, write(tmp_path, "script.py", API_SCRIPT))
    assert (done.stdout, done.stderr, done.returncode) == ("21.5\n", "", 0)


def test_own_class_without_a_guard_is_a_clear_error(tmp_path: Path) -> None:
    done = run(tmp_path, write(tmp_path, "script.py", OWN_CLASS + UNGUARDED))
    assert done.returncode == 1
    assert done.stdout == "imported\nimported\n"  # once here, once in the one process that was started
    error = f"{tmp_path / 'script.py'} makes a node whenever it is imported"
    assert error in done.stderr
    assert 'put what makes the node under `if __name__ == "__main__":`' in done.stderr


def test_own_class_with_a_guard(tmp_path: Path) -> None:
    done = run(tmp_path, write(tmp_path, "script.py", OWN_CLASS + GUARDED))
    assert (done.stdout, done.stderr, done.returncode) == ("imported\nimported\n42\nimported\n42\n", "", 0)


def test_own_class_of_a_module_that_is_run(tmp_path: Path) -> None:
    write(tmp_path, "script.py", OWN_CLASS + GUARDED)
    done = run(tmp_path, "-m", "script")
    assert (done.stdout, done.stderr, done.returncode) == ("imported\nimported\n42\nimported\n42\n", "", 0)


def test_own_class_of_a_package_that_is_run(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    write(tmp_path, "package/factor.py", "FACTOR = 2")
    write(tmp_path, "package/__init__.py", "")
    write(tmp_path, "package/__main__.py", OWN_CLASS + "from .factor import FACTOR\n" + GUARDED)
    done = run(tmp_path, "-m", "package")
    assert (done.stdout, done.stderr, done.returncode) == ("imported\nimported\n42\nimported\n42\n", "", 0)


@pytest.mark.parametrize("arguments", [("-c", OWN_CLASS + UNGUARDED), ("-",)])
def test_class_at_a_prompt_is_a_clear_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments, stdin=OWN_CLASS + UNGUARDED)
    assert done.returncode == 1
    assert "a process cannot import Doubler, as it is defined at a prompt; put it into a file, or use" in done.stderr
    assert done.stdout == "imported\n"


def test_script_that_forgets_to_stop_its_node(tmp_path: Path) -> None:
    write(tmp_path, "greenhouse.py", GREENHOUSE)
    source = API_SCRIPT.replace("with Grav() as grav:", "grav = Grav()\nif True:")
    done = run(tmp_path, write(tmp_path, "script.py", source))
    assert (done.stdout, done.stderr, done.returncode) == ("21.5\n", "", 0)


# Signals


# What runs the tests may itself ignore SIGINT, as a shell's background jobs do, and the script would inherit that.
WAITING_SCRIPT = """
import signal, sys
from grav_actors import Child, Grav
from greenhouse import Display, Thermometer

signal.signal(signal.SIGINT, signal.default_int_handler)
with Grav() as grav:
    display = grav.spawn(Display)
    grav.spawn(Child(Thermometer, instances=2))
    try:
        print("ready", flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        print("last:", display.ask("display.last", timeout=20), flush=True)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    write(folder, "greenhouse.py", GREENHOUSE)
    process = subprocess.Popen(
        [sys.executable, write(folder, "script.py", WAITING_SCRIPT)],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_interrupt_at_the_terminal_does_not_reach_children(tmp_path: Path) -> None:
    process = start(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert (out, err, process.returncode) == ("last: None\n", "", 0)


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path)
    left = descendants(process.pid)
    assert len(left) >= 5, left  # bus, fork server and three actors
    process.kill()
    deadline = time.monotonic() + GONE_LIMIT
    process.communicate(timeout=LIMIT)
    while left := {pid for pid in left if is_running(pid)}:
        assert time.monotonic() < deadline, left


def is_running(pid: int) -> bool:
    try:
        return not re.search(r"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return False
