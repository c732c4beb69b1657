"""Random histories of a mesh: what may happen to three to five nodes, and a quiet end."""

from __future__ import annotations

import random
from dataclasses import dataclass

from support.meshsim.bus import GROUPS, NAMES, SimBus, group_violations
from support.meshsim.history import MeshHistory
from support.meshsim.network import Network, Weather
from support.meshsim.node import SimNode

TYPES = ("a.x", "a.y", "b.x", "b.y.z", "c")
PATTERNS = ("a.x", "a.y", "a.*", "b.>", ">", "*.x", "c", "d")
SETTLE = 25.0
"""Seconds of a whole network after which everybody must be up and have everything."""


FAIR = Weather()


@dataclass(frozen=True, slots=True)
class Script:
    """What a history is made of.

    Attributes:
        seconds: Length of the wild part.
        retransmit: Bytes that nodes keep for repair.
        weather: Of the wild part; the quiet end is fair.
        cuts, restarts, hub_restarts, stalls, changes: Chance of each, once a second.
        talk: Share of what happens that concerns actors and groups: names, tells, questions.
    """

    nodes: int = 3
    seconds: float = 30.0
    retransmit: int = 64 * 1024 * 1024
    weather: Weather = FAIR
    cuts: float = 0.0
    restarts: float = 0.0
    hub_restarts: float = 0.0
    stalls: float = 0.0
    changes: float = 0.0
    talk: float = 0.0


def random_script(rng: random.Random) -> Script:
    """Return a script in which most things happen, and every fourth has only a few."""
    is_rough = rng.random() < 0.75

    def chance(high: float) -> float:
        return rng.uniform(0, high) if rng.random() < 0.6 else 0.0

    low = rng.choice((0.0005, 0.001, 0.02))
    return Script(
        nodes=rng.randint(3, 5),
        seconds=rng.choice((8.0, 15.0, 30.0)),
        retransmit=rng.choice((4_000, 40_000, 64 * 1024 * 1024)),
        weather=Weather(
            (low, low * rng.choice((1, 2, 20))),
            loss=rng.choice((0.0, 0.0, 0.02, 0.05)) if is_rough else 0.0,
            twice=rng.choice((0.0, 0.05, 0.2)) if is_rough else 0.0,
            is_ordered=rng.random() < 0.7,
        ),
        cuts=chance(0.3),
        restarts=chance(0.08),
        hub_restarts=chance(0.05),
        stalls=chance(0.05),
        changes=chance(0.5),
        talk=rng.choice((0.0, 0.3, 0.6)),
    )


class World:
    """A mesh and its history.

    Attributes:
        nodes: Those that live.
    """

    def __init__(self, seed: int, script: Script | None = None) -> None:
        self.rng = random.Random(seed)
        self.script = script if script is not None else random_script(self.rng)
        self.network = Network(self.rng, self.script.weather)
        self.history = MeshHistory()
        self.directory: dict[str, SimNode] = {}
        self.nodes: list[SimNode] = []
        self.buses: list[SimBus] = []
        for index in range(self.script.nodes):
            self.start(f"h{index}")

    def start(self, host: str, *, uuid: bytes | None = None) -> SimNode:
        """Start a node, which knows the addresses of all others and wants something."""
        node = SimNode(
            host, self.network, self.directory, self.history, self.rng.getrandbits(64), uuid=uuid,
            retransmit=self.script.retransmit,
        )  # fmt: skip
        self.nodes.append(node)
        self.buses.append(node.bus)
        node.want(*self._some_patterns())
        for other in self.nodes:
            if other is not node:
                node.hint(other)
                other.hint(node)
        return node

    def _some_patterns(self) -> list[str]:
        return self.rng.sample(PATTERNS, self.rng.randint(0, 3))

    def run(self) -> list[str]:
        """Live through it all; return what is wrong at the end."""
        self.network.at(0.0, self._traffic)
        self.network.at(1.0, self._trouble)
        self.network.run(self.script.seconds)
        self.settle()
        return self.history.violations() + self.not_up() + self.talk_violations()

    def talk_violations(self) -> list[str]:
        """Return what is wrong about actors, questions and groups."""
        found = group_violations(self.buses)
        for node in self.nodes:
            found += node.bus.violations([other for other in self.nodes if other is not node])
        return found

    def settle(self, seconds: float = SETTLE) -> None:
        """Let everything heal and everybody come to rest."""
        self.network.weather = Weather()
        self.network.heal()
        for node in self.nodes:
            self._go_on(node)
        self.network.run(self.network.now + seconds)

    def not_up(self) -> list[str]:
        """Return who does not see whom as up."""
        return [
            f"{node.host} sees {other.host} as {peer.state.value if peer is not None else 'nobody'}"
            for node in self.nodes
            for other in self.nodes
            if other is not node and ((peer := node.core.peer(other.me.uuid)) is None or peer.state.value != "up")
        ]

    # What happens

    def _traffic(self) -> None:
        if self.network.now >= self.script.seconds:
            return
        for _ in range(self.rng.randint(1, 4)):
            node = self.rng.choice(self.nodes)
            if self.script.talk and self.rng.random() < self.script.talk:
                self._talk(node.bus)
            else:
                node.publish(self.rng.choice(TYPES), self.rng.randint(1, 5))
        self.network.after(self.rng.expovariate(20), self._traffic)

    def _talk(self, bus: SimBus) -> None:
        rng = self.rng
        match rng.choices(range(6), (2, 2, 1, 4, 2, 3))[0]:
            case 0:
                name = rng.choice(NAMES)
                (bus.end if name in bus.actors else bus.start)(name)
            case 1:
                bus.tell(rng.choice(NAMES))
            case 2:
                group = rng.choice(GROUPS)
                if group in bus.groups:
                    bus.leave_group(group)
                else:
                    bus.join(group, rng.choice(PATTERNS))
            case 3:
                bus.ask(rng.choice(NAMES))
            case 4:
                bus.ask(None, rng.choice(TYPES))
            case _:
                bus.publish(rng.choice(TYPES))

    def _trouble(self) -> None:
        if self.network.now >= self.script.seconds:
            return
        rng, script = self.rng, self.script
        if rng.random() < script.cuts:
            self._cut()
        if script.cuts and self.network.cuts and rng.random() < 0.15:
            self.network.heal()
        if rng.random() < script.restarts:
            self._restart(rng.choice(self.nodes), keeps_uuid=False)
        if rng.random() < script.hub_restarts:
            self._restart(rng.choice(self.nodes), keeps_uuid=True)
        if rng.random() < script.stalls:
            self.stall(rng.choice(self.nodes), rng.choice((0.5, 5.0, 12.0)))
        if rng.random() < script.changes:
            rng.choice(self.nodes).want(*self._some_patterns())
        self.network.after(1.0, self._trouble)

    def _cut(self) -> None:
        hosts = [node.host for node in self.nodes]
        self.rng.shuffle(hosts)
        match self.rng.randrange(3):
            case 0:  # one direction of one pair
                self.network.cut(hosts[0], hosts[1])
            case 1:  # one pair
                self.network.cut(hosts[0], hosts[1])
                self.network.cut(hosts[1], hosts[0])
            case _:  # a partition
                size = self.rng.randrange(1, len(hosts))
                for one in hosts[:size]:
                    for other in hosts[size:]:
                        self.network.cut(one, other)
                        self.network.cut(other, one)

    def _restart(self, node: SimNode, *, keeps_uuid: bool) -> None:
        self.nodes.remove(node)
        node.die(is_loud=self.rng.random() < 0.5)
        uuid = node.raw_uuid if keeps_uuid else None
        self.start(node.host, uuid=uuid)

    def stall(self, node: SimNode, seconds: float) -> None:
        """Hold a node up: it does nothing and takes nothing."""
        if node.is_stalled:
            return
        node.stall()
        for other in self.nodes:
            self.network.suffer(node.host, other.host)
        self.network.after(seconds, lambda: self._go_on(node))

    def _go_on(self, node: SimNode) -> None:
        if node.is_alive and node.is_stalled:
            node.go_on()
            for other in self.nodes:
                self.network.suffer(node.host, other.host)
