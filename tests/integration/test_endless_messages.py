"""A message whose last frame never comes: its connection is cut, and the pods beside it lose nothing."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from grav_actors import Grav
from grav_actors.bus.lookout import ALERT_BYTES
from grav_actors.bus.process import BusProcess, BusSpec
from support.attack import rss
from support.collecting import LIMIT, Collector, settle
from support.endless import connected, endless_in_process, frames

MIB = 1024 * 1024
ALLOWED = 256 * MIB
"""What an attack may add to the memory of the bus: 70 to 90 MiB, and more where the bus has to wait for a processor."""
TOO_MUCH = 1024 * MIB
"""What an attack costs that nobody ends."""

LARGE = """
import sys
from grav_actors import Grav
with Grav(bus=sys.argv[1]) as grav:
    pod = grav.connect()
    for _ in range(150):
        pod.publish("large", bytes(1_000_000))
    pod.flush(60, settled=True)
"""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def bus(tmp_path: Path) -> Generator[BusProcess]:
    process = BusProcess(BusSpec(str(tmp_path), tcp="tcp://127.0.0.1:*"))
    process.start()
    yield process
    process.stop()


def attacked(bus: BusProcess, endpoint: str, sizes: list[int], pause: float = 0.0) -> tuple[list[int], int, int]:
    """Send endless messages beside two pods; return the attackers' exit codes, the growth and the connections cut."""
    assert bus.pid is not None
    with Grav(bus=endpoint) as grav, ExitStack() as stack:
        receiver, sender = grav.connect(), grav.connect()
        collected = Collector()
        receiver.on_type("live", collected)
        sender.publish("live", 0)
        settle(sender)
        before = highest = rss(bus.pid)
        attacks = [
            stack.enter_context(endless_in_process(endpoint, size, limit=TOO_MUCH, pause=pause)) for size in sizes
        ]
        sent = 1
        while any(attack.poll() is None for attack in attacks):
            sender.publish("live", sent)
            sent += 1
            sender.flush(LIMIT, settled=True)
            highest = max(highest, rss(bus.pid))
        settle(sender)
        assert collected.data == list(range(sent))
        stats = grav.stats()
        assert stats["bad_frames"] == stats["cut"]
        return [attack.returncode for attack in attacks], highest - before, stats["cut"]


@pytest.mark.parametrize("size", [0, 200, 10_000, MIB])
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_who_sends_a_message_without_an_end_is_cut_off_and_living_pods_lose_nothing(
    bus: BusProcess, transport: str, size: int
) -> None:
    endpoint = next(each for each in bus.endpoints if each.startswith(transport))

    exit_codes, growth, cut = attacked(bus, endpoint, [size])

    assert exit_codes == [0]
    assert cut == 1
    assert growth < ALLOWED


def test_several_that_send_endless_messages_at_the_same_time_are_all_cut_off(bus: BusProcess) -> None:
    exit_codes, growth, cut = attacked(bus, bus.endpoints[0], [MIB, 0, 10_000, 100_000])

    assert exit_codes == [0] * 4
    assert cut >= 4
    assert growth < ALLOWED


def test_one_that_sends_an_endless_message_slowly_is_cut_off(bus: BusProcess) -> None:
    exit_codes, growth, cut = attacked(bus, bus.endpoints[0], [MIB], pause=0.05)

    assert exit_codes == [0]
    assert cut == 1
    assert growth < ALLOWED


def test_an_unfinished_message_that_is_small_hurts_nobody_and_is_let_be(bus: BusProcess) -> None:
    with connected(bus.endpoints[0]) as peer, Grav(bus=bus.endpoints[0]) as grav:
        part, _ = frames(MIB)
        peer.sendall(part)
        receiver, sender = grav.connect(), grav.connect()
        collected = Collector()
        receiver.on_type("live", collected)
        sender.publish("live", 1)
        settle(sender)
        assert collected.data == [1]
        assert grav.stats()["cut"] == 0


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_large_messages_that_make_the_bus_grow_are_not_taken_for_endless_ones(bus: BusProcess, transport: str) -> None:
    endpoint = next(each for each in bus.endpoints if each.startswith(transport))
    assert bus.pid is not None
    before = rss(bus.pid)
    with Grav(bus=endpoint) as grav, ExitStack() as stack:
        collected = Collector()
        grav.connect().on_type("large", collected)
        program = [sys.executable, "-c", LARGE, endpoint]
        senders = [stack.enter_context(subprocess.Popen(program, stdin=subprocess.DEVNULL)) for _ in range(3)]
        highest = before
        while any(sender.poll() is None for sender in senders):
            highest = max(highest, rss(bus.pid))
        assert [sender.returncode for sender in senders] == [0] * 3
        assert len(collected.data) == 450
        assert highest - before > ALERT_BYTES  # else nothing was put to the test
        assert grav.stats()["cut"] == 0
