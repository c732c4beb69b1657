"""The configuration of a node: `grav.toml`, or the table `[tool.grav-actors]` of `pyproject.toml`.

Every mistake is a `ConfigFileError` of one line, `file:line: [table] what is wrong`, with the nearest right
name.
"""

import re
import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grav_actors.errors import ConfigError
from grav_actors.options import (
    Backoff,
    BusOptions,
    OptionError,
    PodOptions,
    RestartLimits,
    check_name,
    check_text,
    did_you_mean,
    parse_duration,
    parse_size,
    show,
)
from grav_actors.tables import ActorTable, MeshTable, NodeTable, SupervisorTable
from grav_actors.toml_lines import key_lines

if TYPE_CHECKING:
    from grav_actors.discovery.beacon_settings import BeaconSettings

FILE_NAME: Final = "grav.toml"
PYPROJECT_NAME: Final = "pyproject.toml"

_PYPROJECT_TABLE: Final = ("tool", "grav-actors")
_TABLES: Final = ("node", "bus", "supervisor", "actors", "mesh")
_OTHER_WORDS: Final = {"target": "class", "kwargs": "args"}
_CLASS_ATTRIBUTES: Final = ("concurrency", "crash_on", "replay")


class ConfigFileError(ConfigError):
    """A configuration file, or one place in it, is wrong.

    Attributes:
        path: The file.
        line: Line of the mistake, from 1; None when the file could not be read at all.
    """

    def __init__(self, text: str, path: Path | None = None, line: int | None = None) -> None:
        super().__init__(text)
        self.path = path
        self.line = line


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A whole configuration; without arguments, that of a node without a file.

    Attributes:
        node: `[node]`.
        bus: `[bus]`.
        supervisor: `[supervisor]`.
        actors: One for each `[actors.NAME]`, in the order of the file.
        mesh: `[mesh]`; None when the table is not there.
        source: The file; None without one.
    """

    node: NodeTable = field(default_factory=NodeTable)
    bus: BusOptions = field(default_factory=BusOptions)
    supervisor: SupervisorTable = field(default_factory=SupervisorTable)
    actors: tuple[ActorTable, ...] = ()
    mesh: MeshTable | None = None
    source: "ConfigSource | None" = field(default=None, compare=False, repr=False)

    def error(self, keys: tuple[str, ...], reason: object) -> ConfigError:
        """Make the error for a value that turns out wrong after loading, such as a target without a module.

        Args:
            keys: Where it stands, such as `("actors", "temp", "class")`.
            reason: What is wrong.
        """
        if self.source is None:
            return ConfigError(str(reason))
        return self.source.error(keys, f"{keys[-1]}: {reason}", table=keys[:-1])


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A configuration file and its text, to tell where in it a mistake is.

    Attributes:
        path: The file.
        text: What it holds.
        prefix: The keys below which the configuration stands in it.
    """

    path: Path
    text: str
    prefix: tuple[str, ...] = ()

    def line(self, keys: tuple[str, ...]) -> int:
        """Return the line of a key, else of the nearest table around it, else 1."""
        try:
            found = key_lines(self.text)
        except (ValueError, RecursionError):
            return 1
        path = (*self.prefix, *keys)
        return next((found[path[:end]] for end in range(len(path), 0, -1) if path[:end] in found), 1)

    def error(self, keys: tuple[str, ...], reason: str, table: tuple[str, ...]) -> ConfigFileError:
        """Make the error for the key at `keys`, which belongs to `table`."""
        line = self.line(keys)
        header = ".".join(map(_toml_key, (*self.prefix, *table)))
        label = f"[{header}] " if header else ""
        return ConfigFileError(f"{_shown(self.path)}:{line}: {label}{reason}", self.path, line)


def find_project(start: Path) -> Path | None:
    """Look upwards from `start` for the file that configures a node.

    In one folder `grav.toml` goes before a `pyproject.toml` with `[tool.grav-actors]`; a `pyproject.toml`
    without that table does not count.

    Returns:
        The file, or None.
    """
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        pyproject = folder / PYPROJECT_NAME
        if pyproject.is_file() and _has_table(pyproject):
            return pyproject
    return None


def load_config(path: Path) -> NodeConfig:
    """Read and check a configuration file.

    Args:
        path: `grav.toml` under any name, or a `pyproject.toml`.

    Raises:
        ConfigFileError: The file cannot be read, is no TOML, or says something that is not allowed.
    """
    path = Path(path)
    prefix = _PYPROJECT_TABLE if path.name == PYPROJECT_NAME else ()
    source = ConfigSource(path, _read(path), prefix)
    data = _parse(source)
    for depth, key in enumerate(prefix, start=1):
        table, whole = prefix[:depth], ConfigSource(path, source.text)
        if key not in data:
            raise whole.error(table, f"there is no table [{'.'.join(prefix)}]", table=())
        data = data[key]
        if not isinstance(data, dict):
            raise whole.error(table, f"{key} must be a table, not {show(data)}", table=table[:-1])
    return _Reader(source, data).config()


class _Reader:
    """Turns what tomllib made of a file into a `NodeConfig`."""

    def __init__(self, source: ConfigSource, data: dict[str, Any]) -> None:
        self._source = source
        self._data = data

    def config(self) -> NodeConfig:
        for key, value in self._data.items():
            if key not in _TABLES:
                what = "table" if isinstance(value, dict | list) else "key"
                raise self._error((key,), f'unknown {what} "{key}"{did_you_mean(key, _TABLES)}', table=())
        config = NodeConfig(
            node=self._node(),
            bus=self._bus(),
            supervisor=self._supervisor(),
            actors=self._actors(),
            mesh=self._mesh() if "mesh" in self._data else None,
            source=self._source,
        )
        self._check_names(config.actors)
        return config

    def _node(self) -> NodeTable:
        values = self._table(("node",), _names(NodeTable))
        _lists_to_tuples(values, "interests")
        with self._located(("node",)):
            return NodeTable(**values)

    def _bus(self) -> BusOptions:
        values = self._table(("bus",), _names(BusOptions))
        self._convert(("bus",), values, parse_size, "max_message")
        self._convert(("bus",), values, parse_duration, "send_timeout")
        with self._located(("bus",)):
            return BusOptions(**values)

    def _supervisor(self) -> SupervisorTable:
        path = ("supervisor",)
        values = self._table(path, ("strategy", *_names(RestartLimits)))
        self._convert(path, values, parse_duration, "within")
        if "backoff" in values:
            inner = (*path, "backoff")
            backoff = self._table(inner, _names(Backoff))
            self._convert(inner, backoff, parse_duration, "first", "max")
            with self._located(inner):
                values["backoff"] = Backoff(**backoff)
        with self._located(path):
            strategy = {"strategy": values.pop("strategy")} if "strategy" in values else {}
            return SupervisorTable(**strategy, limits=RestartLimits(**values))

    def _actors(self) -> tuple[ActorTable, ...]:
        return tuple(self._actor(name) for name in self._any_table(("actors",)))

    def _actor(self, name: str) -> ActorTable:
        path = ("actors", name)
        with self._located(path):
            check_name("name", name)
        allowed = tuple("class" if key == "target" else key for key in _names(ActorTable) if key != "name")
        values = self._table(path, allowed)
        if "class" not in values:
            raise self._error(path, 'has no "class"; write class = "module:Class"', table=path)
        values["target"] = values.pop("class")
        self._convert(path, values, parse_duration, "start_timeout", "shutdown", "handler_timeout")
        with self._located(path):
            return ActorTable(name=name, **values)

    def _mesh(self) -> MeshTable:
        values = self._table(("mesh",), _names(MeshTable))
        _lists_to_tuples(values, "discovery", "peers")
        if "beacon" in values:
            values["beacon"] = self._beacon()
        with self._located(("mesh",)):
            self._resolve(values, "keys")
            return MeshTable(**values)

    def _beacon(self) -> "BeaconSettings":
        from grav_actors.discovery.beacon_settings import BeaconSettings  # noqa: PLC0415  (loads sockets)

        path = ("mesh", "beacon")
        # Not the secret itself: a configuration file is shared, and is no place for it.
        values = self._table(path, tuple(name for name in _names(BeaconSettings) if name != "secret"))
        with self._located(path):
            self._resolve(values, "secret_file")
            return BeaconSettings(**values)

    def _resolve(self, values: dict[str, Any], key: str) -> None:
        """Make a path that is relative to the file one that can be used."""
        if key in values:
            check_text(key, values[key])
            values[key] = self._source.path.parent / Path(values[key]).expanduser()

    def _check_names(self, actors: tuple[ActorTable, ...]) -> None:
        owners: dict[str, str] = {}
        for actor in actors:
            for name in actor.names:
                other = owners.setdefault(name, actor.name)
                if other != actor.name:
                    role = "" if name == other else "an instance of "
                    reason = f'"{name}" is also the name of {role}[actors.{_toml_key(other)}]'
                    path = ("actors", actor.name)
                    raise self._error(path, reason, table=path)

    def _table(self, path: tuple[str, ...], allowed: tuple[str, ...]) -> dict[str, Any]:
        """Return a copy of the table at `path`, {} when there is none; refuse keys that are not allowed."""
        table = self._any_table(path)
        for key in table:
            if key not in allowed:
                hint = _key_hint(key, path, allowed)
                raise self._error((*path, key), f"unknown key {show(key)}{hint}", table=path)
        return table

    def _any_table(self, path: tuple[str, ...]) -> dict[str, Any]:
        table: Any = self._data
        for key in path:
            table = table.get(key, {})
        if not isinstance(table, dict):
            *above, last = path
            raise self._error(path, f"{last} must be a table, not {show(table)}", table=tuple(above))
        return dict(table)

    def _convert(
        self, path: tuple[str, ...], values: dict[str, Any], parse: Callable[[object], float], *keys: str
    ) -> None:
        for key in keys:
            if key in values:
                with self._located(path, key):
                    values[key] = parse(values[key])

    @contextmanager
    def _located(self, path: tuple[str, ...], key: str = "") -> Generator[None]:
        """Give the errors of options file and line; `key` is for those that do not say which option."""
        try:
            yield
        except OptionError as exc:
            raise self._error((*path, key or exc.option), str(exc), table=path) from exc
        except ConfigError as exc:
            raise self._error((*path, key), f"{key}: {exc}", table=path) from exc

    def _error(self, keys: tuple[str, ...], reason: str, table: tuple[str, ...]) -> ConfigFileError:
        return self._source.error(keys, reason, table)


def _key_hint(key: str, path: tuple[str, ...], allowed: tuple[str, ...]) -> str:
    if path[0] == "actors" and key in (*_CLASS_ATTRIBUTES, *_names(PodOptions)):
        return "; it is an attribute of the actor's class"
    if path == ("mesh", "beacon") and key == "secret":
        return '; write it into a file of mode 0600 and name that: secret_file = "beacon.secret"'
    other = _OTHER_WORDS.get(key)
    return f'; did you mean "{other}"?' if other in allowed else did_you_mean(key, allowed)


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as exc:
        raise ConfigFileError(f"{_shown(path)}: no such file", path) from exc
    except OSError as exc:
        raise ConfigFileError(f"{_shown(path)}: cannot be read: {exc.strerror}", path) from exc
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigFileError(f"{_shown(path)}:{line}: the text is not UTF-8", path, line) from exc


def _parse(source: ConfigSource) -> dict[str, Any]:
    path, text = source.path, source.text
    try:
        return tomllib.loads(text)
    except RecursionError as exc:
        raise ConfigFileError(f"{_shown(path)}:1: nested too deeply", path, 1) from exc
    except ValueError as exc:  # TOMLDecodeError is one; so is a number of thousands of digits
        reason = str(exc)
        where = re.search(r" \((?:at line (\d+), column (\d+)|at end of document)\)$", reason)
        line = 1
        if where is not None:
            last = text.rstrip().count("\n") + 1
            line = int(where[1]) if where[1] else last
            column = f" (column {where[2]})" if where[2] else " (at the end of the file)"
            reason = reason[: where.start()] + column
        raise ConfigFileError(f"{_shown(path)}:{line}: {reason}", path, line) from exc


def _has_table(pyproject: Path) -> bool:
    try:
        text = pyproject.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    try:
        data: object = tomllib.loads(text)
    except (ValueError, RecursionError):
        return "[tool.grav-actors" in text  # it is meant; whoever loads it is told what is wrong
    for key in _PYPROJECT_TABLE:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


def _names(cls: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(cls))


def _lists_to_tuples(values: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if isinstance(values.get(key), list):
            values[key] = tuple(values[key])


def _shown(path: Path) -> str:
    """Write a path as the user would: relative when it is below the working directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else show(key)
