"""The private socket between a parent and its fork server: frames in order, with file descriptors.

Frames from the parent:

    ["spawn", id, {name, entry, path, cwd, environment, takes_orders}]
                                                   with payload, stdout, stderr, report, slate, and orders if it does
    ["signal", pid, number]
    ["stop"]

Frames from the server:

    ["warning", text]
    ["spawned", id, pid, has_pidfd]                with a pidfd, if there is one
    ["failed", id, reason]
    ["exited", pid, code]                          after "spawned"; a negative code is a signal's number
"""

import os
import socket
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from grav_actors.supervisor.pipes import FrameBuffer, encode_frame

MAX_FRAME = 4 * 1024 * 1024
"""Bytes of one frame; the largest part of one is the environment, which Linux keeps below 2 MiB or so."""

# socket.send_fds and recv_fds would do, but for their flags, which they ignore.
_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_INT = array("i").itemsize
_ROOM = socket.CMSG_SPACE(253 * _INT)  # what Linux lets one message carry


class Channel:
    """One end of the socket. It never blocks, and is used by one thread.

    What does not fit into the socket waits in this object; `wants_write` says so. It is bounded by what its
    users ask for: each frame is the answer to one, or one of few requests that are open at one time.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._frames = FrameBuffer(MAX_FRAME)
        self._fds: deque[int] = deque()
        self._out: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._mute = False
        self.ended = False
        self.fds_lost = False
        """The limit on open files cut off descriptors: which belongs to which frame is unknown since."""

    def fileno(self) -> int:
        """Return the socket's descriptor, for a poller."""
        return self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether frames wait for room in the socket."""
        return bool(self._out)

    def send(self, frame: list[object], fds: Sequence[int] = ()) -> None:
        """Send a frame, now or at the next `flush`. The descriptors are closed when they are sent.

        Raises:
            ValueError, TypeError: The frame cannot be encoded; the descriptors are still open.
        """
        self._out.append((memoryview(encode_frame(frame, MAX_FRAME)), fds))
        self.flush()

    def flush(self) -> None:
        """Send what fits. When the peer is gone the rest is dropped; `receive` then finds its end."""
        if self._mute:
            self._drop_frames()
        while self._out:
            data, fds = self._out[0]
            try:
                sent = self._sock.sendmsg([data], _rights(fds), _NO_SIGPIPE)
            except BlockingIOError:
                return
            except OSError:
                self._mute = True
                self._drop_frames()
                with suppress(OSError):  # for other reasons than a peer that is gone: make an end of it
                    self._sock.shutdown(socket.SHUT_WR)
                return
            for fd in fds:
                os.close(fd)
            if sent < len(data):
                self._out[0] = (data[sent:], ())
            else:
                self._out.popleft()

    def receive(self) -> list[Any]:
        """Return the frames that have arrived. The peer's end, or bytes that are no frames, set `ended`."""
        frames: list[Any] = []
        while not self.ended:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(65536, _ROOM, _CLOEXEC)
            except BlockingIOError:
                break
            except OSError:
                self.ended = True
                break
            for _, _, rights in ancillary:
                self._fds.extend(array("i", rights[: len(rights) // _INT * _INT]))
            if flags & socket.MSG_CTRUNC:
                self.fds_lost = True
            if not data:
                self.ended = True
                break
            try:
                frames += self._frames.feed(data)
            except ValueError:
                self.ended = True
        return frames

    def take_fds(self, count: int) -> list[int]:
        """Return the descriptors that came with a frame, in order; none if they were lost."""
        if self.fds_lost or len(self._fds) < count:
            self._drop_fds()
            return []
        return [self._fds.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close the socket and every descriptor that was not sent or not taken."""
        self.ended = True
        self._sock.close()
        self._drop_fds()
        self._drop_frames()

    def _drop_frames(self) -> None:
        for _, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out.clear()

    def _drop_fds(self) -> None:
        while self._fds:
            os.close(self._fds.popleft())


def _rights(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds).tobytes())] if fds else []
