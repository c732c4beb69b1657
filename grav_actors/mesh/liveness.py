"""Whether a peer lives: by what was heard from it, and by what it says to have heard. Pure."""

from __future__ import annotations

from collections import deque

from grav_actors.mesh.frames import Pulse

BEAT_INTERVAL = 1.0
"""Seconds between beats."""
SUSPECT_AFTER = 3.0
"""Seconds of silence after which a peer is suspect."""
DOWN_AFTER = 10.0
"""Seconds of silence after which a peer is down."""
ECHO_DELAY = BEAT_INTERVAL
"""Seconds by which an echo may be older than what was heard: it waits for the peer's next beat."""
LATE = 0.5
"""Seconds by which this node may be late itself before it doubts what it has not heard."""
REMEMBERED_BEATS = 64


class Beats:
    """The numbers of this node's own beats, and when they were sent."""

    __slots__ = ("_sent", "number")

    def __init__(self) -> None:
        self.number = 0
        self._sent: deque[tuple[int, float]] = deque(maxlen=REMEMBERED_BEATS)

    def next(self, now: float) -> int:
        """Return the number of a beat that is sent now."""
        self.number += 1
        self._sent.append((self.number, now))
        return self.number

    def sent_at(self, number: int) -> float | None:
        """Return when a beat was sent; None for one that never was, or too long ago to matter."""
        if not self._sent or not self._sent[0][0] <= number <= self.number:
            return None
        return self._sent[number - self._sent[0][0]][1]


class Vitals:
    """The signs of life of one peer.

    Both directions count: `heard_at` is when anything came from it, `echoed_at` when that beat of this node
    was sent which the peer has last said to have heard. So a link that is cut in one direction is down on
    both sides.

    Attributes:
        beat: Number of the peer's last beat, and `beat_at` when it came.
        rtt: Seconds there and back, without what the peer waited in between; None before the first echo.
        ahead: Seconds by which the clock that the peer's last beat told was ahead of this node's when that came.
    """

    __slots__ = ("_echo", "ahead", "beat", "beat_at", "echoed_at", "heard_at", "rtt")

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self.echoed_at = now
        self.beat = 0
        self.beat_at = now
        self.rtt: float | None = None
        self.ahead: float | None = None
        self._echo = 0

    def hear(self, now: float) -> None:
        """Note that something came from the peer."""
        self.heard_at = now

    def hear_beat(self, number: int, now: float) -> None:
        """Note a beat of the peer; an old one, which a network may bring late, says nothing new."""
        self.heard_at = now
        if number > self.beat:
            self.beat, self.beat_at = number, now

    def hear_echo(self, pulse: Pulse, beats: Beats, now: float) -> None:
        """Note which of this node's beats the peer has heard last."""
        if pulse.echo <= self._echo:
            return
        sent_at = beats.sent_at(pulse.echo)
        if sent_at is None:
            return
        self._echo = pulse.echo
        self.echoed_at = max(self.echoed_at, sent_at)
        self.rtt = max(0.0, now - sent_at - pulse.held / 1e6)

    def drift(self) -> float | None:
        """Return the seconds by which the peer's clock is ahead: the beat was on its way for half a round trip."""
        return None if self.ahead is None or self.rtt is None else self.ahead + self.rtt / 2

    def silence(self, now: float) -> float:
        """Return for how many seconds the worse direction has been silent."""
        return max(now - self.heard_at, now - self.echoed_at - ECHO_DELAY)

    def held(self, now: float) -> int:
        """Return the microseconds since the peer's last beat."""
        return max(0, int((now - self.beat_at) * 1e6))

    def forgive(self, seconds: float, now: float) -> None:
        """Count some seconds as not passed: this node was not listening."""
        self.heard_at = min(now, self.heard_at + seconds)
        self.echoed_at = min(now, self.echoed_at + seconds)
