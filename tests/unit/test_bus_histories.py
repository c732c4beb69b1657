"""Random histories of one bus and its pods: cut links, killed actors, failing handlers, restarted buses."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from grav_actors.pod.core import State
from support.busnet import Died, Got, Net, Rejected, TestPod

pytestmark = pytest.mark.no_cover  # random histories would take three times as long when they are traced

TYPES = ("x", "x", "y")


class History:
    """A bus with three senders, three plain receivers, an actor and a group of three, and bad luck."""

    def __init__(self, seed: int, *, trouble: frozenset[str], limit: int = 65_536) -> None:
        self.random = random.Random(seed)
        self.trouble = trouble
        self.net = Net()
        self.is_calm = False
        self.next_data = 0
        self.sent: list[tuple[TestPod, str, int]] = []
        self.told: list[int] = []
        self.asked: dict[int, tuple[TestPod, bytes]] = {}
        self.buried: list[tuple[str, str, Any]] = []
        self.calls: list[tuple[str, TestPod, Got, bool]] = []
        shared = self.net.wire()
        self.supervisor = self.net.pod("supervisor", wire=shared)
        self.senders = [self.net.pod(f"s{n}", wire=shared if n else None) for n in range(3)]
        self.plain = [self.plain_pod("p0", "x", limit), self.plain_pod("p1", ">", limit), self.plain_pod("p2", "y", 32)]
        self.incarnations: Counter[str] = Counter()
        self.actors: dict[str, TestPod] = {}
        for name in ("actor", "g1", "g2", "g3"):
            self.start(name)
        self.net.settle()

    def plain_pod(self, name: str, pattern: str, limit: int) -> TestPod:
        pod = self.net.pod(name, pattern, mailbox_limit=limit, stuck_after=None)
        pod.handler = self.handler(name, pod)
        return pod

    def start(self, name: str) -> None:
        group = "group" if name.startswith("g") else ""
        pod = self.net.actor(
            name, "x", "told", "q", group=group, prefetch=4 if group else 4096, supervisor=self.supervisor.uuid,
            incarnation=self.incarnations[name], is_joined=False, stuck_after=None,
        )  # fmt: skip
        pod.handler = self.handler(group or name, pod)
        self.incarnations[name] += 1
        self.actors[name] = pod

    def handler(self, receiver: str, pod: TestPod) -> Any:
        def handle(got: Got) -> Any:
            luck = 1.0 if self.is_calm else self.random.random()
            fails = "failures" in self.trouble and luck < 0.05
            dies = "deaths" in self.trouble and pod in self.actors.values() and 0.05 < luck < 0.07
            self.calls.append((receiver, pod, got, not (fails or dies)))
            if dies:
                raise Died
            if fails:
                raise Rejected if luck < 0.01 else ValueError
            return got.data if got.type == "q" else None

        return handle

    # The history

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choices(
                (self.send, self.move, self.route, self.work, self.push, self.wait, self.cut, self.kill, self.restart),
                (20, 30, 20, 20, 20, 1, 1, 1, 0.5),
            )[0]()
            self.net.check()
        self.is_calm = True
        for pod in self.actors.values():
            self.revive(pod)
        for _ in range(8):
            self.net.advance(10)
            for pod in list(self.actors.values()):
                self.revive(pod)
        self.bury()

    def send(self) -> None:
        pod = self.random.choice(self.senders)
        for _ in range(self.random.choice((1, 1, 3, 20))):
            data = self.next_data
            self.next_data += 1
            luck = self.random.random()
            if luck < 0.1:
                pod.tell("actor", "told", data)
                self.told.append(data)
            elif luck < 0.2:
                self.asked[data] = pod, pod.ask("actor" if luck < 0.15 else None, "q", data)
            else:
                message_type = self.random.choice(TYPES)
                pod.publish(message_type, data)
                self.sent.append((pod, message_type, data))

    def move(self) -> None:
        wire = self.random.choice(self.net.wires)
        if wire.is_alive:
            self.net.up(wire, self.random.randrange(4))
            self.net.down(wire, self.random.randrange(4))

    def route(self) -> None:
        self.net.route()

    def work(self) -> None:
        self.pod().handle(self.random.choice((1, 5, 50)))

    def push(self) -> None:
        self.pod().push(force=self.random.random() < 0.5)

    def wait(self) -> None:
        self.net.advance(self.random.choice((0.1, 1.0, 7.0)), handle=self.random.random() < 0.5)
        for pod in list(self.actors.values()):
            self.revive(pod)

    def cut(self) -> None:
        wire = self.random.choice(self.net.wires)
        if "cuts" in self.trouble and wire.is_alive:
            self.net.cut(wire)

    def kill(self) -> None:
        if "deaths" in self.trouble:
            self.net.kill(self.random.choice(list(self.actors.values())))

    def restart(self) -> None:
        if "restarts" in self.trouble:
            self.bury()
            self.net.restart_bus()

    def pod(self) -> TestPod:
        return self.random.choice([*self.senders, *self.plain, *self.actors.values()])

    def revive(self, pod: TestPod) -> None:
        """Start the next incarnation of an actor that has died."""
        if not pod.is_alive or pod.core.state is State.CLOSED:
            self.start(pod.core.name)

    def bury(self) -> None:
        self.buried += self.net.dead()

    # What must be true of it

    def handled(self, receiver: str) -> set[Any]:
        return {got.data for name, _, got, is_good in self.calls if name == receiver and is_good}

    def firsts(self, receiver: str) -> list[Any]:
        return [got.data for name, _, got, _ in self.calls if name == receiver and not got.redelivered]

    def ended(self, *targets: str) -> set[Any]:
        return {data for _, target, data in self.buried if target in targets}

    def hold(self) -> None:
        self.net.check_quiet()
        assert self.net.bus.postman.counts.given_up == 0
        for data, (pod, question) in self.asked.items():
            answer = pod.answers.get(question)
            assert answer is not None or question in pod.unanswered, f"question {data} has no outcome"
            assert answer is None or answer.type == "grav.error" or answer.data == data
        if "restarts" not in self.trouble:
            times = Counter((name, got.data) for name, _, got, _ in self.calls if got.type == "q")
            assert all(count == 1 for count in times.values()), "a question was given twice"
        if not self.trouble:
            assert all(question in pod.answers for pod, question in self.asked.values())
        xs = {data for _, message_type, data in self.sent if message_type == "x"}
        ys = {data for _, message_type, data in self.sent if message_type == "y"}
        assert self.handled("p0") | self.ended("p0") == xs
        qs = set(self.asked)
        assert (self.handled("p1") | self.ended("p1")) - qs == xs | ys
        assert self.handled("p2") | self.ended("p2") == ys
        assert self.handled("actor") | self.ended("actor") >= xs | set(self.told)
        assert self.handled("group") | self.ended("group", "g1", "g2", "g3") >= xs
        if "restarts" not in self.trouble:
            assert self.firsts("p0") == [data for data in self.firsts("p1") if data in xs], "one order for all"
        first: set[tuple[str, Any]] = set()
        order: dict[tuple[TestPod, bytes], int] = defaultdict(lambda: -1)
        for name, pod, got, _ in self.calls:
            key = (name, got.data)
            assert got.redelivered or key not in first, f"{name} had {got} before"
            first.add(key)
            if not got.redelivered:
                assert got.data > order[pod, got.sender], f"{name} had a later one before {got}"
                order[pod, got.sender] = got.data


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "trouble",
    [
        "",
        "failures",
        "cuts",
        "deaths",
        "restarts",
        "restarts cuts",
        "deaths failures cuts",
        "restarts deaths failures cuts",
    ],
)
def test_nothing_is_lost_and_nothing_comes_twice_unsaid(trouble: str, seed: int) -> None:
    history = History(seed, trouble=frozenset(trouble.split()))
    history.run(300)
    history.hold()
