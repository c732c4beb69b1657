"""Hostile frames and stopped processes beside pods that must not notice."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import zmq

from grav_actors import BusBusyError, Grav
from grav_actors.pod.pod import Pod
from grav_actors.protocol import PodSettings
from support.attack import Attacker, attack_in_process, bus_pid, connected, rss, send_oversize
from support.collecting import LIMIT, Collector, settle

MIB = 1024 * 1024

pytestmark = pytest.mark.timeout(120)

LISTENER = """
import sys
from grav_actors import Grav
with Grav(bus=sys.argv[1]) as grav:
    grav.connect("stopped").on_type("x", lambda message: None)
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def stopped(pid: int) -> Generator[None]:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def listener(grav: Grav) -> Generator[int]:
    """Have a process listen to `x`; gives its id."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER, grav.bus_endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(LIMIT)
        process.stdout.close()


def test_living_pods_lose_nothing_beside_hostile_frames() -> None:
    with Grav() as grav:
        pid = bus_pid(grav)
        receiver, sender = grav.connect(), grav.connect()
        collected = Collector()
        receiver.on_type("live", collected)
        before = rss(pid)
        attack = attack_in_process(grav.bus_endpoint, 10_000, seed=7)
        sent = 0
        while attack.poll() is None:
            sender.publish("live", sent)
            sent += 1
            sender.flush(LIMIT)
        assert attack.returncode == 0
        settle(sender)
        assert collected.data == list(range(sent))
        assert bus_pid(grav) == pid
        assert grav.stats()["bad_frames"] > 1000
        assert rss(pid) - before < 256 * MIB


def test_a_connection_with_an_oversize_frame_is_broken_and_others_are_not() -> None:
    with Grav() as grav:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        before = rss(bus_pid(grav))
        send_oversize(context, grav.bus_endpoint, 8 * MIB)
        context.term()
        assert grav.stats()["pods"] >= 1
        assert rss(bus_pid(grav)) - before < 32 * MIB


def test_a_socket_with_several_malformed_frames_gets_no_answer_any_more() -> None:
    with Grav() as grav:
        attacker = Attacker(grav.bus_endpoint, 1)
        socket = connected(attacker._context, grav.bus_endpoint)
        socket.setsockopt(zmq.RCVTIMEO, 30_000)
        beat = b"\x92\x05\x00"
        socket.send_multipart([beat, b""])
        assert socket.recv_multipart() == [b"\x92\x14\x00", b""]
        before = grav.stats()["bad_frames"]
        for _ in range(8):
            socket.send_multipart([b"junk", b""])
        socket.send_multipart([beat, b""])
        while grav.stats()["bad_frames"] < before + 9:
            pass
        while socket.poll(0):
            assert socket.recv_multipart() == [b"\x92\x15\x00", b""]  # a ping, at most
        socket.close(linger=0)
        attacker.close()


def test_send_raises_when_the_bus_takes_nothing_and_that_message_was_not_taken() -> None:
    with Grav(send_timeout=1.0) as grav:
        receiver, sender = grav.connect(), grav.connect()
        collected = Collector()
        receiver.on_type("x", collected)
        taken = 0

        def send() -> None:
            nonlocal taken
            while taken < 100_000:
                sender.publish("x", taken)
                taken += 1

        with stopped(bus_pid(grav)), pytest.raises(BusBusyError, match="taken nothing"):
            send()
        settle(sender)
        assert collected.data == list(range(taken))


def test_a_pod_that_gave_up_before_a_stopped_bus_admitted_it_does_not_stay() -> None:
    with Grav() as grav:
        link = grav._link
        assert link is not None
        with stopped(bus_pid(grav)), pytest.raises(BusBusyError, match="no bus answered"):
            Pod(link, "late", PodSettings())._join(timeout=0.05)
        # Its HELLO is on the way before the first of these questions.
        for _ in range(10_000):
            rows = grav.ask("grav.sys.bus.pods", to="grav.bus", timeout=LIMIT)
            if all(row["name"] != "late" for row in rows):
                return
        pytest.fail("it stands on the bus for as long as its link lives")


@pytest.mark.slow
def test_memory_is_bounded_while_a_process_is_stopped_and_its_senders_run_on() -> None:
    with Grav() as grav, listener(grav) as pid:
        sender, quick = grav.connect(), grav.connect()
        collected = Collector()
        quick.on_type("other", collected)
        before = rss(bus_pid(grav))
        with stopped(pid):
            for _ in range(5000):  # some 300 MiB: five times what a mailbox, or the sender, holds
                sender.publish("x", bytes(64 * 1024))
            sender.publish("other", 1)
            collected.wait(1)
            stats = grav.stats()
            assert stats["held_bytes"] <= 80 * MIB
            assert stats["dead_letters"]["overflow"] > 1000
            assert sender._core.outbox.retained_bytes <= 72 * MIB
            assert rss(bus_pid(grav)) - before < 400 * MIB
