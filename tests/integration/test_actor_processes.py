"""What only actors in processes can do wrong, and what must not be left of them."""

import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grav_actors import (
    Actor,
    ActorRef,
    ActorStartError,
    ActorStoppedError,
    Backoff,
    Child,
    ConnectionClosedError,
    Grav,
    NoRespondersError,
    on_type,
)
from support import actors
from support.collecting import LIMIT, in_thread, settle
from support.nodes import collect, wait_gone, wait_restarts

WriteModule = Callable[[str, str], Any]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Return `write(name, source)`, which writes a module that children can import too, and its path."""
    monkeypatch.syspath_prepend(tmp_path)
    written: list[str] = []

    def write(name: str, source: str) -> Path:
        written.append(name)
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(source))
        return path

    yield write
    for name in written:
        sys.modules.pop(name, None)


def rows(grav: Grav) -> list[str]:
    return [row["name"] for row in grav._runner.rows()]


def pid_of(grav: Grav, name: str) -> int:
    pid: int = next(row["pid"] for row in grav._runner.rows() if row["name"] == name)
    return pid


# Where the class is


def test_child_imports_only_the_module_of_its_class(grav: Grav, write_module: WriteModule) -> None:
    write_module("never_imported", "raise SystemExit('imported')")
    write_module(
        "greenhouse_one",
        """
        import sys
        from grav_actors import Actor, on_type
        class Lists(Actor):
            @on_type("modules")
            def modules(self, msg):
                return sorted(sys.modules)
        """,
    )
    import greenhouse_one  # type: ignore[import-not-found]

    modules = grav.spawn(greenhouse_one.Lists).ask("modules", timeout=LIMIT)
    assert "greenhouse_one" in modules
    assert not {"pytest", "support.actors", "never_imported", __name__} & set(modules)


def test_nested_class(grav: Grav, write_module: WriteModule) -> None:
    write_module(
        "greenhouse_two",
        """
        from grav_actors import Actor, on_type
        class Outer:
            class Inner(Actor):
                @on_type("name")
                def tell_name(self, msg):
                    return type(self).__qualname__
        """,
    )
    import greenhouse_two  # type: ignore[import-not-found]

    assert grav.spawn(greenhouse_two.Outer.Inner).ask("name", timeout=LIMIT) == "Outer.Inner"


def test_class_inside_a_function(grav: Grav) -> None:
    class Inside(Actor):
        @on_type("echo")
        def echo(self, msg: Any) -> Any:
            return msg.data

    with pytest.raises(ActorStartError, match=r'Inside, as it is defined inside a function.*or use kind="thread"'):
        grav.spawn(Inside)
    assert rows(grav) == []
    assert grav.spawn(Inside, kind="thread").ask("echo", 1, timeout=LIMIT) == 1


def test_class_under_another_name(grav: Grav) -> None:
    made = type("Made", (Actor,), {"__module__": __name__})
    with pytest.raises(ActorStartError, match="cannot import Made: .* has no such class under that name"):
        grav.spawn(made)


def test_module_that_cannot_be_imported_in_the_child(grav: Grav, write_module: WriteModule) -> None:
    path = write_module("greenhouse_three", "from grav_actors import Actor\nclass Some(Actor):\n    pass\n")
    import greenhouse_three  # type: ignore[import-not-found]

    path.write_text("import no_such_module\n")
    with pytest.raises(ActorStartError, match="ModuleNotFoundError: No module named 'no_such_module'") as caught:
        grav.spawn(greenhouse_three.Some)
    assert f'File "{path}", line 1' in caught.value.remote_traceback
    path.write_text("import os\nos.write(2, b'last words\\n')\nos._exit(7)\n")
    with pytest.raises(ActorStartError, match="did not start: its process ended with exit code 7") as caught:
        grav.spawn(greenhouse_three.Some)
    assert caught.value.remote_traceback == "last words"
    path.write_text("Some = 1\n")
    with pytest.raises(ActorStartError, match="greenhouse_three has no Actor Some in this process"):
        grav.spawn(greenhouse_three.Some)
    assert rows(grav) == []


def test_module_that_makes_a_node_is_no_fork_bomb(grav: Grav, write_module: WriteModule) -> None:
    path = write_module("greenhouse_four", "from grav_actors import Actor\nclass Some(Actor):\n    pass\n")
    import greenhouse_four  # type: ignore[import-not-found]

    path.write_text(path.read_text() + "from grav_actors import Grav\nGrav().spawn(Some)\n")
    with pytest.raises(ActorStartError, match="greenhouse_four makes a node whenever it is imported"):
        grav.spawn(greenhouse_four.Some)


# Arguments


@pytest.mark.parametrize("argument", [threading.Lock(), lambda: None, sys.modules[__name__]])
def test_arguments_that_cannot_be_pickled(grav: Grav, argument: Any) -> None:
    with pytest.raises(ActorStartError, match='cannot be carried to a process.*or use kind="thread"'):
        grav.spawn(actors.Plain, argument)
    assert rows(grav) == []


class Odd:
    """Can be pickled, and not be read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_arguments_that_cannot_be_read(grav: Grav) -> None:
    with pytest.raises(ActorStartError, match="of actor 'plain' cannot be read in its process: invalid literal"):
        grav.spawn(actors.Plain, Odd())


# Starts that fail


@pytest.mark.parametrize(
    ("how", "line"), [("constructor", "not made"), ("on_start", "not ready"), ("exit", "SystemExit: 4")]
)
def test_constructor_or_hook_that_raises(grav: Grav, kind: str, how: str, line: str) -> None:
    with pytest.raises(ActorStartError, match=f"actor 'unready' did not start: .*{line}") as caught:
        grav.spawn(actors.Unready, how, kind=kind)
    assert "support/actors.py" in caught.value.remote_traceback
    assert caught.value.remote_traceback.rstrip() in str(caught.value)
    assert rows(grav) == []
    with pytest.raises(NoRespondersError):
        grav.ask("echo", to="unready", timeout=LIMIT)


def test_process_that_dies_in_on_start(grav: Grav) -> None:
    with pytest.raises(ActorStartError, match="'unready' did not start: its process ended with exit code 5") as caught:
        grav.spawn(actors.Unready, "os_exit")
    assert caught.value.remote_traceback == "the last words"
    with pytest.raises(NoRespondersError):  # at once: the name is nobody's
        grav.ask("echo", to="unready", timeout=LIMIT)
    assert grav.spawn(actors.Unready, "", name="unready").ask("echo", 1, timeout=LIMIT) == 1


def test_start_timeout(grav: Grav, kind: str) -> None:
    grav.spawn(actors.Gate, kind="thread")
    child = Child(actors.StartsAtGate, kind=kind, start_timeout=1.0)
    with pytest.raises(ActorStartError, match="actor 'startsatgate' did not finish on_start within 1 s"):
        grav.spawn(child)
    assert rows(grav) == ["gate"]
    with pytest.raises(NoRespondersError):
        grav.ask("echo", to="startsatgate", timeout=LIMIT)
    grav.ask("gate.open", to="gate", timeout=LIMIT)


def test_node_that_stops_while_an_actor_starts(kind: str) -> None:
    grav = Grav()
    grav.spawn(actors.Gate, kind="thread")
    join = in_thread(lambda: grav.spawn(actors.StartsAtGate, kind=kind))
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    grav.stop()
    with pytest.raises((ActorStartError, ConnectionClosedError)):
        join()


def test_many_starts_and_deaths_at_the_same_time() -> None:
    with Grav(backoff=Backoff(first=0), max_restarts=1000) as grav:

        def start(number: int) -> None:
            ref = grav.spawn(actors.Writing, name=f"n{number}")
            with pytest.raises(ActorStoppedError):
                ref.ask("end", "kill", timeout=LIMIT)
            with pytest.raises(ActorStartError):
                grav.spawn(actors.Unready, "os_exit", name=f"u{number}")

        joins = [in_thread(lambda number=number: start(number)) for number in range(8)]  # type: ignore[misc]
        for join in joins:
            join()
        for number in range(8):
            wait_restarts(grav, grav.actor(f"n{number}"), 1)


# What children write


def test_output_of_a_child_is_visible(grav: Grav, capfd: pytest.CaptureFixture[str]) -> None:
    ref = grav.spawn(actors.Writing)
    ref.ask("write", "more", timeout=LIMIT)
    ref.stop()
    wait_gone(grav, ref)
    out, err = capfd.readouterr()
    assert out == "out starts\nout more\n"
    assert "err starts\nerr more\n" in err


@pytest.mark.parametrize(
    ("how", "text"),
    [("kill", r"signal SIGKILL \(9\)"), ("os_exit", "exit code 3"), ("crash", r"Crash: told to \(exit code 1\)")],
)
def test_crashed_child_is_reported_with_its_last_words(
    grav: Grav, caplog: pytest.LogCaptureFixture, how: str, text: str
) -> None:
    ref = grav.spawn(actors.Writing)
    ref.ask("write", "last words", timeout=LIMIT)
    with pytest.raises(ActorStoppedError):
        ref.ask("end", how, timeout=LIMIT)
    wait_restarts(grav, ref, 1)
    report = next(record.getMessage() for record in caplog.records if "crashed" in record.getMessage())
    first, handling, second, *last = report.splitlines()
    assert re.fullmatch(f"actor writing crashed: {text}; restart 1 at once", first)
    assert re.fullmatch(r"it was handling end [-0-9a-f]{36} \(attempt 1\)", handling)
    assert second == "the last that it wrote:"
    assert last[:2] == ["err starts", "err last words"]


# Kill -9, and other signals


def test_killed_while_idle(grav: Grav) -> None:
    tried = collect(grav, "tried")
    ref = grav.spawn(actors.Failing)
    assert ref.ask("fine", timeout=LIMIT) == "fine"
    settle(grav._pod)
    before = pid_of(grav, "failing")
    os.kill(before, signal.SIGKILL)
    for _ in range(100):
        ref.tell("try", ["fail", 0])
    messages = tried.wait(100)
    assert len({message.data[3] for message in messages} - {before}) == 1
    assert {row["name"]: row["restarts"] for row in grav._runner.rows()} == {"failing": 1}
    settle(grav._pod)
    assert len(tried.messages) == 100
    assert grav.stats()["dead_letters"] == {}


def test_killed_while_busy(grav: Grav) -> None:
    waited = collect(grav, "waited")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.Waiting)
    ref.tell("wait", "first")
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    for number in range(5):
        ref.tell("wait", number)
    os.kill(pid_of(grav, "waiting"), signal.SIGKILL)
    assert grav.ask("gate.arrived", 2, to="gate", timeout=LIMIT) == ["first", "first"]
    for count in range(3, 8):
        grav.ask("gate.open", to="gate", timeout=LIMIT)
        grav.ask("gate.arrived", count, to="gate", timeout=LIMIT)
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    data = [message.data for message in waited.wait(6)]
    assert data[0] == ["first", False, True, 2]  # it comes again, flagged and charged
    assert [item[0] for item in data[1:]] == list(range(5))
    assert all(attempt == 1 for _, _, _, attempt in data[1:])


def test_question_to_a_killed_actor_ends_at_once(grav: Grav) -> None:
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.Waiting)
    join = in_thread(lambda: ref.ask("wait", 1, timeout=None))
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    os.kill(pid_of(grav, "waiting"), signal.SIGKILL)
    with pytest.raises(ActorStoppedError):
        join()


def test_question_to_a_killed_actor_does_not_wait_for_the_next_one() -> None:
    with Grav(backoff=Backoff(first=3600.0, max=3600.0)) as grav:
        ref = grav.spawn(actors.Waiting)
        grav.spawn(actors.Gate, kind="thread")
        os.kill(pid_of(grav, "waiting"), signal.SIGKILL)
        wait_restarts(grav, ref, 1)
        join = in_thread(lambda: ref.ask("wait", 1, timeout=None))
        grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
        os.kill(pid_of(grav, "waiting"), signal.SIGKILL)
        with pytest.raises(ActorStoppedError):
            join()
        assert [row["state"] for row in grav._runner.rows()] == ["backoff", "ready"]


def test_six_deaths_within_30_seconds_end_the_node(caplog: pytest.LogCaptureFixture) -> None:
    with Grav(backoff=Backoff(first=0)) as grav:
        ref = grav.spawn(actors.Plain)
        for restarts in range(1, 6):
            os.kill(pid_of(grav, "plain"), signal.SIGKILL)
            wait_restarts(grav, ref, restarts)
        os.kill(pid_of(grav, "plain"), signal.SIGKILL)
        assert grav._control is not None
        assert grav._control.wait(LIMIT)
    text = "actor plain failed once more after 5 restarts within 30 s (last: signal SIGKILL (9))"
    assert f"the node ends: {text}" in caplog.text
    with pytest.raises(ConnectionClosedError, match="this node has ended: actor plain failed once more"):
        grav.stats()


def test_sigterm_from_outside_is_no_end_that_was_asked_for(grav: Grav) -> None:
    hooks = collect(grav, "hook")
    ref = grav.spawn(actors.HookedAsync)
    pid = pid_of(grav, "hookedasync")
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGTERM)
    assert [message.data for message in hooks.wait(4)] == [
        "start", "stop shutdown", "restart a signal has told it to end", "start",
    ]  # fmt: skip
    wait_restarts(grav, ref, 1)


def test_hung_process_is_killed_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with Grav() as grav:
        grav.spawn(actors.Gate, kind="thread")
        ref = grav.spawn(Child(actors.Waiting, shutdown=0.2))
        ref.tell("wait", 1)
        grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    assert "actor waiting has not stopped in time and is killed" in caplog.text


def test_hung_handler_of_a_crashed_actor_does_not_keep_its_process(grav: Grav) -> None:
    hooks = collect(grav, "hook")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.CrashingPool)
    ref.tell("wait")
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    ref.tell("end", "crash")
    assert [message.data for message in hooks.wait(3)] == ["start", "stop crash", "start"]  # after 5 s
    grav.ask("gate.open", to="gate", timeout=LIMIT)


# What is left


def test_nothing_is_left_of_a_node(kind: str) -> None:
    before = set(threading.enumerate())
    grav = Grav()
    folder = Path(grav.bus_endpoint.removeprefix("ipc://")).parent
    assert folder.is_dir()
    refs: list[ActorRef] = [
        grav.spawn(actor_class, kind=kind)
        for actor_class in (actors.Plain, actors.Asynchronous, actors.WaitingPool, actors.WaitingTasks, actors.Timed)
    ]
    for ref in refs:
        assert ref.is_alive()
    pids = [row["pid"] for row in grav._runner.rows() if row["pid"] != os.getpid()]
    assert len(pids) == (5 if kind == "process" else 0)
    grav.stop()
    assert set(threading.enumerate()) <= before
    assert not folder.exists()
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()
    grav.stop()


def test_fifty_thread_actors_in_one_node() -> None:
    with Grav() as grav:
        refs = [grav.spawn(actors.Asynchronous if number % 2 else actors.Plain, kind="thread") for number in range(50)]
        assert len({ref.name for ref in refs}) == 50
        for number, ref in enumerate(refs):
            assert ref.ask("echo", number, timeout=LIMIT) == ["hello", number]
        receipt = grav.publish("echo", "all")
        assert receipt.result(LIMIT).data == ["hello", "all"]
