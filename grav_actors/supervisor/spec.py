"""Child: what a supervisor is told of an actor that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.errors import ActorStartError
from grav_actors.options import check_choice, check_flag, check_int, check_name, check_seconds
from grav_actors.reference import check_actor_name

KINDS = ("process", "thread")
RESTARTS = ("permanent", "transient", "temporary")


@dataclass(frozen=True, slots=True)
class Child:
    """One actor, or several instances of it, under a supervisor.

    Attributes:
        name: Its name; None is the class name in lower case, then with `-2`, `-3`. With `instances` above 1
            the instances are `name-1`, `name-2`, and `name` reaches one of them in turn.
        args, kwargs: What its constructor is called with.
        kind: `process` or `thread`.
        group: Overrides the group of its class.
        restart: `permanent` (always), `transient` (unless it ended well) or `temporary` (never).
        significant: Its end ends its supervisor.
        start_timeout: Seconds until `on_start` must have returned.
        shutdown: Seconds that it has to stop before it is terminated, then killed.
        handler_timeout: Seconds after which a handler counts as hung; None is never.
    """

    actor_class: type[Actor]
    name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kind: str = "process"
    instances: int = 1
    group: str | None = None
    restart: str = "permanent"
    significant: bool = False
    start_timeout: float = 30.0
    shutdown: float = 5.0
    handler_timeout: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run; ConfigError, or ActorStartError for a bad name."""
        if not (isinstance(self.actor_class, type) and issubclass(self.actor_class, Actor)):
            raise ActorStartError(
                f"{self.actor_class!r} is no Actor; write `class {getattr(self.actor_class, '__name__', 'Mine')}(Actor)`"
            )
        if self.name is not None:
            check_actor_name(self.name)
        if self.group is not None:
            check_name("group", self.group)
        check_choice("kind", self.kind, KINDS)
        check_choice("restart", self.restart, RESTARTS)
        check_int("instances", self.instances, 1)
        check_flag("significant", self.significant)
        check_seconds("start_timeout", self.start_timeout)
        check_seconds("shutdown", self.shutdown, zero=True)
        check_seconds("handler_timeout", self.handler_timeout, optional=True)
