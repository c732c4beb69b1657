"""What the doctor says of the network: interfaces, multicast, ports, firewalls, peers."""

from dataclasses import replace

import pytest

from grav_actors.doctor.finding import State
from grav_actors.doctor.network import (
    Echo,
    Firewall,
    Listener,
    Listening,
    Reach,
    judge_firewall,
    judge_interfaces,
    judge_listener,
    judge_multicast,
    judge_reach,
    judge_stream,
)

ETH = Echo("eth0", "10.0.0.1", came_back=True)
LOOPBACK = Echo("lo", "127.0.0.1", is_loopback=True, came_back=True)


def test_interfaces_are_listed_with_their_addresses() -> None:
    (finding,) = judge_interfaces([LOOPBACK, ETH], ())
    assert (finding.state, finding.seen) == (State.OK, "lo 127.0.0.1, eth0 10.0.0.1")


def test_loopback_alone_is_a_warning_and_nothing_is_wrong() -> None:
    assert judge_interfaces([LOOPBACK], ())[0].state is State.WARNING
    assert judge_interfaces([], ())[0].state is State.WRONG


def test_loopback_alone_is_ok_for_who_has_named_it() -> None:
    assert judge_interfaces([LOOPBACK], ("lo",))[0].state is State.OK


def test_interface_that_is_configured_and_not_there_is_wrong() -> None:
    findings = judge_interfaces([ETH], ("eth0", "wlan0"))
    assert [finding.seen.split()[0] for finding in findings if finding.state is State.WRONG] == ["wlan0"]


@pytest.mark.parametrize(
    ("echo", "state", "text"),
    [
        (ETH, State.OK, "heard, none of others"),
        (replace(ETH, others=1), State.OK, "heard, 1 of others"),
        (replace(ETH, others=3), State.OK, "heard, 3 of others"),
        (replace(ETH, came_back=False), State.WRONG, "sent and not heard"),
        (replace(ETH, came_back=False, error="Network is unreachable"), State.WRONG, "Network is unreachable"),
        (replace(LOOPBACK, came_back=False), State.WARNING, "sent and not heard"),
    ],
)
def test_multicast_is_judged_by_whether_the_own_beacon_comes_back(echo: Echo, state: State, text: str) -> None:
    (finding,) = judge_multicast([echo], 7471)
    assert finding.state is state
    assert text in finding.seen
    assert ("peers" in finding.remedy) == (state is not State.OK)


@pytest.mark.parametrize(
    ("listening", "state"),
    [
        (Listening.FREE, State.OK),
        (Listening.OWN, State.OK),
        (Listening.UNKNOWN, State.OK),
        (Listening.TAKEN, State.WRONG),
        (Listening.NO_ADDRESS, State.WRONG),
        (Listening.FORBIDDEN, State.WRONG),
    ],
)
def test_endpoint_on_which_nobody_can_listen_is_wrong(listening: Listening, state: State) -> None:
    finding = judge_listener(Listener("tcp://10.0.0.1:7470", listening, "why"))
    assert finding.state is state
    assert "tcp://10.0.0.1:7470" in finding.seen
    assert bool(finding.remedy) == (state is not State.OK)


def test_second_port_that_is_taken_is_a_warning_as_another_one_is_used() -> None:
    assert judge_stream(Listener("tcp://0.0.0.0:17470", Listening.FREE)) == []
    (finding,) = judge_stream(Listener("tcp://0.0.0.0:17470", Listening.TAKEN))
    assert finding.state is State.WARNING


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ufw", "sudo ufw allow 7470/tcp && sudo ufw allow 17470/tcp && sudo ufw allow 7471/udp"),
        ("firewalld", "--add-port=7470/tcp --add-port=17470/tcp --add-port=7471/udp"),
    ],
)
def test_firewall_that_is_on_gets_the_commands_that_open_it(name: str, remedy: str) -> None:
    finding = judge_firewall(Firewall(name), [7470, 17470], 7471)
    assert finding.state is State.WARNING
    assert remedy in finding.remedy


def test_without_a_known_firewall_the_ports_are_named_all_the_same() -> None:
    finding = judge_firewall(Firewall(""), [7470], 7471)
    assert finding.state is State.OK
    assert "7470/tcp, 7471/udp" in finding.seen


def test_node_that_needs_no_port_needs_no_firewall() -> None:
    assert judge_firewall(Firewall("ufw"), [], None).state is State.OK
    assert "7471/udp" in judge_firewall(Firewall("ufw"), [], 7471).remedy


def test_peer_that_cannot_be_reached_is_a_warning() -> None:
    assert judge_reach(Reach("tcp://cellar:7470")).state is State.OK
    finding = judge_reach(Reach("tcp://cellar:7470", "Connection refused"))
    assert finding.state is State.WARNING
    assert "Connection refused" in finding.seen
