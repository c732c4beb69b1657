"""Programs on the hosts of a lab."""

import time
from collections.abc import Callable
from subprocess import Popen

Start = Callable[..., Popen[str]]
"""`start(host, code, *arguments)`, see the fixture of that name."""

PROGRAM_LIMIT = 10.0
"""Seconds that a program may take to end or to answer."""


def settles(state: Callable[[], bool], limit: float = 5.0) -> bool:
    """Tell whether something becomes true: signals and links take effect when the kernel gets to it."""
    end = time.monotonic() + limit
    while not state():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
