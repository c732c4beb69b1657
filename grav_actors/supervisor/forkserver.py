"""The fork server: a small process with the modules loaded that children need, and nothing else.

    python -m grav_actors.supervisor.forkserver FD PARENT_PID PRELOAD [PATH...]

FD is an inherited end of a socket pair (see channel.py), PRELOAD a list of modules with commas between them,
PATH the parent's sys.path. One thread; no ZeroMQ context. It forks children, reaps them and tells their exit
codes. It ends when told to or when the parent's end is closed, and kills its children first, each with its
process group: what a child has started and left behind ends with it, unless it made a session of its own.

It has a process group of its own, so that Ctrl-C at the terminal reaches the parent only. The kernel kills it
with its parent, in case a copy of the parent's end lives on in some other process, and the children with it,
in case it is killed itself. Systems that cannot (macOS) leave the children of a killed server running.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from grav_actors.supervisor.channel import Channel
from grav_actors.supervisor.child import Job, die_with, run

LATER = ("grav_actors.supervisor.supervisor", "grav_actors.node")
"""What children need whose class stands in a script beside its `Grav`: loaded when the first child is there and the
server has nothing to do, one after another, so that neither the first child nor the next one has to wait for all."""

LATER_PAUSE_MS = 20
"""Milliseconds without a request after which one of these is loaded."""

REAP_LIMIT = 1.5
"""Seconds that killed children may take to end; what the kernel still holds then is left to init."""


class ForkServer:
    """The loop of the server process."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock)
        self._pids: set[int] = set()
        self._later: list[str] = []
        self._has_spawned = False
        self._stopping = False
        self._wake, self._wakeup = socket.socketpair()
        self._wake.setblocking(False)
        self._wakeup.setblocking(False)

    def warn(self, text: str) -> None:
        """Tell the parent what is not right but no reason to give up."""
        self._channel.send(["warning", text])

    def serve(self) -> Job | None:
        """Serve the parent. Return None in the server at its end, and in a new child what it shall run."""
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # without a handler nothing is written
        poller = select.poll()  # an epoll would be shared with the children
        poller.register(self._wake, select.POLLIN)
        while not (self._channel.ended or self._stopping):
            writing = select.POLLOUT if self._channel.wants_write else 0
            poller.register(self._channel, select.POLLIN | writing)
            waits = bool(self._later and self._has_spawned)
            if not poller.poll(LATER_PAUSE_MS if waits else None):
                self._load_next()
                continue
            with suppress(BlockingIOError):
                self._wake.recv(4096)
            for frame in self._channel.receive():
                job = self._handle(frame)
                if job is not None:
                    return job
            self._reap()
            self._channel.flush()
        self._end_children()
        return None

    def load(self, names: Iterable[str], later: Iterable[str] = ()) -> None:
        """Import modules for the children, and note others for when there is time."""
        for name in names:
            try:
                importlib.import_module(name)
            except (Exception, SystemExit) as error:
                self.warn(f"preload of {name}: {type(error).__name__}: {error}")
            if threading.active_count() > 1:
                self.warn(f"the preloaded module {name} has started threads; children may hang")
        # Frozen, what is loaded stays shared with the children: no collection touches its pages.
        gc.collect()
        gc.freeze()
        self._later += later

    def _load_next(self) -> None:
        self.load([self._later.pop(0)])

    def release(self) -> None:
        """Close what is the server's, in a child: later its objects would close descriptors of others."""
        signal.set_wakeup_fd(-1)
        self._wake.close()
        self._wakeup.close()
        self._channel.close()

    def _handle(self, frame: list[Any]) -> Job | None:
        match frame:
            case ["spawn", int(order), dict(request)]:
                return self._spawn(order, request)
            case ["signal", int(pid), int(number)]:
                if pid in self._pids:  # not reaped yet, so the number is still this child's
                    with suppress(OSError):
                        os.kill(pid, number)
            case ["stop"]:
                self._stopping = True
            case _:
                self.warn(f"unknown request {frame!r:.200}")
        return None

    def _spawn(self, order: int, request: dict[str, Any]) -> Job | None:
        fds = self._channel.take_fds(6 if request.pop("takes_orders") else 5)
        if not fds:
            # Descriptors of other requests may be in the wrong place too: better none than a mix.
            self._stopping = True
            self._channel.send(["failed", order, "the fork server ran out of file descriptors"])
            return None
        # Until a child has its own handlers, a signal would run the server's in it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        parent = os.getpid()
        try:
            pid = os.fork()
            if pid == 0:
                payload, stdout, stderr, report, slate, *orders = fds
                return Job(parent, payload, stdout, stderr, report, slate, orders[0] if orders else None, **request)
        except OSError as error:
            self._channel.send(["failed", order, f"fork: {error.strerror}"])
            return None
        finally:
            if os.getpid() == parent:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                for fd in fds:
                    os.close(fd)
        with suppress(OSError):  # the child does it too; whoever is first
            os.setpgid(pid, pid)
        self._pids.add(pid)
        self._has_spawned = True
        pidfd = _pidfd(pid)
        self._channel.send(["spawned", order, pid, bool(pidfd)], pidfd)
        return None

    def _reap(self) -> None:
        """Take the exit codes of children that have ended, and end what is left of their process groups."""
        while self._pids:
            who = -1
            try:
                if hasattr(os, "waitid"):
                    # A zombie still holds its number, so the group that is killed is certainly its own.
                    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if ended is None:
                        return
                    who = ended.si_pid
                    _kill_group(who)
                pid, status = os.waitpid(who, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._pids.discard(pid)
            self._channel.send(["exited", pid, os.waitstatus_to_exitcode(status)])

    def _end_children(self) -> None:
        deadline = time.monotonic() + REAP_LIMIT
        for pid in self._pids:
            _kill_group(pid)
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        while True:
            self._reap()
            left = deadline - time.monotonic()
            if not self._pids or left <= 0:
                return
            poller.poll(left * 1000)
            with suppress(BlockingIOError):
                self._wake.recv(4096)


def _kill_group(pid: int) -> None:
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _pidfd(pid: int) -> list[int]:
    """Return a descriptor for a child that is not reaped yet, if this system has such a thing."""
    try:
        return [os.pidfd_open(pid)] if sys.platform == "linux" else []
    except OSError:
        return []


def main() -> None:
    """Serve until the parent ends; never returns."""
    fd, parent, preload = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    die_with(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # a parent without standard streams
        pass
    os.close(null)
    os.set_inheritable(fd, False)
    server = ForkServer(socket.socket(fileno=fd))
    gc.disable()
    names = list(filter(None, preload.split(",")))
    server.load(names, LATER if names else ())
    job = server.serve()
    if job is None:
        os._exit(0)
    server.release()
    run(job)


if __name__ == "__main__":
    main()
