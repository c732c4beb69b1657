"""Run the benchmarks, and print how this framework compares.

$ python -m benchmarks [--pairs N] [--seconds S | --messages N] [--only NAME]... [--json FILE]
$ python -m benchmarks recovery [--rounds N] [--json FILE]

Exit code 1: a run was void, or a part of one failed. Missed targets are shown and are no error: a busy
machine misses them too.
"""

import argparse
import collections.abc
import dataclasses
import json
import pathlib
import sys

from benchmarks import asking, recovery, throughput
from benchmarks.report import Series, Target, as_json, format_table
from benchmarks.worker import WorkerError
from benchmarks.workload import Load

SIDES = ["ours", "baseline", "raw"]
FANOUT = 10
OUTSTANDING = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """One thing to measure: on which sides, what values it gives, and one run of one side.

    `run` returns one value for each series, None for a void run, and a remark for the reader.
    """

    name: str
    sides: list[str]
    series: list[Series]
    run: collections.abc.Callable[[str, Load], tuple[list[float | None], str]]


def _throughput(receivers: int) -> collections.abc.Callable[[str, Load], tuple[list[float | None], str]]:
    def run(side: str, load: Load) -> tuple[list[float | None], str]:
        delivery = throughput.measure(side, load, receivers)
        if delivery.problem:
            return [None], f"VOID: {delivery.problem}"
        return [delivery.rate], f"{delivery.rate:,.0f}/s, {delivery.messages:,} messages, none lost"

    return run


def _latency(side: str, load: Load) -> tuple[list[float | None], str]:
    report = asking.measure(side, load, outstanding=1)
    return [report.p50, report.p99], f"p50 {report.p50:.0f} us, p99 {report.p99:.0f} us"


def _asks(side: str, load: Load) -> tuple[list[float | None], str]:
    report = asking.measure(side, load, OUTSTANDING)
    rate = report.questions / report.elapsed
    return [rate], f"{rate:,.0f}/s"


def measures() -> list[Measure]:
    """Return everything there is to measure."""
    return [
        Measure(
            "throughput",
            ["ours", "baseline"],
            [Series("process to process, 100 B", "msg/s", Target("baseline", 10))],
            _throughput(1),
        ),
        Measure(
            "fanout",
            ["ours", "baseline"],
            [Series(f"1 to {FANOUT} processes, 100 B", "deliveries/s", Target("baseline", 10))],
            _throughput(FANOUT),
        ),
        Measure(
            "ask",
            SIDES,
            [
                Series("ask, one at a time, p50", "us", Target("raw", 1.6, at_most=True)),
                Series("ask, one at a time, p99", "us"),
            ],
            _latency,
        ),
        Measure(
            f"ask{OUTSTANDING}",
            SIDES,
            [Series(f"ask, {OUTSTANDING} outstanding", "answers/s", Target("baseline", 4))],
            _asks,
        ),
    ]


def parse_arguments(names: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Compare this framework with a plain bus and a raw echo."
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="runs of each side (default: 5)")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, default=2.0, help="length of each run (default: 2)")
    amount.add_argument("--messages", type=int, default=0, metavar="N", help="messages of each run instead")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[*names, *SIDES],
        help="only this measure, or only this side; may be given several times",
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures to FILE too")
    options = parser.parse_args()
    if options.pairs < 1 or options.seconds <= 0 or options.messages < 0:
        parser.error("--pairs is at least 1, --seconds more than 0, --messages at least 0")
    return options


def run_pairs(measure: Measure, sides: list[str], load: Load, pairs: int) -> bool:
    """Run all sides in turn, each time in the other order; return whether every run counts."""
    is_good = True
    for pair in range(pairs):
        ordered = sides if pair % 2 == 0 else sides[::-1]
        for side in ordered:
            try:
                values, remark = measure.run(side, load)
            except WorkerError as error:
                values, remark = [None] * len(measure.series), f"FAILED: {error}"
            is_good = is_good and None not in values
            for series, value in zip(measure.series, values, strict=True):
                series.add(side, value)
            print(f"{measure.name} {pair + 1}/{pairs} {side}: {remark}", file=sys.stderr, flush=True)
    return is_good


def main() -> int:
    """Measure, print the table, write the figures if asked to."""
    if sys.argv[1:2] == ["recovery"]:
        return recovery.main(sys.argv[2:])
    everything = measures()
    names = [measure.name for measure in everything]
    options = parse_arguments(names)
    chosen = [name for name in names if name in options.only] or names
    sides = [side for side in SIDES if side in options.only] or SIDES
    load = Load(options.seconds, options.messages)
    is_good = True
    series: list[Series] = []
    for measure in everything:
        wanted = [side for side in measure.sides if side in sides]
        if measure.name in chosen and wanted:
            is_good = run_pairs(measure, wanted, load, options.pairs) and is_good
            series += measure.series
    print(format_table(series, sides))
    if options.json:
        settings = {"pairs": options.pairs, **dataclasses.asdict(load)}
        options.json.write_text(json.dumps(as_json(series, settings), indent=2) + "\n", encoding="utf-8")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
