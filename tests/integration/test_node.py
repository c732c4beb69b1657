"""Grav as a node: start, joining a bus, what it refuses, forks, and that nothing is left of it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grav_actors import (
    BusNotFoundError,
    ConfigError,
    ConnectionClosedError,
    Grav,
    Message,
    TransportNotConfiguredError,
    TunnelNotEstablishedError,
    WrongProcessError,
)
from support import actors
from support.collecting import LIMIT, Collector, in_thread, settle

# What a node is


def test_large_messages_leave_no_thread_of_pyzmq_behind() -> None:
    # pyzmq frees memory that was sent by reference in a thread which ends with the process.
    with Grav() as grav:
        receiver, sender = grav.connect(), grav.connect()
        collected = Collector()
        receiver.on(collected)
        for size in (64 * 1024, 256 * 1024, 1024 * 1024):
            sender.publish("large", bytes(size))
            sender.publish("large", ["nested", bytes(size - 100)])
        settle(sender)
    assert [len(data) for data in collected.data] == [65_536, 2, 262_144, 2, 1_048_576, 2]
    assert {thread.name for thread in threading.enumerate()} == {"MainThread"}


def test_what_actors_send_at_their_end_is_handled_before_the_node_is_gone(kind: str) -> None:
    handled: list[Any] = []
    with Grav() as grav:
        pod = grav.connect()

        def take(message: Message) -> None:
            pod.ask("grav.sys.bus.stats", to="grav.bus")  # slower than the actor sends
            handled.append(message.data)

        pod.on_type("last", take)
        grav.spawn(actors.LastWords, 50, kind=kind)
    assert handled == list(range(50))


def test_node_says_who_it_is() -> None:
    with Grav(name="greenhouse", belongs_to="farm", interests=["vision", "audio"]) as grav, Grav() as other:
        assert (grav.name, grav.belongs_to, tuple(grav.interests)) == ("greenhouse", "farm", ("vision", "audio"))
        assert grav.node_uuid != other.node_uuid
        assert grav.bus_endpoint != other.bus_endpoint
        assert grav.bus_endpoint.startswith("ipc://")
        assert other.name
        assert other.belongs_to == "*"
        assert grav.peers() == []
        for member in ("node_uuid", "name", "belongs_to", "interests", "bus_endpoint"):
            with pytest.raises(AttributeError):
                setattr(grav, member, "other")


def test_nodes_with_buses_of_their_own_hear_nothing_of_each_other() -> None:
    with Grav() as grav, Grav() as other:
        collected = Collector()
        other.connect().on(collected)
        pod = grav.connect()
        pod.publish("x")
        settle(pod)
        other_sender = other.connect()
        other_sender.publish("own")
        settle(other_sender)
        assert collected.types == ["own"]


def test_node_publishes_from_its_own_pod() -> None:
    with Grav() as grav:
        pod = grav.connect()
        collected = Collector()
        pod.on_type("question", collected)
        receipt = grav.publish("question", 1, headers={"a": "b"})
        (message,) = collected.wait(1)
        assert dict(message.headers) == {"a": "b"}
        pod.reply_to(message, Message("answer", 2))
        assert receipt.result(LIMIT).data == 2


def test_node_joins_a_bus_that_runs_and_leaves_it_running() -> None:
    with Grav() as grav:
        collected = Collector()
        grav.connect().on(collected)
        with Grav(bus=grav.bus_endpoint) as joined:
            assert joined.bus_endpoint == grav.bus_endpoint
            pod = joined.connect()
            pod.publish("from.joined")
            settle(pod)
        joined.stop()
        pod = grav.connect()
        pod.publish("still.there")
        settle(pod)
        assert collected.types == ["from.joined", "still.there"]


def test_joined_node_ends_with_the_bus() -> None:
    with Grav() as grav:
        joined = Grav(bus=grav.bus_endpoint)
        pod = joined.connect()
        waiting = in_thread(lambda: pod.wait_on(lambda message: None))
        while not pod._core.filters.listening:
            os.sched_yield()
        grav.stop()
        with pytest.raises(ConnectionClosedError):
            waiting()
        with pytest.raises(ConnectionClosedError):
            pod.publish("x")
        joined.stop()


def test_another_process_joins(tmp_path: Path) -> None:
    program = """
        import sys
        from grav_actors import Grav, Message
        with Grav(bus=sys.argv[1]) as grav:
            pod = grav.connect()
            pod.on_type("ping", lambda m: pod.reply_to(m, Message("pong", m.data)))
            print("ready", flush=True)
            sys.stdin.read()
    """
    with Grav() as grav:
        child = start(program, grav.bus_endpoint)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        pod = grav.connect()
        for number in range(100):
            assert pod.publish("ping", number).result(LIMIT).data == number
        finish(child)


# What it refuses


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a b"}, {"name": ""}, {"name": 7},
        {"bus": "nonsense"}, {"bus": "udp://1.2.3.4:5"}, {"bus": ""}, {"bus": 7},
        {"endpoint": "tcp://127.0.0.1:0"}, {"keys": "folder"}, {"insecure": True},
        {"belongs_to": ""}, {"belongs_to": 7}, {"interests": "vision"}, {"interests": [""]}, {"interests": 7},
        {"replay_limit": -1}, {"replay_limit": 1.5}, {"replay_limit": "many"},
        {"max_message": 0}, {"max_message": "1MiB"}, {"send_timeout": 0}, {"send_timeout": "10s"},
        {"max_restarts": -1}, {"within": 0}, {"backoff": 0.5}, {"backoff": None},
        {"logger": "mine"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_value_is_a_config_error_that_names_it(options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(ConfigError, match=option):
        Grav(**options).stop()


@pytest.mark.parametrize("option", ["transport", "bridge", "discovery"])
def test_unknown_plug_in_is_a_config_error_that_names_it(option: str) -> None:
    with pytest.raises(ConfigError, match="no-such"):
        Grav(**{option: "no-such"}).stop()  # type: ignore[arg-type]


def test_auto_without_a_running_node_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BusNotFoundError, match="grav-actors up"):
        Grav(bus="auto")


def test_mesh_without_a_transport_says_so() -> None:
    with Grav() as grav:
        uses: list[Callable[[], object]] = [
            lambda: grav.connect_endpoint("tcp://127.0.0.1:1"),
            lambda: grav.connect_bridge_topic("topic"),
            grav.withdraw,
            lambda: grav.wait_for_peers(1, 0.1),
        ]
        for use in uses:
            with pytest.raises(TransportNotConfiguredError):
                use()
        with pytest.raises(TunnelNotEstablishedError):
            grav.tunnel("vision", Message())
        assert grav.wait_for_peers(0, 1.0) == []


def test_replay_limit_and_max_message_are_those_of_the_bus() -> None:
    with Grav(replay_limit=3, max_message=1000) as grav:
        sender = grav.connect()
        for number in range(10):
            sender.publish("n", number)
        with pytest.raises(ValueError, match=r"1[,_]?001.*1[,_]?000"):
            sender.publish("n", bytes(1001))
        sender.publish("n", bytes(1000))
        collected = Collector()
        grav.connect_with_replay().on(collected)
        collected.wait(3)
        settle(sender)
        assert collected.data == [8, 9, bytes(1000)]
    with Grav(replay_limit=0) as grav:
        sender = grav.connect()
        sender.publish("n", 1)
        collected = Collector()
        grav.connect_with_replay().on(collected)
        sender.publish("n", 2)
        settle(sender)
        assert collected.data == [2]


# The end


def bus_pid(grav: Grav) -> int:
    assert grav._bus is not None
    assert grav._bus.pid is not None
    return grav._bus.pid


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_gone(pid: int) -> None:
    """Wait for the end of a process that is no child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ended = poll.poll(LIMIT * 1000)
    os.close(descriptor)
    assert ended, f"process {pid} still runs"


def test_stop_takes_its_limit_as_every_wait_does() -> None:
    grav = Grav()
    for wrong in (-1, "5s"):
        with pytest.raises(ValueError, match="time limit"):
            grav.stop(wrong)  # type: ignore[arg-type]
    pod = grav.connect()  # it goes on
    grav.stop(None)
    assert not pod.is_connected
    Grav().stop(float("inf"))


def test_stop_is_idempotent_and_leaves_nothing() -> None:
    grav = Grav()
    pod = grav.connect()
    pod.on(Collector())
    pid, folder = bus_pid(grav), Path(grav.bus_endpoint.removeprefix("ipc://")).parent
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    grav.stop()
    assert not is_running(pid)
    assert not folder.exists()
    assert not pod.is_connected
    grav.stop()
    with grav:
        pass
    pod.disconnect()


def test_stop_from_many_threads_is_one_stop() -> None:
    for _ in range(5):
        grav = Grav()
        for _ in range(5):
            grav.connect().on(Collector())
        joins = [in_thread(grav.stop) for _ in range(5)]
        for join in joins:
            join()
        grav.stop()


def test_stop_settles_what_was_sent() -> None:
    for _ in range(10):
        with Grav() as grav:
            collected = Collector()
            grav.connect().on(collected)
            sender = grav.connect()
            for number in range(5000):
                sender.publish("n", number)
        assert collected.data == list(range(5000))


def test_stop_inside_a_callback_ends_within_its_limit() -> None:
    grav = Grav()
    pod, sender = grav.connect(), grav.connect()
    stopped = threading.Event()

    def handler(message: Message) -> None:
        grav.stop(0.2)
        stopped.set()

    pod.on(handler)
    sender.publish("stop")
    assert stopped.wait(LIMIT)
    grav.stop()
    pod._callbacks.join(LIMIT)


def test_stop_does_not_wait_longer_than_told_for_a_handler_that_hangs() -> None:
    release = threading.Event()
    grav = Grav()
    pod, sender = grav.connect(), grav.connect()
    collected = Collector(then=lambda message: release.wait(LIMIT))
    pod.on(collected)
    sender.publish("hang")
    collected.wait(1)
    in_thread(lambda: grav.stop(0.1))()
    release.set()
    pod._callbacks.join(LIMIT)


def test_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for options in ({"bus": "tcp://"}, {"bus": "ipc://"}, {"max_message": -1}, {"bus": "tcp://127.0.0.1:x"}):
        with pytest.raises(ConfigError):
            Grav(**options).stop()
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["grav-actors"])


def start(program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(child: subprocess.Popen[str]) -> tuple[str, str]:
    """End a child by closing its input; return what it wrote, without a word on standard error."""
    out, err = child.communicate(timeout=LIMIT)
    assert (child.returncode, err) == (0, "")
    return out, err


NODE = """
    import os, sys, threading
    from grav_actors import Grav
    grav = Grav()
    pod, other = grav.connect(), grav.connect()
    seen = []
    pod.on(seen.append)
    for number in range(1000):
        other.publish("n", number)
    print(grav._bus.pid, grav.bus_endpoint.removeprefix("ipc://"), flush=True)
"""


@pytest.mark.parametrize(
    "ending",
    ["", "sys.exit(0)", "del grav, pod, other", "raise SystemExit", "import atexit; atexit.register(lambda: None)"],
)
def test_interpreter_exit_without_stop_leaves_nothing(ending: str) -> None:
    out, _ = finish(start(NODE + "    " + ending))
    pid, path = out.split()
    assert not is_running(int(pid))
    assert not Path(path).parent.exists()


def test_unhandled_exception_leaves_nothing() -> None:
    child = start(NODE + "    raise ValueError('mine')")
    out, err = child.communicate(timeout=LIMIT)
    assert child.returncode == 1
    assert err.endswith("ValueError: mine\n")
    assert err.count("Traceback") == 1
    pid, path = out.split()
    assert not is_running(int(pid))
    assert not Path(path).parent.exists()


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_bus_ends_with_an_owner_that_dies(ending: str) -> None:
    child = start(NODE + "    " + ending)
    out, err = child.communicate(timeout=LIMIT)
    assert err == ""
    pid, path = out.split()
    wait_gone(int(pid))
    assert not Path(path).exists()
    for left in sorted(Path(path).parent.rglob("*"), reverse=True):
        left.unlink()
    Path(path).parent.rmdir()


def test_ctrl_c_ends_the_program_and_the_bus() -> None:
    # Programs that are started in the background ignore it.
    prologue = "    import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    child = start(prologue + NODE + "    sys.stdin.read()", start_new_session=True)
    assert child.stdout is not None
    pid, path = child.stdout.readline().split()
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=LIMIT)
    assert err.endswith("KeyboardInterrupt\n")
    assert err.count("Traceback") == 1
    wait_gone(int(pid))
    assert not Path(path).parent.exists()


# Forks


def in_fork(action: Callable[[], object]) -> str:
    """Run `action` in a forked child; return what it raised, as `Type: text`, or "nothing"."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
        pid = os.fork()
    if pid == 0:
        signal.alarm(int(LIMIT))
        text = "nothing"
        try:
            action()
        except BaseException as exc:
            text = f"{type(exc).__name__}: {exc}"
        finally:
            os.write(write, text.encode()[:4000])
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"
    return text


def test_everything_raises_after_a_fork_and_the_parent_goes_on() -> None:
    with Grav() as grav:
        pod, receiver = grav.connect(), grav.connect()
        collected = Collector()
        receiver.on(collected)
        receipt = pod.publish("n", 0)
        uses: list[Callable[[], object]] = [
            lambda: pod.send(Message("n")),
            lambda: pod.publish("n"),
            lambda: pod.reply_to(receipt, Message("n")),
            lambda: pod.ask("n"),
            lambda: pod.on(print),
            lambda: pod.on_type("n", print),
            lambda: pod.filter_type("n", True),
            lambda: pod.wait_on(print),
            lambda: pod.wait_until(0.1, print),
            lambda: pod.flush(0.1),
            lambda: receipt.result(0.1),
            lambda: receipt.on_reply(print),
            pod.disconnect,
            grav.connect,
            grav.connect_with_replay,
            lambda: grav.publish("n"),
            lambda: grav.ask("n"),
            grav.stats,
        ]
        for number, use in enumerate(uses):
            assert in_fork(use).startswith(WrongProcessError.__name__), number
        pod.publish("n", 1)
        settle(pod)
        assert collected.data == [0, 1]


def test_fork_while_another_thread_holds_the_lock_does_not_hang_the_child() -> None:
    with Grav() as grav:
        pod = grav.connect()
        receipt = pod.publish("n")
        for use in (
            lambda: pod.flush(0.1),
            lambda: receipt.result(0.1),
            lambda: receipt.on_reply(print),
            lambda: pod.publish("n"),
            lambda: pod.wait_until(0.1, print),
            pod.disconnect,
        ):
            with pod._link.lock:
                outcome = in_fork(use)
            assert outcome.startswith(WrongProcessError.__name__)


def test_forked_child_may_make_a_node_of_its_own_and_stop_means_nothing_to_it() -> None:
    with Grav() as grav:
        pod = grav.connect()
        collected = Collector()
        pod.on(collected)

        def child() -> None:
            grav.stop()
            with Grav(bus=grav.bus_endpoint) as own:
                mine = own.connect()
                mine.publish("from.child")
                mine.flush(LIMIT, settled=True)

        assert in_fork(child) == "nothing"
        assert collected.types == ["from.child"]


def test_forked_child_that_exits_as_usual_disturbs_nothing() -> None:
    program = """
        import os
        from grav_actors import Grav
        with Grav() as grav:
            pod, other = grav.connect(), grav.connect()
            seen = []
            other.on(seen.append)
            for number in range(5):
                child = os.fork()
                if child == 0:
                    raise SystemExit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                pod.publish("n", number)
                pod.flush(10, settled=True)
            assert [m.data for m in seen] == [0, 1, 2, 3, 4]
    """
    finish(start(program))
