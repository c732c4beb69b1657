"""A part of a benchmark in a process of its own, talked to by JSON lines over its pipes.

The parent starts it, waits until it says that it is ready, says go, and reads its report. A worker ends when
its standard input ends, so none outlives the parent.
"""

import collections.abc
import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
START_LIMIT = 60.0
STOP_LIMIT = 15.0


class WorkerError(RuntimeError):
    """A worker ended or was silent where it should have answered."""


class Worker:
    """The parent's end. Use it as a context manager."""

    def __init__(self, side: str, role: str, **settings: typing.Any) -> None:
        self._title = f"{side} {role}"
        self._pending = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{side}", role, json.dumps(settings)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ready(self) -> dict[str, typing.Any]:
        """Wait until the worker is ready and return what it announced."""
        return self.read(START_LIMIT)

    def go(self) -> None:
        """Let it begin."""
        self._write({"go": True})

    def read(self, timeout: float) -> dict[str, typing.Any]:
        """Return the next line the worker wrote.

        Raises:
            WorkerError: It ended first, or wrote nothing for `timeout` seconds.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise WorkerError(f"{self._title}: no answer within {timeout:g} s")
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                raise WorkerError(f"{self._title}: ended with exit code {self._process.wait()}")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return typing.cast("dict[str, typing.Any]", json.loads(line))

    def stop(self) -> None:
        """End the worker: its standard input ends, and it is killed if that is not enough."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # What a framework has started, and left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdout.close()

    def _write(self, data: dict[str, typing.Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(data).encode() + b"\n")
        self._process.stdin.flush()


_kept_output: typing.TextIO | None = None


def keep_output() -> None:
    """In the worker, for what prints by itself: leave the standard output to `announce` alone."""
    global _kept_output
    _kept_output = os.fdopen(os.dup(1), "w")
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    os.dup2(sys.stdout.fileno(), 1)


def announce(data: collections.abc.Mapping[str, typing.Any]) -> None:
    """In the worker: write one line to the parent."""
    out = _kept_output or sys.stdout
    out.write(json.dumps(data) + "\n")
    out.flush()


def wait_for_go() -> None:
    """In the worker: wait for the parent's word; end the process if it never comes."""
    if not sys.stdin.readline():
        raise SystemExit(0)


def wait_for_end() -> None:
    """In the worker: wait until the parent has closed the pipe."""
    sys.stdin.read()


def end_with_parent() -> None:
    """In the worker, for one that blocks elsewhere: end the process as soon as the parent closes the pipe."""

    def watch() -> None:
        # From the descriptor: a thread that waits inside sys.stdin holds its lock when the process ends.
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def stay() -> None:
    """In the worker, after `end_with_parent`: keep sockets open, and what they still send, until the end."""
    threading.Event().wait()


def main(
    roles: collections.abc.Mapping[str, collections.abc.Callable[[dict[str, typing.Any]], None]],
) -> None:
    """In the worker: play the role that the parent named."""
    roles[sys.argv[1]](json.loads(sys.argv[2]))
