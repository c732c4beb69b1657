"""One node or bus for each directory."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from grav_actors.cli.failure import REFUSED, Failure
from grav_actors.project import (
    BUS_LOCK,
    NODE_LOCK,
    FolderLock,
    FolderLockedError,
    find_running,
    is_locked,
    lock_owner,
    project_folder,
)

ORPHAN_PATIENCE = 3.0
"""Seconds that the bus of a node that was killed may take to end."""
LOOK_INTERVAL = 0.02


@contextmanager
def project_lock(directory: Path) -> Generator[FolderLock]:
    """Be the only one that runs a node, or a bus alone, for a directory.

    Yields:
        The held lock `node.lock`, in the run folder of the directory.

    Raises:
        Failure: Another process does.
    """
    folder = project_folder(directory)
    lock = FolderLock(folder / NODE_LOCK)
    try:
        lock.acquire()
    except FolderLockedError as exc:
        raise _refusal(directory, exc.pid) from exc
    try:
        _check_other_folders(directory, folder)
        _wait_for_orphan(directory, folder)
        yield lock
    finally:
        lock.release()


def _check_other_folders(directory: Path, folder: Path) -> None:
    # With another XDG_RUNTIME_DIR or TMPDIR the run folder of the same directory is elsewhere.
    running = find_running(directory)
    if running is not None and running.directory == directory.resolve() and running.folder != folder:
        pid = lock_owner(running.folder / NODE_LOCK) if is_locked(running.folder / NODE_LOCK) else running.pid
        raise _refusal(directory, pid)


def _wait_for_orphan(directory: Path, folder: Path) -> None:
    deadline = time.monotonic() + ORPHAN_PATIENCE
    while is_locked(folder / BUS_LOCK):
        if time.monotonic() >= deadline:
            raise _refusal(directory, lock_owner(folder / BUS_LOCK))
        time.sleep(LOOK_INTERVAL)


def _refusal(directory: Path, pid: int | None) -> Failure:
    owner = f" (process {pid})" if pid is not None else ""
    return Failure(f"{directory} has a running node already{owner}; `grav-actors down` ends it", REFUSED)
