"""A host: the process that the thread actors of one supervisor live in, as that supervisor sees it.

All of it is used under the supervisor's lock; nothing here waits.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from grav_actors.actor.host import END, KEPT_SIZE, SLATE_SIZE, START, STOP
from grav_actors.actor.slate import Handling, read_slate, slate_size
from grav_actors.actor.snapshot import HEADER_SIZE, Snapshot, read_snapshot
from grav_actors.actor.spec import Ending
from grav_actors.errors import ActorStartError
from grav_actors.supervisor.handle import TAIL_CHARACTERS, TAIL_LINES, ChildProcess
from grav_actors.supervisor.life import Life
from grav_actors.supervisor.pipes import MAX_ORDER


class HostEvents(Protocol):
    """Is told what becomes of the lives in a host."""

    def ready(self, life: Life) -> None:
        """A life is ready."""
        ...

    def over(self, lives: list[Life]) -> None:
        """Lives have ended, of one cause."""
        ...

    def overrun(self, host: ThreadHost, culprit: Life, text: str) -> None:
        """A life has ended and left a thread behind."""
        ...

    def ending(self, host: ThreadHost) -> None:
        """The host was told to end, from outside, and has begun to."""
        ...


class ThreadHost:
    """The process, the lives in it, and which of them are to blame for its end.

    Attributes:
        lives: Those that are not over.
        culprits: Those for which it is replaced: they have left a thread behind.
        why: Why it is replaced, or "".
        is_leaving: It takes no further lives: it is replaced, was told to end, or has ended.
    """

    def __init__(self, process: ChildProcess, events: HostEvents) -> None:
        self.process = process
        self.lives: dict[int, Life] = {}
        self.culprits: set[Life] = set()
        self.why = ""
        self.is_leaving = False
        self._events = events
        self._regions = Regions(SLATE_SIZE)
        self._kept_regions = Regions(KEPT_SIZE)
        self._has_said_so = False
        self._tails: dict[str, deque[str]] = {}

    # What it is told

    def admit(self, life: Life, kept_size: int) -> HostedVessel:
        """Take a life in, which `start` then begins.

        Args:
            kept_size: Bytes for the state of its actor; 0 if that keeps none.
        """
        self.lives[life.key] = life
        return HostedVessel(self, life, self._regions, self._kept_regions, kept_size)

    def start(self, life: Life, vessel: HostedVessel, payload: bytes) -> None:
        """Have a life begun.

        Raises:
            ActorStartError: Its arguments are too large, or the host has no room for its state.
        """
        if vessel.kept_size and vessel.kept_offset >= KEPT_SIZE:
            del self.lives[life.key]
            raise ActorStartError(
                f"the host of the threads has no room for the state of one more ({KEPT_SIZE // vessel.kept_size} have "
                "theirs in it); use processes, or a further supervisor"
            )
        kept = [SLATE_SIZE + vessel.kept_offset, vessel.kept_size]
        try:
            self.process.give_order([START, life.key, vessel.offset, vessel.size, *kept, payload])
        except ValueError:
            del self.lives[life.key]
            raise ActorStartError(
                f"the arguments of actor {life.member.name!r} take {len(payload):,} bytes; at most {MAX_ORDER:,} can "
                "be carried to the process of its thread: pass what it can read them from"
            ) from None

    def stop(self, life: Life, reason: str, patience: float | None) -> None:
        """Have a life end after what was delivered to it."""
        self.process.give_order([STOP, life.key, reason, patience])

    def replace(self, culprit: Life, why: str) -> bool:
        """Take no further lives, and have all but the culprits end; return whether that begins with this call."""
        self.culprits.add(culprit)
        self.is_leaving = True
        if self.why:
            return False
        self.why = why
        self.process.give_order([END])
        self.kill_if_done()
        return True

    def kill_if_done(self) -> None:
        """Kill it if it is replaced, and only those are left that are to blame."""
        if self.why and self.culprits.issuperset(self.lives.values()):
            self.process.kill()

    # What it tells

    def reported(self, report: dict[str, Any]) -> None:
        """Take a report of the process: of one life, or of its own end."""
        event = report.get("event")
        if event == "ending":
            self.is_leaving = self._has_said_so = True
            self._events.ending(self)
            return
        life = self.lives.get(report.get("life", 0))
        if life is None:
            return
        error, traceback = str(report.get("error", "")), str(report.get("traceback", ""))
        if event == "ready":
            self._events.ready(life)
        elif event == "failed":
            if not life.start_error:
                life.start_error = ActorStartError(error, remote_traceback=traceback)
            self._release(life)
        elif event == "ended":
            life.ending = Ending(str(report.get("reason", "")), error, traceback)
            self._ended(life, has_left=bool(report.get("has_left")))

    def _ended(self, life: Life, *, has_left: bool) -> None:
        assert life.ending is not None
        is_unasked = life.ending.reason == "shutdown" and not life.told
        if is_unasked and self._has_said_so:
            return  # with all others, when the process has ended
        if is_unasked and life not in self.culprits:
            life.displaced = self.why
        if has_left:
            self._events.overrun(self, life, "has ended, and a thread of it has not")
        self._release(life)

    def _release(self, life: Life) -> None:
        self.lives.pop(life.key, None)
        self._events.over([life])
        self._tails.pop(life.member.name, None)
        self.kill_if_done()

    def wrote(self, name: str, line: str) -> None:
        """Keep what an actor has written last to standard error."""
        self._tails.setdefault(name, deque(maxlen=TAIL_LINES)).append(line[:TAIL_CHARACTERS])

    def last_words(self, name: str) -> list[str]:
        """Return the last that an actor has written, and, if the process has ended, the last of that."""
        own = [] if self.process.is_alive() else self.process.stderr_tail
        return [*self._tails.get(name, ()), *own]

    def exited(self) -> None:
        """The process has ended, and with it all that was in it."""
        self.is_leaving = True
        lives = list(self.lives.values())
        self.lives.clear()
        for life in lives:
            if self.why and life not in self.culprits:
                life.displaced = self.why
            elif life.outcome.is_set() or life.start_error is not None:
                continue
            elif self._has_said_so and self.process.exitcode == 0:
                life.displaced = "its host was told to end"
            else:
                life.start_error = ActorStartError(
                    f"actor {life.member.name!r} did not start: its process ended with {self.process.describe_exit()}",
                    remote_traceback="\n".join(self.process.stderr_tail),
                )
        if lives:
            self._events.over(lives)


class HostedVessel:
    """A thread of a host.

    Attributes:
        offset, size: Of its part of the host's slate.
        kept_offset, kept_size: Of its part of the memory behind that, for the state of its actor.
        snapshot: That state, once the life is left.
    """

    def __init__(self, host: ThreadHost, life: Life, regions: Regions, kept_regions: Regions, kept_size: int) -> None:
        self.host = host
        self.snapshot: Snapshot | None = None
        self.kept_size = kept_size
        self._kept_regions = kept_regions
        self.kept_offset = kept_regions.take(kept_size)
        self._life = life
        self._regions = regions
        self.size = slate_size(life.member.child.actor_class.concurrency)
        self.offset = regions.take(self.size)
        self._noted: tuple[Handling, ...] | None = None
        self._words: list[str] = []

    @property
    def pid(self) -> int:
        """Number of the host."""
        return self.host.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the host is not known to have ended."""
        return self.host.process.is_alive()

    @property
    def memory_of(self) -> int | None:
        """None: its memory is that of others too."""
        return None

    @property
    def exit_text(self) -> str:
        """How the host has ended; "" while it runs."""
        return "" if self.is_alive else self.host.process.describe_exit()

    @property
    def last_words(self) -> str:
        """The last that it wrote to standard error, and if the host has ended, the last of that."""
        return "\n".join(self._words)

    @property
    def at_work(self) -> list[Handling]:
        """What stands on its part of the slate."""
        return read_slate(self.host.process.slate_part(self.offset, self.size))

    def handling(self, ending: Ending | None) -> tuple[Handling, ...]:
        """Return what stood on its part of the slate."""
        return tuple(self.at_work) if self._noted is None else self._noted

    def ended_well(self, ending: Ending | None) -> bool:
        """Whether it has said how it ended."""
        return ending is not None

    def stop(self, reason: str, patience: float | None) -> None:
        """Have it end after what was delivered to it."""
        self.host.stop(self._life, "stop" if reason == "stop" else "shutdown", patience)

    def terminate(self) -> None:
        """A thread cannot be pressed."""

    def kill(self) -> bool:
        """A thread cannot be killed, only its host."""
        return False

    def leave(self) -> None:
        """Keep what stood on its part of the slate, and give that part to others, unless a thread was left behind."""
        if self._noted is None:
            self._noted = tuple(self.at_work)
            process = self.host.process
            if self.kept_size:
                self.snapshot = read_snapshot(process.kept_part(self.kept_offset, self.kept_size))
            self._words = self.host.last_words(self._life.member.name)
            if self._life not in self.host.culprits:
                if self.kept_size:
                    process.clear_kept_part(self.kept_offset, HEADER_SIZE)
                    self._kept_regions.give_back(self.kept_offset, self.kept_size)
                self.host.process.clear_slate_part(self.offset, self.size)
                self._regions.give_back(self.offset, self.size)


class Regions:
    """Who has which part of a slate. When it is full, further ones get a part of no size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._end = 0
        self._free: dict[int, list[int]] = {}

    def take(self, size: int) -> int:
        """Return the offset of so many bytes that nobody has, or one behind the end."""
        free = self._free.get(size)
        if free:
            return free.pop()
        offset = self._end
        if offset + size <= self._size:
            self._end += size
            return offset
        return self._size

    def give_back(self, offset: int, size: int) -> None:
        """Take bytes back."""
        if offset < self._size:
            self._free.setdefault(size, []).append(offset)
