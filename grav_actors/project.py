"""Run folders: where the files of a running node are, one folder per user and project directory.

A run folder holds `bus.sock`, `roster`, the `logbook` of what actors wrote (which stays), and two lock files that stay
when their owners go: `bus.lock`, held by the bus process for its life, and `node.lock`, held by `up` or `bus`. Whoever
holds a lock is the owner, whatever the files say: the system lets go of the lock of a process that was killed.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from grav_actors.errors import ConfigError

BUS_SOCKET: Final = "bus.sock"
BUS_LOCK: Final = "bus.lock"
NODE_LOCK: Final = "node.lock"
ROSTER: Final = "roster"

LONGEST_SOCKET_PATH: Final = 107
"""Bytes; longer ones do not fit into the system's address of a socket."""

_PARENT: Final = "grav-actors"
_HASH_CHARACTERS: Final = 12
_PRIVATE_PREFIX: Final = "p-"
_PRIVATE_ONLY: Final = 0o077
_PROBE_PAUSE_S: Final = 0.001
_PROBE_TRIES: Final = 1000


class FolderLockedError(ConfigError):
    """A lock of a run folder is held by another process.

    Attributes:
        pid: The process that holds it; None when it has not said so yet.
    """

    def __init__(self, text: str, pid: int | None = None) -> None:
        super().__init__(text)
        self.pid = pid


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A bus that runs for a project directory.

    Attributes:
        folder: Its run folder.
        endpoint: Where it listens, `ipc://.../bus.sock`.
        directory: The project directory, as found.
        pid: The bus process; None when it has not said so yet.
    """

    folder: Path
    endpoint: str
    directory: Path
    pid: int | None = None


class FolderLock:
    """A lock file, held by at most one process, until it lets go or dies.

    Not for several threads at once. The file stays when the lock goes: to remove it would let two processes
    hold what they take for the same lock.
    """

    def __init__(self, path: Path) -> None:
        """Name the lock file, such as `folder / BUS_LOCK`; nothing is opened yet."""
        self.path = Path(path)
        self._fd: int | None = None
        self._pid = 0

    @property
    def fd(self) -> int | None:
        """The descriptor that holds the lock; None while it is not held here."""
        return self._fd

    def acquire(self, *, inheritable: bool = False) -> None:
        """Take the lock and write this process's id into the file; does nothing when it is held here already.

        Args:
            inheritable: Whether programs started by this process keep the descriptor open, and so the lock.

        Raises:
            FolderLockedError: Another process, or another lock of this one, holds it.
            ConfigError: The file cannot be opened, or written to.
        """
        if self._fd is not None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(self.path, flags, 0o600)
        except OSError as exc:
            raise ConfigError(f"{self.path}: cannot be opened: {exc.strerror}") from exc
        try:
            self._lock(fd)
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
            os.set_inheritable(fd, inheritable)
        except BaseException as exc:
            os.close(fd)
            if isinstance(exc, OSError):  # a full disk, say
                raise ConfigError(
                    f"{self.path}: cannot be written: {exc.strerror}; make room there, or set XDG_RUNTIME_DIR"
                ) from exc
            raise
        self._fd, self._pid = fd, os.getpid()

    def release(self) -> None:
        """Let go of the lock; the file stays. Does nothing when it is not held here."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if self._pid == os.getpid():  # a forked child only forgets it: the lock is its parent's
            # Not a mere close: a child that has inherited the descriptor would keep the lock alive.
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _lock(self, fd: int) -> None:
        for _ in range(_PROBE_TRIES):
            if _flock(fd, fcntl.LOCK_EX):
                return
            # Cases: 1. an owner holds it; 2. somebody only looks (`is_locked`), shared and for an instant.
            if not _flock(fd, fcntl.LOCK_SH):
                break
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(_PROBE_PAUSE_S)
        pid = _read_pid(fd)
        owner = "another process" if pid is None else f"process {pid}"
        raise FolderLockedError(
            f'{self.path.name} of {self.path.parent} is held by {owner}; "grav-actors down" ends a node',
            pid,
        )


def project_folder(directory: Path) -> Path:
    """Return the run folder of a project directory, made when it is not there.

    It lies in `$XDG_RUNTIME_DIR/grav-actors/`, or in `grav-actors-<uid>/` of the temporary folder when there
    is no such variable, it names no folder of this user, or the path would be too long for a socket.

    Raises:
        ConfigError: The folder, or the one around it, belongs to somebody else, is open to others or a
            symbolic link, or no place has a path short enough.
    """
    parent = _parent_folder()
    folder = parent / _hash(directory)
    _make_private(folder)
    return folder


def private_folder() -> Path:
    """Make a new run folder for a node that belongs to no directory.

    `remove_private_folder` takes it away.

    Raises:
        ConfigError: As for `project_folder`.
    """
    from tempfile import mkdtemp  # noqa: PLC0415  (only nodes of scripts need it)

    return Path(mkdtemp(prefix=_PRIVATE_PREFIX, dir=_parent_folder()))


def remove_private_folder(folder: Path) -> None:
    """Remove a folder that `private_folder` made, with all that is in it; nothing happens when it is gone.

    Raises:
        ConfigError: It is no such folder.
    """
    from shutil import rmtree  # noqa: PLC0415  (only nodes of scripts need it)

    folder = Path(folder)
    if not (folder.name.startswith(_PRIVATE_PREFIX) and folder.parent.name.startswith(_PARENT)):
        raise ConfigError(f"{folder} is no private run folder; it is not removed")
    if _is_safe(folder):
        rmtree(folder, ignore_errors=True)


def bus_endpoint(folder: Path) -> str:
    """Return the endpoint of the bus of a run folder."""
    return f"ipc://{folder / BUS_SOCKET}"


def find_running(directory: Path) -> RunningNode | None:
    """Look upwards from a directory for one whose bus runs.

    Makes no folder and takes no lock from anybody.

    Raises:
        ConfigError: The place for run folders, or a run folder in it, belongs to somebody else, is open to
            others or a symbolic link.
    """
    start = Path(directory).resolve()
    parents = _existing_parents()
    for place in (start, *start.parents):
        name = _hash(place)
        for folder in (parent / name for parent in parents):
            if _is_safe(folder) and is_locked(folder / BUS_LOCK):
                return RunningNode(folder, bus_endpoint(folder), place, lock_owner(folder / BUS_LOCK))
    return None


def find_run_folder(directory: Path, file: str) -> Path | None:
    """Look upwards from a directory for one whose run folder holds a file, whether a node runs there or not.

    Raises:
        ConfigError: As for `find_running`.
    """
    start = Path(directory).resolve()
    parents = _existing_parents()
    for place in (start, *start.parents):
        name = _hash(place)
        for folder in (parent / name for parent in parents):
            if _is_safe(folder) and (folder / file).exists():
                return folder
    return None


def is_locked(path: Path) -> bool:
    """Tell whether a process holds a lock file; the lock stays with whom it is."""
    fd = _open_existing(path)
    if fd is None:
        return False
    try:
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def lock_owner(path: Path) -> int | None:
    """Return the process id in a lock file: the owner's when `is_locked`, else the last one's, or None."""
    fd = _open_existing(path)
    if fd is None:
        return None
    try:
        return _read_pid(fd)
    finally:
        os.close(fd)


def clean_folder(folder: Path, *, held: Iterable[FolderLock] = ()) -> tuple[str, ...]:
    """Remove the sockets and the roster that a killed owner left in a run folder.

    Nothing is removed while a process holds one of the folder's locks; both are held meanwhile, so that
    nobody starts in between.

    Args:
        folder: A run folder.
        held: Locks of this folder that the caller holds already.

    Returns:
        Names of the files that were removed.
    """
    folder = Path(folder)
    if not _is_safe(folder):
        return ()
    mine = {lock.path for lock in held if lock.fd is not None}
    taken: list[FolderLock] = []
    try:
        for path in (folder / NODE_LOCK, folder / BUS_LOCK):
            if path not in mine:
                lock = FolderLock(path)
                lock.acquire()
                taken.append(lock)
        removed = sorted(_stale(folder))
        for name in removed:
            (folder / name).unlink(missing_ok=True)
        return tuple(removed)
    except FolderLockedError:
        return ()
    finally:
        for lock in reversed(taken):
            lock.release()


def _stale(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            is_socket = stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
            # A roster may have been killed while it was written under a name of its own beside the right one.
            if is_socket or entry.name == ROSTER or entry.name.startswith(f"{ROSTER}."):
                yield entry.name


def _hash(directory: Path) -> str:
    from hashlib import sha256  # noqa: PLC0415  (keeps the import of this module quick)

    return sha256(os.fsencode(Path(directory).resolve())).hexdigest()[:_HASH_CHARACTERS]


def _parents() -> list[Path]:
    """Return the folders that may hold run folders, the best first; not those with too long a path."""
    from tempfile import gettempdir  # noqa: PLC0415  (keeps the import of this module quick)

    candidates = []
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and _is_own_folder(runtime):
        candidates.append(runtime / _PARENT)
    short = "/tmp"  # noqa: S108  (what is put there is checked: owner, mode, no link)
    candidates.extend(Path(place) / f"{_PARENT}-{os.getuid()}" for place in (gettempdir(), short))
    longest = LONGEST_SOCKET_PATH - len(f"/{'x' * _HASH_CHARACTERS}/{BUS_SOCKET}")
    return list(dict.fromkeys(parent for parent in candidates if len(os.fsencode(parent)) <= longest))


def _existing_parents() -> list[Path]:
    """Return the places where run folders may be, now or with the environment in which `up` was run."""
    parents = _parents()
    found = [parent for parent in parents[:1] if _is_safe(parent)]
    for parent in parents[1:]:
        # Whoever makes a bad folder at a place that is not used must not stop every command of this user.
        with suppress(ConfigError):
            if _is_safe(parent):
                found.append(parent)
    return found


def _parent_folder() -> Path:
    parent = next(iter(_parents()), None)
    if parent is None:
        raise ConfigError(
            f"every folder for sockets has a path too long ({LONGEST_SOCKET_PATH} bytes are allowed); "
            "set XDG_RUNTIME_DIR to a short one"
        )
    _make_private(parent)
    return parent


def _is_own_folder(path: Path) -> bool:
    try:
        info = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot be made: {exc.strerror}; set XDG_RUNTIME_DIR") from exc
    _is_safe(folder)  # also a fresh one: looked at as it is, not as it was asked for


def _is_safe(folder: Path) -> bool:
    """Tell whether a folder is there; refuse it when others could have put things into it."""
    try:
        info = folder.lstat()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot be looked at: {exc.strerror}") from exc
    mode = stat.S_IMODE(info.st_mode)
    if stat.S_ISLNK(info.st_mode):
        reason = "is a symbolic link"
    elif not stat.S_ISDIR(info.st_mode):
        reason = "is no folder"
    elif info.st_uid != os.getuid():
        reason = f"belongs to user {info.st_uid}, not to {os.getuid()}"
    elif mode & _PRIVATE_ONLY:
        reason = f"has mode {mode:04o}, not 0700"
    else:
        return True
    raise ConfigError(f"{folder} {reason}, so others could take the place of the bus; remove it")


def _open_existing(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
