"""What an incarnation of an actor is made of, how one ends, and how further ones are started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from grav_actors.actor.actor import Actor, check_options
from grav_actors.actor.slate import Handling
from grav_actors.actor.snapshot import Snapshot
from grav_actors.protocol import PodSettings
from grav_actors.reference import ActorRef

if TYPE_CHECKING:
    from grav_actors.supervisor.spec import Child


@dataclass(slots=True)
class ActorSpec:
    """What one incarnation is made of.

    Attributes:
        service: Name shared by the instances of one child, or "".
        group: What takes the place of the group of its class, or "".
        supervisor: Uuid of the pod of the node that restarts it.
        cause: Why the incarnation before ended; "" in the first.
        snapshot: The state that it has left, None if it kept none.
        is_captured: What its process writes goes to its supervisor, line by line.
        hosts_threads: If it is a supervisor, its thread children live in a process of their own.
    """

    actor_class: type[Actor]
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    service: str = ""
    group: str = ""
    supervisor: bytes = b""
    incarnation: int = 0
    cause: str = ""
    hosts_threads: bool = False
    snapshot: Snapshot | None = None
    is_captured: bool = False

    def settings(self) -> PodSettings:
        """Return what its pod says of itself; raise OptionError for a group that its class does not go with."""
        cls = self.actor_class
        group = self.group or cls.group
        options = check_options(cls, group)
        return PodSettings(
            actor=True,
            supervisor=self.supervisor,
            incarnation=self.incarnation,
            service=self.service,
            group=group,
            replay=cls.replay,
            prefetch=options.window(cls.concurrency, grouped=bool(group)),
            mailbox_limit=options.mailbox_limit,
            overflow=options.overflow,
            stuck_after=options.stuck_after,
            max_deliver=options.max_deliver,
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """How an incarnation ended.

    Attributes:
        reason: `stop`, `shutdown` or `crash`.
        error: In one line what it crashed with, or "".
        traceback: The same in full, or "".
        handling: The messages whose handlers it crashed in, as far as it knows.
    """

    reason: str
    error: str = ""
    traceback: str = ""
    handling: tuple[Handling, ...] = ()


class Spawn(Protocol):
    """Starts a further actor on the node; as `Grav.spawn`."""

    def __call__(
        self, actor_class: type[Actor] | Child, /, *args: Any, name: str | None, kind: str, **kwargs: Any
    ) -> ActorRef:
        """Return a reference to the started actor."""
        ...
