"""Between the hub and the bus of its node: runs that leave for peers, and runs that come from them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import time_ns
from typing import TYPE_CHECKING, Any

import msgpack

from grav_actors.codec import pack_record, record_offsets, slice_body, unpack_body
from grav_actors.errors import GravError
from grav_actors.filters import FilterSet
from grav_actors.mesh.topics import prefix_patterns
from grav_actors.message import Message
from grav_actors.pattern import FRAMEWORK_PREFIX, MSG_TYPE_DEFAULT, check_type
from grav_actors.protocol import FLAG_RECEIPT, KIND_PUBLISH, KIND_REPLY

if TYPE_CHECKING:
    from grav_actors.pod.inbound import Inbound
    from grav_actors.pod.pod import Pod

logger = logging.getLogger(__name__)

Leave = Callable[[str, int, bytes, bytes], None]
"""`leave(type, count, meta, body)`: give a run to the mesh. May block while the mesh has no room."""

_CARRIED = {KIND_PUBLISH, KIND_REPLY}


class Relay:
    """The hub's pod on the local bus.

    What comes from peers is published by a thread of its own, which may wait for the bus; the hub never does. A pod
    never gets what it published itself: so what comes from a peer is never sent on.

    Attributes:
        waiting_bytes: Bytes that came from peers and are not yet on the bus.
        garbled: Runs of peers that were none.
    """

    def __init__(self, pod: Pod, leave: Leave) -> None:
        self._pod = pod
        self._leave = leave
        self._patterns: tuple[str, ...] = ()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self.waiting_bytes = 0
        self.garbled = 0
        pod._consume = self._take
        self._thread = threading.Thread(target=self._run, name="grav-mesh-relay", daemon=True)
        self._thread.start()

    # From the bus

    def want(self, prefixes: tuple[bytes, ...]) -> None:
        """Have the bus deliver what peers want; back when it has confirmed.

        Raises:
            BusBusyError: The bus does not answer.
            ConnectionClosedError: The node has ended.
        """
        patterns = prefix_patterns(prefixes)
        if patterns == self._patterns:
            return
        filters = FilterSet(listening=bool(patterns), exclusive=True)
        for pattern in patterns:
            filters.set_type(pattern, True)
        self._pod._set_filters(filters)
        self._patterns = patterns

    def _take(self, inbound: Inbound) -> None:
        """Take a run; on the pod's callback thread."""
        is_ours = inbound.type.startswith(FRAMEWORK_PREFIX) and inbound.type != MSG_TYPE_DEFAULT
        if inbound.kind in _CARRIED and not is_ours and not inbound.flags & FLAG_RECEIPT:
            body = bytes(inbound.body)
            count = inbound.count - inbound.skip
            try:
                if inbound.skip:
                    body = slice_body(body, record_offsets(body, inbound.count), inbound.skip, inbound.count)
                self._leave(inbound.type, count, _pack((inbound.kind, inbound.sender)), body)
            except GravError as exc:
                logger.warning("a run of %s did not leave for the mesh: %s", inbound.type, exc)
        inbound.finish_all()

    # To the bus

    def deliver(self, type: str, count: int, meta: bytes, body: bytes) -> None:
        """Publish a peer's run, in the order of the calls; does not block."""
        self._add(len(body))
        self._queue.put(lambda: self._publish(type, count, meta, body))

    def deliver_tunnelled(self, meta: bytes, body: bytes) -> None:
        """Publish one message that came through a tunnel; does not block."""
        self._add(len(body))
        try:
            type_ = msgpack.unpackb(meta)
        except Exception:  # msgpack raises ValueError, its own errors, RecursionError and UnicodeDecodeError
            type_ = ""
        self._queue.put(lambda: self._publish(type_, 1, _pack((KIND_PUBLISH, b"")), body))

    def announce(self, type: str, data: dict[str, Any]) -> None:
        """Publish an event of the framework; does not block."""
        message = Message._framework(type, data)
        self._queue.put(lambda: self._send(KIND_PUBLISH, type, None, pack_record(message, self._limit())))

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except GravError as exc:
                logger.warning("what came from a peer was not published: %s", exc)
            except Exception:
                logger.exception("what came from a peer was not published")

    def _publish(self, type: str, count: int, meta: bytes, body: bytes) -> None:
        try:
            check_type(type)
            kind, records = _read(count, meta, body)
        except (GravError, ValueError) as exc:
            self.garbled += 1
            logger.warning("a garbled run of %.80s came from a peer and was dropped: %s", type, exc)
        else:
            for record, dest in records:
                self._send(kind, type, dest, record)
        finally:
            self._add(-len(body))

    def _send(self, kind: int, type: str, dest: bytes | None, record: bytes) -> None:
        pod = self._pod
        with pod._link.lock:
            if pod._gate is None:
                pod._append(kind, type, dest, record, len(record), time_ns())

    def _limit(self) -> int:
        return self._pod._core.max_message

    def _add(self, size: int) -> None:
        with self._lock:
            self.waiting_bytes += size

    def stop(self, timeout: float) -> None:
        """End after what waits is published, at most after some seconds."""
        self._queue.put(None)
        self._thread.join(timeout)


def tunnel_meta(type: str) -> bytes:
    """Return what goes with a tunnelled message of this type."""
    return msgpack.packb(type)  # type: ignore[no-any-return, unused-ignore]


def _pack(fields: tuple[Any, ...]) -> bytes:
    return msgpack.packb(fields)  # type: ignore[no-any-return, unused-ignore]


def _read(count: int, meta: bytes, body: bytes) -> tuple[int, list[tuple[bytes, bytes | None]]]:
    """Return the kind of a peer's run, and its records with whom they go to besides; everything is checked."""
    kind, _ = msgpack.unpackb(meta, use_list=False)
    if kind not in _CARRIED:
        raise ValueError(f"a run of kind {kind!r:.20}")
    offsets = record_offsets(body, count)
    # Decoding is the only full check: what is garbled must not reach the pods of this node.
    decoded = unpack_body(body, count, lambda name: name)
    records: list[tuple[bytes, bytes | None]] = []
    for record, first, last in zip(decoded, offsets, offsets[1:], strict=False):
        # Where only the uuid of the question is known it goes to the process that it names.
        is_reply = kind == KIND_REPLY and bool(record[1])
        records.append((body[first:last], record[1][:8] if is_reply else None))
    if kind == KIND_REPLY and any(dest is None for _, dest in records):
        raise ValueError("a reply that answers nothing")
    return kind, records
