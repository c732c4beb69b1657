"""The machine and what is installed on it: versions, limits, folders, the clock. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grav_actors.doctor.finding import Finding, ok, warning, wrong

OLDEST_LIBZMQ = (4, 3)
"""Before that, heartbeats and limits that the bus and the mesh rely on are missing or wrong."""
FEW_FILES = 1024
"""Open files below which a node with some dozens of actors and peers may run out of them."""
TOO_FEW_FILES = 256
BUS_SOCKETS = 4096
"""ZeroMQ sockets that the bus asks for."""
LITTLE_SPACE = 64 * 1024 * 1024
"""Free bytes below which run files and the reports of actors may not be written."""
SMALL_DRIFT = 1.0
"""Seconds by which clocks of two nodes may differ before timestamps of messages mislead."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What is installed.

    Attributes:
        packages: Version of each package, by name.
        libzmq: As three numbers.
        has_curve: Whether that library can encrypt.
    """

    python: str
    system: str
    packages: Mapping[str, str]
    libzmq: tuple[int, int, int]
    has_curve: bool


def judge_versions(facts: Versions, *, needs_curve: bool) -> list[Finding]:
    """Say whether what is installed will do.

    Args:
        needs_curve: The node is configured to use keys.
    """
    packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items())
    number = ".".join(map(str, facts.libzmq))
    if facts.system.startswith("Linux"):
        first = ok("python", f"{facts.python} on {facts.system}")
    else:
        first = warning("python", f"{facts.python} on {facts.system}", "run it on Linux: it is tested nowhere else")
    if facts.libzmq[:2] < OLDEST_LIBZMQ:
        oldest = ".".join(map(str, OLDEST_LIBZMQ))
        second = wrong(
            "packages", f"{packages}; libzmq {number} is older than {oldest}", "pip install --upgrade pyzmq, as a wheel"
        )
    else:
        second = ok("packages", f"{packages}, libzmq {number}")
    return [first, second, _judge_curve(facts, needs_curve=needs_curve)]


def _judge_curve(facts: Versions, *, needs_curve: bool) -> Finding:
    if facts.has_curve:
        return ok("curve", "libzmq can encrypt and check keys")
    seen, remedy = "libzmq was built without CURVE", "install pyzmq from its wheels, which have it"
    return wrong("curve", f"{seen}, and keys are configured", remedy) if needs_curve else warning("curve", seen, remedy)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the system lets a process have.

    Attributes:
        files, most_files: Open files: the limit now, and up to where it may be raised; -1 for none.
        sockets: ZeroMQ sockets of one context.
        shared_memory: Why memory cannot be shared with a child; "" when it can.
    """

    files: int
    most_files: int
    sockets: int
    shared_memory: str = ""


def judge_limits(facts: Limits) -> list[Finding]:
    """Say whether the limits leave room for a node."""
    findings = [_judge_files(facts)]
    if facts.sockets < BUS_SOCKETS:
        text = f"a ZeroMQ context may have {facts.sockets} sockets, the bus asks for {BUS_SOCKETS}"
        findings.append(warning("sockets", text, "install pyzmq from its wheels"))
    else:
        findings.append(ok("sockets", f"a ZeroMQ context may have {facts.sockets}"))
    if facts.shared_memory:
        text = f"memory cannot be shared with actor processes: {facts.shared_memory}"
        remedy = "free memory or raise the limits of this user or container: process actors do not start so"
        findings.append(wrong("memory", text, remedy))
    else:
        findings.append(ok("memory", "can be shared with actor processes"))
    return findings


def _judge_files(facts: Limits) -> Finding:
    if facts.files == -1 or facts.files >= FEW_FILES:
        return ok("open files", "no limit" if facts.files == -1 else f"at most {facts.files}")
    if facts.most_files == -1 or facts.most_files >= FEW_FILES:
        raise_to = FEW_FILES if facts.most_files == -1 else facts.most_files
        remedy = f"ulimit -n {raise_to} before `up`, or LimitNOFILE={raise_to} in its systemd unit"
    else:
        remedy = f"have the hard limit of {facts.most_files} raised: /etc/security/limits.conf, or LimitNOFILE="
    make = wrong if facts.files < TOO_FEW_FILES else warning
    return make("open files", f"at most {facts.files}; every actor process and every peer takes some", remedy)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where files of a running node are.

    Attributes:
        run: The run folder of this directory; "" when it cannot be had.
        socket_bytes: Bytes of the path of the bus's socket, of at most `most_socket_bytes`.
        problem: Why there is no run folder.
        temporary: The folder for temporary files, with its free bytes; -1 when nothing can be written there.
    """

    run: str
    socket_bytes: int
    most_socket_bytes: int
    temporary: str
    free: int
    problem: str = ""


def judge_folders(facts: Folders) -> list[Finding]:
    """Say whether a bus can have its socket and files."""
    if facts.problem:
        # The reason names its own remedy.
        findings = [
            wrong("run folder", facts.problem, "see the reason; or set XDG_RUNTIME_DIR to a folder of your own")
        ]
    else:
        text = f"{facts.run}, socket path of {facts.socket_bytes} of {facts.most_socket_bytes} bytes"
        findings = [ok("run folder", text)]
    if facts.free == -1:
        findings.append(wrong("temporary files", f"{facts.temporary} cannot be written", "set TMPDIR to one that can"))
    elif facts.free < LITTLE_SPACE:
        text = f"{facts.temporary} has {facts.free // 1024} KiB left"
        findings.append(warning("temporary files", text, "make room there, or set TMPDIR to another folder"))
    else:
        findings.append(ok("temporary files", f"{facts.temporary}, {facts.free // 1024 // 1024} MiB free"))
    return findings


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of this machine.

    Attributes:
        is_synchronised: Whether the kernel says so; None when it says nothing.
        drifts: Seconds by which the clocks of peers are ahead of this one, by their names.
    """

    is_synchronised: bool | None
    drifts: Mapping[str, float]


def judge_clock(facts: Clock) -> list[Finding]:
    """Say whether timestamps can be compared between nodes."""
    remedy = "run a time service (systemd-timesyncd, chrony) here; timestamps of messages are those of their sender"
    if facts.is_synchronised is False:
        findings = [warning("clock", "no time service keeps the clock of this machine right", remedy)]
    else:
        said = "is kept right by a time service" if facts.is_synchronised else "cannot say whether it is kept right"
        findings = [ok("clock", f"the clock of this machine {said}")]
    both = "run a time service (systemd-timesyncd, chrony) on both machines; order and delivery do not depend on clocks"
    for name, drift in facts.drifts.items():
        side = "ahead of" if drift > 0 else "behind"
        text = f"the clock of node {name} is {abs(drift):.1f} s {side} this one"
        if abs(drift) > SMALL_DRIFT:
            findings.append(warning("clock of peer", text, both))
        else:
            findings.append(ok("clock of peer", text))
    return findings
