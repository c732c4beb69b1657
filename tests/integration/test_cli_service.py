"""`up` as a service: what systemd is told, and a configuration that changes while it runs."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from grav_actors.cli.notify import Notifier
from support.programs import GRAV_ACTORS, Program

LIMIT = 20.0
WORKERS = """
import os
from grav_actors import Actor, on_type

class Worker(Actor):
    def __init__(self, site="roof"):
        self.site = site

    def on_start(self):
        if self.site == "nowhere":
            raise ValueError("no such site")

    @on_type("work.where")
    def where(self, msg):
        return [self.site, os.environ.get("NOTIFY_SOCKET"), os.getpid()]
"""
TABLE = '[actors.{0}]\nclass = "workers:Worker"\nkind = "thread"\n'

pytestmark = pytest.mark.timeout(120)


class Systemd:
    """The socket to which a service says how it is."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(LIMIT)

    def next(self) -> dict[str, str]:
        """Wait for what is said next."""
        text = self._socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))

    def next_but(self, key: str) -> dict[str, str]:
        """Wait for what is said next, except for one word."""
        while key in (said := self.next()):
            pass
        return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: pathlib.Path) -> Iterator[Systemd]:
    service = Systemd(str(tmp_path / "notify"))
    yield service
    service.close()


@pytest.fixture
def project(tmp_path: pathlib.Path) -> Iterator[list[Program]]:
    """Programs that are closed at the end."""
    (tmp_path / "workers.py").write_text(WORKERS, encoding="utf-8")
    (tmp_path / "grav.toml").write_text(TABLE.format("worker"), encoding="utf-8")
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.close()


def start(project: list[Program], folder: pathlib.Path) -> Program:
    program = Program(folder, "up")
    project.append(program)
    program.wait_ready()
    return program


def test_systemd_is_told_of_ready_life_reload_and_end(
    project: list[Program], systemd: Systemd, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    program = start(project, tmp_path)
    assert systemd.next_but("WATCHDOG") == {"READY": "1", "STATUS": "1 actor"}
    assert systemd.next() == systemd.next() == {"WATCHDOG": "1"}
    asked = program.run(*GRAV_ACTORS, "ask", "work.where")
    assert json.loads(asked.stdout)[1] is None
    program.signal(signal.SIGHUP)
    reloading = systemd.next_but("WATCHDOG")
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert systemd.next_but("WATCHDOG")["READY"] == "1"
    assert program.interrupt() == 130
    assert systemd.next_but("WATCHDOG") == {"STOPPING": "1"}


def test_name_that_stands_in_no_file_system_is_reached() -> None:
    address = f"grav-actors-test-{os.getpid()}"
    service = Systemd(f"\0{address}")
    try:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": f"@{address}"})
        assert notifier is not None
        notifier.stopping()
        assert service.next() == {"STOPPING": "1"}
    finally:
        service.close()


def test_no_sign_of_life_is_given_for_a_node_that_does_not_answer(systemd: Systemd, tmp_path: pathlib.Path) -> None:
    notifier = Notifier(str(tmp_path / "notify"), 0.01)
    answers = iter([False, False, True])
    limits: list[float] = []
    over = threading.Event()

    def is_alive(limit: float) -> bool:
        limits.append(limit)
        answer = next(answers, None)
        if answer is None:
            over.set()
        return bool(answer)

    notifier.watch(is_alive)
    assert over.wait(LIMIT)
    notifier.close()
    notifier.stopping()
    assert systemd.next() == {"WATCHDOG": "1"}
    assert systemd.next() == {"STOPPING": "1"}
    assert limits[0] == 0.01 / 3


@pytest.mark.parametrize(
    ("environment", "patience"),
    [
        ({"NOTIFY_SOCKET": "/run/x"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2000000"}, 2.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"}, None),
    ],
)
def test_environment_says_how_long_systemd_waits(environment: dict[str, str], patience: float | None) -> None:
    notifier = Notifier.from_environment(environment)
    assert notifier is not None
    assert notifier.patience == patience
    assert environment == {}


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}])
def test_environment_that_names_no_socket_asks_for_nothing(environment: dict[str, str]) -> None:
    assert Notifier.from_environment(environment) is None


def test_socket_that_is_gone_is_no_error(tmp_path: pathlib.Path) -> None:
    Notifier(str(tmp_path / "nobody")).ready("1 actor")


def test_reload_applies_the_difference_and_nothing_else(project: list[Program], tmp_path: pathlib.Path) -> None:
    config = tmp_path / "grav.toml"
    pool = TABLE.format("pool") + "instances = 2\n"
    process = '[actors.stays]\nclass = "workers:Worker"\n'
    config.write_text(process + TABLE.format("goes") + TABLE.format("moves") + pool)
    program = start(project, tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        done = program.run(*GRAV_ACTORS, *arguments)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def where(name: str) -> list[object]:
        found: list[object] = json.loads(run("ask", "--to", name, "work.where"))
        return found

    pid = where("stays")[2]
    assert run("reload") == ""
    config.write_text(
        process
        + TABLE.format("moves")
        + 'args = { site = "cellar" }\n'
        + pool.replace("2", "3")
        + TABLE.format("new")
        + "[supervisor]\nmax_restarts = 9\n"
    )
    assert run("reload").splitlines() == [
        "goes: removed",
        "moves: replaced",
        "pool: scaled to 3",
        "new: added",
        "[supervisor] has changed: that takes effect with the next `up`",
    ]
    names = {row["name"] for row in map(json.loads, run("ps", "--json").splitlines())}
    assert names == {"stays", "moves", "pool-1", "pool-2", "pool-3", "new"}
    assert where("stays")[2] == pid
    assert where("moves")[0] == "cellar"

    # With a mistake nothing is changed.
    config.write_text(process.replace("Worker", "Wroker"))
    assert 'did you mean "Worker"?' in run("reload", code=2)
    program.signal(signal.SIGHUP)
    program.wait_line("not reloaded: .*Wroker")
    assert where("moves")[0] == "cellar"

    # An actor that does not start does not keep the others from being changed, and is tried again.
    config.write_text(process + TABLE.format("moves") + 'args = { site = "nowhere" }\n')
    assert "ValueError: no such site" in run("reload", code=1)
    config.write_text(process + TABLE.format("moves"))
    program.signal(signal.SIGHUP)
    program.wait_line("moves: added")
    program.wait_line(r"\breloaded$")
    config.unlink()
    assert "has no grav.toml; nothing was changed" in run("reload", code=2)
    assert where("stays")[2] == pid
    assert program.interrupt() == 130
