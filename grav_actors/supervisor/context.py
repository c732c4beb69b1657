"""What a runner needs of its node, or of the actor whose children it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grav_actors.actor.slate import Handling
from grav_actors.actor.spec import Spawn
from grav_actors.options import RestartLimits
from grav_actors.pod.link import Link
from grav_actors.supervisor.announcer import Publish

OnLine = Callable[[str, str, str], None]
"""Takes a line that an actor wrote: its name, `stdout` or `stderr`, the line."""


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What a runner needs of its node, or of the actor whose children it runs.

    Attributes:
        link: Link of this process, for thread actors.
        supervisor: Uuid of the pod that stands for the supervisor: it marks the names that outlive their processes.
        release: Tells the bus that an incarnation has ended: its name, its number, why (`crashed` if a next one is
            to come), what it failed with, or "", and what was in its handlers.
        end: Called, on a thread of its own, when the supervisor has ended and nobody had asked for that: why, and
            whether it has failed.
        spawn: Starts further actors for actors of this process.
        on_line: Takes what processes write; None leaves it to the terminal.
        first_incarnation: What the incarnations of its children are counted from, on the bus.
        name: The supervisor's; "" for the root.
        publish: Publishes an event: its type, and what it says; None tells nobody. It may wait.
        hosts_threads: Thread children live in a process of their own, all in one, instead of in this one.
    """

    link: Link
    supervisor: bytes
    limits: RestartLimits
    release: Callable[[str, int, str, str, tuple[Handling, ...]], None]
    end: Callable[[str, bool], None]
    spawn: Spawn
    on_line: OnLine | None = None
    strategy: str = "one_for_one"
    first_incarnation: int = 0
    name: str = ""
    publish: Publish | None = None
    hosts_threads: bool = False
