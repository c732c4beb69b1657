"""Processes as the system lists them."""

from __future__ import annotations

import os
import select
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from support.collecting import LIMIT


def descendants(pid: int) -> set[int]:
    """Return the processes that descend from one."""
    children: dict[int, set[int]] = defaultdict(set)
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                parent = (folder / "stat").read_text(encoding="utf-8").rpartition(") ")[2].split()[1]
                children[int(parent)].add(int(folder.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        new = children[todo.pop()] - found
        found |= new
        todo += new
    return found


def wait_dead(pids: Iterable[int]) -> None:
    """Return when none of these processes is left, not even as a zombie."""
    deadline = time.monotonic() + LIMIT
    for pid in pids:
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, f"{pid} lives"
            time.sleep(0.001)


def await_ends(pids: Iterable[int], deadline: float) -> bool:
    """Wait until processes have ended, at most until a monotonic time; return whether they have."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poller = select.poll()  # not select(): a descriptor may be above 1,023
            poller.register(descriptor, select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return False
        finally:
            os.close(descriptor)
    return True
