"""Options and arguments that several commands have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from grav_actors.errors import ConfigError
from grav_actors.options import parse_duration, parse_size

Command = TypeVar("Command", bound=Callable[..., Any])


def duration(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Read the value of an option as a duration, in seconds; a callback."""
    return _parsed(parse_duration, ctx, param, value)


def size(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Read the value of an option as a size, in bytes; a callback."""
    return _parsed(parse_size, ctx, param, value)


def _parsed(parse: Callable[[object], float], ctx: click.Context, param: click.Parameter, value: Any) -> float | None:
    try:
        return parse(value) if value is not None else None
    except ConfigError as exc:
        raise click.BadParameter(str(exc), ctx, param) from exc


def timeout_option(text: str, default: str | None = None) -> Callable[[Command], Command]:
    """Add `--timeout`, in seconds once read; None without one."""
    return duration_option("--timeout", text, default)


def duration_option(flag: str, text: str, default: str | None = None) -> Callable[[Command], Command]:
    """Add an option that is a duration, in seconds once read; None without one."""
    return click.option(
        flag,
        metavar="DURATION",
        callback=duration,
        default=default,
        show_default=default is not None,
        help=text,
    )


def bus_option(command: Command) -> Command:
    """Add `--bus`."""
    text = "Address of another bus than this directory's: ipc://... or tcp://..."
    return click.option("--bus", metavar="ADDRESS", help=text)(command)


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")(command)


def data_argument(command: Command) -> Command:
    """Add `[DATA]`, which arrives as what it stands for."""
    return click.argument("data", required=False, callback=_read_data)(command)


def _read_data(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """Return what DATA stands for: JSON text, `@file`, `-` for standard input, or nothing."""
    if value is None:
        return None
    if value == "-":
        return _parse(_decode(sys.stdin.buffer.read(), "standard input"), "standard input")
    if value.startswith("@"):
        path = Path(value[1:])
        try:
            raw = path.read_bytes()
        except OSError as exc:
            raise click.UsageError(f"{path} cannot be read: {exc.strerror}") from exc
        return _parse(_decode(raw, str(path)), str(path))
    return _parse(value, "")


def _decode(raw: bytes, source: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"{source} is no JSON: byte {exc.start} is no UTF-8") from exc


def _parse(text: str, source: str) -> Any:
    import json

    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise click.UsageError(_no_json(text, source, exc)) from exc
    except (ValueError, RecursionError) as exc:
        raise click.UsageError(f"{source or 'DATA'} is no JSON that can be read: {exc}") from exc


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _no_json(text: str, source: str, exc: Any) -> str:
    import json
    import shlex

    if source:
        return f"{source} is no JSON: {exc}"
    shown = text if len(text) <= 40 else f"{text[:37]}..."
    if text[:1] in ("{", "[", '"'):
        hint = "; names and texts in it need double quotes" if text[0] != '"' else ""
        return f"DATA {shown} is no JSON: {exc.msg} at character {exc.pos + 1}{hint}"
    return f"DATA {shown} is no JSON: text needs quotes: {shlex.quote(json.dumps(shown, ensure_ascii=False))}"
