"""Whether a lab can be built on this machine, and what runs beside it."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO

from support.lanlab.leftovers import new_name
from support.lanlab.namespaces import LanLabError, run_command

TESTS = Path(__file__).resolve().parents[2]
_SIDE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from support.lanlab.__main__ import main; sys.exit(main())"


def side_argv(*arguments: str) -> list[str]:
    """Return the command line of a process beside a lab, which the environment cannot influence."""
    return [sys.executable, "-I", "-c", _SIDE, str(TESTS), *arguments]


def start_side(
    *arguments: str, prefix: tuple[str, ...] = (), stdout: int = subprocess.DEVNULL, stderr: int | IO[str]
) -> subprocess.Popen[bytes]:
    """Start a process beside a lab, in a session of its own."""
    argv = [*prefix, *side_argv(*arguments)]
    return subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)


@cache
def why_not() -> str:
    """Return "" when a lab can run here, else the reason, for `pytest.skip`."""
    if not sys.platform.startswith("linux"):
        return "the LAN lab needs Linux"
    if os.geteuid() != 0:
        return "the LAN lab needs root, for network namespaces"
    for tool in ("ip", "tc"):
        if not shutil.which(tool):
            return f'the LAN lab needs the program "{tool}" (apt install iproute2)'
    if not hasattr(os, "pidfd_open"):
        return "the LAN lab needs Linux 5.3 or newer"
    name = f"{new_name()}-probe"
    try:
        run_command("ip", "netns", "add", name)
        run_command("ip", "-n", name, "link", "add", "name", "br0", "type", "bridge")
        run_command("ip", "-n", name, "link", "add", "name", "vtha", "type", "veth", "peer", "name", "vthb")
        run_command("tc", "-n", name, "qdisc", "add", "dev", "vtha", "clsact")
    except LanLabError as exc:
        return f"no LAN lab can be built here: {exc}"
    finally:
        run_command("ip", "netns", "del", name, fails=True)
    return ""
