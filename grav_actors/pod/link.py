"""The link: the DEALER socket that the pods of one process share.

Whoever holds `lock` may use the socket: the thread on duty receives (see `duty`), and any thread that has something
to send sends it itself. The thread on duty waits on the socket's file descriptor, never on the socket, and that
descriptor is edge-triggered: whoever has sent looks whether something came in meanwhile, and wakes the thread on duty
if so.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import zmq

from grav_actors.errors import BusBusyError, ConfigError, ConnectionClosedError, ProtocolError, WrongProcessError
from grav_actors.pod.core import State
from grav_actors.pod.duty import Duty, Ready
from grav_actors.pod.intake import collect, settle
from grav_actors.protocol import (
    ACK_DELAY,
    BEAT_INTERVAL,
    BYE_CRASHED,
    VERB_DELIVER,
    VERB_WELCOME,
    Ack,
    Verb,
    max_frame_to_pod,
    pack,
    unpack_header,
)

if TYPE_CHECKING:
    from grav_actors.pod.pod import Pod

logger = logging.getLogger(__name__)

DRAIN_FRAMES = 64
"""Frame pairs taken while the lock is held; senders wait meanwhile."""
ACKS_TOGETHER = 16
"""Watermarks of deliveries that are taken in at once, or within ACK_DELAY, if nobody waits for them."""
LARGE_BODY = 256 * 1024
"""Bytes from which a body that came stays in its frame. Below, copying it is faster. What is sent is always copied:
for a reference pyzmq would start a thread that outlives every socket."""
HIGH_WATER_MARK = 100_000
"""Safety net: credit keeps far fewer frames on their way."""
RECONNECT_MS = 20
RECONNECT_MAX_MS = 50
LINGER_MS = 1000
SHORTEST_REST = 0.001
"""Seconds that the thread on duty rests while there is traffic: what threads queue leaves then at the latest."""
LONGEST_REST = 0.1
"""Seconds between looks at a pod whose handler makes no progress."""
LONG_SLEEP = 2 * BEAT_INTERVAL
"""Seconds without a look after which this process was stopped, and not the bus silent."""

_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE_NOBLOCK = int(zmq.SNDMORE) | int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)

_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _mark_forked() -> None:
    for link in _links:
        link.is_foreign = True
        for pod in link.pods():
            pod._gate = WrongProcessError(FORKED)


FORKED = (
    "this pod was made before a fork, and belongs to the parent process; make a Grav or a pod of its own in the child"
)

os.register_at_fork(after_in_child=_mark_forked)


class Link:
    """A connection to one bus.

    Attributes:
        lock: Guards the socket and the cores of all pods.
        duty: Who serves the socket.
        heard_at: When the last frame came from the bus, in seconds of the monotonic clock.
        turned_at: When the thread on duty looked last.
        is_torn: A thread was interrupted while it served the socket.
        is_foreign: This process is a fork of the one that made the link.
    """

    def __init__(self, endpoint: str, *, send_timeout: float = 10.0) -> None:
        self.endpoint = endpoint
        self.send_timeout = send_timeout
        self.lock = threading.Lock()
        self.heard_at = self.turned_at = time.monotonic()
        self.is_foreign = False
        self.is_torn = False
        self._pods: dict[int, Pod] = {}
        self._next_slot = 1
        self._active: dict[Pod, None] = {}
        self._backlog: deque[tuple[bytes, Any]] = deque()
        self._acks: deque[tuple[Pod, Ack]] = deque()
        self._settle_at = self._acked_at = 0.0
        self._sent_at = 0.0
        self._is_closing = False
        self._is_sending = False
        self._has_input = True
        self._next_rest = SHORTEST_REST
        self._look_at = 0.0
        self._resting = 0.0
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket = self._socket
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        self._max_frame = max_frame_to_pod(0)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_frame)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        socket.setsockopt(zmq.IPV6, 1)
        if endpoint.startswith("tcp:"):
            # A cut cable shows only to who sends; over ipc the kernel tells at once.
            socket.setsockopt(zmq.HEARTBEAT_IVL, 500)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2000)
        # Tells of each connection that was made: who has nothing to say finds out at once that the bus is a new one.
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._connections = 0
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as exc:
            self._close_socket()
            raise ConfigError(
                f"{endpoint!r} is no address of a bus ({exc}); it looks like ipc:///path/bus.sock or tcp://host:port"
            ) from exc
        self._descriptor = int(socket.getsockopt(zmq.FD))
        self._send_part = super(zmq.Socket, socket).send  # without the checks of the class above, which take as long
        # Looked up once: by the class above each look-up takes the long way.
        self._receive_part = socket.recv
        self._get_option = socket.getsockopt
        self._monitor_descriptor = int(self._monitor.getsockopt(zmq.FD))
        self._is_reconnected()  # its descriptor tells of what comes after a look that found nothing
        self.duty = Duty(self, (self._descriptor, self._monitor_descriptor))
        self.duty.start()
        _links.add(self)

    def pods(self) -> list[Pod]:
        """Return the pods on this link."""
        return list(self._pods.values())

    def new_slot(self) -> int:
        """Return a slot that no pod of this link had before."""
        slot = self._next_slot
        self._next_slot += 1
        return slot

    # With the lock held

    def add(self, pod: Pod) -> None:
        """Enter a pod. The caller holds the lock, here and in the methods below."""
        if self._is_closing:
            raise ConnectionClosedError("this node is stopped; make a new Grav")
        self._pods[pod._core.slot] = pod
        self._active[pod] = None
        self._look_at = 0.0

    def remove(self, pod: Pod) -> None:
        """Strike a pod."""
        self._pods.pop(pod._core.slot, None)
        self._active.pop(pod, None)

    def send_out(self, pod: Pod) -> None:
        """Send the frames that a pod's core has made."""
        core = pod._core
        out, core.out = core.out, []
        if not out:
            return
        if self._backlog:
            self._backlog.extend(out)
            return
        for index, (header, body) in enumerate(out):
            if not self._send(header, body):
                self._backlog.extend(out[index:])
                self.duty.wake()
                return
        self._sent_at = time.monotonic()
        self._check_input()

    def _send(self, header: bytes, body: Any) -> bool:
        if self._is_sending:
            return False  # Ctrl-C between header and body: see `_mend`
        self._is_sending = True
        try:
            self._send_part(header, _SNDMORE_NOBLOCK)
        except zmq.Again:
            self._is_sending = False
            return False
        self._send_part(body, _NOBLOCK)
        self._is_sending = False
        return True

    def _check_input(self) -> None:
        # Sending may have eaten the edge that announced input.
        if not self._has_input and self._get_option(_EVENTS) & _POLLIN:  # type: ignore[operator]
            self._has_input = True
            self.duty.wake()

    def expect_flush(self, pod: Pod) -> None:
        """Have the thread on duty send what a pod has queued: at once, or under traffic within a millisecond."""
        self._active[pod] = None
        self._next_rest = SHORTEST_REST
        self._look_at = min(self._look_at, self.turned_at + SHORTEST_REST)
        if self._resting > SHORTEST_REST:
            self.duty.wake()

    def flush_queued(self) -> None:
        """Send what pods have queued: a change of who gets what must not overtake what this process sent before it."""
        now = time.monotonic()
        for pod in list(self._active):
            outbox = pod._core.outbox
            if outbox.queued or outbox.incoming:
                pod._core.flush(now)
                self.send_out(pod)

    def apply_acks(self) -> None:
        """Take in the watermarks that came with what was handed on.

        Who leaves the duty with what it waited for leaves that to the next turn; and if nobody waits for them they are
        taken in many at a time, in a fraction of the time. But all of them before any frame that is no delivery.
        """
        acks = self._acks
        while acks:
            pod, ack = acks[0]
            settle(pod, ack)
            acks.popleft()  # last: Ctrl-C before it loses none, and to apply one again changes nothing

    # On duty

    def _is_reconnected(self) -> bool:
        """Take in the connections that were made since the last look; return whether one was not the first."""
        before = self._connections
        try:
            while True:
                self._monitor.recv_multipart(_NOBLOCK)
                self._connections += 1
        except zmq.Again:
            return self._connections > max(before, 1)

    def _greet(self, now: float) -> None:
        """Say something over a new connection, which the bus answers with REJOIN if it does not know these pods."""
        self.apply_acks()
        for pod in self.pods():
            if pod._core.is_joining:
                pod._core.hello(now)  # the one before may have gone to a bus that has died
                self.send_out(pod)
        self._send(pack(Verb.BEAT.value, 0), b"")
        self._sent_at = now
        self._check_input()

    def turn(self, ready: Ready) -> float:
        """Receive, dispatch, send; return for how many seconds there is nothing to do, 0 for more at once.

        Args:
            ready: What the descriptors are ready for.
        """
        self.take(ready)
        return self.tend()

    def take(self, ready: Ready) -> None:
        """Receive and dispatch the first frame that has come, if a descriptor tells of one.

        There may be more: that is looked for in `tend`, or in the next turn when the caller has what it waits for.

        Args:
            ready: What the descriptors are ready for.
        """
        now = time.monotonic()
        if now - self.turned_at >= LONG_SLEEP:
            self.heard_at += now - self.turned_at  # this process was stopped, and cannot blame the bus for that time
        self.turned_at = now
        self._resting = 0.0
        if self.is_torn or self._is_sending:
            self._mend(now)
        is_announced = False
        for descriptor, _ in ready:
            if descriptor == self._descriptor:
                self._has_input = is_announced = True
            elif descriptor == self._monitor_descriptor and self._is_reconnected():
                self._greet(now)
        if is_announced:
            try:
                pod = self._receive(now)
            except zmq.Again:  # it has told of something else, as of a connection
                pod = None
            if pod is not None:
                self._hand_on(pod, now)

    def _hand_on(self, pod: Pod, now: float) -> None:
        """Give what a pod's core has made of frames to whoever waits for it."""
        collect(pod)
        if self._acks and (pod._room_waiters or pod._replies.is_expecting()):
            self._settle_at = now
        self._active[pod] = None
        self._next_rest = SHORTEST_REST
        self._look_at = min(self._look_at, now + SHORTEST_REST)

    def tend(self) -> float:
        """Dispatch what else has come, and send what is due.

        Returns:
            For how many seconds there is nothing to do, 0 for more at once.
        """
        now = self.turned_at
        if self._has_input:
            self._drain(now)
        if self._acks and (now >= self._settle_at or now == self._acked_at or len(self._acks) >= ACKS_TOGETHER):
            self.apply_acks()
        if self._active and now >= self._look_at:
            self._look_after(now)
            self._look_at = now + self._next_rest
            self._next_rest = min(self._next_rest * 2, LONGEST_REST)
        while self._backlog and self._send(*self._backlog[0]):
            self._backlog.popleft()
        if now - self._sent_at >= BEAT_INTERVAL:
            self._send(pack(Verb.BEAT.value, 0), b"")
            self._sent_at = now
            self._check_input()
        if self._has_input:
            return 0
        rest = self._sent_at + BEAT_INTERVAL - now
        if self._acks:
            rest = min(rest, self._settle_at - now)
        if self._backlog:
            rest = SHORTEST_REST
        elif self._active:
            rest = min(rest, self._look_at - now)
        self._resting = max(rest, SHORTEST_REST)
        return self._resting

    def is_overdue(self, now: float) -> bool:
        """Return whether the thread on duty should have looked before."""
        return now > self.turned_at + self._resting

    def _look_after(self, now: float) -> None:
        """Flush and acknowledge for pods that have something open."""
        for pod in list(self._active):
            core = pod._core
            outbox = core.outbox
            if core.state is not State.JOINED:
                core.tick(now)
            is_late = now - core.ack_sent_at >= ACK_DELAY
            if outbox.queued or outbox.incoming:
                self._next_rest = SHORTEST_REST
                core.flush(now, force=is_late)
            elif is_late:
                core.flush(now, force=True)
            if core.out:
                self.send_out(pod)
            is_idle = not (core.has_open or outbox.queued or outbox.incoming or core.is_joining)
            if is_idle or core.state is State.CLOSED:
                del self._active[pod]

    def _drain(self, now: float) -> None:
        """Receive what there is, or part of it, and hand it on."""
        self._has_input = False
        touched: dict[Pod, None] = {}
        get_option = self._get_option
        for _ in range(DRAIN_FRAMES):
            # Asked first: an exception to say that there is nothing costs several times as much.
            if not get_option(_EVENTS) & _POLLIN:  # type: ignore[operator]
                break
            pod = self._receive(now)
            if pod is not None:
                touched[pod] = None
        else:
            self._has_input = True
        for pod in touched:
            self._hand_on(pod, now)

    def _receive(self, now: float) -> Pod | None:
        """Receive a frame and give it to the core of its pod; return the pod, if it is one of this link.

        Raises:
            zmq.Again: There is none.
        """
        receive = self._receive_part
        header = receive(_NOBLOCK, copy=False)
        self.heard_at = now
        if not header.more:
            self._bad_frame("a message of one frame")
            return None
        body = receive(_NOBLOCK, copy=False)
        if body.more:
            while receive(_NOBLOCK, copy=False).more:
                pass
            self._bad_frame("a message of more than two frames")
            return None
        try:
            fields = unpack_header(header.bytes)
            pod = self._pods.get(fields[1])
            if pod is None:
                self._on_other_frame(fields, now)
                return None
            content = body.bytes if len(body) < LARGE_BODY else body.buffer
            if fields[0] == VERB_DELIVER:
                ack = pod._core.deliver(fields, content)
                if ack is not None:
                    if not self._acks:
                        self._settle_at = now + ACK_DELAY
                    self._acks.append((pod, ack))
                    self._acked_at = now
                return pod
            if self._acks:
                self.apply_acks()
            pod._core.receive(fields, content, now)
            if fields[0] == VERB_WELCOME:
                self._make_way(fields[8][0], now)
        except ProtocolError as exc:
            self._bad_frame(str(exc))
            return None
        return pod

    def _make_way(self, max_message: int, now: float) -> None:
        """Connect anew if this bus carries larger messages than the connection takes: it ends at longer frames."""
        max_frame = max_frame_to_pod(max_message)
        if max_frame <= self._max_frame:
            return
        self._max_frame = max_frame
        self._socket.setsockopt(zmq.MAXMSGSIZE, max_frame)
        self._connect_anew(now)

    def _mend(self, now: float) -> None:
        """Connect anew: to both ends an interrupted thread, with half a frame sent or taken, is a broken connection."""
        self.is_torn = False
        self.apply_acks()
        try:
            if self._is_sending:
                self._socket.send(b"", _NOBLOCK)
            while True:
                self._socket.recv(_NOBLOCK)
        except zmq.Again:
            pass
        self._is_sending = False
        self._backlog.clear()
        self._connect_anew(now)

    def _connect_anew(self, now: float) -> None:
        self._socket.disconnect(self.endpoint)
        self._socket.connect(self.endpoint)
        for pod in self._pods.values():
            pod._core.rejoin(now)
            self._active[pod] = None
        self._look_at = 0.0

    def _on_other_frame(self, fields: tuple[Any, ...], now: float) -> None:
        """Take a frame that is for no pod of this link."""
        if self._acks:
            self.apply_acks()
        slot = fields[1]
        if slot != 0:  # the pod has left, and this was under way
            if fields[0] == VERB_WELCOME:
                # It gave up before it was admitted; without a word it would stand on the bus with its name.
                self._backlog.append((pack(Verb.BYE.value, slot, 0, BYE_CRASHED), b""))
        elif fields[0] == Verb.REJOIN:
            for pod in self._pods.values():
                pod._core.receive(fields, b"", now)
                self._active[pod] = None
            self._look_at = 0.0
        elif fields[0] != Verb.PING:
            raise ProtocolError(f"verb {fields[0]} needs a slot")

    def _bad_frame(self, text: str) -> None:
        logger.warning("dropped a malformed frame from the bus: %s", text)

    # Ending

    def fail(self, error: Exception) -> None:
        """End every pod and every wait with this error: the bus will not come back."""
        with self.lock:
            for pod in self.pods():
                pod._end(error)

    def check_alive(self) -> None:
        """Raise BusBusyError if the bus has said nothing for `send_timeout` seconds."""
        now = time.monotonic()
        silence = now - self.heard_at
        # When this process itself was stopped, what the bus has said meanwhile has yet to be read.
        is_awake = now - self.turned_at < LONG_SLEEP
        if silence > self.send_timeout and is_awake:
            raise BusBusyError(
                f"the bus at {self.endpoint} has taken nothing for {silence:.1f} s (send_timeout is "
                f"{self.send_timeout} s); is it still running? `grav-actors ps` shows it"
            )

    def close(self) -> None:
        """End all pods without a word, the thread and the socket. Idempotent."""
        if self.is_foreign:
            return
        with self.lock:
            if self._is_closing:
                return
            self._is_closing = True
            for pod in self.pods():
                pod._end(ConnectionClosedError("this node was stopped"))
        self.duty.close()
        self._close_socket()

    def _close_socket(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()
        self._context.term()
