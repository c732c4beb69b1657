"""The commands that look at a running node and control it, as a user has them."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.programs import Piped, Program

WORKERS = """
import os, threading
from grav_actors import Actor, Child, Crash, Supervisor, on_type

class Worker(Actor):
    def on_stop(self, reason):
        print("stopped by", reason, flush=True)

    @on_type("work.pid")
    def pid(self, msg):
        return os.getpid()

    @on_type("work.crash")
    def crash(self, msg):
        raise Crash("told to")

class Fickle(Worker):
    def on_start(self):
        if os.path.exists("broken"):
            raise ValueError("no such site")

class Slow(Worker):
    def on_start(self):
        print("is slow", flush=True)
        threading.Event().wait()

class Inner(Supervisor):
    children = [Child(Worker, name="deep", kind="thread"), Child(Worker, name="pair", kind="thread", instances=2)]

class Crew(Supervisor):
    children = [Child(Worker, name="hand"), Child(Inner, name="inner")]
"""

CONFIG = """
[node]
name = "farm"
[supervisor]
backoff = { first = "60s", max = "60s", jitter = 0 }
[actors.pool]
class = "workers:Worker"
kind = "thread"
instances = 2
[actors.fickle]
class = "workers:Fickle"
kind = "thread"
[actors.crew]
class = "workers:Crew"
"""

Done = subprocess.CompletedProcess[str]
Row = dict[str, Any]

pytestmark = pytest.mark.timeout(120)


class Project:
    """A folder with a configuration, and the programs that run in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.programs: list[Program | Piped] = []

    def up(self) -> Program:
        """Return `up`, ready."""
        program = Program(self.folder, "up")
        self.programs.append(program)
        program.wait_ready()
        return program

    def run(self, *arguments: str) -> Done:
        """Run a command to its end."""
        program = self.programs[0]
        assert isinstance(program, Program)
        return program.run(*program_of(*arguments))

    def rows(self, *, code: int = 0) -> dict[str, Row]:
        """Return what `ps --json` lists, by name."""
        done = self.run("ps", "--json")
        assert done.returncode == code, done.stderr
        return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def program_of(*arguments: str) -> tuple[str, ...]:
    from support.programs import GRAV_ACTORS

    return (*GRAV_ACTORS, *arguments)


@pytest.fixture
def project(tmp_path: pathlib.Path) -> Iterator[Project]:
    (tmp_path / "workers.py").write_text(WORKERS, encoding="utf-8")
    (tmp_path / "grav.toml").write_text(CONFIG, encoding="utf-8")
    made = Project(tmp_path)
    yield made
    for program in reversed(made.programs):
        program.close()


def test_ps_and_tree_show_the_children_of_nested_supervisors(project: Project) -> None:
    program = project.up()
    rows = project.rows()
    supervisors = {name: row["supervisor"] for name, row in rows.items()}
    assert supervisors == {
        "pool-1": "",
        "pool-2": "",
        "fickle": "",
        "crew": "",
        "hand": "crew",
        "inner": "crew",
        "deep": "inner",
        "pair-1": "inner",
        "pair-2": "inner",
    }
    assert {row["state"] for row in rows.values()} == {"ready"}
    assert rows["pool-1"]["pid"] == rows["pool-2"]["pid"] == rows["fickle"]["pid"] != program.pid
    assert rows["deep"]["pid"] == rows["pair-1"]["pid"] not in {rows["inner"]["pid"], rows["pool-1"]["pid"]}
    assert rows["hand"]["pid"] == json.loads(project.run("ask", "--to", "hand", "work.pid").stdout)
    assert rows["hand"]["memory"] > 1_000_000
    drawn = project.run("tree")
    assert drawn.returncode == 0
    assert drawn.stdout.splitlines()[0] == f"farm  process {program.pid}"
    assert "      ├─ deep  ready, thread\n" in drawn.stdout
    table = project.run("ps").stdout.splitlines()
    assert table[0].split() == [
        "NAME",
        "KIND",
        "STATE",
        "PID",
        "RESTARTS",
        "MAILBOX",
        "IN/S",
        "OUT/S",
        "MEMORY",
        "ERROR",
    ]
    assert program.interrupt() == 130


def test_stopped_actors_stay_stopped_until_they_are_started(project: Project) -> None:
    program = project.up()
    for name in ("hand", "deep", "pool"):
        assert project.run("stop", name).returncode == 0
    rows = project.rows()
    stopped = {name for name, row in rows.items() if row["state"] == "stopped"}
    assert stopped == {"hand", "deep", "pool-1", "pool-2"}
    assert rows["hand"]["pid"] is None
    assert program.output.count("stopped by stop") >= 2
    assert project.run("ask", "--to", "hand", "work.pid").returncode == 5
    assert project.run("health", "--ready").returncode == 0
    assert project.run("start", "deep", "hand", "pool").returncode == 0
    rows = project.rows()
    assert {row["state"] for row in rows.values()} == {"ready"}
    assert {row["restarts"] for row in rows.values()} == {0}
    assert project.run("ask", "--to", "hand", "work.pid").returncode == 0
    assert program.interrupt() == 130


def test_restart_makes_a_new_process_and_counts_as_no_failure(project: Project) -> None:
    program = project.up()
    first = project.rows()["hand"]["pid"]
    assert project.run("restart", "hand").returncode == 0
    row = project.rows()["hand"]
    assert row["pid"] not in (first, None)
    assert (row["state"], row["restarts"]) == ("ready", 0)
    assert program.interrupt() == 130


def test_scale_makes_pools_larger_and_smaller_also_below(project: Project) -> None:
    program = project.up()
    assert project.run("scale", "pool=1", "pair=4").returncode == 0
    assert set(project.rows()) == {
        "pool-1", "fickle", "crew", "hand", "inner", "deep", "pair-1", "pair-2", "pair-3", "pair-4",
    }  # fmt: skip
    assert project.run("scale", "pair=0").returncode == 0
    assert not any(name.startswith("pair") for name in project.rows())
    assert project.run("scale", "pair=1").returncode == 0
    assert "pair-1" in project.rows()
    assert program.interrupt() == 130


def test_orders_for_actors_that_are_not_there_are_refused(project: Project) -> None:
    program = project.up()
    for arguments, text in (
        (("stop", "hnad"), 'this node has no actor hnad; did you mean "hand"?'),
        (("scale", "hand=2"), "hand is no pool; give it `instances = 2` or more"),
        (("inspect", "nobody"), "this node has no actor nobody; `grav-actors ps` lists them"),
        (("inspect", "pool"), "pool is a pool; name an instance: pool-1, pool-2"),
    ):
        done = project.run(*arguments)
        assert done.returncode == 6, done.stderr
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert project.run("scale", "pool").returncode == 2
    assert project.run("stop").returncode == 2
    assert program.interrupt() == 130


def test_start_that_fails_ends_with_1_and_the_traceback(project: Project) -> None:
    program = project.up()
    assert project.run("stop", "fickle").returncode == 0
    (project.folder / "broken").touch()
    done = project.run("start", "fickle")
    assert done.returncode == 1
    assert 'raise ValueError("no such site")' in done.stderr
    assert done.stderr.splitlines()[-1].endswith("did not start: ValueError: no such site")
    assert project.rows(code=3)["fickle"]["state"] == "failed"
    (project.folder / "broken").unlink()
    assert project.run("start", "fickle").returncode == 0
    assert project.rows()["fickle"]["state"] == "ready"
    assert program.interrupt() == 130


def test_crash_is_seen_in_ps_inspect_health_and_tree(project: Project) -> None:
    program = project.up()
    for next_step in ("restart 1 at once", "restart 2 in 60 s"):
        project.run("send", "--to", "fickle", "work.crash")
        program.wait_line(next_step)
    row = project.rows(code=3)["fickle"]
    assert (row["state"], row["restarts"], row["error"]) == ("backoff", 2, "Crash: told to")
    health = project.run("health", "--ready")
    assert (health.returncode, health.stderr) == (3, "grav-actors: not ready: fickle is in backoff\n")
    assert project.run("health").returncode == 0
    shown = project.run("inspect", "fickle").stdout
    assert "class:         workers:Fickle\n" in shown
    assert "  actor fickle crashed: Crash: told to; restart 2 in 60 s\n  it was handling work.crash" in shown
    assert '    raise Crash("told to")' in shown
    inspected = json.loads(project.run("inspect", "fickle", "--json").stdout)
    assert inspected["handles"] == ["work.pid", "work.crash"]
    assert inspected["pod"]["mailbox"] == inspected["mailbox"]
    drawn = project.run("tree")
    assert drawn.returncode == 3
    assert "fickle  backoff, thread, 2 restarts, Crash: told to" in drawn.stdout
    assert project.run("start", "fickle").returncode == 0  # it need not wait any longer
    assert program.interrupt() == 130


def test_events_are_followed_one_line_each(project: Project) -> None:
    program = project.up()
    followed = Piped(project.folder, "events", "--json", "--count", "3", "actor.*")
    project.programs.append(followed)
    shown = Piped(project.folder, "events", "--count", "1", "actor.crashed")
    project.programs.append(shown)
    pid = project.rows()["hand"]["pid"]
    wait_for_listeners(project, 3)  # `up` itself is one: it writes them into its log
    os.kill(pid, signal.SIGKILL)
    events = [json.loads(line) for line in followed.stdout]
    assert followed.wait() == 0
    assert [event["type"].rpartition(".")[2] for event in events] == ["crashed", "restarting", "started"]
    assert events[0]["data"]["pid"] == pid
    assert events[0]["data"]["supervisor"] == "crew"
    (line,) = shown.stdout
    assert "actor.crashed hand; crash; signal SIGKILL (9); restart 1 at once" in line
    assert program.interrupt() == 130


def wait_for_listeners(project: Project, count: int) -> None:
    """Return when so many pods take events of crashes."""
    from grav_actors import Grav
    from grav_actors.bus.inquiry import RECEIVERS

    endpoint = project.programs[0].wait_line("ready").rpartition("bus ")[2].strip()  # type: ignore[union-attr]
    with Grav(bus=endpoint) as node:
        for _ in range(100_000):
            if node.ask(RECEIVERS, "grav.sys.actor.crashed", to="grav.bus") == count:
                return
    raise AssertionError(f"there never were {count} listeners")


def test_node_that_still_starts_is_not_ready(project: Project) -> None:
    config = project.folder / "grav.toml"
    config.write_text('[actors.worker]\nclass = "workers:Worker"\n[actors.slow]\nclass = "workers:Slow"\n')
    program = Program(project.folder, "up")
    project.programs.append(program)
    program.wait_line("is slow")
    health = project.run("health", "--ready")
    assert (health.returncode, health.stderr) == (3, "grav-actors: not ready: slow is starting\n")
    assert project.run("health").returncode == 0
    assert project.rows()["slow"]["state"] == "starting"
    assert program.interrupt() == 130


@pytest.mark.parametrize("command", [("health",), ("tree",), ("stop", "x"), ("inspect", "x"), ("health", "--ready")])
def test_without_a_bus_the_commands_end_with_4(
    project: Project, command: tuple[str, ...], begin_command: Callable[..., Done]
) -> None:
    assert begin_command(*command).returncode == 4


@pytest.fixture
def begin_command(tmp_path: pathlib.Path) -> Callable[..., Done]:
    """Return `begin_command(*arguments)`, which runs a command in a folder where nothing runs."""

    def run(*arguments: str) -> Done:
        return subprocess.run(
            program_of(*arguments), cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
        )

    return run


def test_bus_alone_has_no_node_to_look_at(project: Project) -> None:
    bus = Program(project.folder, "bus")
    project.programs.append(bus)
    bus.wait_line("ipc://")
    for arguments in (("health",), ("tree",), ("stop", "x"), ("inspect", "x")):
        done = project.run(*arguments)
        assert done.returncode == 5, done.stderr
        assert "a bus alone" in done.stderr
    assert bus.interrupt() == 130
