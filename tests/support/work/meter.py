"""Counts what a part of a program does: calls, bytecodes, or bytes; one of them at a time."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

KINDS = ("calls", "bytecodes", "bytes")
"""Calls of functions and methods, also of those in C; bytecodes executed; the most memory taken at one time."""


class Meter:
    """Counts one kind of work, for the part that is named at the time.

    Attributes:
        totals: What was counted, by part; of bytes the highest sum of one stretch.
        is_on: Nothing is counted before.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.totals: Counter[str] = Counter()
        self.is_on = False
        self._part = ""
        self._count = 0
        self._base = 0

    def __enter__(self) -> Self:
        if self.kind == "bytes":
            # A full collection empties the lists of free objects, and what was taken from those counts as new: where it
            # falls is chance.
            gc.disable()
            tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.switch("")
        if self.kind == "bytes":
            tracemalloc.stop()
            gc.enable()

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        """Count for a part, and then for the one before again."""
        before = self._part
        self.switch(name)
        try:
            yield
        finally:
            self.switch(before)

    def switch(self, name: str) -> None:
        """Count for another part from now on; "" for none."""
        self._stop()
        self._part = name
        if name and self.is_on:
            self._start()

    def _start(self) -> None:
        self._count = 0
        if self.kind == "bytes":
            tracemalloc.reset_peak()
            self._base = tracemalloc.get_traced_memory()[0]
        elif self.kind == "calls":
            sys.setprofile(self._on_call)
        else:
            # A part may go on in frames that have begun before.
            frame: FrameType | None = sys._getframe(2)
            while frame is not None:
                if frame.f_globals.get("__name__", "").startswith("grav_actors"):
                    self._follow(frame)
                frame = frame.f_back
            sys.settrace(self._on_frame)

    def _stop(self) -> None:
        if not self._part or not self.is_on:
            return
        if self.kind == "bytes":
            peak = tracemalloc.get_traced_memory()[1] - self._base
            self.totals[self._part] = max(self.totals[self._part], peak)
            return
        sys.settrace(None) if self.kind == "bytecodes" else sys.setprofile(None)
        self.totals[self._part] += self._count

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self._count += 1

    def _follow(self, frame: FrameType) -> None:
        frame.f_trace = self._on_opcode
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True

    def _on_frame(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._follow(frame)
        return self._on_opcode

    def _on_opcode(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self._count += 1
        return self._on_opcode
