"""Labs on this machine, and how one is taken down, whatever became of its owner.

The name of a lab, `lanlab-<owner's pid>-<owner's start time>-<random>`, begins the name of each of its
namespaces: a leftover tells whether its owner still lives.
"""

import contextlib
import os
import random
import re
import select
import shutil
import signal
import time
from pathlib import Path

from support.lanlab.namespaces import is_alive, kill_all, names, process_state, run_command

PREFIX = "lanlab-"
STATE_BASE = Path("/run/lanlab")

_NAME = re.compile(re.escape(PREFIX) + r"(\d+)-(\d+)-[0-9a-f]{4}(?=-|$)")


def new_name() -> str:
    """Return a name for a lab of this process."""
    state = process_state(os.getpid())
    assert state is not None
    return f"{PREFIX}{os.getpid()}-{state[1]}-{random.SystemRandom().getrandbits(16):04x}"


def state_folder(lab: str) -> Path:
    """Return the folder of a lab's files."""
    return STATE_BASE / lab.removeprefix(PREFIX)


def labs() -> list[tuple[str, int, bool]]:
    """Return each lab on this machine: its name, its owner's pid, and whether the owner lives."""
    entries = names(PREFIX)
    with contextlib.suppress(FileNotFoundError):
        entries += [PREFIX + path.name for path in STATE_BASE.iterdir()]
    matches = [match for entry in entries if (match := _NAME.match(entry))]
    found = {match[0]: (int(match[1]), int(match[2])) for match in matches}
    return [(name, pid, is_alive(pid, start)) for name, (pid, start) in sorted(found.items())]


def purge() -> list[str]:
    """Remove labs whose owner is gone; those of living owners stay."""
    gone = [name for name, _, alive in labs() if not alive]
    for name in gone:
        remove(name)
    return gone


def remove(lab: str) -> None:
    """Take one lab down whole: processes, namespaces, files. Safe to repeat."""
    spaces = names(lab)
    for space in spaces:
        kill_all(space)
    switch = f"{lab}-sw"
    if switch in spaces:  # links first: the kernel frees namespaces when it likes
        for line in run_command("ip", "-n", switch, "-o", "link", fails=True).splitlines():
            device = line.split(": ")[1].split("@")[0] if ": " in line else ""
            if device not in ("", "lo"):
                run_command("ip", "-n", switch, "link", "del", device, fails=True)
    for space in spaces:
        run_command("ip", "netns", "del", space, fails=True)
    shutil.rmtree(state_folder(lab), ignore_errors=True)
    with contextlib.suppress(OSError):
        STATE_BASE.rmdir()


def watch_owner(pid: int, start: int, lab: str) -> None:
    """Outlive the owner by a moment and remove its lab, whatever has ended it: a process of its own runs this."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        if is_alive(pid, start):
            select.select([descriptor], [], [])
    for pause in (0.1, 0.5):  # twice: a command of the owner may still be running
        time.sleep(pause)
        remove(lab)
