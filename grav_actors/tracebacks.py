"""Tracebacks as those read them whose code has failed: without the frames of this package around their own."""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import TypeVar

from grav_actors.errors import GravError

E = TypeVar("E", bound=BaseException)

_PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120  (text: it is compared with file names of code)
_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def shorten(exc: E) -> E:
    """Cut what leads to the user's code, and what lies behind it if this package has refused something; return `exc`.

    An error that never was in the user's code is left whole, unless it is one of this package: then its text says it
    all. What has caused the error is cut likewise.
    """
    seen: set[int] = set()
    todo: list[BaseException | None] = [exc]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        frames = _frames(each)
        users = [number for number, frame in enumerate(frames) if _is_users(frame)]
        is_refusal = isinstance(each, GravError)
        if users:
            each.__traceback__ = _chain(frames[users[0] : users[-1] + 1 if is_refusal else None])
        elif is_refusal:
            each.__traceback__ = None
        if is_refusal and each.__context__ is not None and not any(map(_is_users, _frames(each.__context__))):
            each.__suppress_context__ = True  # how it was found out
        todo += [each.__cause__, None if each.__suppress_context__ else each.__context__]
    return exc


def traceback_text(exc: BaseException) -> str:
    """Return the traceback of an error, shortened."""
    return "".join(traceback.format_exception(shorten(exc)))


def _frames(exc: BaseException) -> list[TracebackType]:
    frames: list[TracebackType] = []
    frame = exc.__traceback__
    while frame is not None:
        frames.append(frame)
        frame = frame.tb_next
    return frames


def _is_users(frame: TracebackType) -> bool:
    name = frame.tb_frame.f_code.co_filename
    if name.startswith((_PACKAGE, "<frozen ")):
        return False
    return not name.startswith(_LIBRARY) or any(part in name for part in _INSTALLED)


def _chain(frames: list[TracebackType]) -> TracebackType | None:
    following: TracebackType | None = None
    for frame in reversed(frames):
        following = TracebackType(following, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return following
