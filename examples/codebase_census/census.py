"""A census of a source tree: one actor reads, four processes parse, one adds up.

```
 Reader ── census.file ──► group "parsers": Parser x 4 ── census.counted ──► Aggregator
    └───────────────────── census.total ────────────────────────────────────────▲
```

Start it with `grav-actors up` in this folder. It prints its table and ends by itself.
"""

import dataclasses
import json
import os
import pathlib
import sys
import sysconfig
import time
import typing

from counting import FileCount, Totals, count_file, format_report, python_files

from grav_actors import Actor, Message, on_type

PROGRESS_EVERY = 250
"""Files between two lines of progress when the output is no terminal."""


class Reader(Actor):
    """Finds the files. It only names them, so its messages are small and it is done at once."""

    def __init__(self, root: str = "") -> None:
        self.root = str(pathlib.Path(root or sysconfig.get_paths()["stdlib"]).resolve())

    def on_start(self) -> None:
        """Begin once the start is over: a message to oneself keeps the start short."""
        self.after(0.0, "census.walk")

    @on_type("census.walk")
    def walk(self, msg: Message) -> None:
        """Publish one message for each file, and how many there were."""
        files = 0
        for path in python_files(self.root):
            self.publish("census.file", {"root": self.root, "path": path})
            files += 1
        self.publish("census.total", {"root": self.root, "files": files})


class Parser(Actor):
    """Counts one file at a time. Each file goes to one member of the group, whoever has room."""

    group = "parsers"

    @on_type("census.file")
    def parse(self, msg: Message) -> None:
        """Count a file; one that does not parse is a result like any other, not a failure."""
        count = count_file(msg.data["root"], msg.data["path"])
        self.publish("census.counted", {"worker": self.name, "pid": os.getpid(), "count": count.to_data()})


@dataclasses.dataclass(slots=True)
class Share:
    """What one worker did; after a restart it has had more than one process."""

    files: int = 0
    pids: list[int] = dataclasses.field(default_factory=list)


class Aggregator(Actor):
    """Adds the results up, shows how far it is, and ends the program when all are there."""

    def __init__(self, output: str = "") -> None:
        self.output = output

    def on_start(self) -> None:
        """Begin with nothing."""
        self.totals = Totals()
        self.shares: dict[str, Share] = {}
        self.seen: set[str] = set()
        self.expected: int | None = None
        self.started: float | None = None

    @on_type("census.total")
    def total(self, msg: Message) -> None:
        """Learn how many results there will be; some, or all, may have come before."""
        self._start_clock()
        self.expected = msg.data["files"]
        self._finish_if_complete()

    @on_type("census.counted")
    def counted(self, msg: Message) -> None:
        """Add one file.

        A file may be counted twice: when a parser is killed after it published a result and before the bus
        knew that it had, the file is parsed again. Twice the same path is therefore added once.
        """
        self._start_clock()
        count = FileCount.from_data(msg.data["count"])
        if count.path in self.seen:
            return
        self.seen.add(count.path)
        self.totals.add(count)
        share = self.shares.setdefault(msg.data["worker"], Share())
        share.files += 1
        if msg.data["pid"] not in share.pids:
            share.pids.append(msg.data["pid"])
        self._show_progress()
        self._finish_if_complete()

    @on_type("census.report")
    def report(self, msg: Message) -> dict[str, typing.Any]:
        """Answer with what is known so far."""
        return self._summary()

    def _start_clock(self) -> None:
        if self.started is None:
            self.started = time.monotonic()

    def _elapsed(self) -> float:
        return 0.0 if self.started is None else time.monotonic() - self.started

    def _summary(self) -> dict[str, typing.Any]:
        workers = {name: {"files": share.files, "pids": share.pids} for name, share in self.shares.items()}
        complete = self.totals.files == self.expected
        return {
            "complete": complete,
            "elapsed": self._elapsed(),
            "totals": self.totals.to_data(),
            "workers": workers,
        }

    def _show_progress(self) -> None:
        files = self.totals.files
        line = f"{files:,} of {'?' if self.expected is None else format(self.expected, ',')} files"
        if sys.stdout.isatty():
            print(f"\r{line}", end="", flush=True)
        elif files % PROGRESS_EVERY == 0:
            print(line, flush=True)

    def _finish_if_complete(self) -> None:
        if self.totals.files != self.expected:
            return
        summary = self._summary()
        if sys.stdout.isatty():
            print()
        workers = {name: share.files for name, share in self.shares.items()}
        print(format_report(self.totals, summary["elapsed"], workers), flush=True)
        if self.output:
            pathlib.Path(self.output).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        self.publish("census.done", summary)
        end_program(self)


def end_program(actor: Actor) -> None:
    """End the whole program that `grav-actors up` started, as `grav-actors down` would."""
    actor.ask("grav.node", "grav.sys.control.down")
