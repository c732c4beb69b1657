"""The bus as a process: its program, and how its owner starts and ends it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grav_actors.descriptors import allow_descriptors
from grav_actors.errors import BusNotFoundError, ConfigError
from grav_actors.project import BUS_LOCK, BUS_SOCKET, ROSTER, FolderLock, FolderLockedError, bus_endpoint

_log = logging.getLogger("grav_actors.bus")

START_TIMEOUT = 30.0
"""Seconds that a bus process may take until it is ready: a tenth of one, but much more on a machine that is very busy,
or just starting. One that ends is noticed at once."""
STOP_TIMEOUT = 3.0
"""Seconds between SIGTERM and SIGKILL."""
LINE_BYTES = 4000
"""Longest line for the log: what a pipe takes whole or not at all."""


@dataclass(frozen=True, slots=True)
class BusSpec:
    """What a bus process is started with.

    Attributes:
        folder: Its run folder, of mode 0700.
        tcp: A TCP address to listen on besides, or "".
        replay_limit: Messages in the replay ring.
        max_message: Bytes of one message's data.
    """

    folder: str
    tcp: str = ""
    replay_limit: int = 128
    max_message: int = 1_048_576


class RosterFile:
    """The journal on disk; whole records are appended, and it is written anew when it has grown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = self._bytes = 0
        self._fd = -1

    def read(self) -> bytes:
        """Return what the bus before this one wrote."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def replace(self, journal: bytes) -> None:
        """Write the journal anew, at once for all readers."""
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_bytes(journal)
        fresh.replace(self._path)
        self.close()
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._records = self._bytes = 0

    def append(self, records: list[bytes]) -> bool:
        """Append records; return whether it is time to `replace` it."""
        journal = b"".join(records)
        os.write(self._fd, journal)
        self._records += len(records)
        self._bytes += len(journal)
        return self._records >= COMPACT_AFTER or self._bytes >= COMPACT_BYTES

    def close(self) -> None:
        """Close the file, which stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


COMPACT_AFTER = 10_000
COMPACT_BYTES = 64 * 1024 * 1024
"""Records, or bytes of them, after which the journal is written anew."""


def serve(
    spec: BusSpec,
    *,
    lifeline: int | None = None,
    on_ready: Any = None,
    report: Callable[[str], object] = _log.warning,
) -> int:
    """Run a bus in this process until it is told to end; return the number of the signal that did, or 0.

    A bus run by hand ends well at SIGTERM and SIGINT: its pods are told. One with an owner ends well when its
    lifeline is written to or breaks; a signal ends it as any accident would, for the owner to start it again.

    Args:
        lifeline: Read end of a pipe whose other end only the owner holds: the bus ends with its owner.
        on_ready: Called with the endpoints when the bus listens.
        report: Called with each line for the log.

    Raises:
        ConfigError: Another bus holds the folder, or an address is in use or no address.
    """
    # Imported here: the owner's side of this module needs no socket.
    import zmq  # noqa: PLC0415

    from grav_actors.bus.core import BusCore  # noqa: PLC0415
    from grav_actors.bus.roster import read_roster  # noqa: PLC0415
    from grav_actors.bus.server import BusServer  # noqa: PLC0415

    allow_descriptors()
    folder = Path(spec.folder)
    with FolderLock(folder / BUS_LOCK):
        core = BusCore(os.urandom(8), replay_limit=spec.replay_limit, max_message=spec.max_message)
        roster_file = RosterFile(folder / ROSTER)
        core.restore(read_roster(roster_file.read()), _monotonic())
        roster_file.replace(core.compacted())

        def write_roster(records: list[bytes]) -> None:
            if roster_file.append(records):
                roster_file.replace(core.compacted())

        endpoints = [bus_endpoint(folder)] + ([spec.tcp] if spec.tcp else [])
        try:
            server = BusServer(core, endpoints, write_roster, report)
        except zmq.ZMQError as exc:
            raise ConfigError(f"the bus cannot listen on {' and '.join(endpoints)}: {exc}") from exc
        # A handler that only sets a flag does not wake a poll: the descriptor does.
        waker_read, waker_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker_write, warn_on_full_buffer=False)
        ended_by = 0

        def on_signal(number: int, frame: object) -> None:
            nonlocal ended_by
            ended_by = number
            server.stop(is_final=lifeline is None)

        if lifeline is None:
            signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGTERM, on_signal)
        watched: dict[int, Callable[[], object]] = {waker_read: lambda: os.read(waker_read, 64)}
        if lifeline is not None:
            watched[lifeline] = server.stop
        try:
            if on_ready is not None:
                on_ready(server.endpoints)
            server.run(watched)
        finally:
            server.close()
            roster_file.close()
            if server.is_final:
                for name in (ROSTER, BUS_SOCKET):
                    (folder / name).unlink(missing_ok=True)
    return ended_by


def _monotonic() -> float:
    import time  # noqa: PLC0415

    return time.monotonic()


def main(arguments: str) -> None:
    """Run the bus process that `BusProcess` has started."""
    options = json.loads(arguments)
    ready, lifeline, log = options.pop("ready"), options.pop("lifeline"), options.pop("log")
    os.set_blocking(log, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def report(**fields: Any) -> None:
        os.write(ready, json.dumps(fields).encode() + b"\n")
        os.close(ready)

    def log_line(line: str) -> None:
        # If the owner does not read, or is gone, there is nothing more to be done here.
        with contextlib.suppress(OSError):
            os.write(log, line.encode()[:LINE_BYTES] + b"\n")

    try:
        serve(
            BusSpec(**options),
            lifeline=lifeline,
            on_ready=lambda endpoints: report(endpoints=endpoints),
            report=log_line,
        )
    except FolderLockedError as exc:
        report(error=str(exc), pid=exc.pid)
        sys.exit(1)
    except ConfigError as exc:
        report(error=str(exc))
        sys.exit(1)


class BusProcess:
    """A bus process that belongs to this one, and ends with it.

    Attributes:
        endpoints: Where it listens; known once started.
    """

    def __init__(self, spec: BusSpec) -> None:
        self.spec = spec
        self.endpoints: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._log = -1

    @property
    def log_descriptor(self) -> int:
        """Read end of the pipe with the lines for the owner's log; a new one at each start, -1 when stopped."""
        return self._log

    @property
    def pid(self) -> int | None:
        """Process id; None before `start`."""
        return self._process.pid if self._process is not None else None

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start it and wait until it listens.

        Raises:
            ConfigError: It could not listen, for the reason given.
            BusNotFoundError: It ended or said nothing within `timeout` seconds.
        """
        self._cut_lifeline()
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        lifeline_read, self._lifeline = os.pipe2(os.O_CLOEXEC)
        self._close_log()
        self._log, log_write = os.pipe2(os.O_CLOEXEC)
        options = {**asdict(self.spec), "ready": ready_write, "lifeline": lifeline_read, "log": log_write}
        root = str(Path(__file__).resolve().parents[2])
        # -P and the package's own folder last: no file of the user's working folder takes a module's place.
        code = f"import sys; sys.path.append({root!r}); from grav_actors.bus.process import main; main(sys.argv[1])"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, json.dumps(options)],
                stdin=subprocess.DEVNULL,
                pass_fds=(ready_write, lifeline_read, log_write),
                process_group=0,  # the terminal's Ctrl-C is for the owner, who ends the bus last
            )
        finally:
            os.close(ready_write)
            os.close(lifeline_read)
            os.close(log_write)
        try:
            answer = _read_line(ready_read, timeout)
        finally:
            os.close(ready_read)
        if "error" in answer:
            self.stop()
            if "pid" in answer:
                raise FolderLockedError(answer["error"], answer["pid"])
            raise ConfigError(answer["error"])
        if "endpoints" not in answer:
            code_text = self._process.poll()
            self.stop()
            raise BusNotFoundError(
                f"the bus process did not come up within {timeout:g} s (exit code {code_text}); see its output above"
            )
        self.endpoints = answer["endpoints"]

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout: float) -> bool:
        """Return whether the process ended within the time."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def exit_code(self) -> int | None:
        """Exit code, or minus the signal that killed it; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def describe_exit(self) -> str:
        """Return `exit code 1` or `signal SIGKILL (9)`."""
        code = self.exit_code
        if code is None or code >= 0:
            return f"exit code {code}"
        return f"signal {signal.Signals(-code).name} ({-code})"

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End it: its pods are told; after `timeout` seconds SIGKILL. Does nothing when it has ended."""
        self._cut_lifeline()
        process = self._process
        if process is not None and not self.wait(timeout):
            process.kill()
            process.wait()
        self._close_log()

    def kill(self) -> None:
        """Kill it; what it leaves in its folder stays. Does nothing when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _cut_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _close_log(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1


def _read_line(descriptor: int, timeout: float) -> dict[str, Any]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    raw = b""
    while not raw.endswith(b"\n"):
        if not poll.poll(int(timeout * 1000)):
            return {}
        part = os.read(descriptor, 65536)
        if not part:
            return {}
        raw += part
    answer: dict[str, Any] = json.loads(raw)
    return answer
