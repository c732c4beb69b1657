"""Actor: what users subclass."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from grav_actors.actor.call import cause, current, parent_of
from grav_actors.actor.handlers import HandlerTable
from grav_actors.errors import ConnectionClosedError
from grav_actors.message import Message
from grav_actors.options import OptionError, PodOptions, check_flag, check_int, check_name
from grav_actors.pattern import VALID_TYPES
from grav_actors.pod.pod import target_name
from grav_actors.reference import ActorRef
from grav_actors.timeouts import Timeout

if TYPE_CHECKING:
    from grav_actors.actor.runtime import ActorRuntime
    from grav_actors.actor.timers import Timer
    from grav_actors.supervisor.spec import Child

RESERVED = frozenset({
    "name", "ref", "log", "publish", "tell", "ask", "ask_async", "reply", "defer_reply", "spawn", "watch", "unwatch",
    "after", "every", "stop", "_grav_runtime", "_runtime",
})  # fmt: skip
"""What subclasses must not define, nor what they inherit from others."""


class Actor:
    """An object with handlers, in a process or thread of its own.

    Handlers are methods under `@on_type`, plain or `async def`, called one message at a time in the order of
    delivery. No `super().__init__()` is needed; constructor, hooks and handlers run in the actor's own thread.

    A handler's exception fails the message: it is delivered again when a later one succeeds, at most
    `max_deliver` times. `raise Reject` sends it to the dead letters at once. `raise Crash`, or an exception
    listed in `crash_on`, fails the actor itself: its supervisor starts it again.

    A class that defines `snapshot(self)` and `restore(self, state)` keeps its state over restarts: `snapshot` returns
    what a message can carry, and is called after handled messages, before they are acknowledged; `restore` gets it in
    the next life, after `on_start`. `docs/supervision.md` has the rules.

    Attributes:
        group: Actors of the same group share their published messages: each goes to one of them.
        replay: Get the recent messages, once per name, before live ones; not with `group`.
        prefetch: Messages in flight to it; 4,096, in a group 4 for each that it handles at a time.
        concurrency: Messages that it handles at the same time.
        mailbox_limit: Messages that may wait for it.
        overflow: What happens when more do: `block`, `drop_oldest`, `drop_newest`, `disconnect`.
        stuck_after: Seconds without progress after which a full mailbox no longer holds up senders; None is never.
        max_deliver: Attempts before a failing message goes to the dead letters.
        crash_on: Exceptions that fail the actor and not only the message.
    """

    group: ClassVar[str] = ""
    replay: ClassVar[bool] = False
    prefetch: ClassVar[int | None] = None
    concurrency: ClassVar[int] = 1
    mailbox_limit: ClassVar[int] = 65_536
    overflow: ClassVar[str] = "block"
    stuck_after: ClassVar[float | None] = 5.0
    max_deliver: ClassVar[int] = 5
    crash_on: ClassVar[tuple[type[Exception], ...]] = ()

    _grav_handlers: ClassVar[HandlerTable] = HandlerTable()
    _grav_runtime: ActorRuntime | None = None
    _grav_supervises: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the class and make its table of handlers; a mistake raises TypeError here, not later."""
        super().__init_subclass__(**kwargs)
        own = vars(Actor)
        taken = [name for name in sorted(RESERVED) if inspect.getattr_static(cls, name, None) is not own.get(name)]
        if taken:
            raise TypeError(
                f"{cls.__qualname__} overwrites {', '.join(taken)}, which an Actor needs; choose other names"
            )
        try:
            check_options(cls)
        except OptionError as exc:
            raise TypeError(f"{cls.__qualname__}: {exc}") from None
        cls._grav_handlers = HandlerTable.of(cls)
        if cls._grav_handlers.keeps_state and cls.concurrency != 1:
            raise TypeError(
                f"{cls.__qualname__} keeps its state and has concurrency = {cls.concurrency}; snapshot needs a moment "
                "at which no handler runs: use concurrency = 1"
            )

    # What a supervisor has besides

    @classmethod
    def _grav_stop_patience(cls) -> float:
        """Return the seconds that its children may take to stop; see `Child.stop_patience`."""
        return 0.0

    @classmethod
    def _grav_start_patience(cls) -> float:
        """Return the seconds that its children may take to start; see `Child.start_patience`."""
        return 0.0

    def _grav_begin(self) -> None:
        """Start its children; back when they are ready. Called after `on_start`, only if `_grav_supervises`."""

    def _grav_end(self) -> None:
        """Stop its children, also those that are just being started. Called before `on_stop`, or without it."""

    # Hooks

    def on_start(self) -> Any:
        """Prepare; called once, in the actor's thread, before its first message. May be `async def`.

        What it raises ends the start: `spawn` raises ActorStartError with the traceback.
        """

    def on_stop(self, reason: str) -> Any:
        """Clean up; called in the actor's thread on every end but a kill. May be `async def`.

        Args:
            reason: `stop` (asked for), `shutdown` (its node stops) or `crash`.
        """

    def on_restart(self, cause: str) -> Any:
        """Called in a new incarnation before `on_start`. May be `async def`.

        Args:
            cause: Why the one before ended, in one line.
        """

    # What it is

    @property
    def name(self) -> str:
        """Its name on the bus."""
        return self._runtime.name

    @property
    def ref(self) -> ActorRef:
        """Its reference, which may travel in messages."""
        return self._runtime.ref

    @property
    def log(self) -> logging.Logger:
        """A logger that carries its name."""
        return self._runtime.log

    @property
    def _runtime(self) -> ActorRuntime:
        runtime = self._grav_runtime
        if runtime is None:
            raise ConnectionClosedError(
                f"this {type(self).__qualname__} was made by hand and is on no bus; start it with Grav.spawn"
            )
        return runtime

    # What it does

    def publish(
        self,
        type: str,
        data: Any = None,
        *,
        parent: Message | str | None = None,
        reply_to: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send to every pod whose filter lets it through, itself excepted.

        Args:
            parent: The message, or its uuid, that caused this one; None is the one being handled, "" none.
        """
        pod = self._runtime.pod
        if parent is None and not reply_to and headers is None and type.__class__ is str and type in VALID_TYPES:
            call = current.get()
            pod._publish_under(type, data, b"" if call is None else call.message._id)
        else:
            pod.publish(type, data, parent_id=parent_of(parent), reply_to=reply_to, headers=headers)

    def tell(self, to: str | ActorRef, type: str, data: Any = None) -> None:
        """Send to one actor, also to itself; if nobody has the name it becomes a dead letter."""
        self._runtime.pod._tell(target_name(to), Message(type, data, parent_id=parent_of(None)))

    def ask(self, to: str | ActorRef, type: str, data: Any = None, *, timeout: Timeout = 5.0) -> Any:
        """Ask one actor and return its answer; see `Pod.ask` for errors. ValueError if it is itself."""
        return self._runtime.pod._ask_here(type, data, target_name(to), timeout, cause())

    def ask_async(
        self, to: str | ActorRef, type: str, data: Any = None, *, timeout: Timeout = 5.0
    ) -> Coroutine[Any, Any, Any]:
        """Ask in an `async def` handler; see `ask`."""
        return self._runtime.pod._ask_in_loop(type, data, target_name(to), timeout, cause())

    def reply(self, msg: Message, data: Any = None) -> None:
        """Answer a message now; what its handler returns is then no answer."""
        self._runtime.answers.reply(msg, data)

    def defer_reply(self, msg: Message) -> None:
        """Promise to `reply` to the message being handled later: it stays open until then."""
        self._runtime.answers.defer(msg)

    def spawn(
        self,
        actor_class: type[Actor] | Child,
        /,
        *args: Any,
        name: str | None = None,
        kind: str = "process",
        **kwargs: Any,
    ) -> ActorRef:
        """Start an actor on the node that this one belongs to; see `Grav.spawn`.

        From an actor process the arguments travel as a message: they must be what messages can carry.
        """
        return self._runtime.spawn(actor_class, *args, name=name, kind=kind, **kwargs)

    def watch(self, to: str | ActorRef) -> None:
        """Be told once when an actor is gone for good: its end was asked for, or nobody starts it again.

        The notice is a message of type `grav.down` to this actor; its data is a map with `name`, `reason` and
        `error`. Reasons are `stopped`, `crashed` (`error` says with what), `lost` (its process and its
        supervisor are gone) and `unknown` (nobody has the name, and the bus remembers no one who had). It comes
        at once if the actor is gone already. A restart of the watched actor is no end; a restart of this one
        ends its watches. Of the instances behind one name the last end counts.

        Raises:
            ValueError: This class has no handler for `grav.down`.
            ConfigError: It watches 8,192 others already.
        """
        self._runtime.watch(target_name(to), on=True)

    def unwatch(self, to: str | ActorRef) -> None:
        """Watch no longer; a notice that is under way may still come. Idempotent."""
        self._runtime.watch(target_name(to), on=False)

    def after(self, seconds: float, type: str, data: Any = None) -> Timer:
        """Send itself a message once, `seconds` from now; the returned timer can `cancel()`."""
        return self._runtime.timers.after(seconds, type, data)

    def every(self, seconds: float, type: str, data: Any = None) -> Timer:
        """Send itself a message again and again, each `seconds` after the last one was handled."""
        return self._runtime.timers.every(seconds, type, data)

    def stop(self) -> None:
        """End when the message being handled, and what was delivered before, are finished; never restarted."""
        self._runtime.stop("stop")


def check_options(cls: type[Actor], group: str | None = None) -> PodOptions:
    """Check the class attributes of an actor and return the pod's options among them; raise OptionError.

    Args:
        group: What takes the place of the group of the class.
    """
    group = cls.group if group is None else group
    if group != "":
        check_name("group", group)
    check_flag("replay", cls.replay)
    if cls.replay and group:
        raise OptionError("replay cannot be combined with group: whose would the old messages be?", "replay")
    check_int("concurrency", cls.concurrency, 1)
    crash_on: Any = cls.crash_on
    if not isinstance(crash_on, tuple) or not all(
        isinstance(item, type) and issubclass(item, Exception) for item in crash_on
    ):
        raise OptionError(f"crash_on must be a tuple of exception classes, not {crash_on!r}", "crash_on")
    return PodOptions(
        prefetch=cls.prefetch,
        mailbox_limit=cls.mailbox_limit,
        overflow=cls.overflow,  # type: ignore[arg-type]
        stuck_after=cls.stuck_after,
        max_deliver=cls.max_deliver,
    )
