"""Free ports of this machine."""

import contextlib
import socket


def free_udp_port() -> int:
    """Return a UDP port that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def free_tcp_port(*, below: int = 65_536) -> int:
    """Return a TCP port under a limit that nobody uses now; one that the system would not hand out by itself."""
    for port in range(below - 1, 10_000, -1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
    raise OSError(f"no TCP port under {below} is free")
