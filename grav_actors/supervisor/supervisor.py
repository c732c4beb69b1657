"""Supervisor: an actor that runs others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from grav_actors.actor.actor import Actor
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Handling
from grav_actors.bus.inquiry import RELEASE
from grav_actors.errors import ActorStartError, ConfigError, Crash, GravError
from grav_actors.ids import id_text
from grav_actors.message import Message
from grav_actors.options import Backoff, RestartLimits, check_choice, check_int
from grav_actors.protocol import BUS_NAME
from grav_actors.supervisor.branch import Branch
from grav_actors.supervisor.context import RunnerContext
from grav_actors.supervisor.runner import Runner
from grav_actors.supervisor.spec import Child
from grav_actors.supervisor.tree import children_of, names_below
from grav_actors.tables import STRATEGIES

LIVES_BITS = 16
"""Lives of one child in one life of its supervisor: its numbers go on from one of these to the next."""
LAST_NUMBER = 2**62
OF_ITS_TIME = 0.9
"""Part of the time that it has to stop which its children may take."""


class Supervisor(Actor):
    """An actor that starts others after its own `on_start`, restarts them, and stops them before its `on_stop`.

    A process supervisor makes its children from its own process, and they end with it.

    Attributes:
        children: Started in this order, and stopped in the reverse one; `on_start` may set others.
        strategy: Who is restarted with one that failed: `one_for_one` (nobody), `one_for_all`, `rest_for_one`
            (those behind it).
        max_restarts: More than these `within` seconds, and it stops its children and fails itself; at least 1.
        within: Seconds.
        backoff: Waits from the second restart within that time on.
    """

    children: Sequence[Child] = ()
    strategy: ClassVar[str] = "one_for_one"
    max_restarts: ClassVar[int] = 5
    within: ClassVar[float] = 30.0
    backoff: ClassVar[Backoff] = Backoff()

    _grav_supervises: ClassVar[bool] = True
    _grav_runner: Runner | None = None
    _grav_branch: ActorRuntime | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the class with all below it; a mistake raises TypeError here, not later."""
        super().__init_subclass__(**kwargs)
        try:
            check_choice("strategy", cls.strategy, STRATEGIES)
            check_int("max_restarts", cls.max_restarts, 1)
            RestartLimits(cls.max_restarts, cls.within, cls.backoff)
            if not isinstance(cls.children, property):
                names_below(_listed(cls.children), (cls,))
        except ConfigError as exc:
            raise TypeError(f"{cls.__qualname__}: {exc}") from None

    @classmethod
    def _grav_stop_patience(cls) -> float:
        return sum(child.stop_patience * child.instances for child in children_of(cls))

    @classmethod
    def _grav_start_patience(cls) -> float:
        return sum(child.start_patience * child.instances for child in children_of(cls))

    def _grav_begin(self) -> None:
        runtime = self._runtime
        names_below(_listed(self.children), (type(self),))
        state = _Upbringing()

        def end(text: str, has_failed: bool) -> None:
            if not state.ends_early(text):
                if has_failed:
                    runtime._crash(Crash(text))
                else:
                    runtime.stop("stop")

        self._grav_runner = runner = Runner(
            RunnerContext(
                link=runtime.pod._link,
                supervisor=runtime.pod._id,
                limits=RestartLimits(self.max_restarts, self.within, self.backoff),
                release=self._release,
                end=end,
                spawn=runtime.spawn,
                strategy=self.strategy,
                # A new life of this supervisor begins new lives of its children, for the bus the next ones.
                first_incarnation=min(runtime.spec.incarnation << LIVES_BITS, LAST_NUMBER),
                name=runtime.name,
                on_line=runtime.on_line,
                publish=self._announce,
                hosts_threads=runtime.spec.hosts_threads,
            )
        )
        try:
            self._grav_branch = Branch.start(runner, runtime.pod._link, id_text(runtime.pod._id))
            for child in self.children:
                runner.spawn(child, is_lasting=True)
            state.is_done()
        except BaseException:
            self._grav_end()
            raise

    def _grav_end(self) -> None:
        if self._grav_runner is None:
            return
        limit = self._grav_stop_patience() + 1.0
        patience = self._runtime.patience
        # Something is left of its own time for `on_stop`, and for what is still to be sent.
        self._grav_runner.stop(limit if patience is None else min(limit, patience * OF_ITS_TIME))
        if self._grav_branch is not None:
            Branch.end(self._grav_branch)

    def _announce(self, event: str, data: dict[str, Any]) -> None:
        self._runtime.pod.send(Message._framework(event, data))

    def _release(self, name: str, incarnation: int, reason: str, error: str, handling: tuple[Handling, ...]) -> None:
        named = [[message.sender, message.seq] for message in handling]
        try:
            self._runtime.pod.ask(RELEASE, [name, incarnation, reason, error, named], to=BUS_NAME)
        except GravError as exc:
            self.log.warning("the bus was not told that %s is gone: %s", name, exc)


class _Upbringing:
    """Whether all children have started, and what ended the supervisor before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_begun = False
        self._text = ""

    def ends_early(self, text: str) -> bool:
        """Note the end of the children; return whether it comes before they had all started."""
        with self._lock:
            self._text = self._text or text
            return not self._has_begun

    def is_done(self) -> None:
        """Note that all have started; raise ActorStartError if they have ended meanwhile."""
        with self._lock:
            if self._text:
                raise ActorStartError(self._text)
            self._has_begun = True


def _listed(children: Any) -> Sequence[Any]:
    if not isinstance(children, (list, tuple)):
        raise ConfigError(f"children must be a list of Child(...), not {children!r}")
    return children
