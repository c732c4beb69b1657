"""Network namespaces by name: entering one, and the processes in it."""

import contextlib
import ctypes
import fcntl
import os
import shlex
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

NETNS_DIR = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
_OFFLOADS = (0x17, 0x19, 0x1F, 0x24)  # STXCSUM SSG STSO SGSO


class LanLabError(RuntimeError):
    """Something the lab needs is missing, or one of its commands failed."""


def run_command(*argv: str, fails: bool = False) -> str:
    """Run a command and return its output; raise with its own words when it fails, unless it may."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and not fails:
        raise LanLabError(f"{shlex.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def process_state(pid: int) -> tuple[str, int] | None:
    """Return the state and start time of a process, or None when there is none."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return rest[0].decode(), int(rest[19])
    except (OSError, IndexError, ValueError):
        return None


def is_alive(pid: int, start: int | None = None) -> bool:
    """Tell whether a process runs; with a start time, whether it is still that one."""
    found = process_state(pid)
    return found is not None and start in (None, found[1]) and found[0] not in "ZX"


@contextlib.contextmanager
def inside(name: str) -> Generator[None]:
    """Move the calling thread into a namespace for the block."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NETNS_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set_namespace(home)
    finally:
        os.close(home)


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")


def set_offload(device: str, *, on: bool) -> None:
    """Switch checksums and segmentation on sending of a device, in the current namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS if on else reversed(_OFFLOADS):
            value = ctypes.create_string_buffer(struct.pack("II", command, int(on)))
            request = struct.pack("16sP", device.encode(), ctypes.addressof(value)) + b"\0" * 16
            with contextlib.suppress(OSError):
                fcntl.ioctl(control, _SIOCETHTOOL, request)


def names(prefix: str) -> list[str]:
    """Return the namespaces whose name begins so."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in NETNS_DIR.iterdir() if path.name.startswith(prefix))
    return []


def is_in(name: str, pid: int) -> bool:
    """Tell whether a process is in a namespace."""
    try:
        return os.path.samestat((NETNS_DIR / name).stat(), Path(f"/proc/{pid}/ns/net").stat())
    except OSError:
        return False


def pids_in(name: str) -> list[int]:
    """Return the processes in a namespace, never this one."""
    found = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in found if pid != os.getpid() and is_in(name, pid)]


def signal_all(name: str, number: int) -> list[int]:
    """Signal every process in a namespace; return those that were hit."""
    hit: list[int] = []
    for pid in pids_in(name):
        # Its descriptor and a second look guard against a pid that was given anew.
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if is_in(name, pid):
                    signal.pidfd_send_signal(descriptor, number)
                    hit.append(pid)
            finally:
                os.close(descriptor)
    return hit


def kill_all(name: str, limit: float = 5.0) -> None:
    """Kill every process in a namespace, until there is none."""
    end = time.monotonic() + limit
    while signal_all(name, signal.SIGKILL) and time.monotonic() < end:
        time.sleep(0.01)
