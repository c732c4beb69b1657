"""Programs on the hosts of a lab."""

from collections.abc import Callable
from subprocess import Popen

Start = Callable[..., Popen[str]]
"""`start(host, code, *arguments)`, see the fixture of that name."""

PROGRAM_LIMIT = 10.0
"""Seconds that a program may take to end or to answer."""
