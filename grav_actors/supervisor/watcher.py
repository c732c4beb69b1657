"""The thread that owns the fork server and reads what its children say.

It alone touches the server's socket and the pipes, so none of them needs a lock. It also starts the server:
the kernel kills a process with the thread that made it, and this thread lives as long as the server shall.
"""

import logging
import os
import select
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.pipes import StderrTee
from grav_actors.supervisor.server import Order, Server
from grav_actors.supervisor.watch import Callbacks, OrdersPipe, Pipe, Watch, guarded

KILL_LIMIT = 2.0
"""Seconds that a process may take to be gone once it was told to end, or killed."""

MAX_IN_FLIGHT = 16
"""Spawns at the server at one time: systems limit how many descriptors may be under way in sockets."""

_STOPPED = "the process host is stopped"

_log = logging.getLogger(__name__)


class Watcher:
    """The thread and its loop. It begins with this object and ends with `close`."""

    def __init__(self, callbacks: Callbacks, preload: str) -> None:
        self._callbacks = callbacks
        self._preload = preload
        self._commands: deque[Callable[[], None]] = deque()
        self._waiting: deque[Order] = deque()
        self._watches: set[Watch] = set()
        self._ending: set[Watch] = set()
        self._server: Server | None = None
        self._server_deadline: float | None = None
        self._tee = StderrTee()
        self._closing = False
        self._over = False
        self._lock = threading.Lock()  # for _over and the wake pipe's life
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._run_commands)
        # A daemon: a script that forgets to stop its host ends all the same, and the children with it.
        self._thread = threading.Thread(target=self._run, name="grav-processes", daemon=True)
        self._thread.start()

    # From any thread.

    def is_current_thread(self) -> bool:
        """Whether the caller is the watcher's thread."""
        return threading.current_thread() is self._thread

    def children(self) -> list[ChildProcess]:
        """Return the children that have not ended, or whose output is not all delivered."""
        return [watch.child for watch in self._watches.copy()]

    def prepare(self) -> None:
        """Start the server without waiting for it. A failure shows at the first order."""
        self._submit(lambda: guarded(self._ensure_server))

    def place(self, order: Order, timeout: float) -> None:
        """Have a child started and wait for the answer; the order then has a child or an error."""
        try:
            if not self._submit(lambda: self._place(order)):
                order.fail(_STOPPED)
            elif self.is_current_thread():
                self._pump(order, time.monotonic() + timeout)
            elif not order.answered.wait(timeout):
                # In this order: a server that is killed first fails its orders as lost, to be given again.
                order.fail(f"the fork server has not answered within {timeout:g} s")
                if order.child is None:
                    self._submit(self._kill_server)
        except BaseException:  # Ctrl-C, say: nobody will know of the child
            order.abandon()
            raise

    def send_signal(self, child: ChildProcess, number: int) -> None:
        """Have the server send a signal to one of its children."""

        def command() -> None:
            if self._server is not None and child.pid in self._server.watches and child.is_alive():
                self._server.channel.send(["signal", child.pid, int(number)])

        self._submit(command)

    def give_order(self, child: ChildProcess, frame: bytes) -> None:
        """Have a frame written to a child that takes orders."""

        def command() -> None:
            watch = self._server.watches.get(child.pid) if self._server is not None else None
            if watch is not None and watch.child is child and watch.orders is not None:
                was_waiting = watch.orders.wants_write
                watch.orders.add(frame)
                if not was_waiting:
                    self._await_room(watch.orders)

        self._submit(command)

    def close(self, timeout: float) -> bool:
        """End the server with all children, deliver what they have said, end the thread.

        A thread that a callback holds up is left behind, without server and children.

        Returns:
            Whether the thread has ended.
        """
        self._submit(self._close)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._kill_server()
        return not self._thread.is_alive()

    def _submit(self, command: Callable[[], None]) -> bool:
        """Run a command in the watcher's thread, at once if this is it. Return false when that has ended."""
        if self.is_current_thread():
            command()
            return True
        with self._lock:
            if self._over:
                return False
            self._commands.append(command)
            with suppress(BlockingIOError):  # full: it will wake up
                os.write(self._wake_write, b"\0")
        return True

    def _kill_server(self) -> None:
        server = self._server
        if server is not None:
            server.process.kill()

    # In the watcher's thread.

    def _run(self) -> None:
        try:
            while not (self._closing and self._server is None and not self._watches):
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                self._look_after_server()
                self._finish_children()
        except Exception:
            _log.exception("the watcher of child processes failed; its children are ended")
        finally:
            self._clean_up()

    def _patience(self) -> float | None:
        deadlines = [watch.deadline for watch in self._ending if watch.deadline is not None]
        if self._server_deadline is not None:
            deadlines.append(self._server_deadline)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _run_commands(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._commands:
            self._commands.popleft()()

    def _close(self) -> None:
        self._closing = True
        while self._waiting:
            self._waiting.popleft().fail(_STOPPED)
        if self._server is not None:
            self._server.channel.send(["stop"])
            self._server_deadline = time.monotonic() + KILL_LIMIT

    def _place(self, order: Order) -> None:
        if self._closing:
            order.fail(_STOPPED)
            return
        self._waiting.append(order)
        self._forward()
        self._look_after_server()

    def _forward(self) -> None:
        """Send waiting orders to the server, as far as it has room."""
        while self._waiting and (self._server is None or len(self._server.pending) < MAX_IN_FLIGHT):
            order = self._waiting.popleft()
            try:
                self._ensure_server().request(order)
            except (OSError, ValueError, TypeError) as error:
                order.fail(f"{type(error).__name__}: {error}")

    def _ensure_server(self) -> Server:
        if self._server is None:
            self._server = Server(self._preload)
            self._selector.register(self._server.channel, selectors.EVENT_READ, self._on_server)
        return self._server

    def _pump(self, order: Order, deadline: float) -> None:
        """Serve the server's socket alone: a callback has spawned, and the loop waits for the callback."""
        while not order.answered.is_set() and self._server is not None:
            server = self._server
            poller = select.poll()
            writing = select.POLLOUT if server.channel.wants_write else 0
            poller.register(server.channel, select.POLLIN | writing)
            left = deadline - time.monotonic()
            if left <= 0:
                server.process.kill()
                order.fail("the fork server has not answered in time")
            elif poller.poll(left * 1000):
                self._on_server()
                self._look_after_server()

    def _on_server(self) -> None:
        server = self._server
        if server is not None:
            server.channel.flush()
            for frame in server.channel.receive():
                self._handle(server, frame)
            self._forward()

    def _handle(self, server: Server, frame: Any) -> None:
        match frame:
            case ["spawned", int(number), int(pid), bool(has_pidfd)]:
                self._spawned(server, number, pid, server.channel.take_fds(1) if has_pidfd else [])
            case ["exited", int(pid), int(code)]:
                if pid in server.watches:
                    self._exited(server.watches.pop(pid), code)
            case ["failed", int(number), str(reason)]:
                pending = server.pending.pop(number)
                pending.close()
                pending.order.fail(reason)
            case ["warning", str(text)]:
                _log.warning("fork server: %s", text)
            case _:
                _log.warning("the fork server said %.200r", frame)

    def _spawned(self, server: Server, number: int, pid: int, pidfd: list[int]) -> None:
        pending = server.pending.pop(number)
        order = pending.order
        child = ChildProcess(order.name, pid, pidfd[0] if pidfd else None, self)
        watch = Watch(
            child,
            self._callbacks,
            None if order.capture else self._tee,
            stdout=pending.stdout,
            stderr=pending.stderr,
            report=pending.report,
            slate=pending.slate,
            slate_size=order.slate_size,
            orders=pending.orders,
        )
        server.watches[pid] = watch
        self._watches.add(watch)
        for pipe in watch.pipes:
            self._selector.register(pipe.fd, selectors.EVENT_READ, self._reader(pipe))
        order.fulfil(child)

    def _reader(self, pipe: Pipe) -> Callable[[], None]:
        def read() -> None:
            if pipe.is_open and not pipe.read():
                self._close_pipe(pipe)

        return read

    def _await_room(self, orders: OrdersPipe) -> None:
        if orders.wants_write:
            self._selector.register(orders.fd, selectors.EVENT_WRITE, self._writer(orders))

    def _writer(self, orders: OrdersPipe) -> Callable[[], None]:
        def write() -> None:
            if orders.wants_write and orders.flush():
                self._selector.unregister(orders.fd)

        return write

    def _close_orders(self, watch: Watch) -> None:
        if watch.orders is not None:
            if watch.orders.wants_write:
                self._selector.unregister(watch.orders.fd)
            watch.orders.close()

    def _close_pipe(self, pipe: Pipe) -> None:
        if pipe.is_open:
            self._selector.unregister(pipe.fd)
            pipe.close()

    def _exited(self, watch: Watch, code: int) -> None:
        self._close_orders(watch)
        watch.exited(code, time.monotonic())
        self._ending.add(watch)

    def _finish_children(self) -> None:
        now = time.monotonic()
        for watch in [watch for watch in self._ending if watch.is_over(now)]:
            self._ending.discard(watch)
            for pipe in watch.pipes:
                self._close_pipe(pipe)
            self._watches.discard(watch)
            watch.finish()

    def _look_after_server(self) -> None:
        server = self._server
        if server is None:
            return
        if server.channel.ended:
            self._lose_server(server)
            return
        if self._server_deadline is not None and time.monotonic() >= self._server_deadline:
            self._server_deadline = None
            server.process.kill()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if server.channel.wants_write else 0)
        if self._selector.get_key(server.channel).events != events:
            self._selector.modify(server.channel, events, self._on_server)

    def _lose_server(self, server: Server) -> None:
        """Take note that the server has ended, and its children with it."""
        self._server = self._server_deadline = None
        self._selector.unregister(server.channel)
        code = server.stop(KILL_LIMIT)
        if not self._closing:
            _log.warning(
                "the fork server (process %d) ended with code %s; %d children end with it",
                server.process.pid,
                code,
                len(server.watches),
            )
        # The kernel kills them too, but here it is certain, and known when it is done.
        for watch in server.watches.values():
            with suppress(OSError):
                watch.child.kill()
        deadline = time.monotonic() + KILL_LIMIT
        for watch in server.watches.values():
            self._exited(watch, watch.child.collect_orphan(max(0.0, deadline - time.monotonic())))
        self._forward()
        self._look_after_server()

    def _clean_up(self) -> None:
        with self._lock:
            self._over = self._closing = True
        self._close()
        if self._server is not None:  # only after a failure
            self._lose_server(self._server)
        for watch in self._watches:
            self._close_orders(watch)
            for pipe in watch.pipes:
                self._close_pipe(pipe)
            watch.finish()
        self._selector.close()
        with self._lock:
            os.close(self._wake_read)
            os.close(self._wake_write)
        while self._commands:
            self._commands.popleft()()
