"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

ENOUGH = 65_536
"""Descriptors; a process actor takes five of its parent's, and each process one of the bus's."""


def allow_descriptors() -> None:
    """Raise the limit on open descriptors towards what the system allows this user, at most to `ENOUGH`.

    The usual 1,024 are for programs that wait by `select`, which cannot use more. Nothing here does, and the limit of
    a process that opens few is no matter. A lower limit of the system is left as it is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a second limit that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
