"""Grav: a node. The composition root: the only module that knows all parts."""

from __future__ import annotations

import atexit
import dataclasses
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from grav_actors import dead_letters
from grav_actors.actor.actor import Actor
from grav_actors.actor.origin import refuse_while_loading
from grav_actors.actor.port import PodPort
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.slate import Handling
from grav_actors.actor.spec import ActorSpec
from grav_actors.bus.guard import BusGuard
from grav_actors.bus.inquiry import RELEASE, STATS, WAITING
from grav_actors.bus.process import BusProcess, BusSpec
from grav_actors.control import NodeControl
from grav_actors.dead_letters import DeadLetter, Retried
from grav_actors.errors import (
    BusNotFoundError,
    ConfigError,
    ConnectionClosedError,
    GravError,
    TransportNotConfiguredError,
    TunnelNotEstablishedError,
    WrongProcessError,
)
from grav_actors.ids import id_text, new_id
from grav_actors.message import Message
from grav_actors.options import Backoff, BusOptions, PodOptions, RestartLimits, check_name, did_you_mean, show
from grav_actors.overview import Overview
from grav_actors.pod.link import Link
from grav_actors.pod.pod import Pod
from grav_actors.pod.receipt import Receipt
from grav_actors.project import find_running, private_folder, remove_private_folder
from grav_actors.protocol import BUS_NAME, NODE_NAME, PodSettings
from grav_actors.reference import ActorRef
from grav_actors.supervisor.context import OnLine, RunnerContext
from grav_actors.supervisor.runner import Runner
from grav_actors.supervisor.spec import Child, as_child
from grav_actors.tables import NodeTable
from grav_actors.timeouts import Timeout, seconds

# Imported where they are used: of the time that a command takes to start the mesh would be a third.
if TYPE_CHECKING:
    from grav_actors.bridging import Bridge
    from grav_actors.mesh.hub import Hub
    from grav_actors.mesh.view import Peer
    from grav_actors.meshing import MeshPlan
    from grav_actors.transports.base import BridgeTransport

STOP_TIMEOUT = 10.0
"""Seconds that `stop` gives actors, and then what was sent, to end well."""
NO_LIMIT = 1e8
"""Seconds that stand for no limit, three years: endless waits cannot be told by their deadline."""
HANDLED_LOOK = 0.001
"""Seconds to the second look at what a node that stops has yet to handle; further ones come more slowly."""
HANDLED_LOOK_MAX = 0.05
CONTROL_TIMEOUT = 10.0
POD_OPTIONS = tuple(field.name for field in dataclasses.fields(PodOptions))

_nodes: weakref.WeakSet[Grav] = weakref.WeakSet()


def _stop_all() -> None:
    for node in list(_nodes):
        if node._pid == os.getpid():
            node.stop()


atexit.register(_stop_all)


class Grav:
    """A node: a bus (its own, or one that runs), the actors it supervises, and pods.

    A context manager; `stop` also runs at interpreter exit. Any thread may call any method.

    Args:
        name: What the node is called in listings; default: the host's name and process id.
        bus: None starts a bus process on a private endpoint; an address joins one that runs; `"auto"` joins
            the one that `grav-actors up` runs for this directory or one above it.
        transport, discovery: The mesh to other nodes, by instance or registered name.
        bridge: To another messaging system; same.
        endpoint: What the mesh listens on: an address, or `(port, uri)`.
        belongs_to: Only nodes of the same value, or of `*`, are peers.
        interests: Capabilities that this node offers to tunnels.
        replay_limit: Messages that its bus keeps for pods that connect with replay.
        max_message: Bytes of one message's data.
        send_timeout: Seconds after which a bus that takes nothing raises BusBusyError.
        max_restarts, within, backoff: Limits of the root supervisor and, counted apart, of the bus.
        logger: Logger for the node's own reports.

    Raises:
        ConfigError: A value is wrong, or combined with one that it does not go with.
        BusNotFoundError: `bus="auto"`, and none runs for this directory.
        BusBusyError: No bus answers at the address.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        bus: str | None = None,
        transport: Any = None,
        bridge: Any = None,
        discovery: Any = None,
        endpoint: str | tuple[str, str] | None = None,
        belongs_to: str = "*",
        interests: Iterable[str] = (),
        keys: str | Path | None = None,
        insecure: bool = False,
        replay_limit: int = 128,
        max_message: int = 1_048_576,
        send_timeout: float = 10.0,
        max_restarts: int = 5,
        within: float = 30.0,
        backoff: Backoff = Backoff(),  # noqa: B008  (frozen)
        logger: logging.Logger | None = None,
    ) -> None:
        refuse_while_loading()
        options = BusOptions(replay_limit, max_message, send_timeout)
        limits = RestartLimits(max_restarts, within, backoff)
        if name is not None:
            check_name("name", name)
        if logger is not None and not isinstance(logger, (logging.Logger, logging.LoggerAdapter)):
            raise ConfigError(f"logger must be a logging.Logger, not {show(logger)}")
        offered: Any = interests
        if isinstance(interests, Iterable) and not isinstance(interests, str):
            offered = tuple(interests)
        NodeTable(belongs_to=belongs_to, interests=offered)
        plan = _plan_mesh(transport, discovery, endpoint, keys, insecure)
        self._setup(name, belongs_to, offered, options, limits, logger, plan)
        self._bridge_plan: BridgeTransport | None = _plan_bridge(bridge)
        if bus is None:
            self._folder: Path | None = private_folder()
            try:
                self._start_bus(BusSpec(str(self._folder), "", replay_limit, max_message))
            except BaseException:
                self._remove_folder()
                raise
        else:
            self._endpoint = _find_bus(bus)
        self._open()

    @classmethod
    def _in_folder(
        cls,
        spec: BusSpec,
        *,
        name: str | None,
        belongs_to: str,
        interests: Iterable[str],
        options: BusOptions,
        limits: RestartLimits,
        strategy: str,
        on_line: OnLine | None,
        on_end: Callable[[str], None],
        plan: MeshPlan | None = None,
        on_peer: Callable[[Peer, str], None] | None = None,
    ) -> Self:
        """Make the node of `grav-actors up`: its bus runs in a project's run folder, which stays."""
        node = cls.__new__(cls)
        node._setup(name, belongs_to, interests, options, limits, None, plan)
        node._strategy = strategy
        node._hosts_threads = True
        node._on_line = on_line
        node._on_end = on_end
        node._on_peer = on_peer
        node._is_filled = False
        node._start_bus(spec)
        node._open()
        return node

    def _setup(
        self,
        name: str | None,
        belongs_to: str,
        interests: Iterable[str],
        options: BusOptions,
        limits: RestartLimits,
        logger: logging.Logger | None,
        plan: MeshPlan | None = None,
    ) -> None:
        self._pid = os.getpid()
        self._id = new_id()
        self._name = name if name is not None else f"{os.uname().nodename}-{self._pid}"
        self._belongs_to = belongs_to
        self._interests = tuple(interests)
        self._options = options
        self._limits = limits
        self._strategy = "one_for_one"
        self._hosts_threads = False
        self._log = logger if logger is not None else logging.getLogger("grav_actors.node")
        self._folder = None
        self._bus: BusProcess | None = None
        self._guard: BusGuard | None = None
        self._on_line: OnLine | None = None
        self._on_end: Callable[[str], None] | None = None
        self._on_reload: Callable[[], list[str]] | None = None
        self._on_peer: Callable[[Peer, str], None] | None = None
        self._is_filled = True
        self._control: ActorRuntime | None = None
        self._link: Link | None = None
        self._plan = plan
        self._hub: Hub | None = None
        self._bridge_plan = None
        self._bridge: Bridge | None = None
        self._failure = ""
        self._stop_lock = threading.Lock()
        self._is_stopping = False
        self._is_stopped = False

    def _start_bus(self, spec: BusSpec) -> None:
        self._bus = BusProcess(spec)
        self._bus.start()
        self._endpoint = self._bus.endpoints[0]

    def _open(self) -> None:
        try:
            self._link = Link(self.bus_endpoint, send_timeout=self._options.send_timeout)
            self._pod = Pod(self._link, "", PodSettings())._join()
            self._port = PodPort(self._pod)
            self._pod._port = self._port
            self._runner = Runner(
                RunnerContext(
                    self._link,
                    self._pod._id,
                    self._limits,
                    self._release,
                    lambda text, has_failed: self._fail(text),
                    self.spawn,
                    self._on_line,
                    self._strategy,
                    publish=self._announce,
                    hosts_threads=self._hosts_threads,
                )
            )
            if self._hosts_threads:  # then every actor needs a process: what these are forked from starts meanwhile
                self._runner.prepare()
            self._overview = Overview(self._runner, self._pod.ask)
            if self._bus is not None:
                self._guard = BusGuard(self._bus, self._limits, self._lose_bus, self._log)
                spec = ActorSpec(NodeControl, NODE_NAME, (self,))
                self._control = ActorRuntime(spec, self._link, lambda ending: None, None)
                self._control.start(CONTROL_TIMEOUT)
            self._open_to_others(self._link)
        except BaseException:
            self._close()
            raise
        _nodes.add(self)

    def _open_to_others(self, link: Link) -> None:
        """Start the mesh and the bridge, if it was asked for them."""
        if self._plan is not None:
            from grav_actors.mesh.handshake import Identity  # noqa: PLC0415

            identity = Identity(self.node_uuid, b"", self.name, self.belongs_to, self.interests)
            self._hub = self._plan.start(link, self.node_uuid, identity, self._log, self._on_peer)
        if self._bridge_plan is not None:
            from grav_actors.bridging import Bridge  # noqa: PLC0415
            from grav_actors.transports.base import TransportOptions  # noqa: PLC0415

            options = TransportOptions(self.node_uuid, logger=self._log)
            self._bridge = Bridge(self._bridge_plan, options, self.connect)

    # What it is

    @property
    def node_uuid(self) -> str:
        """Uuid of this node; a new one at each start."""
        return id_text(self._id)

    @property
    def name(self) -> str:
        """What the node is called in listings."""
        return self._name

    @property
    def belongs_to(self) -> str:
        """Only nodes of the same value, or of `*`, are peers."""
        return self._belongs_to

    @property
    def interests(self) -> tuple[str, ...]:
        """Capabilities that this node offers to tunnels."""
        return self._interests

    @property
    def bus_endpoint(self) -> str:
        """Address of its bus, which other processes on this machine can join."""
        return self._endpoint

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Grav {self.name} {self.bus_endpoint}>"

    # Pods and messages

    def connect(self, name: str | None = None, **options: Any) -> Pod:
        """Return a new pod on the bus; it has no handler yet.

        Args:
            options: `prefetch`, `mailbox_limit` (messages), `overflow`, `stuck_after`, `max_deliver`.

        Raises:
            ConfigError: An option is wrong.
            ConnectionClosedError: The node is stopped.
        """
        return self._connect(name, options, replay=False)

    def connect_with_replay(self, name: str | None = None, **options: Any) -> Pod:
        """Return a new pod that gets the recent messages, once, when it sets its first handler."""
        return self._connect(name, options, replay=True)

    def _connect(self, name: str | None, options: dict[str, Any], *, replay: bool) -> Pod:
        self._check_open()
        if name is not None:
            check_name("name", name)
        for option in options:
            if option not in POD_OPTIONS:
                near = did_you_mean(option, POD_OPTIONS)
                raise ConfigError(f"connect has no option {option}; it takes {', '.join(POD_OPTIONS)}{near}")
        chosen = PodOptions(**options)
        settings = PodSettings(
            replay=replay,
            prefetch=chosen.window(),
            mailbox_limit=chosen.mailbox_limit,
            overflow=chosen.overflow,
            stuck_after=chosen.stuck_after,
            max_deliver=chosen.max_deliver,
        )
        assert self._link is not None
        pod = Pod(self._link, name or "", settings)
        pod._port = PodPort(pod)
        return pod._join()

    def publish(self, type: str, data: Any = None, **message_fields: Any) -> Receipt:
        """Send a message from the node's own pod; see `Pod.publish`."""
        self._check_open()
        return self._pod.publish(type, data, **message_fields)

    def ask(self, type: str, data: Any = None, *, to: str | ActorRef | None = None, timeout: Timeout = 5.0) -> Any:
        """Ask from the node's own pod; see `Pod.ask`."""
        self._check_open()
        return self._pod.ask(type, data, to=to, timeout=timeout)

    # Actors

    def spawn(
        self,
        actor_class: type[Actor] | Child,
        /,
        *args: Any,
        name: str | None = None,
        kind: str = "process",
        **kwargs: Any,
    ) -> ActorRef:
        """Start an actor under the node's root supervisor; back when its `on_start` has returned.

        Args:
            actor_class: The class, with what its constructor takes behind it; or a whole `Child`.
            name: Unique among the node's actors; default: the class name in lower case, then with `-2`.
            kind: `process` or `thread`.

        Raises:
            ActorStartError: It did not start; with the remote traceback if there is one.
        """
        self._check_open()
        names = self._runner.spawn(as_child(actor_class, args, kwargs, name, kind))
        return ActorRef(names[0] if len(names) == 1 else names[0].rpartition("-")[0], self._port)

    def actor(self, name: str) -> ActorRef:
        """Return a reference by name; whether there is such an actor shows when it is used."""
        return ActorRef(name, self._port)

    def _launch(self, child: Child) -> None:
        """As `spawn`, of an actor that stays listed when it has ended, and can be started again."""
        self._check_open()
        self._runner.spawn(child, is_lasting=True)

    def _release(self, name: str, incarnation: int, reason: str, error: str, handling: tuple[Handling, ...]) -> None:
        named = [[message.sender, message.seq] for message in handling]
        try:
            self._pod.ask(RELEASE, [name, incarnation, reason, error, named], to=BUS_NAME)
        except GravError as exc:
            self._log.warning("the bus was not told that %s is gone: %s", name, exc)

    def _announce(self, event: str, data: dict[str, Any]) -> None:
        self._pod.send(Message._framework(event, data))

    # The mesh

    def connect_endpoint(self, endpoint: str, timeout: Timeout = 5.0) -> Peer:
        """Connect to a peer, and again whenever it is lost; back when it is up.

        Raises:
            TransportNotConfiguredError: The node has no transport.
            BelongsToMismatchError, NodeUUIDMismatchError, NodeWithdrawnError: One of the two refuses the other.
            WaitTimeoutError: Nobody answers.
            ConfigError: The transport cannot dial such an endpoint.
        """
        return self._mesh("connect_endpoint").connect_endpoint(endpoint, timeout)

    def connect_bridge_topic(self, topic: str) -> None:
        """Carry the messages of a topic of the bridge to this node's bus, and back, until the node stops.

        Raises:
            TransportNotConfiguredError: The node has no bridge.
            ConfigError: It is no topic of that system.
            ConnectionClosedError: That system is not reachable, or the node is stopped.
        """
        self._check_open()
        if self._bridge is None:
            raise TransportNotConfiguredError("connect_bridge_topic needs a bridge; this node was made without one")
        self._bridge.connect_topic(topic)

    def tunnel(self, capability: str, message: Message, timeout: Timeout = 5.0) -> None:
        """Send a message to one peer that advertises a capability in its interests, in turn; back when it has it.

        A second peer gets it only if the first has not acknowledged within 1 s.

        Raises:
            TunnelNotEstablishedError: No peer advertises it, at once; or none acknowledged in time.
            MessageEncodeError, MessageTooLargeError: The data cannot be carried.
        """
        if self._hub is None:
            raise TunnelNotEstablishedError(
                f"no peer advertises {capability!r}: this node has no transport, and so no peers"
            )
        self._mesh("tunnel").tunnel(capability, message, timeout, self._options.max_message)

    def withdraw(self, timeout: Timeout = 3.0) -> None:
        """Leave the mesh: discovery first, then every peer is told; back when all have acknowledged.

        Raises:
            TransportNotConfiguredError: The node has no transport.
            WaitTimeoutError: Some have not acknowledged; names them.
        """
        self._mesh("withdraw").withdraw(timeout)

    def peers(self) -> list[Peer]:
        """Return the nodes of the mesh without this one, also those that are down or have withdrawn."""
        return [] if self._hub is None else self._mesh("peers").peers()

    def wait_for_peers(self, count: int, timeout: Timeout) -> list[Peer]:
        """Wait until so many peers are up, and return these.

        Raises:
            TransportNotConfiguredError: The node has no transport.
            WaitTimeoutError: There were fewer in time.
        """
        if count <= 0 and self._hub is None:
            return []
        return self._mesh("wait_for_peers").wait_for_peers(count, timeout)

    def wait_until_known(self, timeout: Timeout = 5.0) -> None:
        """Wait until every peer that is up sends what pods of this node want now, and knows the actors that it has.

        `on_type` and `spawn` return when this node's bus has confirmed, and what peers publish, tell and ask follows
        a moment later: this waits for that moment.

        Raises:
            TransportNotConfiguredError: The node has no transport.
            WaitTimeoutError: Some peers have not learned of it in time; names them.
        """
        self._mesh("wait_until_known").wait_until_known(timeout)

    def _mesh(self, method: str) -> Hub:
        self._check_open()
        if self._hub is None:
            raise _no_transport(method)
        return self._hub

    # Watching

    def stats(self) -> dict[str, Any]:
        """Return the counters of the bus."""
        stats: dict[str, Any] = self._ask_bus(STATS)
        return stats

    # Dead letters

    def dead_letters(
        self,
        uuid: str | None = None,
        *,
        reason: str | None = None,
        type: str | None = None,
        with_messages: bool = False,
    ) -> list[DeadLetter]:
        """Return the dead letters that the bus keeps and that have all of what is given, oldest first.

        It keeps the last 1,000, at most 16 MiB; they end with the bus.

        Args:
            uuid: Of the message; enough of its beginning or end to name one.
            reason: Why they ended.
            type: Type or pattern of the messages.
            with_messages: Fetch the messages too, one by one.

        Raises:
            DeadLetterNotFoundError: None has that uuid.
            ConfigError: There is no such reason, or the part of a uuid means several.
        """
        return dead_letters.find(self._ask_bus, uuid, reason=reason, type=type, with_messages=with_messages)

    def retry_dead(
        self, uuid: str | None = None, *, reason: str | None = None, type: str | None = None, all: bool = False
    ) -> Retried:
        """Deliver dead letters again: each to its target alone (or to its group), attempts counted anew.

        They arrive with `redelivered` set. A letter stays on the shelf if its target is not on the bus, no longer
        takes its type, or has a full mailbox. What fails again becomes a new dead letter.

        Args:
            uuid, reason, type: Which, as for `dead_letters`.
            all: All of them; without it something must be given.

        Raises:
            DeadLetterNotFoundError: None has that uuid.
            ConfigError: Nothing was chosen, or it cannot be chosen so.
        """
        return dead_letters.retry(self._ask_bus, uuid, reason=reason, type=type, all=all)

    def purge_dead(
        self, uuid: str | None = None, *, reason: str | None = None, type: str | None = None, all: bool = False
    ) -> int:
        """Forget dead letters, chosen as for `retry_dead`; return how many. They stay counted in `stats`."""
        return dead_letters.purge(self._ask_bus, uuid, reason=reason, type=type, all=all)

    def _ask_bus(self, question: str, data: Any = None) -> Any:
        self._check_open()
        return self._pod.ask(question, data, to=BUS_NAME)

    # Its own state

    def _describe(self) -> dict[str, Any]:
        return {"name": self.name, "uuid": self.node_uuid, "pid": self._pid, "bus": self.bus_endpoint}

    def _answers(self, timeout: float) -> bool:
        """Return whether its bus answers within so many seconds."""
        try:
            self._pod.ask(STATS, to=BUS_NAME, timeout=timeout)
        except GravError:
            return False
        return True

    def _actors(self) -> list[dict[str, Any]]:
        """Return a row for each actor, in the order of their start, without asking the bus."""
        return self._runner.rows()

    # Ending

    def _check_open(self) -> None:
        if self._pid != os.getpid():
            raise WrongProcessError("this node was made before a fork; make a Grav of its own in the child")
        if self._is_stopping:
            raise self._stopped_error()

    def _stopped_error(self) -> ConnectionClosedError:
        if self._failure:
            return ConnectionClosedError(f"this node has ended: {self._failure}")
        return ConnectionClosedError("this node is stopped; make a new Grav")

    def _lose_bus(self, text: str) -> None:
        """End because the bus died too often: nobody waits for it any longer."""
        assert self._link is not None
        self._link.fail(ConnectionClosedError(f"the node has given up: {text}"))
        self._fail(text)

    def _fail(self, text: str) -> None:
        """End because something failed too often."""
        self._failure = text
        self._log.error("the node ends: %s", text)
        if self._on_end is not None:
            self._on_end(text)
        else:
            self.stop()

    def _ask_to_end(self) -> None:
        if self._on_end is not None:
            self._on_end("")
        else:
            self.stop()

    def _report_end(self, on_end: Callable[[str], None]) -> None:
        """Have the end told instead of made: of too many failures (a text), or of a bus that is not its own ("")."""
        self._on_end = on_end
        self._pod._on_end = lambda error: on_end("")

    def _kill_bus(self) -> None:
        """Kill the bus, if it is this node's, for a process that is about to end at once."""
        self._is_stopping = True
        if self._guard is not None:
            self._guard.release()
        if self._bus is not None:
            self._bus.kill()

    def stop(self, timeout: Timeout = STOP_TIMEOUT) -> None:
        """End the node: actors in reverse order, then what was sent is settled, then the bus if it is its own.

        No process, thread, socket or socket file is left. Idempotent.

        Args:
            timeout: Seconds for actors to end and messages to settle; afterwards they are ended all the same.
                None has no limit.

        Raises:
            ValueError: The limit is negative.
        """
        limit = seconds(timeout)
        if self._pid != os.getpid():
            return
        # Whoever stops the node waits for the thread that guards the bus: that one must not wait in turn.
        is_guard = self._guard is not None and self._guard.is_here()
        if not self._stop_lock.acquire(blocking=not is_guard):
            return
        try:
            if self._is_stopped:
                return
            self._is_stopping = True
            self._close(NO_LIMIT if limit is None else min(limit, NO_LIMIT))
            self._is_stopped = True
        finally:
            self._stop_lock.release()
        _nodes.discard(self)

    def _close(self, timeout: float = STOP_TIMEOUT) -> None:
        self._is_stopping = True
        deadline = time.monotonic() + timeout
        if hasattr(self, "_runner"):
            self._runner.stop(timeout)
        link = self._link
        if link is not None:
            if self._hub is not None:
                self._hub.give_up_questions()
            pods = [pod for pod in link.pods() if not pod._core.settings.actor]
            # First all, then all: a pod that left would give up what the next one has yet to settle.
            for pod in pods:
                try:
                    pod.flush(max(0.0, deadline - time.monotonic()), settled=True)
                except GravError as exc:
                    self._log.debug("what pod %s sent was not settled: %s", pod.label, exc)
            self._await_handled(pods, deadline)
            if self._bridge is not None:
                self._bridge.stop()
            if self._hub is not None:
                self._hub.stop()
            stopped = self._stopped_error()
            with link.lock:
                leaving = [(pod, pod._say_bye("", stopped)) for pod in pods]
            for pod, waiter in leaving:
                if waiter is not None:
                    pod._finish_leaving(waiter, 1.0)
            if self._control is not None:
                self._control.stop("shutdown")
                self._control.wait(1.0)
            link.close()
        if self._guard is not None:
            self._guard.stop()  # not before: what was sent is settled by a bus that comes back
        if self._bus is not None:
            self._bus.stop()
        self._remove_folder()

    def _await_handled(self, pods: list[Pod], deadline: float) -> None:
        """Wait until these pods have handled what waits for them: actors that have ended have sent it."""
        pods = [pod for pod in pods if not (pod._has_left or pod._callbacks.is_here())]
        uuids = [pod._id for pod in pods]
        pause = HANDLED_LOOK
        try:
            while pods and pods[0].ask(WAITING, uuids, to=BUS_NAME, timeout=max(0.0, deadline - time.monotonic())):
                time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
                pause = min(2 * pause, HANDLED_LOOK_MAX)
        except GravError as exc:
            self._log.debug("not all that pods of this node were sent was handled: %s", exc)

    def _remove_folder(self) -> None:
        if self._folder is not None:
            remove_private_folder(self._folder)
            self._folder = None


def _plan_mesh(
    transport: Any, discovery: Any, endpoint: Any, keys: str | Path | None, insecure: bool
) -> MeshPlan | None:
    if all(each is None or each is False for each in (transport, discovery, endpoint, keys, insecure)):
        return None
    from grav_actors.meshing import plan_mesh  # noqa: PLC0415

    return plan_mesh(transport, discovery, endpoint, keys, insecure)


def _plan_bridge(bridge: Any) -> BridgeTransport | None:
    if bridge is None:
        return None
    from grav_actors.bridging import plan_bridge  # noqa: PLC0415

    return plan_bridge(bridge)


def _find_bus(bus: str) -> str:
    if bus != "auto":
        if not isinstance(bus, str) or not bus.startswith(("ipc://", "tcp://")):
            raise ConfigError(f'bus must be None, "auto", "ipc://..." or "tcp://...", not {bus!r}')
        return bus
    running = find_running(Path.cwd())
    if running is None:
        raise BusNotFoundError(
            f"no bus runs for {Path.cwd()} or a directory above it; start one with `grav-actors up`, or with `Grav()`"
        )
    return running.endpoint


def _no_transport(method: str) -> TransportNotConfiguredError:
    return TransportNotConfiguredError(f"{method} needs a transport; this node was made without one")
