"""Files that others must not read, in folders that others must not write to."""

import contextlib
import os
import stat
import threading
from pathlib import Path
from typing import Final

from grav_actors.errors import ConfigError

LARGEST_FILE: Final = 65_536
"""Bytes of the largest file that is read."""

_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022


def read_file(path: Path, *, is_secret: bool, missing: str = "", remedy: str = "") -> str:
    """Read a small text; one with a secret only when nobody but its user can.

    Args:
        path: The file.
        is_secret: Whether a file that others could read is refused.
        missing: What to do when it is not there, for the error.
        remedy: What to do when others could have read it.

    Raises:
        ConfigError: It cannot be read, is too large or no UTF-8, or others could have read it.
    """
    try:
        # Not blocking: something like a pipe is refused below, not waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise ConfigError(f"{path} is no regular file")
            if is_secret:
                _check_owner(path, info)
                mode = stat.S_IMODE(info.st_mode)
                if mode & _OTHERS:
                    raise ConfigError(
                        f"{path} has mode {mode:04o}, so others may have read the secret; {remedy or 'make a new one'},"
                        f" or chmod 600 {path} if you know that nobody has"
                    )
            raw = file.read(LARGEST_FILE + 1)
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: no such file{missing and '; '}{missing}") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(raw) > LARGEST_FILE:
        raise ConfigError(f"{path} is larger than {LARGEST_FILE} bytes, so it is not what is looked for")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is no UTF-8 text") from exc


def check_folder(folder: Path) -> None:
    """Refuse a folder in which others could put files of their own; one that is not there is fine.

    Raises:
        ConfigError: It belongs to somebody else, or others can write there.
    """
    try:
        info = folder.stat()
    except OSError:
        return  # what is looked for in it says so
    _check_owner(folder, info)
    mode = stat.S_IMODE(info.st_mode)
    if mode & _OTHERS_WRITE:
        raise ConfigError(f"{folder} has mode {mode:04o}, so others can write there; chmod 700 {folder}")


def _check_owner(path: Path, info: os.stat_result) -> None:
    if info.st_uid not in (os.getuid(), 0):
        raise ConfigError(f"{path} belongs to user {info.st_uid}, not to {os.getuid()}; take the node's own folder")


def write_file(path: Path, text: str, mode: int, *, replace: bool) -> None:
    """Write a file whole or not at all, under its mode from the beginning.

    Args:
        path: The file.
        text: What it is to hold.
        mode: Its mode, whatever the umask is.
        replace: Whether a file that is there may go.

    Raises:
        ConfigError: It cannot be written, or is there already.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()  # of a process with the same number, which was killed
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, mode)  # whatever the umask is
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            if replace:
                new.replace(path)
            else:
                path.hardlink_to(new)  # fails when somebody else was quicker
        finally:
            new.unlink(missing_ok=True)
    except FileExistsError as exc:
        raise ConfigError(f"{path} is there already") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written: {exc.strerror}") from exc
