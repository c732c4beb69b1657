"""Nothing of a LAN lab stays behind, however its owner ends, and the machine's own network is left alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from support.lanlab import Lan, purge, why_not
from support.lanlab.leftovers import state_folder
from support.lanlab.machine import TESTS
from support.lanlab.namespaces import is_alive, names
from support.lanlab.programs import PROGRAM_LIMIT, settles

OWNER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from support.lanlab import Lan
lan = Lan(hosts=2)
lan.netem(0, delay="5ms")
one = lan.host(0).popen(["sleep", "300"])
two = lan.host(1).popen(["sh", "-c", "trap '' TERM HUP INT; sleep 300; sleep 300"], start_new_session=True)
print(lan.lab, one.pid, two.pid, flush=True)
"""
STAY = "time.sleep(60)"


class Owner:
    """A process with a lab of its own."""

    def __init__(self, last_words: str) -> None:
        argv = [sys.executable, "-W", "ignore", "-c", OWNER + last_words, str(TESTS)]
        self.process: Popen[str] = Popen(argv, text=True, stdout=PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        self.lab, *pids = self.process.stdout.readline().split()
        self.pids = [int(pid) for pid in pids]

    def leftovers(self) -> list[Any]:
        """Return what there still is of the lab: namespaces, files, processes."""
        files = [folder for folder in [state_folder(self.lab)] if folder.exists()]
        return [*names(self.lab), *files, *(pid for pid in (*self.pids, *side_pids(self.lab)) if is_alive(pid))]

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PROGRAM_LIMIT)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def make_owner() -> Generator[Callable[[str], Owner]]:
    """Return `make(last_words)`: an `Owner`, which is ended, with its lab, after the test."""
    if reason := why_not():
        pytest.skip(reason)
    owners: list[Owner] = []

    def make(last_words: str) -> Owner:
        owners.append(Owner(last_words))
        return owners[-1]

    yield make
    for owner in owners:
        owner.end()
    assert settles(lambda: not any(owner.leftovers() for owner in owners), 10)


def side_pids(lab: str) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            try:
                command = (path / "cmdline").read_bytes()
            except OSError:
                continue
            if lab.encode() in command:
                found.append(int(path.name))
    return found


@pytest.mark.parametrize(
    ("last_words", "number"),
    [
        ("lan.close()", None),
        ("", None),
        ("raise RuntimeError", None),
        (STAY, signal.SIGINT),
        (STAY, signal.SIGTERM),
        (STAY, signal.SIGKILL),
        ("os._exit(3)", None),
    ],
    ids=["close", "exit", "exception", "ctrl_c", "sigterm", "sigkill", "os_exit"],
)
def test_nothing_is_left_however_the_owner_ends(
    make_owner: Callable[[str], Owner], last_words: str, number: int | None
) -> None:
    owner = make_owner(last_words)
    if number is not None:
        assert owner.leftovers(), "the lab should stand"
        owner.process.send_signal(number)

    owner.process.wait(PROGRAM_LIMIT)

    assert settles(lambda: not owner.leftovers(), 10)


def test_purge_removes_labs_of_dead_owners_and_spares_the_living(make_owner: Callable[[str], Owner]) -> None:
    living, dead = make_owner(STAY), make_owner(STAY)
    for pid in side_pids(dead.lab):  # its janitor first, so that nobody else clears up
        if b"_janitor" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    dead.end()
    assert dead.leftovers()

    removed = purge()

    assert dead.lab in removed
    assert living.lab not in removed
    assert len(names(living.lab)) == 3
    assert settles(lambda: not dead.leftovers())


def test_network_of_the_machine_stays_as_it_is() -> None:
    if reason := why_not():
        pytest.skip(reason)
    before = own_network()

    with Lan(hosts=2) as lan:
        lan.host(0).plug_in(1)
        during = own_network()

    assert (during, own_network()) == (before, before)


def own_network() -> list[str]:
    """Return addresses and routes of the machine, without what runs down."""
    picture = []
    for what in (("addr",), ("route",), ("-6", "route")):
        entries = json.loads(subprocess.run(["ip", "-j", *what], stdout=PIPE, text=True, check=True).stdout or "[]")
        for entry in entries:
            for address in entry.get("addr_info", []):
                for key in ("valid_life_time", "preferred_life_time"):
                    address.pop(key, None)
            entry.pop("expires", None)
            picture.append(json.dumps(entry, sort_keys=True))
    return picture
