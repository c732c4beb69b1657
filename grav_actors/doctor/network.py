"""The network of this machine: interfaces, multicast, ports, firewalls. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from grav_actors.doctor.finding import Finding, ok, warning, wrong

NO_MULTICAST = 'find nodes by a list of peers instead: peers = ["tcp://HOST:PORT"] in [mesh]'


@dataclass(frozen=True, slots=True)
class Echo:
    """What became of a beacon that was sent on one interface by one family of addresses.

    Attributes:
        address: From where it was sent.
        error: Why it was not sent; "" when it was.
        came_back: Whether this machine has heard it.
        others: Beacons of others that were heard meanwhile.
    """

    interface: str
    address: str
    is_loopback: bool = False
    error: str = ""
    came_back: bool = False
    others: int = 0


def judge_interfaces(echoes: Sequence[Echo], wanted: Sequence[str]) -> list[Finding]:
    """Say whether there is a network to find nodes on.

    Args:
        wanted: Interfaces that the configuration names; empty for all.
    """
    names = {echo.interface for echo in echoes}
    findings = [
        wrong(
            "interfaces",
            f"{name} is not up, has no address, or does not exist",
            "correct `interfaces` in [mesh.beacon]",
        )
        for name in wanted
        if name not in names
    ]
    if not echoes:
        findings.append(wrong("interfaces", "none is up with an address", "connect this machine to a network"))
    elif not wanted and all(echo.is_loopback for echo in echoes):
        text = "only the loopback is up: nodes of this machine can be found, others not"
        findings.append(warning("interfaces", text, "connect this machine to a network"))
    else:
        findings.append(ok("interfaces", ", ".join(f"{echo.interface} {echo.address}" for echo in echoes)))
    return findings


def judge_multicast(echoes: Sequence[Echo], port: int) -> list[Finding]:
    """Say for each interface whether beacons are sent and heard there."""
    return [_judge_echo(echo, port) for echo in echoes]


def _judge_echo(echo: Echo, port: int) -> Finding:
    where = f"{echo.interface} {echo.address}"
    if echo.error:
        return _blame(echo, wrong("multicast", f"{where}: no beacon can be sent: {echo.error}", NO_MULTICAST))
    if not echo.came_back:
        remedy = f"let UDP port {port} in: a firewall of this machine may drop it; or {NO_MULTICAST}"
        return _blame(echo, wrong("multicast", f"{where}: a beacon was sent and not heard", remedy))
    others = {0: "none of others meanwhile", 1: "1 of others"}.get(echo.others, f"{echo.others} of others")
    return ok("multicast", f"{where}: the own beacon was heard, {others}")


def _blame(echo: Echo, finding: Finding) -> Finding:
    """Return a finding that is the lesser on the loopback: it only keeps nodes of this machine apart."""
    return warning(finding.check, finding.seen, finding.remedy) if echo.is_loopback else finding


class Listening(Enum):
    """Whether a node can listen on an endpoint."""

    FREE = "free"
    OWN = "own"
    """The node that runs here does."""
    TAKEN = "taken"
    NO_ADDRESS = "no address"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"
    """It cannot be tried from outside."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What a node is to listen on.

    Attributes:
        endpoint: As configured.
        detail: What the system said.
    """

    endpoint: str
    listening: Listening
    detail: str = ""


def judge_listener(facts: Listener) -> Finding:
    """Say whether a node can listen there."""
    endpoint = facts.endpoint
    match facts.listening:
        case Listening.FREE:
            return ok("port", f"{endpoint} is free to listen on")
        case Listening.OWN:
            return ok("port", f"the node that runs here listens on {endpoint}")
        case Listening.TAKEN:
            remedy = "choose another port for `listen` in [mesh], or end who has it: `ss -ltnp` shows who"
            return wrong("port", f"another program listens on {endpoint}", remedy)
        case Listening.NO_ADDRESS:
            remedy = "correct `listen` in [mesh]; tcp://0.0.0.0:PORT stands for every address"
            return wrong("port", f"{endpoint} is no address of this machine: {facts.detail}", remedy)
        case Listening.FORBIDDEN:
            remedy = "choose a port above 1023 for `listen` in [mesh]"
            return wrong("port", f"this user may not listen on {endpoint}: {facts.detail}", remedy)
        case Listening.UNKNOWN:
            return ok("port", f"{endpoint}: {facts.detail or 'only its transport can tell'}")


@dataclass(frozen=True, slots=True)
class Firewall:
    """A firewall of this machine that may be in the way.

    Attributes:
        name: `ufw`, `firewalld`, or "" when neither is on.
    """

    name: str


def judge_stream(facts: Listener) -> list[Finding]:
    """Say whether the second port of the transport is its usual one; nothing when it is."""
    if facts.listening is not Listening.TAKEN:
        return []
    remedy = "choose another port for `listen` in [mesh], if a firewall is to let the other one in"
    return [warning("port", f"another program listens on {facts.endpoint}; any free port is taken instead", remedy)]


def judge_firewall(facts: Firewall, tcp: Sequence[int], udp: int | None) -> Finding:
    """Say which ports have to be open.

    Args:
        tcp: Ports on which the node listens; none when it chooses them itself.
        udp: Port of the beacons; None without them.
    """
    ports = [*((port, "tcp") for port in tcp), *(((udp, "udp"),) if udp is not None else ())]
    if not ports:
        return ok("firewall", "nothing of this node has to be let in")
    texts = ", ".join(f"{port}/{kind}" for port, kind in ports)
    match facts.name:
        case "ufw":
            commands = " && ".join(f"sudo ufw allow {port}/{kind}" for port, kind in ports)
        case "firewalld":
            options = " ".join(f"--add-port={port}/{kind}" for port, kind in ports)
            commands = f"sudo firewall-cmd --permanent {options} && sudo firewall-cmd --reload"
        case _:
            return ok("firewall", f"neither ufw nor firewalld is on; whatever else filters must let in {texts}")
    return warning("firewall", f"{facts.name} is on: it must let in {texts}", f"unless that is done: {commands}")


@dataclass(frozen=True, slots=True)
class Reach:
    """An endpoint of the list of peers, tried by TCP.

    Attributes:
        error: Why nobody could be reached; "" when somebody listens.
    """

    endpoint: str
    error: str = ""


def judge_reach(facts: Reach) -> Finding:
    """Say whether somebody listens at a peer's endpoint."""
    if not facts.error:
        return ok("peer", f"somebody listens at {facts.endpoint}")
    remedy = (
        "refused: start the node there, and check its `listen`; timed out or no route: check address, cable and the"
        " firewall of that machine"
    )
    return warning("peer", f"nobody can be reached at {facts.endpoint}: {facts.error}", remedy)
