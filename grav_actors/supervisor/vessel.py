"""What a life runs in: a thread of this process, or a process. `thread_host.py` has a third, a thread of another."""

from __future__ import annotations

import os
import signal
from mmap import mmap
from typing import Protocol

from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Handling, read_slate
from grav_actors.actor.snapshot import Snapshot, read_snapshot
from grav_actors.actor.spec import Ending
from grav_actors.supervisor.handle import ChildProcess


class Vessel(Protocol):
    """What a life runs in. Used under the lock of its supervisor; nothing here waits."""

    @property
    def pid(self) -> int:
        """Number of the process that it is, or is in."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether that process is not known to have ended."""
        ...

    @property
    def memory_of(self) -> int | None:
        """The process whose memory is that of this life alone; None if there is none."""
        ...

    @property
    def exit_text(self) -> str:
        """How the process has ended; "" while it runs."""
        ...

    @property
    def last_words(self) -> str:
        """The end of what the process wrote to standard error, if that belongs to this life."""
        ...

    @property
    def at_work(self) -> list[Handling]:
        """What is in the handlers now."""
        ...

    @property
    def snapshot(self) -> Snapshot | None:
        """The state that its actor had kept when the life was left; None if it kept none."""
        ...

    def handling(self, ending: Ending | None) -> tuple[Handling, ...]:
        """Return what was in the handlers when it ended; `ending` is what it said of that, if it could."""
        ...

    def ended_well(self, ending: Ending | None) -> bool:
        """Whether it has ended without an error, not asked to."""
        ...

    def stop(self, reason: str, patience: float | None) -> None:
        """Tell it to end: because of a `stop`, a `shutdown` or a `restart`, in so many seconds."""
        ...

    def terminate(self) -> None:
        """Tell it to end at once."""
        ...

    def kill(self) -> bool:
        """End it without asking; return false for a thread, which can only be asked."""
        ...

    def leave(self) -> None:
        """The life is over: keep what is to be known of it, and give up the rest."""
        ...


class ProcessVessel:
    """A process.

    Args:
        kept_size: Bytes behind its slate for the state of its actor; 0 if that keeps none.

    Attributes:
        snapshot: That state, once the life is left.
    """

    def __init__(self, process: ChildProcess, kept_size: int) -> None:
        self.snapshot: Snapshot | None = None
        self._process = process
        self._kept_size = kept_size

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it is not known to have ended."""
        return self._process.is_alive()

    @property
    def memory_of(self) -> int | None:
        """Its number, while it lives."""
        return self._process.pid if self._process.is_alive() else None

    @property
    def exit_text(self) -> str:
        """Its exit code or signal; "" while it runs."""
        return "" if self._process.is_alive() else self._process.describe_exit()

    @property
    def last_words(self) -> str:
        """The last lines of its standard error."""
        return "\n".join(self._process.stderr_tail)

    @property
    def at_work(self) -> list[Handling]:
        """What stands on its slate."""
        return read_slate(self._process.slate)

    def handling(self, ending: Ending | None) -> tuple[Handling, ...]:
        """Return what stood on its slate."""
        return tuple(read_slate(self._process.slate))

    def ended_well(self, ending: Ending | None) -> bool:
        """Whether its exit code is 0."""
        return self._process.exitcode == 0

    def stop(self, reason: str, patience: float | None) -> None:
        """Send it SIGINT if it is to stop for good, else SIGTERM."""
        self._process.send_signal(signal.SIGINT if reason == "stop" else signal.SIGTERM)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.terminate()

    def kill(self) -> bool:
        """Send it SIGKILL."""
        self._process.kill()
        return True

    def leave(self) -> None:
        """Read the state that is left."""
        if self._kept_size:
            self.snapshot = read_snapshot(self._process.kept_part(0, self._kept_size))


class ThreadVessel:
    """A thread of this process.

    Args:
        notes: Where it notes what its handlers are at, if somebody looks at that; else empty.
        kept: Where its actor keeps its state; None if it keeps none.

    Attributes:
        snapshot: That state, once the life is left.
    """

    def __init__(self, runtime: ActorRuntime, notes: bytearray, kept: mmap | None) -> None:
        self.runtime = runtime
        self.snapshot: Snapshot | None = None
        self._notes = notes
        self._kept = kept

    @property
    def pid(self) -> int:
        """Number of this process."""
        return os.getpid()

    @property
    def is_alive(self) -> bool:
        """It is this process that asks."""
        return True

    @property
    def memory_of(self) -> int | None:
        """None: its memory is that of others too."""
        return None

    @property
    def exit_text(self) -> str:
        """It is this process that asks: ""."""
        return ""

    @property
    def last_words(self) -> str:
        """What this process wrote is not that of one actor: ""."""
        return ""

    @property
    def at_work(self) -> list[Handling]:
        """What it has noted."""
        return read_slate(bytes(self._notes))

    def handling(self, ending: Ending | None) -> tuple[Handling, ...]:
        """Return what it crashed in, as it has said."""
        return ending.handling if ending is not None else ()

    def ended_well(self, ending: Ending | None) -> bool:
        """Whether it has said how it ended."""
        return ending is not None

    def stop(self, reason: str, patience: float | None) -> None:
        """Have it end after what was delivered to it."""
        self.runtime.patience = patience
        self.runtime.stop("stop" if reason == "stop" else "shutdown")

    def terminate(self) -> None:
        """A thread cannot be pressed."""

    def kill(self) -> bool:
        """A thread cannot be killed."""
        return False

    def leave(self) -> None:
        """Read the state that is left."""
        if self._kept is not None:
            self.snapshot = read_snapshot(self._kept)
