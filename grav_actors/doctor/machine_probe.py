"""Looks at the machine: versions, limits, folders, the clock."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import resource
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar

import zmq

from grav_actors.doctor.machine import Folders, Limits, Versions
from grav_actors.errors import ConfigError
from grav_actors.project import BUS_SOCKET, LONGEST_SOCKET_PATH, project_folder
from grav_actors.supervisor.pipes import slate_file

PACKAGES = ("grav-actors", "pyzmq", "msgpack", "click")

_STA_UNSYNC = 0x40


def look_at_versions() -> Versions:
    """Return what is installed."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # run from a checkout that is not installed
            found[name] = version(name)
    major, minor, patch = zmq.zmq_version_info()[:3]
    return Versions(
        f"Python {platform.python_version()}",
        f"{platform.system()} {platform.release()}",
        found,
        (int(major), int(minor), int(patch)),
        bool(zmq.has("curve")),
    )


def look_at_limits() -> Limits:
    """Return what this process may have; what `up` is started with may be another, in a service say."""
    soft, hard = (-1 if each == resource.RLIM_INFINITY else each for each in resource.getrlimit(resource.RLIMIT_NOFILE))
    with zmq.Context() as context:
        sockets = int(context.get(zmq.SOCKET_LIMIT))
    return Limits(soft, hard, sockets, _why_no_shared_memory())


def _why_no_shared_memory() -> str:
    """Do what a supervisor does for each actor process."""
    try:
        fd = slate_file(mmap.PAGESIZE)
        try:
            with mmap.mmap(fd, mmap.PAGESIZE) as memory:
                memory[0] = 1
        finally:
            os.close(fd)
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def look_at_folders(directory: Path) -> Folders:
    """Return where the files of a node of this directory would be; its run folder is made if it is not there."""
    temporary = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile():
            free = shutil.disk_usage(temporary).free
    except OSError:
        free = -1
    try:
        run = project_folder(directory)
    except ConfigError as exc:
        return Folders("", 0, LONGEST_SOCKET_PATH, str(temporary), free, str(exc))
    length = len(os.fsencode(run / BUS_SOCKET))
    return Folders(str(run), length, LONGEST_SOCKET_PATH, str(temporary), free)


class _Timex(ctypes.Structure):
    """`struct timex` of Linux as far as its status; the rest is room."""

    _fields_: ClassVar = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    ]


def is_clock_synchronised() -> bool | None:
    """Return whether the kernel's clock is kept right by a time service; None when the kernel does not say."""
    state = _Timex()  # modes 0: only read
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) == -1:
            return None
    except (OSError, AttributeError):
        return None
    return not state.status & _STA_UNSYNC
