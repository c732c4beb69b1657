"""The keys of a node: its own pair, and those of the nodes that it accepts, in one folder.

keys/
  node.key_secret     its pair; readable by its user alone, and refused otherwise
  node.key            its public key, to be given to others
  allowed/
    greenhouse.key    the public key of a node that it accepts; the file's name is what it is called here
"""

import contextlib
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import zmq

from grav_actors.errors import ConfigError
from grav_actors.mesh.certificate import Certificate, parse_certificate
from grav_actors.options import check_name, is_name, show
from grav_actors.private_file import check_folder, read_file, write_file

PUBLIC_FILE: Final = "node.key"
PAIR_FILE: Final = "node.key_secret"
ALLOWED_FOLDER: Final = "allowed"
SUFFIX: Final = ".key"

_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Return the folder for keys when nobody says which: in the user's configuration."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".config"
    return base / "grav-actors" / "keys"


class KeyFolder:
    """A folder of keys. Nothing is read or made before a method is called; every method looks anew.

    Args:
        path: The folder; need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def pair_file(self) -> Path:
        """The file of this node's pair."""
        return self.path / PAIR_FILE

    @property
    def public_file(self) -> Path:
        """The file of this node's public key."""
        return self.path / PUBLIC_FILE

    @property
    def allowed_folder(self) -> Path:
        """The folder of the keys that are accepted."""
        return self.path / ALLOWED_FOLDER

    def new(self, name: str, *, replace: bool = False) -> Certificate:
        """Make a key pair and write it.

        Args:
            name: What the node is called.
            replace: Whether a pair that is there may go. Other nodes then have to accept the new key.

        Raises:
            ConfigError: There is a pair already, or the folder cannot be written or is open to others.
        """
        check_name("name", name)
        self._make(self.path)
        if self.pair_file.exists() and not replace:
            raise ConfigError(
                f"{self.pair_file} is there already, and other nodes know this one by it; `--force` replaces it"
            )
        pair = _generate(name)
        # The secret first: of a pair that was half written, only what cannot be made again must be there.
        write_file(self.pair_file, pair.text(), 0o600, replace=replace)
        write_file(self.public_file, pair.public().text(), 0o644, replace=True)
        return pair

    def pair(self) -> Certificate:
        """Return this node's key pair.

        Raises:
            ConfigError: There is none, it is no key pair, or others could have read it.
        """
        path = self.pair_file
        check_folder(self.path)
        text = read_file(
            path,
            is_secret=True,
            missing=f'make a key pair with "grav-actors keys new --dir {self.path}"',
            remedy='make a new key with "grav-actors keys new --force"',
        )
        pair = _parse(path, text)
        if not pair.secret_key:
            raise ConfigError(f"{path} holds no secret key; put the right file there")
        if zmq.curve_public(pair.secret_key.encode()).decode() != pair.public_key:
            raise ConfigError(f"{path}: the two keys are no pair; put the right file there")
        return pair

    def allow(self, certificate: Certificate, name: str = "", *, replace: bool = False) -> Path:
        """Accept the node with a public key from now on.

        Args:
            certificate: Its key.
            name: What to call it here; "": what the certificate says.
            replace: Whether another key of that name may go.

        Returns:
            The file. Without it, the key is accepted no longer.

        Raises:
            ConfigError: It is a secret, this node's own, or accepted under another name; there is no name, or
                another key has it; or the folder cannot be written or is open to others.
        """
        name = name or certificate.name
        if not name:
            raise ConfigError("the key comes without a name; say what to call its node, with `--name NAME`")
        check_name("name", name)
        if certificate.secret_key:
            raise ConfigError(f"this is a secret key; take the file {PUBLIC_FILE} beside it, and keep the other secret")
        if self.pair_file.exists():
            own = self.pair()
            if certificate.public_key in (own.public_key, own.secret_key):
                raise ConfigError(f"this is this node's own key, of {self.pair_file}; allow those of other nodes")
        self._make(self.path)
        self._make(self.allowed_folder)
        known = self._readable()
        for other, key in known.items():
            if key == certificate.public_key and other != name:
                raise ConfigError(f'this key is allowed already, as "{other}"; remove {self._file(other)} first')
        path = self._file(name)
        if not replace and path.exists() and known.get(name) != certificate.public_key:
            raise ConfigError(f'another key is allowed as "{name}", in {path}; choose another --name, or use --force')
        write_file(path, Certificate(certificate.public_key, name).text(), 0o644, replace=True)
        return path

    def allowed(self) -> dict[str, str]:
        """Return the public keys that are accepted, by name, sorted; {} when there is no such folder.

        Raises:
            ConfigError: A file is no key, or the folder cannot be read or is open to others.
        """
        return {path.stem: self._allowed_key(path) for path in self._allowed_files()}

    def problems(self) -> list[str]:
        """Return why files in `allowed/` are not accepted, or why none is."""
        found: list[str] = []
        try:
            for path in self._allowed_files():
                try:
                    self._allowed_key(path)
                except ConfigError as exc:
                    found.append(str(exc))
        except ConfigError as exc:
            found.append(str(exc))
        return found

    def _readable(self) -> dict[str, str]:
        """Return `allowed()` without the files that are wrong: they are no reason to refuse a right one."""
        found: dict[str, str] = {}
        for path in self._allowed_files():
            with contextlib.suppress(ConfigError):
                found[path.stem] = self._allowed_key(path)
        return found

    def _allowed_files(self) -> list[Path]:
        check_folder(self.path)
        check_folder(self.allowed_folder)
        try:
            return sorted(path for path in self.allowed_folder.iterdir() if path.suffix == SUFFIX)
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise ConfigError(f"{self.allowed_folder}: cannot be read: {exc.strerror}") from exc

    def _allowed_key(self, path: Path) -> str:
        if not is_name(path.stem):
            raise ConfigError(f"{path}: {show(path.stem)} is no name of 1 to 64 of A-Z a-z 0-9 . _ -; rename the file")
        return _parse(path, read_file(path, is_secret=False)).public_key

    def _file(self, name: str) -> Path:
        return self.allowed_folder / f"{name}{SUFFIX}"

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"{folder}: cannot be made: {exc.strerror}; choose another folder with --dir") from exc
        check_folder(folder)


class AllowedKeys:
    """The keys that are accepted, read again whenever the folder changes. Any thread may ask.

    A file that cannot be read as a key is logged, once, and not accepted; the others are. A folder that is open
    to others accepts nobody.
    """

    def __init__(self, folder: KeyFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._state: object = None
        self._names: Mapping[str, str] = MappingProxyType({})
        self._logged: set[str] = set()

    def name_of(self, public_key: str) -> str | None:
        """Return the name under which a public key, of 40 characters, is accepted now; None when it is not."""
        return self.names().get(public_key)

    def names(self) -> Mapping[str, str]:
        """Return the names of the nodes that are accepted now, by public key."""
        with self._lock:
            state = self._look()
            if state != self._state:
                self._state = state
                self._names = MappingProxyType(self._load())
            return self._names

    def _look(self) -> object:
        """Return what differs when anything in the folder has changed."""
        found: list[object] = []
        for folder in (self._folder.path, self._folder.allowed_folder):
            with contextlib.suppress(OSError):
                info = folder.stat()
                found.append((info.st_mode, info.st_uid, info.st_mtime_ns))
        with contextlib.suppress(OSError), os.scandir(self._folder.allowed_folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    info = entry.stat()
                    found.append((entry.name, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
        return found

    def _load(self) -> dict[str, str]:
        names: dict[str, str] = {}
        try:
            files = self._folder._allowed_files()
        except ConfigError as exc:
            self._warn(exc)
            return {}
        for path in files:
            try:
                names.setdefault(self._folder._allowed_key(path), path.stem)
            except ConfigError as exc:
                self._warn(exc)
        return names

    def _warn(self, exc: ConfigError) -> None:
        if str(exc) not in self._logged:
            self._logged.add(str(exc))
            _log.warning("a key is not accepted: %s", exc)


def read_certificate(path: Path) -> Certificate:
    """Read the public key that somebody has given this node.

    Raises:
        ConfigError: The file cannot be read, or is no certificate.
    """
    return _parse(path, read_file(path, is_secret=False))


def _generate(name: str) -> Certificate:
    if not zmq.has("curve"):
        raise ConfigError("this libzmq was built without CURVE and can make no keys; install pyzmq from its wheels")
    while True:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        # A key that begins so would be taken for an option where people hand it to a command.
        if not public.startswith("-"):
            return Certificate(public, name, secret)


def _parse(path: Path, text: str) -> Certificate:
    try:
        return parse_certificate(text)
    except ConfigError as exc:
        raise ConfigError(f"{path}:{exc}") from exc
