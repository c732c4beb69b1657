"""Run folders: private, short, one per user and directory; and the locks that say who runs."""

import errno
import fcntl
import os
import pickle
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grav_actors import project
from grav_actors.errors import ConfigError
from grav_actors.project import (
    BUS_LOCK,
    BUS_SOCKET,
    LONGEST_SOCKET_PATH,
    NODE_LOCK,
    FolderLock,
    FolderLockedError,
    bus_endpoint,
    clean_folder,
    find_running,
    is_locked,
    lock_owner,
    private_folder,
    project_folder,
    remove_private_folder,
)


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give each test a runtime folder and a temporary folder of its own, with short paths."""
    tmp_path_factory.getbasetemp()  # chosen while the temporary folder is the usual one, also if this file runs alone
    with tempfile.TemporaryDirectory(prefix="g-", dir="/tmp") as place:
        for name in ("run", "tmp"):
            Path(place, name).mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", f"{place}/run")
        monkeypatch.setattr(tempfile, "tempdir", f"{place}/tmp")
        yield Path(place, "run")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Give a project directory."""
    path = tmp_path / "project"
    path.mkdir()
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def make_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


# Folders


def test_the_folder_lies_in_the_runtime_folder_of_the_user(runtime: Path, directory: Path) -> None:
    folder = project_folder(directory)
    assert folder.parent == runtime / "grav-actors"
    assert folder.is_dir()
    assert len(folder.name) == 12
    assert set(folder.name) <= set("0123456789abcdef")


def test_the_folder_lies_in_the_temporary_folder_without_a_runtime_folder(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert project_folder(directory).parent == Path(tempfile.gettempdir()) / f"grav-actors-{os.getuid()}"


@pytest.mark.parametrize("value", ["", "relative/folder", "/no/such/folder", "/dev/null"])
def test_a_runtime_folder_that_is_none_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, directory: Path, value: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert project_folder(directory).is_relative_to(tempfile.gettempdir())


def test_a_runtime_folder_of_another_user_is_passed_over(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(ConfigError, match=rf"grav-actors-{uid + 1} belongs to user {uid}, not to {uid + 1}"):
        project_folder(directory)


def test_the_folder_and_the_one_around_it_are_for_their_owner_only(directory: Path) -> None:
    before = os.umask(0)
    try:
        folder = project_folder(directory)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert mode(folder.parent) == 0o700


def test_one_directory_has_one_folder_however_it_is_written(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(directory)
    monkeypatch.chdir(directory)
    folder = project_folder(directory)
    assert project_folder(tmp_path / "link") == folder
    assert project_folder(directory / ".." / "project") == folder
    assert project_folder(Path()) == folder
    assert project_folder(tmp_path) != folder


def test_socket_paths_stay_short_however_long_the_runtime_folder(
    runtime: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = runtime / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    folder = project_folder(directory)
    assert folder.is_relative_to(tempfile.gettempdir())
    assert len(os.fsencode(folder / BUS_SOCKET)) <= LONGEST_SOCKET_PATH


@pytest.mark.parametrize("room", [0, 1])
def test_a_path_of_exactly_107_bytes_is_short_enough(
    runtime: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    fixed = len(os.fsencode(runtime / "grav-actors" / ("x" * 12) / BUS_SOCKET)) + 1
    pairs, rest = divmod(LONGEST_SOCKET_PATH - fixed, 2)
    long = runtime / ("ä" * pairs + "x" * (rest + room))  # two bytes each, and one
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert project_folder(directory).is_relative_to(long) == (room == 0)


def test_no_short_place_at_all_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "LONGEST_SOCKET_PATH", 10)
    with pytest.raises(ConfigError, match="path too long .10 bytes are allowed.; set XDG_RUNTIME_DIR"):
        project_folder(directory)


@pytest.mark.parametrize("which", ["folder", "parent"])
def test_a_folder_open_to_others_is_refused(directory: Path, which: str) -> None:
    folder = project_folder(directory)
    bad = folder if which == "folder" else folder.parent
    bad.chmod(0o750)
    for use in (project_folder, find_running):
        with pytest.raises(ConfigError, match=f"{bad} has mode 0750, not 0700"):
            use(directory)


@pytest.mark.parametrize("which", ["folder", "parent"])
def test_a_folder_that_is_a_symbolic_link_is_refused(directory: Path, tmp_path: Path, which: str) -> None:
    folder = project_folder(directory)
    bad = folder if which == "folder" else folder.parent
    elsewhere = tmp_path / "elsewhere"
    bad.rename(elsewhere)
    bad.symlink_to(elsewhere)
    for use in (project_folder, find_running):
        with pytest.raises(ConfigError, match=f"{bad} is a symbolic link"):
            use(directory)


def test_a_dangling_link_in_the_place_of_the_folder_is_refused(directory: Path) -> None:
    folder = project_folder(directory)
    folder.rmdir()
    folder.symlink_to("/no/such/place")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        project_folder(directory)


def test_a_file_in_the_place_of_the_folder_is_refused(directory: Path) -> None:
    folder = project_folder(directory)
    folder.rmdir()
    folder.write_text("")
    with pytest.raises(ConfigError, match="is no folder"):
        project_folder(directory)


def test_private_folders_are_new_each_time_and_for_their_owner_only(runtime: Path) -> None:
    first, second = private_folder(), private_folder()
    assert first != second
    assert first.parent == second.parent == runtime / "grav-actors"
    assert mode(first) == 0o700
    assert len(os.fsencode(first / BUS_SOCKET)) <= LONGEST_SOCKET_PATH


def test_a_private_folder_is_removed_with_all_in_it_and_only_once() -> None:
    folder = private_folder()
    make_socket(folder / BUS_SOCKET)
    (folder / "roster").write_text("x")
    remove_private_folder(folder)
    assert not folder.exists()
    remove_private_folder(folder)


def test_only_private_folders_are_removed(directory: Path, tmp_path: Path) -> None:
    project_own = project_folder(directory)
    other = tmp_path / "p-mine"
    other.mkdir()
    for folder in (project_own, directory, other):
        with pytest.raises(ConfigError, match="is no private run folder"):
            remove_private_folder(folder)
        assert folder.is_dir()


# Locks


def test_a_lock_holds_its_owners_pid_as_text_and_is_for_its_owner_only(directory: Path) -> None:
    path = project_folder(directory) / BUS_LOCK
    with FolderLock(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert mode(path) == 0o600
        assert is_locked(path)
        assert lock_owner(path) == os.getpid()


def test_a_lock_that_cannot_be_written_says_why_and_is_not_held(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project_folder(directory) / NODE_LOCK

    def is_full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", is_full)
        with pytest.raises(ConfigError, match="node.lock: cannot be written: No space left on device; make room"):
            FolderLock(path).acquire()
    assert not is_locked(path)


def test_a_held_lock_is_refused_and_names_the_owner(directory: Path) -> None:
    path = project_folder(directory) / NODE_LOCK
    with FolderLock(path):
        text = rf"node.lock of .* is held by process {os.getpid()};"
        with pytest.raises(FolderLockedError, match=text) as caught:
            FolderLock(path).acquire()
        assert is_locked(path)
    assert caught.value.pid == os.getpid()
    assert isinstance(caught.value, ConfigError)


def test_an_owner_that_has_not_yet_said_who_it_is_is_not_named(directory: Path) -> None:
    path = project_folder(directory) / NODE_LOCK
    with FolderLock(path):
        path.write_text("")
        with pytest.raises(FolderLockedError, match="is held by another process") as caught:
            FolderLock(path).acquire()
    assert caught.value.pid is None


def test_release_unlocks_and_removes_nothing(directory: Path) -> None:
    path = project_folder(directory) / BUS_LOCK
    lock = FolderLock(path)
    lock.release()
    lock.acquire()
    inode = path.stat().st_ino
    lock.acquire()
    lock.release()
    lock.release()
    assert path.stat().st_ino == inode
    assert not is_locked(path)
    with FolderLock(path) as other:
        assert other.fd is not None
    assert lock.fd is None


def test_a_longer_pid_of_an_earlier_owner_leaves_no_rest(directory: Path) -> None:
    path = project_folder(directory) / BUS_LOCK
    path.write_text("99999999999999\n")
    with FolderLock(path):
        assert lock_owner(path) == os.getpid()


def test_the_descriptor_is_inherited_only_on_request(directory: Path) -> None:
    lock = FolderLock(project_folder(directory) / BUS_LOCK)
    for inheritable in (False, True):
        lock.acquire(inheritable=inheritable)
        assert lock.fd is not None
        assert os.get_inheritable(lock.fd) is inheritable
        lock.release()


def test_release_unlocks_also_what_a_child_has_inherited(directory: Path) -> None:
    lock = FolderLock(project_folder(directory) / BUS_LOCK)
    lock.acquire()
    assert lock.fd is not None
    inherited = os.dup(lock.fd)
    lock.release()
    assert not is_locked(lock.path)
    os.close(inherited)


def test_release_in_a_forked_child_leaves_the_lock_to_its_parent(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FolderLock(project_folder(directory) / BUS_LOCK)
    lock.acquire()
    assert lock.fd is not None
    parents = os.dup(lock.fd)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    lock.release()
    assert is_locked(lock.path)
    os.close(parents)


def test_looking_at_a_lock_does_not_refuse_it_to_others(directory: Path) -> None:
    path = project_folder(directory) / BUS_LOCK
    with FolderLock(path):
        pass
    fd = os.open(path, os.O_RDONLY)
    try:
        # Somebody looks just now, and is done when the one who wants the lock tries again.
        fcntl.flock(fd, fcntl.LOCK_SH)
        looked: list[float] = []

        def done_looking(pause: float) -> None:
            looked.append(pause)
            fcntl.flock(fd, fcntl.LOCK_UN)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", done_looking)
            with FolderLock(path):
                assert is_locked(path)
        assert len(looked) == 1
    finally:
        os.close(fd)


def test_looking_makes_no_file(directory: Path) -> None:
    folder = project_folder(directory)
    assert not is_locked(folder / BUS_LOCK)
    assert lock_owner(folder / BUS_LOCK) is None
    assert list(folder.iterdir()) == []


def test_a_lock_that_is_a_link_is_refused(directory: Path, tmp_path: Path) -> None:
    path = project_folder(directory) / BUS_LOCK
    target = tmp_path / "precious"
    target.write_text("keep")
    path.symlink_to(target)
    with pytest.raises(ConfigError, match="cannot be opened"):
        FolderLock(path).acquire()
    assert target.read_text() == "keep"


def test_the_system_unlocks_for_an_owner_that_was_killed(directory: Path) -> None:
    path = project_folder(directory) / BUS_LOCK
    code = (
        "import pathlib, sys\n"
        "from grav_actors.project import FolderLock\n"
        "lock = FolderLock(pathlib.Path(sys.argv[1]))\n"
        "lock.acquire()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert is_locked(path)
        with pytest.raises(FolderLockedError) as caught:
            FolderLock(path).acquire()
        assert caught.value.pid == owner.pid
        owner.kill()
        owner.wait()
    assert not is_locked(path)
    with FolderLock(path):
        assert lock_owner(path) == os.getpid()


def test_the_error_of_a_held_lock_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(FolderLockedError("held", 7)))
    assert (str(error), error.pid) == ("held", 7)


# Running nodes


def test_a_running_bus_is_found_from_its_directory_and_from_below(directory: Path) -> None:
    folder = project_folder(directory)
    below = directory / "a" / "b"
    below.mkdir(parents=True)
    with FolderLock(folder / BUS_LOCK):
        for start in (directory, below):
            running = find_running(start)
            assert running is not None
            assert running.folder == folder
            assert running.directory == directory.resolve()
            assert running.endpoint == f"ipc://{folder}/bus.sock" == bus_endpoint(folder)
            assert running.pid == os.getpid()


def test_the_nearest_running_bus_is_found(directory: Path) -> None:
    below = directory / "inner"
    below.mkdir()
    with FolderLock(project_folder(directory) / BUS_LOCK), FolderLock(project_folder(below) / BUS_LOCK):
        running = find_running(below)
    assert running is not None
    assert running.directory == below.resolve()


def test_a_bus_that_runs_below_or_beside_is_not_found(directory: Path, tmp_path: Path) -> None:
    with FolderLock(project_folder(directory) / BUS_LOCK):
        assert find_running(tmp_path) is None
        assert find_running(tmp_path / "beside") is None


def test_the_files_of_a_dead_bus_are_no_running_bus(directory: Path) -> None:
    folder = project_folder(directory)
    make_socket(folder / BUS_SOCKET)
    (folder / BUS_LOCK).write_text("1\n")
    assert find_running(directory) is None


def test_a_node_lock_alone_is_no_running_bus(directory: Path) -> None:
    with FolderLock(project_folder(directory) / NODE_LOCK):
        assert find_running(directory) is None


def test_a_bus_started_without_the_runtime_folder_is_found_with_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR")
        folder = project_folder(directory)
    with FolderLock(folder / BUS_LOCK):
        running = find_running(directory)
    assert running is not None
    assert running.folder == folder


def test_a_bad_folder_in_a_place_that_is_not_used_stops_nobody(directory: Path) -> None:
    bad = Path(tempfile.gettempdir()) / f"grav-actors-{os.getuid()}"
    bad.mkdir()
    bad.chmod(0o777)
    with FolderLock(project_folder(directory) / BUS_LOCK):
        assert find_running(directory) is not None


def test_looking_for_a_running_bus_makes_no_folder(runtime: Path, directory: Path) -> None:
    assert find_running(directory) is None
    assert list(runtime.iterdir()) == []


# Cleaning


def leave_behind(folder: Path) -> None:
    make_socket(folder / BUS_SOCKET)
    for name in ("roster", "roster.new", "notes.txt", BUS_LOCK, NODE_LOCK):
        (folder / name).write_text("")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_owner_left_is_removed_and_nothing_else(directory: Path) -> None:
    folder = project_folder(directory)
    leave_behind(folder)
    assert clean_folder(folder) == ("bus.sock", "roster", "roster.new")
    assert names(folder) == {"notes.txt", BUS_LOCK, NODE_LOCK}
    assert not is_locked(folder / BUS_LOCK)
    assert clean_folder(folder) == ()


@pytest.mark.parametrize("name", [BUS_LOCK, NODE_LOCK])
def test_nothing_is_removed_while_a_lock_is_held(directory: Path, name: str) -> None:
    folder = project_folder(directory)
    leave_behind(folder)
    before = names(folder)
    with FolderLock(folder / name):
        assert clean_folder(folder) == ()
        assert is_locked(folder / name)
    assert names(folder) == before
    assert not is_locked(folder / BUS_LOCK)
    assert not is_locked(folder / NODE_LOCK)


def test_who_holds_a_lock_may_clean_and_keeps_it(directory: Path) -> None:
    folder = project_folder(directory)
    leave_behind(folder)
    with FolderLock(folder / NODE_LOCK) as lock:
        assert clean_folder(folder, held=[lock]) == ("bus.sock", "roster", "roster.new")
        assert is_locked(folder / NODE_LOCK)


def test_a_folder_that_is_not_there_is_clean(directory: Path) -> None:
    assert clean_folder(directory / "none") == ()
