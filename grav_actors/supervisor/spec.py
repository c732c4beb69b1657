"""Child: what a supervisor is told of an actor that it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from grav_actors.actor.actor import Actor, check_options
from grav_actors.errors import ActorStartError, ConfigError
from grav_actors.options import (
    OptionError,
    check_choice,
    check_flag,
    check_int,
    check_name,
    check_seconds,
    check_significant,
    show,
)
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
        significant: Its end ends its supervisor; not for a permanent one, which never ends for good by itself.
        start_timeout: Seconds until `on_start` must have returned.
        shutdown: Seconds that it has to stop before it is terminated, then killed.
        handler_timeout: Seconds after which a handler that has not returned is hung: its process is killed, which
            its supervisor takes as a failure; of a thread it is only reported. A reply that was deferred is not in a
            handler. None is never.
    """

    actor_class: type[Actor]
    _: KW_ONLY
    name: str | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
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
        actor_class: object = self.actor_class
        if not (isinstance(actor_class, type) and issubclass(actor_class, Actor)):
            raise ActorStartError(_no_actor(actor_class))
        if self.name is not None:
            check_actor_name(self.name)
        if self.group is not None:
            check_name("group", self.group)
            check_options(actor_class, self.group)
        if not isinstance(self.args, (tuple, list)):
            raise OptionError(f"args must be a tuple or list, not {show(self.args)}", "args")
        if not isinstance(self.kwargs, Mapping) or not all(isinstance(key, str) for key in self.kwargs):
            raise OptionError(f"kwargs must be a map with names as keys, not {show(self.kwargs)}", "kwargs")
        check_choice("kind", self.kind, KINDS)
        check_choice("restart", self.restart, RESTARTS)
        check_int("instances", self.instances, 1)
        if self.instances > 1 and actor_class._grav_supervises:
            raise OptionError(
                f"instances must be 1 for a supervisor, not {self.instances}: the names of its children would be taken",
                "instances",
            )
        check_flag("significant", self.significant)
        check_significant(self.significant, self.restart)
        check_seconds("start_timeout", self.start_timeout)
        check_seconds("shutdown", self.shutdown, zero=True)
        check_seconds("handler_timeout", self.handler_timeout, optional=True)

    @property
    def stop_patience(self) -> float:
        """Seconds that each of its instances has to stop: a supervisor those that its children may take, too."""
        return self.shutdown + self.actor_class._grav_stop_patience()

    @property
    def start_patience(self) -> float:
        """Seconds that each of its instances has to start: a supervisor those that its children may take, too."""
        return self.start_timeout + self.actor_class._grav_start_patience()


def as_child(
    actor_class: type[Actor] | Child,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str | None,
    kind: str,
) -> Child:
    """Return what `spawn` was given as a Child.

    Raises:
        ActorStartError: It is no actor, or has a bad name.
        ConfigError: A value is wrong, or stands beside a Child.
    """
    if not isinstance(actor_class, Child):
        return Child(actor_class, name=name, args=args, kwargs=kwargs, kind=kind)
    if args or kwargs or name is not None or kind != "process":
        raise ConfigError("spawn(Child(...)) takes nothing else: give args, kwargs, name and kind to the Child")
    return actor_class


def _no_actor(seen: object) -> str:
    match seen:
        case type():
            return f"{seen!r} is no Actor; write `class {seen.__name__}(Actor)`"
        case Actor():
            return f"this {type(seen).__name__} is made already; give the class, then what its constructor takes"
        case str():
            return f"{show(seen)} is a text; import the class, and give it itself"
        case _:
            return f"{show(seen)} is no Actor; write `class Mine(Actor)`, and give the class"
