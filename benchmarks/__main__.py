"""Run the benchmarks, and print how this framework compares.

$ python -m benchmarks [--quick] [--pairs N] [--seconds S | --messages N] [--only NAME]... [--json FILE]
$ python -m benchmarks.NAME --help

Exit code 1: a run was void, or a part of one failed. Missed targets are shown and are no error: a busy
machine misses them too. Other measurements are programs of their own, the second line; NAMEs are those of `COMMANDS`.
"""

import argparse
import dataclasses
import json
import pathlib
import sys

from benchmarks import COMMANDS
from benchmarks.catalogue import measures
from benchmarks.measure import run_pairs
from benchmarks.report import Series, as_json, format_table
from benchmarks.sides import SIDES
from benchmarks.workload import Load

PAIRS, SECONDS = 5, 1.0
QUICK_PAIRS, QUICK_SECONDS = 1, 0.3


def parse_arguments(names: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare this framework with plain sockets, multiprocessing, and what other frameworks there are.",
        epilog="Other measurements, each with a --help: python -m benchmarks.NAME, with NAME one of "
        + ", ".join(COMMANDS),
    )
    parser.add_argument("--quick", action="store_true", help="one short run of each, to see that everything works")
    parser.add_argument("--pairs", type=int, metavar="N", help=f"runs of each side (default: {PAIRS})")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, metavar="S", help=f"length of each run (default: {SECONDS:g})")
    amount.add_argument("--messages", type=int, default=0, metavar="N", help="messages of each run instead")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[*names, *SIDES],
        metavar="NAME",
        help=f"only this measure, or only this side; may be given several times; measures: {', '.join(names)}; "
        f"sides: {', '.join(SIDES)}",
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures to FILE too")
    options = parser.parse_args()
    if options.pairs is None:
        options.pairs = QUICK_PAIRS if options.quick else PAIRS
    if options.seconds is None:
        options.seconds = QUICK_SECONDS if options.quick else SECONDS
    if options.pairs < 1 or options.seconds <= 0 or options.messages < 0:
        parser.error("--pairs is at least 1, --seconds more than 0, --messages at least 0")
    return options


def main() -> int:
    """Measure, print the table, write the figures if asked to."""
    everything = measures()
    names = [measure.name for measure in everything]
    options = parse_arguments(names)
    chosen = [name for name in names if name in options.only] or names
    sides = [side for side in SIDES if side in options.only] or list(SIDES)
    load = Load(options.seconds, options.messages)
    is_good = True
    series: list[Series] = []
    absent: dict[str, None] = {}
    for measure in everything:
        if measure.name not in chosen:
            continue
        wanted = [side for side in measure.sides if side in sides]
        there = [side for side in wanted if SIDES[side].is_installed]
        absent.update(dict.fromkeys(side for side in wanted if side not in there))
        if there:
            is_good = run_pairs(measure, there, load, options.pairs) and is_good
            series += measure.series
    print(format_table(series, list(absent)))
    if options.json:
        settings = {"pairs": options.pairs, **dataclasses.asdict(load)}
        figures = as_json(series, settings, list(absent))
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
