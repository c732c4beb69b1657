"""What every discovery keeps to. A new one adds a line to DISCOVERIES."""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from grav_actors import discovery
from grav_actors.discovery.base import Discovery, DiscoveryOptions
from grav_actors.errors import ConfigError
from support.ports import free_udp_port

LIMIT = 10.0


@dataclass
class Hints:
    """Takes what a discovery reports."""

    seen: list[tuple[str, str]] = field(default_factory=list)
    error: Exception | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, endpoint: str, uuid: str) -> None:
        with self.changed:
            self.seen.append((endpoint, uuid))
            self.changed.notify_all()
        if self.error is not None:
            raise self.error

    def wait_for(self, count: int, endpoint: str) -> str:
        """Wait until an endpoint was reported so often; return the uuid that came with it."""

        def uuids() -> list[str]:
            return [uuid for seen, uuid in self.seen if seen == endpoint]

        with self.changed:
            assert self.changed.wait_for(lambda: len(uuids()) >= count, LIMIT), self.seen
            return uuids()[-1]


@dataclass
class Case:
    """A discovery, and a peer that it is to find.

    Attributes:
        name: As registered.
        custom: What makes it find, and be found, on this machine alone.
        mistakes: Settings that it refuses.
        knows_uuids: Whether it reports them.
    """

    name: str
    custom: Callable[[int], object]
    mistakes: list[object]
    knows_uuids: bool

    def new(self) -> Discovery:
        return discovery.load(self.name)()


PEER = "tcp://127.0.0.1:7470"
DISCOVERIES = [
    Case(
        "beacon",
        lambda port: {"interfaces": ["lo"], "port": port},
        [
            7,
            {"prot": 7471},
            {"port": 0},
            {"group": "10.0.0.1"},
            {"group": 7},
            {"interfaces": "lo"},
            {"interfaces": [""]},
            {"secret": b"too short"},
            {"secret": 7},
            {"ipv6": 1},
        ],
        knows_uuids=True,
    ),
    Case(
        "static",
        lambda port: {"peers": [PEER], "first": 0.01, "longest": 0.02},
        [
            7,
            PEER,
            ["127.0.0.1:7470"],
            ["tcp://127.0.0.1"],
            [7],
            {"peers": PEER},
            {"pers": [PEER]},
            {"first": 0},
            {"first": 2, "longest": 1},
        ],
        knows_uuids=False,
    ),
]


@pytest.fixture(params=DISCOVERIES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def start(case: Case) -> Iterator[Callable[..., tuple[Discovery, Hints]]]:
    """Return `start(node, port, **options)`; what it has started is stopped."""
    port = free_udp_port()
    started: list[Discovery] = []

    def start(node: uuid.UUID, listens: int, hints: Hints | None = None, **options: Any) -> tuple[Discovery, Hints]:
        one, found = case.new(), hints if hints is not None else Hints()
        settings = {"custom": case.custom(port), "transport_port": listens, **options}
        one.start(DiscoveryOptions(str(node), **settings), found)
        started.append(one)
        return one, found

    yield start
    for one in started:
        one.stop()


Start = Callable[..., tuple[Discovery, Hints]]
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


def test_it_fulfils_the_protocol(case: Case) -> None:
    assert isinstance(case.new(), Discovery)


def test_peer_is_reported_and_reported_again(case: Case, start: Start) -> None:
    _, hints = start(ONE, 7471)
    start(TWO, 7470)

    assert hints.wait_for(1, PEER) == (str(TWO) if case.knows_uuids else "")
    hints.wait_for(2, PEER)


def test_nothing_is_reported_after_stop(start: Start) -> None:
    one, hints = start(ONE, 7471)
    start(TWO, 7470)
    hints.wait_for(1, PEER)

    one.stop()

    count = len(hints.seen)
    other, beside = start(uuid.UUID(int=3), 7472)
    beside.wait_for(1, PEER)  # the peer still speaks
    other.stop()
    assert len(hints.seen) == count


def test_stop_is_idempotent_and_may_come_before_start(case: Case, start: Start) -> None:
    never = case.new()
    never.stop()
    never.stop()
    one, _ = start(ONE, 7471)
    one.stop()
    one.stop()


def test_stop_from_several_threads_returns_in_all(start: Start) -> None:
    one, _ = start(ONE, 7471)
    threads = [threading.Thread(target=one.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)

    assert not any(thread.is_alive() for thread in threads)


def test_second_start_is_refused(case: Case, start: Start) -> None:
    one, hints = start(ONE, 7471)
    with pytest.raises(ConfigError, match="was started before; make a new one"):
        one.start(DiscoveryOptions(str(ONE)), hints)
    one.stop()
    with pytest.raises(ConfigError, match="was started before; make a new one"):
        one.start(DiscoveryOptions(str(ONE)), hints)


def test_node_that_does_not_listen_still_finds_others(case: Case, start: Start) -> None:
    _, hints = start(ONE, None)
    start(TWO, 7470)

    hints.wait_for(1, PEER)


def test_hub_that_raises_does_not_end_the_discovery(case: Case, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    hints = Hints(error=RuntimeError("the hub is wrong"))
    with caplog.at_level(logging.WARNING, "grav_actors.discovery"):
        start(ONE, 7471, hints)
        start(TWO, 7470)
        hints.wait_for(2, PEER)

    assert "the hub is wrong" in caplog.text


@pytest.mark.parametrize(
    ("name", "mistake"), [(case.name, mistake) for case in DISCOVERIES for mistake in case.mistakes]
)
def test_wrong_settings_are_refused_at_start_and_stop_still_works(name: str, mistake: object) -> None:
    one = discovery.load(name)()
    with pytest.raises(ConfigError) as refused:
        one.start(DiscoveryOptions(str(ONE), 7471, custom=mistake), Hints())
    one.stop()

    assert "\n" not in str(refused.value)
    assert "too short" not in str(refused.value)
