"""Actors of linked nodes: names, asks, errors, cancellation, watches and groups across nodes."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grav_actors import (
    Actor,
    ActorRef,
    ActorStoppedError,
    AskTimeoutError,
    Child,
    Grav,
    HandlerError,
    Message,
    MessageTooLargeError,
    NoRespondersError,
    WaitTimeoutError,
    on_type,
)
from grav_actors.bus.inquiry import PODS
from grav_actors.protocol import BUS_NAME

PATIENCE = 20.0
Make = Callable[..., Grav]


@pytest.fixture
def make() -> Iterator[Make]:
    nodes: list[Grav] = []

    def start(name: str, *peers: Grav, **options: Any) -> Grav:
        node = Grav(name=name, transport="loopback", **options)
        nodes.append(node)
        for peer in peers:
            node.connect_endpoint(f"loopback://{peer.node_uuid}", PATIENCE)
            peer.wait_for_peers(1, PATIENCE)
        return node

    yield start
    for node in reversed(nodes):
        node.stop()


@pytest.fixture
def pair() -> Iterator[tuple[Grav, Grav]]:
    """Two nodes that are linked."""
    with Grav(name="here", transport="loopback") as here, Grav(name="there", transport="loopback") as there:
        here.connect_endpoint(f"loopback://{there.node_uuid}", PATIENCE)
        there.wait_for_peers(1, PATIENCE)
        yield here, there


class Signals:
    """What actors of a test tell it: they live in this process."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.release = threading.Event()
        self._changed = threading.Condition()

    def add(self, item: Any) -> None:
        with self._changed:
            self.seen.append(item)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, PATIENCE), self.seen
            return list(self.seen)


class Echo(Actor):
    @on_type("echo")
    def echo(self, msg: Message) -> Any:
        return msg.data

    @on_type("blow")
    def blow(self, msg: Message) -> bytes:
        return bytes(msg.data)


class Worker(Actor):
    def __init__(self, signals: Signals | None = None) -> None:
        self.signals = signals or Signals()

    @on_type("add")
    def add(self, msg: Message) -> int:
        self.signals.add(("add", msg.data))
        return int(sum(msg.data))

    @on_type("none")
    def none(self, msg: Message) -> None:
        self.signals.add("none")

    @on_type("fail")
    def fail(self, msg: Message) -> None:
        raise KeyError("over there")

    @on_type("die")
    def die(self, msg: Message) -> None:
        self.stop()
        self.defer_reply(msg)

    @on_type("wait")
    def wait(self, msg: Message) -> str:
        self.signals.add("began")
        while not msg.cancelled and not self.signals.release.wait(0.01):
            pass
        self.signals.add(("cancelled", msg.cancelled))
        return "done"

    @on_type("forward")
    def forward(self, msg: Message) -> Any:
        to, type_, data = msg.data
        return self.ask(to, type_, data, timeout=PATIENCE)

    @on_type("job")
    def job(self, msg: Message) -> None:
        self.signals.add((self.name, msg.data))


def lose_links(node: Grav) -> None:
    """End every link of a node, as a cut would."""
    hub = node._hub
    assert hub is not None
    for connection in list(hub._carrier._connections.values()):
        connection.close()


def known(node: Grav, other: Grav, *names: str) -> None:
    """Wait until what a node has is known to its peers."""
    node.wait_until_known(PATIENCE)
    for name in names:
        assert other.actor(name).is_alive()


def test_actor_of_a_peer_answers_by_name_and_reference_as_one_here(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")

    ref = here.actor("worker")
    assert ref.ask("add", [1, 2], timeout=PATIENCE) == 3
    assert here.ask("add", [3, 4], to="worker", timeout=PATIENCE) == 7
    with here.connect() as pod:
        assert pod.ask("add", [5], to=ActorRef("worker"), timeout=PATIENCE) == 5
    assert ref.ask("none", timeout=PATIENCE) is None
    assert asyncio.run(ref.ask_async("add", [2, 2], timeout=PATIENCE)) == 4


def test_script_that_has_joined_the_bus_asks_an_actor_of_a_peer(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")

    with Grav(bus=here.bus_endpoint) as script:
        assert script.ask("add", [1, 2], to="worker", timeout=PATIENCE) == 3
        assert script.actor("worker").is_alive()
        with pytest.raises(HandlerError):
            script.actor("worker").ask("fail", timeout=PATIENCE)


def test_actors_ask_and_tell_across_nodes_in_the_order_of_sending(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    signals = Signals()
    there.spawn(Worker, signals, name="far", kind="thread")
    here.spawn(Worker, name="near", kind="thread")
    known(there, here, "far")
    known(here, there, "near")

    assert here.ask("forward", ["far", "add", [1, 1]], to="near", timeout=PATIENCE) == 2
    assert there.ask("forward", ["far", "add", [2, 2]], to="near", timeout=PATIENCE) == 4
    for number in range(200):
        here.actor("far").tell("job", number)
    assert here.ask("none", to="far", timeout=PATIENCE) is None
    assert [item for item in signals.seen if item[0] == "far"] == [("far", number) for number in range(200)]


def test_error_of_a_handler_comes_back_with_the_remote_traceback(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")

    with pytest.raises(HandlerError) as caught:
        here.ask("fail", to="worker", timeout=PATIENCE)
    assert "over there" in str(caught.value.error)
    assert "in fail" in caught.value.remote_traceback
    with pytest.raises(NoRespondersError, match="does not handle nonsense"):
        here.ask("nonsense", to="worker", timeout=PATIENCE)


def test_message_that_is_larger_than_the_other_node_takes_is_refused_to_who_sends_it(make: Make) -> None:
    small = make("small", max_message=65_536)
    large = make("large", small)
    signals = Signals()
    small.spawn(Echo, name="echo", kind="thread")
    large.spawn(Echo, name="large-echo", kind="thread")
    large.wait_until_known(PATIENCE)
    small.wait_until_known(PATIENCE)
    dead = large.connect()
    dead.on_type("grav.sys.dead", lambda m: signals.add((m.data["reason"], m.data["target"])))

    with pytest.raises(MessageTooLargeError, match="node small takes messages of at most 65536"):
        large.actor("echo").ask("echo", bytes(200_000), timeout=PATIENCE)
    with pytest.raises(MessageTooLargeError, match="the answer was not carried"):
        small.actor("large-echo").ask("blow", 200_000, timeout=PATIENCE)
    large.actor("echo").tell("echo", bytes(200_000))
    assert signals.wait(1) == [("rejected", "echo")]
    assert large.actor("echo").ask("echo", 7, timeout=PATIENCE) == 7


def test_name_that_is_nowhere_is_told_at_once(pair: tuple[Grav, Grav]) -> None:
    here, _ = pair
    for timeout in (None, PATIENCE):
        with pytest.raises(NoRespondersError, match="no actor nobody"):
            here.ask("add", [1], to="nobody", timeout=timeout)
    here.actor("nobody").tell("add", [1])
    here._pod.flush(PATIENCE, settled=True)
    assert [(letter.reason, letter.target) for letter in here.dead_letters()] == [("no_responders", "nobody")]


def test_who_has_the_name_here_is_asked_first(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    near, far = Signals(), Signals()
    there.spawn(Worker, far, name="worker", kind="thread")
    known(there, here, "worker")
    ref = here.spawn(Worker, near, name="worker", kind="thread")

    assert ref.ask("add", [1], timeout=PATIENCE) == 1
    assert (near.seen, far.seen) == ([("add", [1])], [])
    ref.stop()
    while any(row["name"] == "worker" for row in here.ask(PODS, to=BUS_NAME)):
        threading.Event().wait(0.01)
    assert here.actor("worker").ask("add", [2], timeout=PATIENCE) == 2
    assert far.seen == [("add", [2])]


def test_actor_that_ends_with_the_question_says_so_at_once(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")

    with pytest.raises(ActorStoppedError):
        here.ask("die", to="worker", timeout=None)


def test_question_to_a_node_that_goes_ends_at_once(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    signals = Signals()
    there.spawn(Worker, signals, name="worker", kind="thread")
    known(there, here, "worker")
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            here.ask("wait", to="worker", timeout=None)
        except ActorStoppedError as exc:
            outcome.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    signals.wait(1)
    lose_links(there)
    thread.join(PATIENCE)
    assert "node there is down" in str(outcome[0])
    assert signals.wait(2)[1] == ("cancelled", True), "and the callee learns that nobody waits"


def test_asker_that_no_longer_waits_is_seen_by_the_callee(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    signals = Signals()
    there.spawn(Worker, signals, name="worker", kind="thread")
    known(there, here, "worker")

    with pytest.raises(AskTimeoutError):
        here.ask("wait", to="worker", timeout=0.05)
    assert signals.wait(2) == ["began", ("cancelled", True)]
    hub = here._hub
    assert hub is not None
    assert hub._call(lambda now: len(hub._switchboard)) == 0


def test_question_that_is_published_is_answered_by_a_peer(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")

    assert here.ask("add", [4, 4], timeout=PATIENCE) == 8
    with pytest.raises(HandlerError, match="over there"):
        here.ask("fail", timeout=PATIENCE)
    with pytest.raises(NoRespondersError, match="without an answer"):
        here.ask("none", timeout=None)
    with pytest.raises(NoRespondersError):
        here.ask("nonsense", timeout=None)


class Quick(Actor):
    @on_type("wait")
    def answer(self, msg: Message) -> str:
        return "quick"


def test_first_answer_to_a_published_question_wins_and_later_ones_are_dropped(make: Make) -> None:
    left, right = make("left"), make("right")
    asker = make("asker", left, right)
    signals = Signals()
    left.spawn(Worker, signals, name="slow", kind="thread")
    right.spawn(Quick, name="quick", kind="thread")
    for node in (left, right):
        node.wait_until_known(PATIENCE)

    assert asker.ask("wait", timeout=PATIENCE) == "quick"
    signals.release.set()
    assert signals.wait(2) == ["began", ("cancelled", False)]
    asker.ask("none", to="slow", timeout=PATIENCE)  # behind the late answer
    assert asker._pod.late_replies == 1


def test_published_question_to_a_node_that_goes_is_answered_by_another(make: Make) -> None:
    left, right = make("left"), make("right")
    asker = make("asker", left, right)
    signals = [Signals(), Signals()]
    for node, each in zip((left, right), signals, strict=True):
        node.spawn(Worker, each, name=f"{node.name}-1", kind="thread")
        node.wait_until_known(PATIENCE)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(asker.ask("wait", timeout=PATIENCE)))
    thread.start()
    for each in signals:
        each.wait(1)
    lose_links(left)
    signals[1].release.set()
    thread.join(PATIENCE)
    assert answers == ["done"]
    assert signals[0].wait(2)[1] == ("cancelled", True)


def test_reply_of_any_type_reaches_the_receipt_of_a_peer_that_wants_nothing(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    answering = there.connect()
    answering.on_type("question", lambda m: answering.reply_to(m, Message("answer", m.data + 1)))
    there.wait_until_known(PATIENCE)
    receipts = [here.connect().publish("question", number) for number in range(20)]

    assert [receipt.result(PATIENCE).data for receipt in receipts] == list(range(1, 21))


def test_reply_reaches_the_receipt_once_also_if_its_type_is_wanted(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    answering = there.connect()
    answering.on_type("question", lambda m: answering.reply_to(m, Message("answer", m.data)))
    signals = Signals()
    asking = here.connect()
    asking.on_type("answer", lambda m: signals.add(m.data))
    for node in pair:
        node.wait_until_known(PATIENCE)
    receipts = [asking.publish("question", number) for number in range(10)]

    assert [receipt.result(PATIENCE).data for receipt in receipts] == list(range(10))
    assert signals.wait(10) == list(range(10))
    assert asking.late_replies == 0


# Watching


class Watcher(Actor):
    def __init__(self, names: list[str], signals: Signals) -> None:
        self.names = names
        self.signals = signals

    def on_start(self) -> None:
        for name in self.names:
            self.watch(ActorRef(name))

    @on_type("grav.down")
    def down(self, msg: Message) -> None:
        self.signals.add((msg.data["name"], msg.data["reason"]))


def test_watched_actor_of_a_peer_is_told_when_it_ends(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    ref = there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")
    signals = Signals()
    here.spawn(Watcher, ["worker", "gone"], signals, kind="thread")
    assert signals.wait(1) == [("gone", "unknown")]
    ref.stop()
    assert signals.wait(2) == [("gone", "unknown"), ("worker", "stopped")]


def test_actor_of_a_peer_that_is_stopped_from_here_is_gone_for_good(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")
    signals = Signals()
    here.spawn(Watcher, ["worker"], signals, kind="thread")
    here.actor("worker").stop()
    assert signals.wait(1) == [("worker", "stopped")]
    assert not here.actor("worker").is_alive()


def test_watch_is_told_once_when_the_node_goes_and_names_come_back_with_it(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    there.spawn(Worker, name="worker", kind="thread")
    known(there, here, "worker")
    signals = Signals()
    here.spawn(Watcher, ["worker"], signals, kind="thread", name="first")
    known(here, there, "first")
    lose_links(there)
    assert signals.wait(1) == [("worker", "lost")]
    here.wait_for_peers(1, PATIENCE)
    there.wait_for_peers(1, PATIENCE)
    assert here.ask("add", [1], to="worker", timeout=PATIENCE) == 1
    there.stop()
    assert signals.seen == [("worker", "lost")]


# Names


def test_name_of_two_peers_is_that_of_the_first_until_it_is_gone(make: Make) -> None:
    here, first, second = make("here"), make("first"), make("second")
    signals = {node.name: Signals() for node in (first, second)}
    for node in (first, second):
        node.spawn(Worker, signals[node.name], name="worker", kind="thread")
        here.connect_endpoint(f"loopback://{node.node_uuid}", PATIENCE)
    for _ in range(3):
        assert here.ask("add", [1], to="worker", timeout=PATIENCE) == 1
    assert (len(signals["first"].seen), len(signals["second"].seen)) == (3, 0)
    first.stop()
    assert here.ask("add", [1], to="worker", timeout=PATIENCE) == 1
    assert len(signals["second"].seen) == 1


def test_instances_of_a_service_of_a_peer_are_asked_in_turn(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    signals = Signals()
    there.spawn(Child(Worker, name="pool", args=(signals,), kind="thread", instances=2))
    known(there, here, "pool", "pool-1", "pool-2")
    for number in range(4):
        here.actor("pool").ask("job", number, timeout=PATIENCE)
    assert sorted(signals.wait(4)) == [("pool-1", 0), ("pool-1", 2), ("pool-2", 1), ("pool-2", 3)]


def test_what_an_actor_sends_comes_after_its_name_is_known(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    signals = Signals()

    class Greeter(Actor):
        def on_start(self) -> None:
            self.publish("hello", self.ref)

        @on_type("name")
        def tell_name(self, msg: Message) -> str:
            return self.name

    pod = here.connect()
    pod.on_type("hello", lambda m: signals.add(m.data.ask("name", timeout=PATIENCE)))
    here.wait_until_known(PATIENCE)
    for number in range(5):
        there.spawn(Greeter, name=f"greeter-{number}", kind="thread")
    assert signals.wait(5) == [f"greeter-{number}" for number in range(5)]


# Groups


class Member(Worker):
    group = "workers"


def counts(*signals: Signals) -> list[int]:
    return [len(each.seen) for each in signals]


def test_group_with_a_member_here_gets_the_message_here_and_not_on_peers(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    near, far = Signals(), Signals()
    here.spawn(Member, near, name="near", kind="thread")
    there.spawn(Member, far, name="far", kind="thread")
    for node in pair:
        node.wait_until_known(PATIENCE)
    for number in range(20):
        here.publish("job", number)
    assert len(near.wait(20)) == 20
    here.ask("none", to="far", timeout=PATIENCE)  # behind whatever has left
    assert far.seen == ["none"]


def test_group_without_a_member_here_gets_the_message_on_one_peer_in_turn(make: Make) -> None:
    here, left, right = make("here"), make("left"), make("right")
    signals = [Signals(), Signals()]
    plain = Signals()
    for node, each in zip((left, right), signals, strict=True):
        here.connect_endpoint(f"loopback://{node.node_uuid}", PATIENCE)
        node.spawn(Member, each, name=f"{node.name}-1", kind="thread")
        node.connect().on_type("job", lambda m: plain.add(m.data))
    left.connect_endpoint(f"loopback://{right.node_uuid}", PATIENCE)
    for node in (left, right):
        node.wait_until_known(PATIENCE)
    for number in range(40):
        here.publish("job", number)
        here._pod.flush(PATIENCE)
    assert len(plain.wait(80)) == 80, "plain subscribers of both have them all"
    deadline = time.monotonic() + PATIENCE
    while sum(counts(*signals)) < 40:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    assert sorted(item[1] for each in signals for item in each.seen) == list(range(40))
    assert min(counts(*signals)) > 0


def test_wait_for_peers_to_know_names_those_that_do_not(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    hub = there._hub
    assert hub is not None
    held = threading.Event()

    def hold(now: float) -> None:
        held.wait(PATIENCE)

    hub._turns.put(hold)
    here.connect().on_type("news", lambda m: None)
    try:
        with pytest.raises(WaitTimeoutError, match="there"):
            here.wait_until_known(0.2)
    finally:
        held.set()
    here.wait_until_known(PATIENCE)


# Interest


def left_for(node: Grav, peer: Grav) -> int:
    """Return how many messages a node has numbered for a peer."""
    hub = node._hub
    assert hub is not None

    def ask(now: float) -> int:
        found = hub._core.peer(peer.node_uuid)
        track = hub._core._state.outflow.track(found.incarnation) if found is not None else None
        return track.sent if track is not None else 0

    sent: int = hub._call(ask)
    return sent


def test_type_that_nobody_wants_on_the_other_side_never_leaves(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    signals = Signals()
    there.connect().on_type("wanted", lambda m: signals.add(m.data))
    there.wait_until_known(PATIENCE)
    before = left_for(here, there)
    for number in range(100):
        here.publish("unwanted", number)
    here.publish("wanted", 1)
    assert signals.wait(1) == [1]
    assert left_for(here, there) == before + 1


def test_type_leaves_no_more_when_the_last_who_wants_it_is_gone(pair: tuple[Grav, Grav]) -> None:
    here, there = pair
    signals = Signals()
    pods = [there.connect() for _ in range(2)]
    for pod in pods:
        pod.on_type("news", lambda m: signals.add(m.data))
    there.connect().on_type("end", lambda m: signals.add("end"))
    there.wait_until_known(PATIENCE)
    pods[0].disconnect()
    there.wait_until_known(PATIENCE)
    here.publish("news", 1)
    assert signals.wait(1) == [1]
    pods[1].disconnect()
    there.wait_until_known(PATIENCE)
    before = left_for(here, there)
    here.publish("news", 2)
    here.publish("end")
    assert signals.wait(2) == [1, "end"]
    assert left_for(here, there) == before + 1


def test_message_for_a_group_leaves_only_for_the_peer_that_is_to_have_it(make: Make) -> None:
    here, left, right = make("here"), make("left"), make("right")
    signals = Signals()
    for node in (left, right):
        here.connect_endpoint(f"loopback://{node.node_uuid}", PATIENCE)
        node.spawn(Member, signals, name=f"{node.name}-1", kind="thread")
        node.wait_until_known(PATIENCE)
    before = left_for(here, left) + left_for(here, right)
    for number in range(10):
        here.publish("job", number)
    signals.wait(10)
    assert left_for(here, left) + left_for(here, right) == before + 10
