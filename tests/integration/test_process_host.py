"""Real child processes under a `ProcessHost`: how they start, what they say, how they end."""

import hashlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zmq

from grav_actors.errors import ActorStartError, ReentrantWaitError
from grav_actors.supervisor import process
from grav_actors.supervisor.process import ChildProcess, ProcessHost
from grav_actors.supervisor.watch import DRAIN_LIMIT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

LIMIT = 20.0
"""Seconds that anything may take on a machine that is busy."""

ROOT = Path(__file__).resolve().parents[2]

ENTRIES = '''
import atexit, ctypes, hashlib, os, signal, subprocess, sys, threading, time

def hold(payload, report, slate):
    """Live until a signal comes; SIGUSR1 and SIGINT are reported."""
    wanted = {signal.SIGUSR1, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    report({"pid": os.getpid(), "server": os.getppid()})
    while True:
        report({"signal": int(signal.sigwait(wanted))})

def stubborn(payload, report, slate):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hold(payload, report, slate)

def run(payload, report, slate):
    exec(payload.decode(), globals() | {"report": report, "slate": slate})

def digest(payload, report, slate):
    report({"size": len(payload), "sha": hashlib.sha256(payload).digest()})

def talk(payload, report, slate):
    for number in range(int(payload)):
        print("out", number)
        print("err", number, file=sys.stderr)
        report({"n": number})
    sys.stdout.write("no end")
    sys.stdout.flush()
    os._exit(5)

def surroundings(payload, report, slate):
    files = {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
             if os.path.exists(f"/proc/self/fd/{n}")}
    report({
        "cwd": os.getcwd(), "path": sys.path, "environ": dict(os.environ), "argv": sys.argv,
        "files": files, "group": os.getpgid(0), "pid": os.getpid(),
        "mask": list(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "child": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
        "main": sys.modules["__main__"].__dict__.get("MARK", ""),
        "threads": threading.active_count(),
    })

def crash(payload, report, slate):
    ctypes.string_at(0)

def endings(payload, report, slate):
    def late():
        time.sleep(0.05)
        print("thread")
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    threading.Thread(target=late).start()
    atexit.register(print, "atexit")
    sys.stdout.write("main ")
'''


class Recorder:
    """Takes the callbacks of a host, in order."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.events: list[tuple[ChildProcess, str, Any]] = []

    def on_exit(self, child: ChildProcess) -> None:
        self._add(child, "exit", child.exitcode)

    def on_output(self, child: ChildProcess, stream: str, line: str) -> None:
        self._add(child, stream, line)

    def on_report(self, child: ChildProcess, report: dict[str, Any]) -> None:
        self._add(child, "report", report)

    def _add(self, child: ChildProcess, kind: str, content: Any) -> None:
        with self.changed:
            self.events.append((child, kind, content))
            self.changed.notify_all()

    def of(self, child: ChildProcess, kind: str) -> list[Any]:
        with self.changed:
            return [content for who, what, content in self.events if who is child and what == kind]

    def wait(self, child: ChildProcess, kind: str, count: int = 1) -> list[Any]:
        """Wait until there are so many events of a kind, and return them."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.of(child, kind)) >= count, LIMIT), (child, kind)
        return self.of(child, kind)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module `entries`, importable here and so in children."""
    (tmp_path / "entries.py").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def make_host(entries: Path, recorder: Recorder) -> Iterator[Callable[..., ProcessHost]]:
    hosts: list[ProcessHost] = []

    def make(*preload: str, **callbacks: Callable[..., object]) -> ProcessHost:
        functions = {name: getattr(recorder, name) for name in ("on_exit", "on_output", "on_report")}
        host = ProcessHost(**(functions | callbacks), preload=preload)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.stop(timeout=0)


@pytest.fixture
def host(make_host: Callable[..., ProcessHost]) -> ProcessHost:
    return make_host()


def run(host: ProcessHost, program: str) -> ChildProcess:
    return host.spawn("runner", "entries:run", program.encode(), capture=True)


def server_of(child: ChildProcess) -> int:
    return int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1])


class Watched:
    """A process by its descriptor: its number may go to another one, this does not."""

    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def ends_within(self, seconds: float) -> bool:
        return bool(select.select([self.fd], [], [], max(0.0, seconds))[0])

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def watched() -> Iterator[Callable[[int], Watched]]:
    made: list[Watched] = []

    def watch(pid: int) -> Watched:
        made.append(Watched(pid))
        return made[-1]

    yield watch
    for each in made:
        each.close()


class TestEnds:
    @pytest.mark.parametrize(
        ("program", "code"),
        [
            ("", 0),
            ("sys.exit()", 0),
            ("sys.exit(3)", 3),
            ("os._exit(7)", 7),
            ("raise ValueError('no')", 1),
            ("os.kill(os.getpid(), 9)", -9),
            ("os.kill(os.getpid(), 15)", -15),
            ("os.abort()", -6),
        ],
    )
    def test_code_is_that_of_the_child(self, host: ProcessHost, recorder: Recorder, program: str, code: int) -> None:
        child = run(host, program)

        assert child.wait(LIMIT)
        assert recorder.wait(child, "exit") == [code]
        assert not child.is_alive()

    def test_exception_leaves_its_traceback(self, host: ProcessHost) -> None:
        child = run(host, "raise ValueError('no such thing')")

        assert child.wait(LIMIT)
        assert child.stderr_tail[0] == "Traceback (most recent call last):"
        assert child.stderr_tail[-1] == "ValueError: no such thing"

    def test_text_as_exit_code_is_printed(self, host: ProcessHost) -> None:
        child = run(host, "sys.exit('enough')")

        assert child.wait(LIMIT)
        assert (child.exitcode, child.stderr_tail) == (1, ["enough"])

    @pytest.mark.parametrize("entry", ["no_such_module:f", "entries:no_such_function", "entries"])
    def test_entry_that_cannot_be_loaded_is_an_exit_with_the_reason(self, host: ProcessHost, entry: str) -> None:
        child = host.spawn("a", entry, b"", capture=True)

        assert child.wait(LIMIT)
        assert child.exitcode == 1
        assert "Error" in child.stderr_tail[-1]

    def test_segmentation_fault_leaves_a_python_traceback(self, host: ProcessHost) -> None:
        child = host.spawn("a", "entries:crash", b"", capture=True)

        assert child.wait(LIMIT)
        assert child.describe_exit() == "signal SIGSEGV (11)"
        assert child.stderr_tail[0] == "Fatal Python error: Segmentation fault"
        assert any("entries.py" in line and "in crash" in line for line in child.stderr_tail)

    def test_threads_are_waited_for_daemons_are_not_and_atexit_runs(
        self, host: ProcessHost, recorder: Recorder
    ) -> None:
        child = host.spawn("a", "entries:endings", b"", capture=True)

        assert child.wait(LIMIT)
        assert child.exitcode == 0
        assert recorder.of(child, "stdout") == ["main thread", "atexit"]

    def test_signals_reach_the_child(self, host: ProcessHost, recorder: Recorder) -> None:
        child = host.spawn("a", "entries:hold", b"", capture=True)
        recorder.wait(child, "report")
        child.send_signal(signal.SIGUSR1)
        assert recorder.wait(child, "report", 2)[1] == {"signal": signal.SIGUSR1}
        child.terminate()

        assert child.wait(LIMIT)
        assert child.exitcode == -signal.SIGTERM
        child.kill()  # nothing happens

    def test_without_process_descriptors_signals_go_through_the_server(
        self, make_host: Callable[..., ProcessHost], recorder: Recorder, entries: Path
    ) -> None:
        (entries / "without_pidfd.py").write_text(
            "import os\ndef refuse(pid):\n    raise OSError('not here')\nos.pidfd_open = refuse"
        )
        child = make_host("without_pidfd").spawn("a", "entries:hold", b"", capture=True)
        assert child._pidfd is None
        recorder.wait(child, "report")
        child.send_signal(signal.SIGUSR1)
        assert recorder.wait(child, "report", 2)[1] == {"signal": signal.SIGUSR1}
        child.kill()

        assert child.wait(LIMIT)
        assert child.exitcode == -signal.SIGKILL


class TestWords:
    @pytest.mark.parametrize("count", [1, 3000])
    def test_all_is_delivered_in_order_before_the_exit(self, host: ProcessHost, recorder: Recorder, count: int) -> None:
        child = host.spawn("a", "entries:talk", str(count).encode(), capture=True)
        recorder.wait(child, "exit")

        assert recorder.of(child, "stdout") == [*(f"out {n}" for n in range(count)), "no end"]
        assert recorder.of(child, "stderr") == [f"err {n}" for n in range(count)]
        assert recorder.of(child, "report") == [{"n": n} for n in range(count)]
        assert recorder.events[-1] == (child, "exit", 5)

    def test_reports_of_many_threads_are_not_mixed(self, host: ProcessHost, recorder: Recorder) -> None:
        program = """
def work(me):
    for n in range(200):
        report({"me": me, "n": n, "pad": "x" * 3000})
threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
        child = run(host, program)
        recorder.wait(child, "exit")

        reports = recorder.of(child, "report")
        for me in range(8):
            assert [report["n"] for report in reports if report["me"] == me] == list(range(200))

    def test_report_that_cannot_be_carried_raises_in_the_child(self, host: ProcessHost, recorder: Recorder) -> None:
        program = """
for bad in ({"x": b"x" * 2_000_000}, {"x": 2**70}, {"x": {1}}):
    try:
        report(bad)
    except (ValueError, TypeError) as error:
        print(type(error).__name__)
report({"good": [1, 2.5, None, "text", b"bytes"]})
"""
        child = run(host, program)
        recorder.wait(child, "exit")

        assert recorder.of(child, "stdout") == ["ValueError", "ValueError", "TypeError"]
        assert recorder.of(child, "report") == [{"good": [1, 2.5, None, "text", b"bytes"]}]

    def test_nonsense_in_the_report_pipe_costs_the_reports_only(
        self, host: ProcessHost, recorder: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        program = """
report({})
pipes = [int(n) for n in os.listdir("/proc/self/fd") if "pipe" in os.path.realpath(f"/proc/self/fd/{n}")]
os.write(max(pipes), b"GET / HTTP/1.1")
print("still here")
"""
        child = run(host, program)
        recorder.wait(child, "exit")

        assert (recorder.of(child, "stdout"), child.exitcode) == (["still here"], 0)
        assert "not read any more" in caplog.text

    def test_payload_of_5_mb(self, host: ProcessHost, recorder: Recorder) -> None:
        payload = os.urandom(5_000_000)
        child = host.spawn("a", "entries:digest", payload, capture=True)

        assert recorder.wait(child, "report") == [{"size": len(payload), "sha": hashlib.sha256(payload).digest()}]
        assert child.wait(LIMIT)

    def test_long_lines_and_bad_bytes(self, host: ProcessHost, recorder: Recorder) -> None:
        child = run(host, r"os.write(1, b'caf\xe9\n' + b'x' * 200_000 + b'\nend\n')")
        recorder.wait(child, "exit")

        first, long, last = recorder.of(child, "stdout")
        assert (first, last) == ("caf\ufffd", "end")
        assert long == "x" * 65536 + " [cut: 134464 more bytes]"

    @pytest.mark.parametrize("piece", ["b'x' * 65536", "b'0123456789abcde\\n' * 4096"])
    def test_flood_does_not_grow_memory(
        self, make_host: Callable[..., ProcessHost], recorder: Recorder, piece: str
    ) -> None:
        host = make_host(on_output=lambda child, stream, line: None)
        child = run(host, "")
        recorder.wait(child, "exit")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        child = run(host, f"data = {piece}\nfor _ in range(300): os.write(1, data)")  # 20 MB

        recorder.wait(child, "exit")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024

    def test_failing_callbacks_are_logged_and_change_nothing(
        self, make_host: Callable[..., ProcessHost], recorder: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[str] = []

        def fail(child: ChildProcess, *rest: object) -> None:
            seen.append(child.name)
            raise RuntimeError("callback")

        host = make_host(on_exit=fail, on_output=fail, on_report=fail)
        for _ in range(2):
            child = host.spawn("a", "entries:talk", b"1", capture=True)
            assert child.wait(LIMIT)
        host.stop()

        assert len(seen) == 2 * 5
        assert caplog.text.count("RuntimeError: callback") == len(seen)


class TestSurroundings:
    def test_child_has_the_parents_path_folder_and_environment_of_the_moment(
        self,
        host: ProcessHost,
        recorder: Recorder,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run(host, "").wait(LIMIT)  # the server is there before all this changes
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "neighbour.py").write_text(ENTRIES)
        monkeypatch.syspath_prepend(tmp_path / "later")
        monkeypatch.chdir(tmp_path / "later")
        monkeypatch.setenv("GRAV_TEST", "ä")
        child = host.spawn("a", "neighbour:surroundings", b"", capture=True)

        (found,) = recorder.wait(child, "report")
        assert found["path"] == sys.path
        assert found["cwd"] == str(tmp_path / "later")
        assert found["environ"] == dict(os.environ)
        assert (found["argv"], found["main"]) == (["a"], "")
        assert child.wait(LIMIT)

    def test_child_owns_its_streams_its_report_pipe_and_its_slate_and_nothing_else(
        self, host: ProcessHost, recorder: Recorder
    ) -> None:
        others = [host.spawn("other", "entries:hold", b"", capture=True) for _ in range(3)]
        read_end, write_end = os.pipe()
        os.set_inheritable(write_end, True)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
        try:
            child = host.spawn("a", "entries:surroundings", b"", capture=True)
            (found,) = recorder.wait(child, "report")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(read_end)
            os.close(write_end)

        assert all(other.is_alive() for other in others)
        kinds = {int(n): target.partition(":")[0] for n, target in found["files"].items()}
        assert kinds.pop(0) == "/dev/null"
        assert sorted(kinds.values()) == ["/memfd", "pipe", "pipe", "pipe"]
        assert (found["mask"], found["term"], found["child"], found["threads"]) == ([], True, True, 1)
        assert found["group"] == found["pid"] == child.pid

    def test_contexts_and_threads_in_the_parent_do_no_harm(
        self, make_host: Callable[..., ProcessHost], recorder: Recorder, tmp_path: Path
    ) -> None:
        host = make_host("zmq")
        endpoint = f"ipc://{tmp_path}/s"
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.bind(endpoint)
            program = f"""
import zmq
with zmq.Context() as context, context.socket(zmq.PUSH) as push:
    push.connect({endpoint!r})
    push.send(b"hello")
sys.exit(4)
"""
            child = run(host, program)
            assert pull.poll(int(LIMIT * 1000))
            assert pull.recv() == b"hello"
            assert child.wait(LIMIT)
        assert child.exitcode == 4

    def test_preload_that_fails_is_logged_and_left_to_the_child(
        self,
        make_host: Callable[..., ProcessHost],
        recorder: Recorder,
        entries: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        (entries / "broken.py").write_text("1 / 0")
        (entries / "loaded.py").write_text("import os; pid = os.getpid()")
        host = make_host("no_such_module", "broken", "loaded")
        child = run(host, "import loaded; report({'loaded': loaded.pid, 'server': os.getppid()})")

        (found,) = recorder.wait(child, "report")
        assert found["loaded"] == found["server"]
        assert "preload of no_such_module: ModuleNotFoundError" in caplog.text
        assert "preload of broken: ZeroDivisionError" in caplog.text
        assert child.wait(LIMIT)


class TestMany:
    def test_50_children_at_once(self, host: ProcessHost, recorder: Recorder) -> None:
        def spawn(number: int) -> ChildProcess:
            program = f"print({number}); report({{'n': {number}}}); sys.exit({number})"
            return host.spawn(f"a-{number}", "entries:run", program.encode(), capture=True)

        with ThreadPoolExecutor(10) as pool:
            children = list(pool.map(spawn, range(50)))
        for number, child in enumerate(children):
            assert recorder.wait(child, "exit") == [number]
            assert recorder.of(child, "stdout") == [str(number)]
            assert recorder.of(child, "report") == [{"n": number}]

    def test_50_children_killed_by_stop(self, host: ProcessHost, recorder: Recorder) -> None:
        with ThreadPoolExecutor(10) as pool:
            children = list(pool.map(lambda n: host.spawn(f"a-{n}", "entries:hold", b"", capture=True), range(50)))
        for child in children:
            recorder.wait(child, "report")
        host.stop()

        assert [recorder.of(child, "exit") for child in children] == [[-signal.SIGTERM]] * 50

    def test_spawns_that_meet_stop_end_or_are_refused(self, host: ProcessHost, recorder: Recorder) -> None:
        run(host, "").wait(LIMIT)
        children: list[ChildProcess] = []
        refusals: list[str] = []
        begun = threading.Semaphore(0)

        def spawn_until_refused() -> None:
            while True:
                try:
                    children.append(host.spawn("a", "entries:hold", b"", capture=True))
                except ActorStartError as error:
                    refusals.append(str(error))
                    return
                begun.release()

        threads = [threading.Thread(target=spawn_until_refused) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            assert begun.acquire(timeout=LIMIT)
        host.stop(timeout=0)
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

        assert all("stopped" in refusal or "ended" in refusal for refusal in refusals)
        assert [len(recorder.of(child, "exit")) for child in children] == [1] * len(children)


class TestCallbacks:
    def test_exit_may_spawn_the_next(self, make_host: Callable[..., ProcessHost], recorder: Recorder) -> None:
        codes: list[int | None] = []
        done = threading.Event()

        def on_exit(child: ChildProcess) -> None:
            codes.append(child.exitcode)
            if len(codes) < 20:
                run(made, f"sys.exit({len(codes)})")
            else:
                done.set()

        made = make_host(on_exit=on_exit)
        run(made, "sys.exit(0)")

        assert done.wait(LIMIT)
        assert codes == list(range(20))

    def test_waiting_for_oneself_is_refused(self, make_host: Callable[..., ProcessHost], recorder: Recorder) -> None:
        errors: list[BaseException] = []

        def on_report(child: ChildProcess, _report: dict[str, Any]) -> None:
            for call in (child.wait, made.stop):
                try:
                    call()
                except ReentrantWaitError as error:
                    errors.append(error)
            child.kill()

        made = make_host(on_report=on_report)
        child = made.spawn("a", "entries:hold", b"", capture=True)

        assert child.wait(LIMIT)
        assert len(errors) == 2


class TestGrandchildren:
    PROGRAM = """
program = "import os, signal; {}; print(flush=True); signal.pause()"
other = subprocess.Popen([sys.executable, "-Sc", program], stdout=subprocess.PIPE)
other.stdout.read(1)
print("said before the end")
report({"pid": other.pid})
"""

    def test_pipe_held_by_another_session_is_given_up(
        self, host: ProcessHost, recorder: Recorder, watched: Callable[[int], Watched]
    ) -> None:
        child = run(host, self.PROGRAM.replace("{}", "os.setsid()") + "signal.pause()")
        other = watched(recorder.wait(child, "report")[0]["pid"])
        start = time.monotonic()
        child.terminate()
        try:
            assert child.wait(LIMIT)
            assert time.monotonic() - start >= DRAIN_LIMIT
            assert not other.ends_within(0)
        finally:
            signal.pidfd_send_signal(other.fd, signal.SIGKILL)

        recorder.wait(child, "exit")
        assert recorder.of(child, "stdout") == ["said before the end"]
        assert recorder.events[-1] == (child, "exit", -signal.SIGTERM)
        assert other.ends_within(LIMIT)

    def test_what_is_left_in_the_childs_group_ends_with_it(
        self, host: ProcessHost, recorder: Recorder, watched: Callable[[int], Watched]
    ) -> None:
        child = run(host, self.PROGRAM.replace("{}", "pass") + "signal.pause()")
        other = watched(recorder.wait(child, "report")[0]["pid"])
        child.kill()

        assert child.wait(LIMIT)
        assert other.ends_within(2)


class TestServerLost:
    def test_its_children_end_with_it_and_the_next_spawn_has_a_new_one(
        self, host: ProcessHost, recorder: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        children = [host.spawn(f"a-{n}", "entries:hold", b"", capture=True) for n in range(5)]
        first = {recorder.wait(child, "report")[0]["server"] for child in children}
        assert len(first) == 1
        os.kill(min(first), signal.SIGKILL)

        for child in children:
            assert recorder.wait(child, "exit") == [-signal.SIGKILL]
        assert "5 children end with it" in caplog.text
        child = host.spawn("b", "entries:hold", b"", capture=True)
        assert recorder.wait(child, "report")[0]["server"] not in first

    def test_spawn_at_the_moment_of_its_death_succeeds(self, host: ProcessHost, recorder: Recorder) -> None:
        for _ in range(5):
            child = host.spawn("a", "entries:hold", b"", capture=True)
            server = recorder.wait(child, "report")[0]["server"]
            os.kill(server, signal.SIGKILL)
            other = host.spawn("b", "entries:hold", b"", capture=True)
            recorder.wait(other, "report")
            assert recorder.wait(child, "exit") == [-signal.SIGKILL]
            other.kill()
            assert recorder.wait(other, "exit") == [-signal.SIGKILL]

    def test_server_that_hangs_is_given_up(
        self, host: ProcessHost, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        child = host.spawn("a", "entries:hold", b"", capture=True)
        os.kill(recorder.wait(child, "report")[0]["server"], signal.SIGSTOP)
        monkeypatch.setattr(process, "START_LIMIT", 0.2)

        with pytest.raises(ActorStartError, match="has not answered within 0.2 s"):
            host.spawn("b", "entries:hold", b"", capture=True)

        assert recorder.wait(child, "exit") == [-signal.SIGKILL]
        monkeypatch.undo()
        # The path of the entries went with the rest.
        child = host.spawn("c", "no_such_module:f", b"", capture=True)
        assert child.wait(LIMIT)

    def test_server_that_does_not_start_is_an_error_of_spawn(
        self, host: ProcessHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        with pytest.raises(ActorStartError, match="/no/such/python"):
            host.spawn("a", "entries:hold", b"", capture=True)

        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(ActorStartError, match="fork server has ended"):
            host.spawn("a", "entries:hold", b"", capture=True)


class TestStop:
    def test_nothing_is_left(self, host: ProcessHost, recorder: Recorder) -> None:
        def open_files() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        def own_children() -> list[str]:
            tasks = Path("/proc/self/task").iterdir()
            return [pid for task in tasks for pid in (task / "children").read_text().split()]

        files, threads = open_files(), threading.active_count()
        for _ in range(3):
            run(host, "").wait(LIMIT)
        kept = [host.spawn("a", "entries:hold", b"", capture=capture) for capture in (True, False)]
        for child in kept:
            recorder.wait(child, "report")
        server = str(server_of(kept[0]))
        assert server in own_children()
        host.stop()

        assert (open_files(), threading.active_count()) == (files, threads)
        assert server not in own_children()
        assert [recorder.of(child, "exit") for child in kept] == [[-signal.SIGTERM]] * 2
        host.stop()
        with pytest.raises(ActorStartError, match="stopped"):
            host.spawn("a", "entries:hold", b"", capture=True)

    def test_child_that_ignores_sigterm_is_killed_after_the_time(self, host: ProcessHost, recorder: Recorder) -> None:
        child = host.spawn("a", "entries:stubborn", b"", capture=True)
        recorder.wait(child, "report")
        host.stop(timeout=0.1)

        assert recorder.of(child, "exit") == [-signal.SIGKILL]

    def test_host_that_never_spawned_stops(self, make_host: Callable[..., ProcessHost]) -> None:
        make_host().stop()

    def test_prepared_server_ends_too(self, host: ProcessHost) -> None:
        host.prepare()
        host.stop()

    def test_callback_that_hangs_does_not_keep_the_processes(
        self,
        make_host: Callable[..., ProcessHost],
        monkeypatch: pytest.MonkeyPatch,
        watched: Callable[[int], Watched],
    ) -> None:
        release, entered = threading.Event(), threading.Event()

        def hang(*_: object) -> None:
            entered.set()
            release.wait(LIMIT)

        monkeypatch.setattr(process, "KILL_LIMIT", 0.1)
        host = make_host(on_report=hang)
        child = host.spawn("a", "entries:hold", b"", capture=True)
        assert entered.wait(LIMIT)
        ours = [watched(child.pid), watched(server_of(child))]
        host.stop(timeout=0)

        assert [each.ends_within(2) for each in ours] == [True, True]
        release.set()


SCRIPT = """
import json, os, signal, sys, threading
from grav_actors.supervisor.process import ProcessHost

def say(*words):
    print(json.dumps(words), flush=True)

def start(capture=True, on_output=lambda *_: None):
    host = ProcessHost(lambda child: say("exit", child.exitcode, child.stderr_tail), on_output,
                       lambda child, report: say("report", report), preload=())
    return host, lambda entry, payload=b"": host.spawn("a", entry, payload, capture=capture)

MARK = "a parent's __main__"
"""


class Script:
    """A parent in a process of its own, which says what it sees in lines of JSON."""

    def __init__(self, folder: Path, program: str) -> None:
        path = folder / "script.py"
        path.write_text(SCRIPT + program)
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=LIMIT)
        return json.loads(line)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> tuple[str, str]:
        """Let it go on to its end; return the rest of what it says."""
        out, err = self.process.communicate(timeout=LIMIT)
        return out.decode(), err.decode()


@pytest.fixture
def script(entries: Path) -> Iterator[Callable[[str], Script]]:
    made: list[Script] = []

    def make(program: str) -> Script:
        made.append(Script(entries, program))
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.communicate(timeout=LIMIT)


class TestParent:
    @pytest.mark.parametrize("copy", ["", "if os.fork() == 0: signal.pause()"])
    def test_killed_parent_leaves_nothing(
        self, script: Callable[[str], Script], watched: Callable[[int], Watched], copy: str
    ) -> None:
        program = """
host, spawn = start()
for _ in range(3):
    spawn("entries:stubborn")
"""
        parent = script(program + copy + "\nsys.stdin.read()")
        reports = [parent.hear()[1] for _ in range(3)]
        ours = [watched(report["pid"]) for report in reports] + [watched(reports[0]["server"])]
        parent.process.kill()
        deadline = time.monotonic() + 2

        assert all(each.ends_within(deadline - time.monotonic()) for each in ours)
        os.killpg(parent.process.pid, signal.SIGKILL)  # the copy, if there is one

    def test_stopped_server_dies_with_a_killed_parent(
        self, script: Callable[[str], Script], watched: Callable[[int], Watched]
    ) -> None:
        parent = script("host, spawn = start()\nspawn('entries:hold')\nsys.stdin.read()")
        report = parent.hear()[1]
        ours = [watched(report["pid"]), watched(report["server"])]
        os.kill(report["server"], signal.SIGSTOP)
        parent.process.kill()
        deadline = time.monotonic() + 2

        assert all(each.ends_within(deadline - time.monotonic()) for each in ours)

    def test_script_that_forgets_to_stop_ends_and_leaves_nothing(
        self, script: Callable[[str], Script], watched: Callable[[int], Watched]
    ) -> None:
        parent = script("host, spawn = start()\nspawn('entries:hold')\nsys.stdin.readline()")
        report = parent.hear()[1]
        ours = [watched(report["pid"]), watched(report["server"])]
        parent.end()

        assert parent.process.returncode == 0
        assert [each.ends_within(2) for each in ours] == [True, True]

    def test_spawn_in_a_thread_that_ends_does_not_end_the_server(self, script: Callable[[str], Script]) -> None:
        parent = script(
            "host, spawn = start()\nthread = threading.Thread(target=spawn, args=['entries:hold'])\n"
            "thread.start(); thread.join()\nsys.stdin.readline()\n"
            "spawn('entries:hold'); sys.stdin.readline(); host.stop()"
        )
        first = parent.hear()[1]["server"]
        parent.tell("")
        assert parent.hear()[1]["server"] == first
        parent.end()

    def test_ctrl_c_reaches_the_parent_only(self, script: Callable[[str], Script]) -> None:
        parent = script("""
host, spawn = start()
child = spawn("entries:hold")
try:
    sys.stdin.read()
except KeyboardInterrupt:
    say("interrupted")
child.send_signal(signal.SIGUSR1)
sys.stdin.read()
host.stop()
""")
        assert "pid" in parent.hear()[1]
        os.killpg(parent.process.pid, signal.SIGINT)

        assert parent.hear() == ["interrupted"]
        assert parent.hear() == ["report", {"signal": signal.SIGUSR1}]
        assert parent.end() == (json.dumps(["exit", -signal.SIGTERM, []]) + "\n", "")

    def test_streams_that_are_not_captured_are_the_parents_and_stderr_is_kept_too(
        self, script: Callable[[str], Script]
    ) -> None:
        parent = script("""
host, spawn = start(capture=False, on_output=lambda child, stream, line: say(stream, line))
spawn("entries:talk", b"1").wait()
host.stop()
""")
        out, err = parent.end()

        assert err == "err 0\n"
        lines = out.splitlines()
        assert lines[0] == "out 0"
        assert "no end" in out
        assert json.dumps(["stderr", "err 0"]) in out
        assert json.dumps(["stdout", "out 0"]) not in out
        assert json.dumps(["exit", 5, ["err 0"]]) in out

    def test_parent_that_is_init_collects_the_orphans_of_a_lost_server(self, script: Callable[[str], Script]) -> None:
        parent = script("""
import ctypes
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
host, spawn = start()
children = [spawn("entries:hold") for _ in range(3)]
sys.stdin.readline()
for child in children:
    child.wait()
host.stop()
try:
    os.wait()
except ChildProcessError:
    say("no children")
""")
        servers = {parent.hear()[1]["server"] for _ in range(3)}
        os.kill(min(servers), signal.SIGKILL)
        out, _ = parent.end()

        assert out.splitlines() == [json.dumps(["exit", -9, []])] * 3 + ['["no children"]']

    def test_interrupted_spawn_leaves_no_child(self, script: Callable[[str], Script]) -> None:
        parent = script("""
host, spawn = start()
spawn("entries:hold")
server = int(sys.stdin.readline())
os.kill(server, signal.SIGSTOP)

def interrupt():
    while not host._watcher._server.pending:
        pass
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    spawn("entries:stubborn")
except KeyboardInterrupt:
    say("interrupted")
os.kill(server, signal.SIGCONT)
sys.stdin.read()
host.stop()
""")
        server = parent.hear()[1]["server"]
        parent.tell(str(server))

        assert parent.hear() == ["interrupted"]
        heard = parent.hear()
        if heard[0] == "report":  # it may come as far as that
            heard = parent.hear()
        assert heard == ["exit", -signal.SIGKILL, []]
        assert parent.end()[0] == json.dumps(["exit", -signal.SIGTERM, []]) + "\n"

    def test_main_of_the_parent_is_not_the_childs(self, script: Callable[[str], Script]) -> None:
        parent = script("host, spawn = start()\nspawn('entries:surroundings').wait()\nhost.stop()")

        found = parent.hear()[1]
        assert found["main"] == ""
        parent.end()

    def test_after_a_fork_the_host_is_of_no_use(self, script: Callable[[str], Script]) -> None:
        parent = script("""
host, spawn = start()
child = spawn("entries:hold")
sys.stdin.readline()
if os.fork() == 0:
    for call in (lambda: spawn("entries:hold"), host.stop, child.wait, child.kill, host.prepare):
        try:
            call()
        except Exception as error:
            say(type(error).__name__)
    os._exit(0)
os.wait()
host.stop()
""")
        parent.hear()
        out, _ = parent.end()

        assert out.splitlines()[:5] == ['["WrongProcessError"]'] * 5
        assert out.splitlines()[5:] == ['["exit", -15, []]']

    @pytest.mark.parametrize("closed", ["0, 1, 2", "0", "1", "2"])
    def test_parent_without_standard_streams(self, script: Callable[[str], Script], closed: str) -> None:
        parent = script(f"""
if len(sys.argv) == 1:
    for fd in ({closed},):
        os.close(fd)
    os.execv(sys.executable, [sys.executable, __file__, "again"])
host, spawn = start(capture=False)
host._callbacks = type(host._callbacks)(lambda child: None, lambda *_: None, lambda *_: None)
child = spawn("entries:run", b"print('out'); print('err', file=sys.stderr); sys.exit(9)")
child.wait(20)
host.stop()
os._exit(child.exitcode or 0)
""")
        parent.end()
        assert parent.process.returncode == 9
