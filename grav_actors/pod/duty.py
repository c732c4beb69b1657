"""Who serves the socket of a link: one thread at a time, and whoever waits for something does it himself.

A thread that asks reads its own answer, and the callback thread of a pod that has nothing to do reads its own
messages: so in the common case nothing changes threads. While nobody waits, as a handler runs or user code is
elsewhere, the relief thread of the link takes over within some milliseconds.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from grav_actors.pod.loop_duty import LoopServer

if TYPE_CHECKING:
    import asyncio

    from grav_actors.pod.callbacks import Callbacks
    from grav_actors.pod.link import Link
    from grav_actors.pod.waiter import Waiter

    Holder: TypeAlias = "Waiter | Callbacks | LoopServer | Duty"

LOOK_INTERVAL = 0.001
"""Seconds that nobody may be on duty before the relief thread takes over, at its next look."""
BUSY_LOOK = 0.004
"""Seconds between looks while threads come and go."""
LONGEST_LOOK = 1.0
"""Seconds between looks while the same thread stays on duty; who leaves it rings."""
TAKE_OVER_AFTER = 2
"""Times in a row that the same callback thread is woken by another one before it serves the socket itself."""

MISSED_LOOKS = 3
"""Looks of the relief thread in a row that may be put off as somebody is using the link."""
OVER = -1.0
"""Seconds to rest when what was waited for is there."""

POSTS = 4
"""Threads that may be at the socket of a link: one serves, others may not have seen yet that they were relieved."""

Ready = list[tuple[int, int]]
"""Descriptors and what they are ready for, as `poll` returns them."""
AnyPost = TypeVar("AnyPost", "Post", LoopServer)


class Post:
    """A place to wait at: what the link waits for, and a bell of its own. Used by one thread at a time.

    Attributes:
        is_rung: The bell was rung, and the thread has not looked since.
        poll: Waits until a descriptor, or the bell, is ready.
    """

    __slots__ = ("_bell", "is_rung", "poll")

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.is_rung = False
        poll = select.poll()
        for descriptor in (*descriptors, self._bell):
            poll.register(descriptor, select.POLLIN)
        self.poll = poll.poll

    def ring(self) -> None:
        """Have the thread that waits here look for work. The caller holds the lock, here and below."""
        if not self.is_rung:
            self.is_rung = True
            os.eventfd_write(self._bell, 1)

    def silence(self) -> None:
        """Note that the thread looks."""
        if self.is_rung:
            self.is_rung = False
            os.eventfd_read(self._bell)

    def close(self) -> None:
        """Give the bell back."""
        os.close(self._bell)


class Duty:
    """Passes the duty of serving a link's socket between threads.

    The link's lock guards it. Nobody is on duty for long: who leaves it without a successor makes sure that the relief
    thread looks soon.

    Attributes:
        lock: That of the link.
        rank: Who has a higher one may take the duty: the relief thread has 0, a callback thread 1, an event loop whose
            coroutines wait 2, a thread that waits 3.
    """

    is_callbacks = False
    rank = 0

    def __init__(self, link: Link, descriptors: tuple[int, ...]) -> None:
        self._link = link
        self.lock = self._lock = link.lock
        self._posts = [Post(descriptors) for _ in range(POSTS)]
        self._relief_post, *self._spare = self._posts
        self._is_relief_there = False
        self._holder: Holder | None = None
        self._post: Post | LoopServer | None = None
        self._descriptors = descriptors
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopServer] = weakref.WeakKeyDictionary()
        self._terms = 0
        self._is_away = False
        self._is_at_work = False
        self._calls: list[Callable[[], None]] = []
        self._is_closing = False
        self._waiting: dict[Waiter, None] = {}
        self._left = threading.Condition(link.lock)
        self._woken: Callbacks | None = None
        self._times_woken = 0
        self._look_at = 0.0
        self._bell = threading.Lock()
        self._bell.acquire()
        self._is_rung = False
        self._thread = threading.Thread(target=self._relieve, name="grav-link", daemon=True)

    def start(self) -> None:
        """Begin, with the relief thread on duty."""
        self._thread.start()

    # For those who have something to be done. The caller holds the lock.

    def wake(self) -> None:
        """Have the thread on duty look for work, if it waits; nobody on duty: have the relief thread look soon."""
        if self._is_away and self._post is not None:
            self._is_away = False
            self._post.ring()
        elif self._holder is None and self._look_at - monotonic() > 2 * LOOK_INTERVAL:
            self._ring()

    def tell(self, callbacks: Callbacks) -> None:
        """Have the callback thread of a pod look at what it was given."""
        if callbacks.is_resting:
            callbacks.is_resting = False
            callbacks.bell.release()
            if self._woken is callbacks:
                self._times_woken += 1
            else:
                self._woken, self._times_woken = callbacks, 1
        elif self._holder is callbacks:
            self.wake()
        elif callbacks.post is not None:
            callbacks.post.ring()  # another thread has taken its duty, and it has not seen that yet

    def later(self, call: Callable[[], None]) -> None:
        """Make a call, which may wake another thread, when this one has done with the lock."""
        if self._is_at_work:
            self._calls.append(call)
        else:
            call()

    # For those who wait

    def wait(self, waiter: Waiter, timeout: float | None) -> bool:
        """Wait for an outcome, on duty if nobody is; return whether there is one within `timeout` seconds."""
        if waiter.is_done:
            return True
        if timeout is not None and timeout <= 0:
            return False
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            with self._lock:
                if waiter.is_done or self._is_closing:
                    return waiter.is_done
                if self._spare and self._may_serve(waiter):
                    post = self._begin(waiter, self._spare.pop())
                    waiter.on_done = self.wake
                else:
                    post = None
                    self._waiting[waiter] = None
            if post is not None:
                self._serve(waiter, post, lambda: waiter.is_done, deadline)
                return waiter.is_done
            try:
                waiter.block(None if deadline is None else max(0.0, deadline - monotonic()))
            finally:
                with self._lock:
                    self._waiting.pop(waiter, None)
                    is_called = waiter.take_call()
                    is_late = deadline is not None and monotonic() >= deadline
                    if is_called and (waiter.is_done or is_late):
                        self._call_next()  # the call was in vain
            if waiter.is_done or is_late:
                return waiter.is_done

    def attend(self, callbacks: Callbacks) -> None:
        """Wait until a callback thread has something to do, on duty if nobody is."""
        items = callbacks.items
        while True:
            with self._lock:
                if items:
                    return
                if self._spare and self._may_serve(callbacks) and not self._is_closing:
                    post = callbacks.post = self._begin(callbacks, self._spare.pop())
                else:
                    post = None
                    callbacks.is_resting = True
            if post is None:
                callbacks.bell.acquire()
            else:
                try:
                    self._serve(callbacks, post, lambda: items, None)
                finally:
                    callbacks.post = None

    def _may_serve(self, who: Waiter | Callbacks | LoopServer) -> bool:
        """Tell whether somebody may serve: nobody is on duty, or somebody to whom it matters less."""
        holder = self._holder
        if holder is None or who.rank > holder.rank:
            return True
        return holder.rank == 1 and self._woken is who and self._times_woken >= TAKE_OVER_AFTER

    def serve_in(self, loop: asyncio.AbstractEventLoop, *, stays: bool = False) -> None:
        """Have an event loop serve while its coroutines wait. Called in that loop, by who holds the lock.

        Args:
            stays: It is the loop of an actor, which always waits for something.
        """
        server = self._loops.get(loop)
        if server is None:
            server = self._loops[loop] = LoopServer(self, loop, self._descriptors)
            server.stays = stays
        if self._holder is not server and not self._is_closing and self._may_serve(server) and server.watch():
            self._begin(server, server)
            self._is_away = True

    def turn_in_loop(self, server: LoopServer, ready: Ready) -> float | None:
        """Serve once, in the loop; return for how many seconds there is nothing to do, None if it is not on duty."""
        link = self._link
        with self._lock:
            server.silence()
            if self._holder is not server or self._is_closing:
                return None
            self._is_away = False
            is_whole = False
            server.waker.is_here = True
            try:
                link.take(ready)
                rest = link.tend()
                is_whole = True
            finally:
                server.waker.is_here = False
                if not is_whole:
                    link.is_torn = True  # Ctrl-C in the middle of it
                if not is_whole or server.is_idle():
                    self._end(server, server)
            is_mine = self._holder is server
            self._is_away = is_mine and rest > 0
            calls, self._calls = self._calls, []
        for call in calls:
            call()
        return rest if is_mine else None

    def has_lost(self, server: LoopServer) -> None:
        """Note that a loop has ended. The caller holds the lock."""
        server.dismiss()
        if self._holder is server:
            self._holder = self._post = None
            self._ring()

    def _is_stuck(self, server: LoopServer, turned_at: float) -> bool:
        """Return whether a loop that has not looked since then has something to do: its thread runs something else."""
        if server.is_gone():
            return True
        link = self._link
        return link.turned_at == turned_at and bool(self._relief_post.poll(0) or link.is_overdue(monotonic()))

    # On duty

    def _begin(self, who: Holder, post: AnyPost) -> AnyPost:
        if self._post is not None and self._holder is not self:
            self._post.ring()  # it leaves that post to others
        self._holder = who
        self._post = post
        self._is_away = False
        self._terms += 1
        return post

    def _serve(self, who: Holder, post: Post, is_over: Callable[[], Any], deadline: float | None) -> None:
        """Serve until it is over, the time is up, or somebody else has taken the duty."""
        link = self._link
        lock = self._lock
        ready: Ready = []
        calls: list[Callable[[], None]] = []
        has_left = False
        try:
            while not has_left:
                with lock:
                    if post.is_rung:
                        post.silence()
                    rest = OVER
                    if self._holder is who and not self._is_closing:
                        self._is_away = False
                        self._is_at_work = True
                        link.take(ready)
                        if not is_over():
                            rest = link.tend() if deadline is None else min(link.tend(), deadline - link.turned_at)
                        self._is_at_work = False
                    if rest < 0 or is_over():
                        self._end(who, post)
                        has_left = True
                    elif rest > 0:
                        self._is_away = True
                    if self._calls:
                        calls, self._calls = self._calls, []
                while calls:
                    calls[0]()
                    del calls[0]  # last: Ctrl-C before it has it made once more, and none is lost
                if not has_left:
                    ready = post.poll(rest * 1000) if rest > 0 else []
        except BaseException:
            with lock:
                if not has_left:
                    if self._holder is who and self._is_at_work:
                        self._is_at_work = False
                        link.is_torn = True  # Ctrl-C in the middle of it
                    self._end(who, post)
                calls, self._calls = calls + self._calls, []
            for call in calls:
                call()
            raise

    def _end(self, who: Holder, post: Post | LoopServer) -> None:
        if post.is_rung:
            post.silence()
        if who is self:
            self._is_relief_there = False
        elif isinstance(post, Post):
            self._spare.append(post)
        if self._is_closing:
            self._left.notify_all()
        if self._holder is not who:
            return
        self._holder = self._post = None
        self._is_away = False
        if self._waiting:
            self._call_next()
        elif self._is_relief_there:
            self._relief_post.ring()  # it has not seen yet that its duty was taken
        elif self._look_at - self._link.turned_at > 2 * BUSY_LOOK:
            self._ring()

    def _call_next(self) -> None:
        """Have one of those who wait for an outcome look whether to serve."""
        for waiter in self._waiting:
            del self._waiting[waiter]
            waiter.call()
            return

    def _ring(self) -> None:
        if not self._is_rung:
            self._is_rung = True
            self._look_at = 0.0
            self._bell.release()

    # The relief thread

    def _relieve(self) -> None:
        seen = self._terms
        delay = LOOK_INTERVAL
        missed = 0
        turned_at = 0.0
        while True:
            # Whoever has the lock is at the socket: not worth a wait, unless it is so each time.
            if not self._lock.acquire(blocking=missed >= MISSED_LOOKS):
                missed += 1
                self._bell.acquire(timeout=delay)
                continue
            missed = 0
            try:
                if self._is_closing:
                    return
                if self._is_rung:
                    self._is_rung = False
                    self._bell.acquire(blocking=False)
                post = None
                if self._terms != seen:
                    seen = self._terms
                    delay = LOOK_INTERVAL if self._holder is None else min(2 * delay, BUSY_LOOK)
                elif self._holder is None or (
                    isinstance(self._holder, LoopServer) and self._is_stuck(self._holder, turned_at)
                ):
                    delay = LOOK_INTERVAL
                    post = self._begin(self, self._relief_post)
                    self._is_relief_there = True
                elif isinstance(self._holder, LoopServer):
                    delay = BUSY_LOOK  # it may run something else at any time
                else:
                    delay = min(2 * delay, LONGEST_LOOK)
                turned_at = self._link.turned_at
                self._look_at = monotonic() + delay
            finally:
                self._lock.release()
            if post is None:
                self._bell.acquire(timeout=delay)
            else:
                self._serve(self, post, lambda: False, None)

    def close(self) -> None:
        """Have every thread leave the socket; return when all have."""
        with self._lock:
            self._is_closing = True
            self._ring()
            for post in self._posts:
                post.ring()
            for waiter in self._waiting:
                waiter.call()
            self._waiting.clear()
            servers = list(self._loops.values())
            if isinstance(self._holder, LoopServer):
                self._holder = self._post = None
        for server in servers:
            server.dismiss()
        self._thread.join()
        with self._lock:
            while len(self._spare) < POSTS - 1:
                self._left.wait()
            for post in self._posts:
                post.close()
