"""The LAN lab itself: hosts reach each other as machines do, and faults are what they say."""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from subprocess import PIPE

import pytest

from support.lanlab import Host, Lan, LanLabError
from support.lanlab.leftovers import PREFIX
from support.lanlab.machine import TESTS
from support.lanlab.namespaces import is_alive, process_state
from support.lanlab.programs import PROGRAM_LIMIT, Start, settles
from support.lanlab.quantities import bits, seconds, share

RECEIVE = """
import socket, struct, sys
group, port, want, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", port))
if group != "broadcast":
    member = struct.pack("4sl", socket.inet_aton(group), socket.INADDR_ANY)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
print("ready", flush=True)
senders, s_count = set(), 0
s.settimeout(limit)
while s_count < want:
    try:
        data, address = s.recvfrom(2000)
    except TimeoutError:
        break
    s_count += 1
    senders.add(address[0])
print(s_count, *sorted(senders), flush=True)
"""
SEND = """
import socket, sys
to, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for number in range(count):
    s.sendto(b"%d" % number, (to, port))
"""
SINK = """
import socket, time
s = socket.create_server(("", 7000))
print("ready", flush=True)
c, (source, _) = s.accept()
size, begin = 0, time.perf_counter()
while data := c.recv(1 << 18):
    size += len(data)
print(size, time.perf_counter() - begin, source, flush=True)
"""
SOURCE = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7000), timeout=5)
s.settimeout(None)
s.sendall(bytes(int(sys.argv[2])))
s.close()
"""
SLEEP = "print('ready', flush=True); import time; time.sleep(60)"

GROUP, PORT = "239.255.77.77", 5670


def median(times: list[float | None]) -> float:
    found = [each for each in times if each is not None]
    assert found, "no answer at all"
    return statistics.median(found)


def deliver(start: Start, sender: Host, receivers: list[Host], to: str, group: str, limit: float) -> dict[str, str]:
    """Have one host send ten datagrams; return what each receiver has counted, and the senders it saw."""
    listening = {host.name: start(host, RECEIVE, group, PORT, 10, limit) for host in receivers}
    sender.run([sys.executable, "-c", SEND, to, PORT, 10])
    return {name: program.communicate(timeout=PROGRAM_LIMIT)[0].strip() for name, program in listening.items()}


def transfer(start: Start, source: Host, target: Host, size: int) -> float:
    """Send so many bytes by TCP; return bits a second."""
    sink = start(target, SINK)
    source.run([sys.executable, "-c", SOURCE, target.ip, size])
    received, elapsed, address = sink.communicate(timeout=PROGRAM_LIMIT)[0].split()
    assert (int(received), address) == (size, source.ip)
    return size * 8 / float(elapsed)


# Hosts are machines of one LAN


@pytest.mark.lan(hosts=3)
def test_hosts_reach_each_other_and_know_their_names(lan: Lan) -> None:
    assert all(lan.is_reachable(asker, asked) for asker in range(3) for asked in range(3) if asker != asked)
    said = lan.host(1).run("hostname; echo $TMPDIR; ip -4 -br addr show eth0")
    assert said.startswith(f"h1\n{lan.host(1).dir}/tmp\n")
    assert lan.host(1).ip in said


@pytest.mark.lan(hosts=3)
@pytest.mark.parametrize(
    ("to", "group"), [(GROUP, GROUP), ("255.255.255.255", "broadcast"), ("10.77.0.255", "broadcast")]
)
def test_multicast_and_broadcast_reach_every_host(lan: Lan, start: Start, to: str, group: str) -> None:
    found = deliver(start, lan.host(0), lan.hosts, to, group, limit=5)

    assert found == {host.name: f"10 {lan.host(0).ip}" for host in lan.hosts}


def test_hosts_have_ipv6(lan: Lan, start: Start) -> None:
    code = (
        "import socket; s = socket.create_server(('::', 7100), family=socket.AF_INET6)\n"
        "print('ready', flush=True); print(s.accept()[1][0])"
    )
    server = start(lan.host(1), code)
    connect = f"import socket; socket.create_connection(('{lan.host(1).ip6}', 7100), 3).close()"
    lan.host(0).run([sys.executable, "-c", connect])

    assert server.communicate(timeout=PROGRAM_LIMIT)[0].strip() == lan.host(0).ip6


def test_further_networks_are_apart(lan: Lan) -> None:
    address = lan.host(0).plug_in(1)
    lan.host(1).plug_in(1)
    assert lan.host(1).run(f"ip route get {address}").split()[:3] == [address, "dev", "eth1"]

    lan.host(0).pull_out(1)

    assert "eth1" not in lan.host(0).run("ip -br link")
    assert lan.is_reachable(0, 1)


def test_labs_do_not_meet(lan: Lan) -> None:
    with Lan(hosts=2) as other:
        lan.partition(0)
        assert not lan.is_reachable(0, 1, 0.3)
        assert other.is_reachable(0, 1)


@pytest.mark.lan(hosts=20)
def test_twenty_hosts_stand(lan: Lan) -> None:
    assert all(lan.is_reachable(0, other) for other in range(1, 20))


# Faults


@pytest.mark.lan(hosts=3)
def test_partition_cuts_both_ways_until_it_is_healed(lan: Lan, start: Start) -> None:
    lan.partition(0, 1)
    assert (lan.is_reachable(0, 1, 0.3), lan.is_reachable(1, 0, 0.3)) == (False, False)
    assert (lan.is_reachable(0, 2), lan.is_reachable(1, 2)) == (True, True)
    found = deliver(start, lan.host(0), lan.hosts[1:], GROUP, GROUP, limit=1)
    assert found == {"h1": "0", "h2": f"10 {lan.host(0).ip}"}

    lan.heal()

    assert lan.is_reachable(0, 1, 5)


def test_one_way_partition_lets_the_other_way_through(lan: Lan, start: Start) -> None:
    lan.partition(0, 1, one_way=True)

    there = deliver(start, lan.host(0), [lan.host(1)], "255.255.255.255", "broadcast", limit=0.6)
    back = deliver(start, lan.host(1), [lan.host(0)], "255.255.255.255", "broadcast", limit=5)

    assert (there, back) == ({"h1": "0"}, {"h0": f"10 {lan.host(1).ip}"})


@pytest.mark.lan(hosts=3)
def test_heal_of_one_pair_leaves_the_others_cut(lan: Lan) -> None:
    lan.partition(0, [1, 2])

    lan.heal(0, 1)

    assert lan.is_reachable(0, 1, 5)
    assert not lan.is_reachable(0, 2, 0.3)


@pytest.mark.lan(hosts=3)
def test_delay_is_added_to_one_host_alone(lan: Lan) -> None:
    lan.netem(0, delay="150ms")
    assert median(lan.ping(0, 1, 3)) >= 0.149
    assert median(lan.ping(1, 2, 3)) < 0.149

    lan.clear_netem(0)

    assert median(lan.ping(0, 1, 3)) < 0.149


def test_jitter_varies_the_delay_of_both_ways(lan: Lan) -> None:
    lan.netem(1, delay="20ms", jitter="5ms", direction="both")

    times = [each for each in lan.ping(0, 1, 20, 0) if each is not None]

    assert min(times) >= 0.0295
    assert max(times) - min(times) > 0.002


def test_loss_loses_frames_and_counts_them(lan: Lan) -> None:
    lan.netem(0, loss="20%", direction="both")
    lan.is_reachable(0, 1)

    times = lan.ping(0, 1, 100, 0, 0.02)

    assert 0.15 < times.count(None) / len(times) < 0.6  # 36 % expected
    counts = lan.netem_stats(0)["egress"]
    assert 0 < counts["lost"] < counts["seen"]


def test_duplicates_are_made(lan: Lan, start: Start) -> None:
    lan.netem(0, duplicate="100%")

    listening = start(lan.host(1), RECEIVE, GROUP, PORT, 20, 5)
    lan.host(0).run([sys.executable, "-c", SEND, GROUP, PORT, 10])

    assert listening.communicate(timeout=PROGRAM_LIMIT)[0].strip() == f"20 {lan.host(0).ip}"


def test_tcp_gets_through_delay_and_loss(lan: Lan, start: Start) -> None:
    lan.netem(0, delay="2ms", loss="1%")

    assert transfer(start, lan.host(0), lan.host(1), 200_000) > 0


@pytest.mark.parametrize("direction", [0, 1])
def test_rate_limits_both_ways(lan: Lan, start: Start, direction: int) -> None:
    lan.rate(1, "10mbit")

    assert transfer(start, lan.host(direction), lan.host(1 - direction), 1_000_000) < 12e6


def test_relay_limits_the_rate_too(lan: Lan, start: Start) -> None:
    lan.netem(1, rate="10mbit", delay="2ms", direction="both", limit=100)

    assert transfer(start, lan.host(1), lan.host(0), 1_000_000) < 12e6


def test_cable_out_and_in(lan: Lan) -> None:
    lan.host(1).link_down()
    assert not lan.is_reachable(0, 1, 0.3)
    assert lan.host(1).run("ip -br link show eth0").split()[1] != "UP"

    lan.host(1).link_up()

    assert lan.is_reachable(0, 1, 5)


def test_frozen_host_stands_still_until_it_is_thawed(lan: Lan, start: Start) -> None:
    program = start(lan.host(1), SLEEP)

    def state() -> str:
        found = process_state(program.pid)
        return found[0] if found else "gone"

    lan.host(1).freeze()
    assert settles(lambda: state() == "T")
    lan.host(1).thaw()
    assert settles(lambda: state() == "S")


@pytest.mark.lan(hosts=3)
def test_power_cut_is_silent_and_booting_keeps_partitions(lan: Lan, start: Start) -> None:
    code = """
import socket
s = socket.create_server(("", 7300))
print("ready", flush=True)
c, _ = s.accept()
print("connected", flush=True)
c.settimeout(1)
try:
    print(c.recv(10))
except TimeoutError:
    print("silence")
"""
    server = start(lan.host(0), code)
    connect = f"import socket; s = socket.create_connection(('{lan.host(0).ip}', 7300)); {SLEEP}"
    start(lan.host(1), connect)
    assert server.stdout is not None
    assert server.stdout.readline() == "connected\n"
    lan.partition(1, 2)
    pids = lan.host(1).pids()

    lan.host(1).kill()

    assert pids
    assert not any(map(is_alive, pids))
    assert server.communicate(timeout=PROGRAM_LIMIT)[0].strip() == "silence"
    with pytest.raises(LanLabError, match="h1 is switched off"):
        lan.host(1).run("true")
    lan.host(1).boot()
    assert lan.is_reachable(0, 1)
    assert not lan.is_reachable(2, 1, 0.3)


def test_script_of_faults_runs_by_the_lab_clock(lan: Lan) -> None:
    lan.at(lan.clock() + 0.1, lan.partition, 0)
    lan.at(lan.clock() + 0.2, lan.heal)

    assert settles(lambda: [event["event"] for event in lan.events][-2:] == ["partition", "heal"])
    assert lan.is_reachable(0, 1, 5)


@pytest.mark.lan(hosts=3)
def test_command_line_acts_on_a_lab_of_another_process(lan: Lan) -> None:
    name = lan.lab.removeprefix(PREFIX)

    def run(*words: str) -> str:
        argv = [sys.executable, "-m", "support.lanlab", *words]
        return subprocess.run(argv, cwd=TESTS, check=True, text=True, stdout=PIPE).stdout

    assert f"{name} owner {os.getpid()} running" in run("list")
    assert run("exec", name, "2", "--", "hostname") == "h2\n"
    run("partition", name, "0", "1")
    assert not lan.is_reachable(0, 1, 0.3)
    run("heal", name)
    run("netem", name, "0", "--delay", "150ms")
    assert median(lan.ping(0, 2, 3)) >= 0.149
    run("netem", name, "0", "--clear")
    assert median(lan.ping(0, 2, 3)) < 0.149


# Quantities, which need no lab


def test_quantities_are_read() -> None:
    assert (seconds("20ms"), seconds(0.5), share("1%"), share(0.25), bits("10mbit")) == (0.02, 0.5, 0.01, 0.25, 1e7)


@pytest.mark.parametrize(("read", "text"), [(seconds, "20 parsecs"), (share, "120%"), (bits, "fast")])
def test_what_is_no_quantity_is_refused(read: Callable[[str], float], text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read|is not between"):
        read(text)


@pytest.mark.parametrize("arguments", [{"hosts": 0}, {"hosts": 201}, {"net": 256}])
def test_impossible_labs_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"hosts must be 1\.\.200 and net 0\.\.255"):
        Lan(**arguments)
