"""Which connection sends a message without an end, judged by memory and by what the connections do.

ZeroMQ shows a message when its last frame has come. One whose last frame never comes grows in memory that nobody
sees, and no option limits it: the limit of size is for each frame, that of number for whole messages. But a link of a
pod says something whole at least once a second, and ends each message that it begins. So when memory grows and the
bus does not know why, the connection that is busy and completes nothing is to blame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MIB = 1024 * 1024
ALERT_BYTES = 16 * MIB
"""Growth without a known reason from which the connections are watched."""
CUT_BYTES = 64 * MIB
"""Growth without a known reason, and four frames of the largest size, from which connections are cut."""
OWN_BYTES = 32 * MIB
"""Growth, and two frames of the largest size, since a connection completed its last message: less may be others'."""
UNREAD_LOOKS = 6
"""Looks at a connection that had input to be read, without a whole message, that convict it: a fast one."""
FEWEST_LOOKS = 4
LOOK_BYTES = 8 * MIB
"""Growth past the limit that takes the place of one of these looks, down to the fewest: on a busy machine they come
late."""
SHORTEST_SILENCE = 0.05
"""Seconds without a whole message, at least: an honest large message beside others takes its time, too."""
SILENCE = 3.0
"""Seconds without a whole message that convict a connection at which something happens. A link beats every second; one
whose process is stopped does nothing at all."""
ACTIVE_LOOKS = 4
"""Looks a second, over that silence, at which something happened: pings alone, which ZeroMQ reads in the link's stead,
make one or two."""
GRACE = 0.02
"""Seconds after a cut in which nothing more is cut, as memory is being freed."""
SETTLING = 5.0
"""Seconds of growth in which no connection is suspect, after which it counts as the bus's own."""


@dataclass(slots=True)
class _Link:
    """What is known of one connection since its last whole message."""

    heard_at: float
    memory: int
    unread: int = 0
    active: int = 0


class Lookout:
    """Decides whom to cut, from samples and the time.

    Attributes:
        is_alert: Memory has grown without a known reason; only now does it matter what connections do.

    Args:
        max_frame: Bytes of the largest frame that the socket takes.
    """

    def __init__(self, max_frame: int) -> None:
        self.is_alert = False
        self._cut_at = CUT_BYTES + 4 * max_frame
        self._own = OWN_BYTES + 2 * max_frame
        self._base: int | None = None
        self._memory = self._unknown = 0
        self._links: dict[int, _Link] = {}
        self._quiet_until = 0.0
        self._suspect_at = 0.0

    def opened(self, number: int, now: float) -> None:
        """Note a connection, by a number that no other has at the same time."""
        self._links[number] = _Link(now, self._memory)

    def closed(self, number: int) -> None:
        """Note that a connection has ended."""
        self._links.pop(number, None)

    def heard(self, number: int, now: float) -> None:
        """Note that a whole message came by a connection."""
        link = self._links.get(number)
        if link is not None:
            link.heard_at = now
            link.memory = self._memory
            link.unread = link.active = 0

    def look(self, now: float, memory: int, busy: Iterable[tuple[int, bool]], held: int = 0) -> list[int]:
        """Take a sample; return the connections to be cut, which count as closed.

        Args:
            memory: Bytes of the process.
            busy: Connections at which something happened since the last sample, and whether input was left to be
                read; only of times in which every whole message that had come was taken.
            held: Bytes of the messages that the bus knows of.
        """
        self._memory = memory
        # Held twice: as it came, and in frames on their way.
        self._unknown = memory - 2 * held
        self._base = self._unknown if self._base is None else min(self._base, self._unknown)
        growth = self._unknown - self._base
        if growth <= ALERT_BYTES:
            self.is_alert = False
            return []
        if not self.is_alert:
            self._begin(now, memory - growth)
            return []
        for number, has_input in busy:
            link = self._links.get(number)
            if link is not None:
                link.active += 1
                link.unread += has_input
        self._settle(now)
        if growth <= self._cut_at or now < self._quiet_until:
            return []
        culprits = self._culprits(now, max(FEWEST_LOOKS, UNREAD_LOOKS - (growth - self._cut_at) // LOOK_BYTES))
        for number in culprits:
            del self._links[number]
            self._quiet_until = now + GRACE
        return culprits

    def _begin(self, now: float, memory: int) -> None:
        self.is_alert = True
        self._suspect_at = now
        for link in self._links.values():
            # What happened before was not looked at; but what has grown unseen may be any connection's.
            link.heard_at, link.memory, link.unread, link.active = now, memory, 0, 0

    def _settle(self, now: float) -> None:
        """Take the growth for the bus's own when every connection has been above suspicion for long enough."""
        if any(
            link.unread >= UNREAD_LOOKS or (link.active and now - link.heard_at >= SILENCE)
            for link in self._links.values()
        ):
            self._suspect_at = now
        elif now - self._suspect_at >= SETTLING:
            self._base = self._unknown

    def _culprits(self, now: float, looks: int) -> list[int]:
        guilty: list[int] = []
        fast: list[tuple[int, int]] = []
        for number, link in self._links.items():
            # By all memory: what is unknown also grows when messages leave the bus and their memory stays.
            if self._memory - link.memory < self._own:
                continue
            silence = now - link.heard_at
            if link.unread >= looks and silence >= SHORTEST_SILENCE:
                fast.append((number, link.unread))
            elif silence >= SILENCE and link.active >= ACTIVE_LOOKS * silence:
                guilty.append(number)
        # Beside an endless message an honest large one takes long, too, but not as long.
        most = max((unread for _, unread in fast), default=0)
        guilty.extend(number for number, unread in fast if 2 * unread >= most)
        return guilty
