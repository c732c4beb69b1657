"""An actor on a link that leads nowhere: it is given runs of questions, and its frames are looked at."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Any, Self

import zmq

from grav_actors.actor.actor import Actor
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.spec import ActorSpec
from grav_actors.codec import pack_records, unpack_body
from grav_actors.ids import new_id
from grav_actors.pod.callbacks import Callbacks
from grav_actors.pod.core import State
from grav_actors.pod.link import Link
from grav_actors.protocol import KIND_ASK, VERB_DELIVER, VERB_SEND, pack, unpack_header
from support.work.wire import FakeSocket, Stage

ASKER = b"the pod that ask"


class _NothingLeft(Exception):
    """All is handled that has come."""


def _end(callbacks: Callbacks) -> None:
    raise _NothingLeft


class RealClock:
    """Stands for the module `time`."""

    monotonic = staticmethod(time.monotonic)
    time_ns = staticmethod(time.time_ns)


class Answerer:
    """Drives an actor with plain handlers in the calling thread, without one of its own."""

    def __init__(self, actor_class: type[Actor]) -> None:
        self._stage = Stage(RealClock())  # type: ignore[arg-type]
        self.link = Link("fake")
        duty: Any = self.link.duty
        duty.tell = lambda callbacks: None
        duty.attend = _end
        socket: Any = self.link._socket
        self.socket: FakeSocket = socket
        self.runtime = ActorRuntime(ActorSpec(actor_class, "answerer", (), {}), self.link, lambda ending: None, None)
        self.pod = self.runtime.pod
        self.runtime._actor = self.runtime._make()
        thread: Any = self.runtime._thread
        thread.ident = threading.get_ident()
        thread._begin = lambda: None
        self.thread = thread
        core = self.pod._core
        core.state, core.max_message = State.JOINED, 1 << 20
        with self.link.lock:
            self.link.add(self.pod)
        self._number = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.runtime.timers.close()
        self.link.close()
        self._stage.close()

    def take(self, *header_and_body: bytes) -> None:
        """Have the link take a frame."""
        self.socket.feed(*header_and_body)
        with self.link.lock:
            self.link.take([(self.socket.descriptor, int(zmq.POLLIN))])

    def deliver(self, data: list[Any], *, kind: int = KIND_ASK, type_: str = "q", asker: bytes = ASKER) -> list[bytes]:
        """Have a run of questions come in; return their uuids."""
        records: list[list[Any]] = [[new_id(), b"", b"", time.time_ns(), one, None] for one in data]
        body = pack_records(records)
        run = [asker, self._number, self._number - 1, kind, type_, len(records), len(body), 0, 1]
        self.take(pack(VERB_DELIVER, self.pod._core.slot, self._number, None, [run]), body)
        self._number += len(records)
        return [record[0] for record in records]

    def serve(self) -> None:
        """Look after what is open, as the thread on duty does within a millisecond."""
        with self.link.lock:
            self.link._look_at = 0.0
            self.link.turn([])

    def handle(self) -> int:
        """Handle what has come, as the callback thread does; return the frames sent before it flushed the rest."""
        before: list[int] = []
        flush = self.thread._flush

        def flush_then(now: float, is_idle: bool) -> None:
            before.append(len(self.socket.outgoing))
            flush(now, is_idle)

        self.thread._flush = flush_then
        with contextlib.suppress(_NothingLeft):
            Callbacks._work(self.thread)
        del self.thread._flush
        return before[0]

    def handled(self) -> list[Any]:
        """Return what the frames not looked at by `sent` yet say has been handled, None where they say nothing."""
        headers = [unpack_header(header) for header, _ in self.socket.outgoing]
        return [fields[3 if fields[0] == VERB_SEND else 2] for fields in headers]

    def sent(self) -> list[list[tuple[int, str, Any, list[list[Any]]]]]:
        """Return for each frame of messages sent since the last look its runs: kind, type, destination, records."""
        outgoing, self.socket.outgoing = self.socket.outgoing, []
        frames: list[list[tuple[int, str, Any, list[list[Any]]]]] = []
        for header, body in outgoing:
            fields = unpack_header(header)
            if fields[0] != VERB_SEND:
                continue
            frame: list[tuple[int, str, Any, list[list[Any]]]] = []
            at = 0
            for kind, type_, count, size, dest in fields[4]:
                frame.append((kind, type_, dest, unpack_body(body[at : at + size], count, self.pod._make_ref)))
                at += size
            frames.append(frame)
        return frames
