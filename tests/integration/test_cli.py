"""The command line as a user has it: real processes in a project folder of their own."""

import base64
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grav_actors import ConnectionClosedError, Grav
from support.programs import COMMAND_LIMIT, GRAV_ACTORS, Piped, Program
from support.projects import GREENHOUSE

WORKERS = """
import os, signal, sys, threading, time
from datetime import UTC, datetime
from grav_actors import Actor, ActorRef, on_type

class Worker(Actor):
    def __init__(self, **given):
        self.given = given

    def on_start(self):
        self.log.info("begins")

    def on_stop(self, reason):
        print("stopped by", reason, flush=True)

    @on_type("work.pid")
    def pid(self, msg):
        return os.getpid()

    @on_type("work.given")
    def show(self, msg):
        return self.given

    @on_type("work.echo")
    def echo(self, msg):
        return msg.data

    @on_type("work.raw")
    def raw(self, msg):
        return b"\\x00raw\\xff"

    @on_type("work.rich")
    def rich(self, msg):
        return {"at": datetime(2024, 5, 1, tzinfo=UTC), "who": ActorRef("till"), "raw": b"hi"}

    @on_type("work.fail")
    def fail(self, msg):
        raise ValueError("bad site")

    @on_type("work.print")
    def say(self, msg):
        print("to stdout")
        print("to stderr", file=sys.stderr)

    @on_type("work.hang")
    def hang(self, msg):
        print("hangs", flush=True)
        threading.Event().wait()

    @on_type("work.stop")
    def end(self, msg):
        self.stop()

    @on_type("work.slow")
    def slow(self, msg):
        time.sleep(msg.data)

class Fragile(Actor):
    def on_start(self):
        self.after(0.0, "fragile.break")

    @on_type("fragile.break")
    def fall(self, msg):
        print("falls", flush=True)
        os._exit(3)

class Broken(Actor):
    def on_start(self):
        raise ValueError("no such site")

class Stuck(Actor):
    def on_start(self):
        print("is stuck", flush=True)
        threading.Event().wait()
"""

Done = subprocess.CompletedProcess[str]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A project directory."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "greenhouse.py").write_text(GREENHOUSE, encoding="utf-8")
    (project / "workers.py").write_text(WORKERS, encoding="utf-8")
    return project


@pytest.fixture
def run(folder: pathlib.Path) -> Callable[..., Done]:
    """Return `run(*arguments)`, which runs a command in the project to its end."""

    def run_command(*arguments: str, text: str = "", cwd: pathlib.Path = folder) -> Done:
        return subprocess.run(
            [*GRAV_ACTORS, *arguments],
            cwd=cwd,
            input=text,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT,
            check=False,
        )

    return run_command


@pytest.fixture
def begin(folder: pathlib.Path) -> Iterator[Callable[..., Program]]:
    """Return `begin(*arguments)`, which starts a command that goes on, and does not wait for it."""
    programs: list[Program] = []

    def start(*arguments: str, cwd: pathlib.Path = folder) -> Program:
        programs.append(Program(cwd, *arguments))
        return programs[-1]

    yield start
    for program in reversed(programs):
        program.close()


@pytest.fixture
def up(begin: Callable[..., Program]) -> Callable[..., Program]:
    """Return `up(*targets)`, back when all are ready."""

    def start(*targets: str) -> Program:
        program = begin("up", *targets)
        program.wait_ready()
        return program

    return start


@pytest.fixture
def begin_piped(folder: pathlib.Path) -> Iterator[Callable[..., Piped]]:
    """Return `begin_piped(*arguments)`, which starts a command whose two outputs are apart."""
    commands: list[Piped] = []

    def start(*arguments: str) -> Piped:
        commands.append(Piped(folder, *arguments))
        return commands[-1]

    yield start
    for command in commands:
        command.close()


def endpoint_of(program: Program) -> str:
    found = re.search(r"ipc://\S+", program.wait_line("ready"))
    assert found is not None
    return found[0]


def files_of(program: Program) -> set[str]:
    """Return what is left in the run folder of a program that has ended."""
    folder = pathlib.Path(endpoint_of(program).removeprefix("ipc://")).parent
    return {path.name for path in folder.iterdir()}


STAYS = {"node.lock", "bus.lock", "logbook"}


# The session of the introduction


def test_session_of_the_introduction(run: Callable[..., Done], up: Callable[..., Program]) -> None:
    program = up("greenhouse:Thermometer", "greenhouse:Display")
    ready = program.wait_line("ready")
    assert "2 actors" in ready

    sent = run("send", "sensor.poll")
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
    # `send` is back when the bus has it; the display may have it a moment later.
    assert run("send", "--wait", "sensor.poll").returncode == 0
    asked = run("ask", "display.last")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "21.5\n", "")

    down = run("down")
    assert (down.returncode, down.stdout, down.stderr) == (0, "", "")
    assert program.wait() == 0, program.output
    assert files_of(program) <= STAYS


# Ends of `up`


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signal_lets_the_actors_end(up: Callable[..., Program], number: int, code: int) -> None:
    program = up("workers:Worker", "greenhouse:Display")
    program.signal(number)
    assert program.wait() == code, program.output
    assert "worker  | stopped by shutdown\n" in program.output
    assert "Traceback" not in program.output
    assert files_of(program) <= STAYS


def test_second_signal_ends_what_hangs(
    run: Callable[..., Done], up: Callable[..., Program], folder: pathlib.Path
) -> None:
    (folder / "grav.toml").write_text('[actors.worker]\nclass = "workers:Worker"\nshutdown = "60s"\n')
    program = up()
    assert run("send", "--to", "worker", "work.hang").returncode == 0
    program.wait_line("hangs")
    program.signal(signal.SIGINT)
    program.wait_line("once more ends it at once")
    program.signal(signal.SIGINT)
    assert program.wait() == 130, program.output
    assert files_of(program) <= STAYS


def test_interrupt_while_an_actor_starts(begin: Callable[..., Program]) -> None:
    program = begin("up", "greenhouse:Display", "workers:Stuck")
    program.wait_line("is stuck")
    assert program.interrupt() == 130, program.output
    assert "ready" not in program.output
    assert "Traceback" not in program.output


def test_crash_loop_ends_it_with_1(folder: pathlib.Path, run: Callable[..., Any]) -> None:
    (folder / "grav.toml").write_text(
        "[supervisor]\nmax_restarts = 2\nbackoff = { first = 0 }\n"
        '[actors.fragile]\nclass = "workers:Fragile"\n[actors.display]\nclass = "greenhouse:Display"\n'
    )
    ended = run("up")
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("grav-actors: gave up: actor fragile failed once more after 2 restarts")
    assert "exit code 3" in last
    assert ended.stdout.count("fragile | falls\n") == 3


def test_killed_actor_comes_back_under_its_name(run: Callable[..., Done], up: Callable[..., Program]) -> None:
    program = up("workers:Worker", "greenhouse:Display")
    first = int(run("ask", "work.pid").stdout)
    os.kill(first, signal.SIGKILL)
    program.wait_line("actor worker crashed: signal SIGKILL .9.; restart 1 at once")
    second = int(run("ask", "--to", "worker", "work.pid").stdout)
    assert second != first
    rows = {row["name"]: row for row in map(json.loads, run("ps", "--json").stdout.splitlines())}
    assert (rows["worker"]["pid"], rows["worker"]["restarts"], rows["worker"]["state"]) == (
        second,
        1,
        "ready",
    )
    assert rows["display"]["restarts"] == 0
    assert program.interrupt() == 130


# Starts of `up`


def test_second_up_is_refused_with_the_pid(run: Callable[..., Done], up: Callable[..., Program]) -> None:
    program = up("greenhouse:Display")
    second = run("up", "greenhouse:Thermometer")
    assert second.returncode == 6
    (line,) = second.stderr.splitlines()
    assert f"(process {program.pid})" in line
    assert "`grav-actors down`" in line
    assert run("ps").returncode == 0
    assert program.interrupt() == 130


def test_up_is_refused_too_where_the_run_folder_would_be_another(
    up: Callable[..., Program], folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    program = up("greenhouse:Display")
    second = subprocess.run(
        [*GRAV_ACTORS, "up", "greenhouse:Display"],
        cwd=folder,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    assert second.returncode == 6, second.stderr
    assert f"(process {program.pid})" in second.stderr
    assert program.interrupt() == 130


def test_up_after_a_killed_one(up: Callable[..., Program], run: Callable[..., Done]) -> None:
    killed = up("greenhouse:Display")
    killed.signal(signal.SIGKILL)
    killed.wait()
    program = up("greenhouse:Display")
    assert run("ps").returncode == 0
    assert program.interrupt() == 130
    assert files_of(program) <= STAYS


def test_actor_that_does_not_start_shows_its_traceback_and_leaves_nothing(
    run: Callable[..., Done], folder: pathlib.Path
) -> None:
    failed = run("up", "greenhouse:Display", "workers:Broken")
    assert failed.returncode == 1
    assert 'raise ValueError("no such site")' in failed.stderr
    last = failed.stderr.splitlines()[-1]
    assert last == "grav-actors: actor 'broken' did not start: ValueError: no such site"
    assert "ready" not in failed.stderr
    # Nobody is left: neither a node nor a bus.
    assert run("ps").returncode == 4


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("greenhouse:Dispaly", 'did you mean "Display"?'),
        ("grenhouse:Display", 'did you mean "greenhouse"?'),
        ("greenhouse.Display", 'did you mean "greenhouse:Display"?'),
    ],
)
def test_wrong_target_is_one_line(run: Callable[..., Done], target: str, reason: str) -> None:
    failed = run("up", target)
    assert failed.returncode == 2
    (line,) = failed.stderr.splitlines()
    assert line.startswith("grav-actors: ")
    assert reason in line


def test_configuration_is_what_runs(
    run: Callable[..., Done],
    begin: Callable[..., Program],
    folder: pathlib.Path,
) -> None:
    (folder / "pyproject.toml").write_text(
        '[tool.grav-actors.node]\nname = "north"\n'
        "[tool.grav-actors.actors.digger]\n"
        'class = "workers:Worker"\ninstances = 2\nargs = { depth = 3 }\n'
        "[tool.grav-actors.actors.shown]\n"
        'class = "greenhouse:Display"\nkind = "thread"\n'
    )
    inner = folder / "inner"
    inner.mkdir()
    (inner / "extra.py").write_text("from grav_actors import Actor\nclass Extra(Actor): pass\n")
    program = begin("up", "extra:Extra", cwd=inner)
    program.wait_ready()
    rows = [json.loads(line) for line in run("ps", "--json", cwd=inner).stdout.splitlines()]
    assert [(row["name"], row["kind"]) for row in rows] == [
        ("digger-1", "process"),
        ("digger-2", "process"),
        ("shown", "thread"),
        ("extra", "process"),
    ]
    assert {"name", "kind", "state", "pid", "restarts", "mailbox"} <= rows[0].keys()
    assert rows[2]["pid"] not in {program.pid, rows[0]["pid"], rows[1]["pid"], rows[3]["pid"]}
    assert run("ask", "--to", "digger", "work.given").stdout == '{"depth": 3}\n'
    table = run("ps").stdout.splitlines()
    assert table[0].split()[:6] == ["NAME", "KIND", "STATE", "PID", "RESTARTS", "MAILBOX"]
    assert len(table) == 5
    assert run("down").returncode == 0
    assert program.wait() == 0


def test_output_of_actors_is_told_apart(run: Callable[..., Done], begin_piped: Callable[..., Piped]) -> None:
    program = begin_piped("up", "workers:Worker", "greenhouse:Thermometer")
    program.wait_ready()
    assert run("send", "--wait", "--to", "worker", "work.print").returncode == 0
    assert run("down").returncode == 0
    assert program.wait() == 0
    out, err = program.stdout.read(), program.stderr.read()
    assert "worker      | to stdout\n" in out
    assert "worker      | to stderr\n" in err
    assert "\x1b" not in out + err


def test_up_goes_on_when_nobody_reads_it(run: Callable[..., Done], begin_piped: Callable[..., Piped]) -> None:
    program = begin_piped("up", "workers:Worker")
    program.wait_ready()
    program.stdout.close()
    for _ in range(2):
        assert run("send", "--wait", "--to", "worker", "work.print").returncode == 0
    assert run("down").returncode == 0
    assert program.wait() == 0
    assert "Traceback" not in program.stderr.read()


def test_ps_ends_with_3_while_an_actor_waits_for_its_restart(
    run: Callable[..., Done], up: Callable[..., Program], folder: pathlib.Path
) -> None:
    (folder / "grav.toml").write_text(
        '[supervisor]\nbackoff = { first = "60s", max = "60s" }\n[actors.fragile]\nclass = "workers:Fragile"\n'
    )
    program = up()
    program.wait_line("restart 2 in ")
    listed = run("ps", "--json")
    assert listed.returncode == 3
    row = json.loads(listed.stdout)
    assert (row["state"], row["restarts"]) == ("backoff", 2)
    assert program.interrupt() == 130


def test_killed_bus_comes_back(up: Callable[..., Program]) -> None:
    program = up("workers:Worker")
    lock = pathlib.Path(endpoint_of(program).removeprefix("ipc://")).parent / "bus.lock"
    os.kill(int(lock.read_text()), signal.SIGKILL)
    program.wait_line("the bus process ended with signal SIGKILL .9.; starting it again")
    with Grav(bus=endpoint_of(program)) as node:  # a command may still find no bus
        assert node.ask("work.echo", 1, to="worker") == 1
    assert program.interrupt() == 130
    assert files_of(program) <= STAYS


def test_down_ends_the_node_of_a_script_too(run: Callable[..., Done]) -> None:
    with Grav() as node:
        down = run("down", "--bus", node.bus_endpoint)
        assert (down.returncode, down.stderr) == (0, "")
        with pytest.raises(ConnectionClosedError):
            node.connect()


# Messages


@pytest.fixture
def worker(up: Callable[..., Program]) -> Program:
    """A running worker."""
    return up("workers:Worker")


@pytest.mark.usefixtures("worker")
def test_ask_prints_one_line_of_json(run: Callable[..., Done], folder: pathlib.Path) -> None:
    data = '{"a": [1, null, "ä"]}'
    (folder / "data.json").write_text(data, encoding="utf-8")
    assert run("ask", "work.echo", data).stdout == f"{data}\n"
    assert run("ask", "work.echo", "@data.json").stdout == f"{data}\n"
    assert run("ask", "work.echo", "-", text=data).stdout == f"{data}\n"
    assert run("ask", "--to", "worker", "work.echo").stdout == "null\n"
    assert run("ask", "--json", "--to", "worker", "work.echo", '"x"').stdout == '{"data": "x"}\n'
    rich = run("ask", "work.rich").stdout
    assert rich == '{"at": "2024-05-01T00:00:00+00:00", "who": "till", "raw": "aGk="}\n'


@pytest.mark.usefixtures("worker")
def test_ask_prints_bytes_as_they_are(run: Callable[..., Done], folder: pathlib.Path) -> None:
    raw = subprocess.run(
        [*GRAV_ACTORS, "ask", "work.raw"], cwd=folder, capture_output=True, timeout=COMMAND_LIMIT, check=True
    )
    assert raw.stdout == b"\x00raw\xff"
    shown = json.loads(run("ask", "--json", "work.raw").stdout)
    assert base64.b64decode(shown["data"]) == b"\x00raw\xff"


@pytest.mark.usefixtures("worker")
def test_ask_that_fails(run: Callable[..., Done]) -> None:
    failed = run("ask", "work.fail")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "grav-actors: asked work.fail: the handler failed: ValueError: bad site\n"
    failed = run("ask", "--traceback", "work.fail")
    assert failed.returncode == 1
    assert 'raise ValueError("bad site")' in failed.stderr


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "arguments",
    [
        ("no.such.type",),
        ("--to", "nobody", "work.pid"),
        ("--to", "worker", "--timeout", "200ms", "work.slow", "1"),
    ],
)
def test_ask_without_an_answer_ends_with_5(run: Callable[..., Done], arguments: tuple[str, ...]) -> None:
    asked = run("ask", *arguments)
    assert (asked.returncode, asked.stdout) == (5, "")
    assert len(asked.stderr.splitlines()) == 1


@pytest.mark.usefixtures("worker")
def test_send_says_when_nobody_receives(run: Callable[..., Done]) -> None:
    sent = run("send", "no.such.type", "1")
    assert sent.returncode == 0
    assert "nobody receives no.such.type" in sent.stderr
    sent = run("send", "--to", "nobody", "work.pid")
    assert sent.returncode == 0
    assert "there is no actor nobody" in sent.stderr
    sent = run("send", "work.pid")
    assert (sent.returncode, sent.stderr) == (0, "")


@pytest.mark.usefixtures("worker")
def test_bad_type_or_data_is_a_usage_error(run: Callable[..., Done]) -> None:
    for arguments in (("a..b",), ("grav.mine",), ("a.b", "36893488147419103232"), ("a.b", "roof")):
        sent = run("send", *arguments)
        assert sent.returncode == 2, sent.stderr
        assert "Traceback" not in sent.stderr


@pytest.mark.usefixtures("worker")
def test_send_wait_has_a_limit(run: Callable[..., Done]) -> None:
    sent = run("send", "--wait", "--timeout", "100ms", "--to", "worker", "work.slow", "1")
    assert sent.returncode == 5
    assert "not settled within 0.1 s" in sent.stderr


def test_sub_prints_what_was_kept_and_what_comes(
    worker: Program, run: Callable[..., Done], begin: Callable[..., Program]
) -> None:
    for number in range(1, 4):
        run("send", "count.up", str(number))
    run("send", "other.thing")
    sub = begin("sub", "--json", "--last", "2", "--count", "3", "count.*", "never.comes")
    sub.wait_line('"data": 3')
    run("send", "other.thing")
    run("send", "count.up", '{"raw": [4]}')
    assert sub.wait() == 0, sub.output
    rows = [json.loads(line) for line in sub.lines]
    assert [row["data"] for row in rows] == [2, 3, {"raw": [4]}]
    assert rows[0].keys() == {
        "uuid", "type", "data", "parent_id", "reply_to", "timestamp", "sender", "redelivered",
    }  # fmt: skip
    assert rows[0]["type"] == "count.up"
    assert len({row["sender"] for row in rows}) == 3
    assert not any(row["redelivered"] for row in rows)


def test_sub_of_all_types_includes_dead_letters_only_when_asked(
    worker: Program, run: Callable[..., Done], begin: Callable[..., Program]
) -> None:
    run("send", "a.start", "0")
    plain = begin("sub", "--last", "1")
    everything = begin("sub", "--last", "1", "--all")
    for sub in (plain, everything):
        sub.wait_line("^a.start 0$")
    run("send", "--to", "nobody", "a.letter", "1")
    everything.wait_line("^grav.sys.dead ")
    run("send", "a.end", "2")
    for sub in (plain, everything):
        sub.wait_line("^a.end 2$")
        assert sub.interrupt() == 130
        assert "Traceback" not in sub.output
    assert plain.lines == ["a.start 0\n", "a.end 2\n"]


def test_sub_ends_with_4_when_the_node_ends(
    worker: Program, run: Callable[..., Done], begin: Callable[..., Program]
) -> None:
    run("send", "a.start")
    sub = begin("sub", "--last", "1")
    sub.wait_line("a.start")
    assert run("down").returncode == 0
    assert sub.wait() == 4
    assert sub.lines[-1] == "grav-actors: the bus was stopped\n"
    assert worker.wait() == 0


@pytest.mark.usefixtures("worker")
def test_sub_ends_quietly_when_nobody_reads_it(run: Callable[..., Done], begin_piped: Callable[..., Piped]) -> None:
    run("send", "a.start")
    sub = begin_piped("sub", "--last", "1")
    assert sub.stdout.readline() == "a.start null\n"
    sub.stdout.close()
    run("send", "a.more")
    assert sub.wait() == 0
    assert sub.stderr.read() == ""


@pytest.mark.usefixtures("worker")
def test_sub_of_a_bad_pattern_is_a_usage_error(run: Callable[..., Done]) -> None:
    for pattern in ("a.>.b", "a..b", ""):
        ended = run("sub", pattern)
        assert ended.returncode == 2, ended.stderr
        assert len(ended.stderr.splitlines()) == 1


# Programs on a bus that runs


def test_bus_alone_with_an_actor_of_another_program(run: Callable[..., Done], begin: Callable[..., Program]) -> None:
    bus = begin("bus", "--tcp", "tcp://127.0.0.1:*")
    bus.wait_ready()
    tcp = bus.wait_line("^tcp://").strip()
    assert tcp.startswith("tcp://127.0.0.1:")
    program = begin("run", "workers:Worker", "--name", "mole", "--bus", tcp)
    program.wait_ready()
    (row,) = map(json.loads, run("ps", "--json").stdout.splitlines())
    assert (row["name"], row["state"], row["pid"]) == ("mole", "ready", None)
    assert run("ask", "--to", "mole", "--bus", tcp, "work.echo", "[1]").stdout == "[1]\n"
    refused = run("run", "workers:Worker", "--name", "mole")
    assert refused.returncode == 6
    assert "choose another --name" in refused.stderr
    down = run("down")
    assert down.returncode == 5
    assert "a bus alone" in down.stderr
    assert run("up", "greenhouse:Display").returncode == 6
    assert run("bus").returncode == 6
    assert program.interrupt() == 130
    assert "stopped by shutdown" in program.output
    assert bus.interrupt() == 130
    assert run("ps").returncode == 4


def test_bus_of_a_port_in_use_says_so(
    run: Callable[..., Done],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = run("bus", "--tcp", f"tcp://127.0.0.1:{server.getsockname()[1]}")
    assert ended.returncode == 2
    assert "in use" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_bus_ends_with_0_at_sigterm(begin: Callable[..., Program]) -> None:
    bus = begin("bus")
    bus.wait_ready()
    bus.signal(signal.SIGTERM)
    assert bus.wait() == 0, bus.output


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_run_ends_when_its_actor_stops(
    worker: Program,
    run: Callable[..., Done],
    begin: Callable[..., Program],
    kind: str,
) -> None:
    program = begin("run", "workers:Worker", "--name", "mole", "--kind", kind)
    program.wait_ready()
    assert run("send", "--to", "mole", "work.stop").returncode == 0
    assert program.wait() == 0, program.output
    assert worker.interrupt() == 130


def test_run_ends_with_the_node_it_joined(
    worker: Program, run: Callable[..., Done], begin: Callable[..., Program]
) -> None:
    program = begin("run", "workers:Worker", "--name", "mole")
    program.wait_ready()
    assert run("down").returncode == 0
    assert program.wait() == 0, program.output
    assert worker.wait() == 0


def test_run_of_an_actor_that_does_not_start(run: Callable[..., Done], worker: Program) -> None:
    failed = run("run", "workers:Broken")
    assert failed.returncode == 1
    assert 'raise ValueError("no such site")' in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("grav-actors: actor 'broken' did not start")
    assert worker.interrupt() == 130
