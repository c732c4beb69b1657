"""Put figures and charts into the documents.

$ python -m benchmarks.document [FIGURES] [--before FIGURES] [--growth FIGURES]

FIGURES are files that `python -m benchmarks --json` has written, and `python -m benchmarks.growth --json`. Tables stand
between markers: of everything in docs/performance.md, of the most important in README.md; charts are written into
docs/charts. With `--before` the table has a column more: what ours was then.
"""

import argparse
import json
import pathlib
import re
import sys
import typing

from benchmarks import growth
from benchmarks.report import Series, Target, from_json, number, rows, summarise
from benchmarks.sides import BASELINE, OURS, SIDES
from benchmarks.worker import ROOT

PERFORMANCE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
CHARTS = ROOT / "docs" / "charts"


def between(text: str, name: str, content: str) -> str:
    """Return a text with what stands between the two markers of a name replaced.

    Raises:
        ValueError: The markers are not there, or more than once.
    """
    pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    replaced, count = pattern.subn(lambda found: f"{found[1]}{content}{found[2]}", text)
    if count != 1:
        raise ValueError(f"there are {count} pairs of the markers <!-- {name} --> and <!-- end of {name} -->, not one")
    return replaced


def table(lines: list[list[str]]) -> str:
    """Return a Markdown table; the first line is its head."""
    made = ["| " + " | ".join(line) + " |" for line in lines]
    made.insert(1, "| " + " | ".join("---" for _ in lines[0]) + " |")
    return "\n".join(made) + "\n"


def full_table(series: list[Series], absent: list[str], before: list[Series]) -> str:
    """Return everything that was measured, and what ours was before, alone and in relation to the others."""
    earlier = {one.name: one for one in before}
    names = {side.title: side.name for side in SIDES.values()}
    lines = [["what", "side", "median (lowest .. highest)", "ours is", "target"]]
    if before:
        lines[0].append("before")
    last = ""
    for row in rows(series, absent):
        what = "" if row.what == last else f"**{row.what}**, {row.unit}" if row.what else ""
        last = row.what
        line = [what, row.side, row.value, row.ratio, row.target]
        if before:
            line.append(_was(earlier.get(row.what), names[row.side]))
        lines.append(line)
    return table(lines)


def _was(before: Series | None, side: str) -> str:
    if before is None:
        return ""
    summary = summarise(before.values.get(OURS, []) if side == OURS else before.ratios(side))
    return "" if summary is None else f"{number(summary.median)}{'' if side == OURS else ' x'}"


def short_table(series: list[Series]) -> str:
    """Return ours beside the one-message-per-send bus, where that was measured for its rate or time."""
    lines = [["", SIDES[OURS].title, SIDES[BASELINE].title, "ours is"]]
    for one in series:
        ours, other = summarise(one.values.get(OURS, [])), summarise(one.values.get(BASELINE, []))
        ratio = summarise(one.ratios(BASELINE))
        if ours and other and ratio and (one.targets or one.name.endswith("p50")):
            name = f"{one.name}, {one.unit}"
            lines.append([name, number(ours.median), number(other.median), f"{number(ratio.median)} x"])
    return table(lines)


def describe(data: dict[str, typing.Any]) -> str:
    """Return where and how figures were measured, as a sentence."""
    machine, settings = data["machine"], data["settings"]
    length = f"{settings['messages']:,} messages" if settings.get("messages") else f"{settings['seconds']:g} s"
    load = ", ".join(f"{value:.1f}" for value in machine["load"])
    return (
        f"{machine['cpus']} processors ({machine['processor']}), {machine['system']}, Python {machine['python']}, "
        f"pyzmq {machine['pyzmq']}, msgpack {machine['msgpack']}; {settings['pairs']} runs of each, {length} long; "
        f"load average at the end: {load}.\n"
    )


def missed(series: list[Series]) -> str:
    """Return the targets that are not met, as a list."""
    found: list[str] = []
    for one in series:
        for target in one.targets:
            if one.verdict(target) is False:
                ratio = summarise(one.ratios(target.side)) if isinstance(target, Target) else None
                seen = ratio or summarise(one.values[OURS])
                unit = "x" if ratio else one.unit
                text = "" if seen is None else number(seen.median)
                found.append(f"- {one.name}: {text} {unit}, wanted is {target}\n")
    return "".join(found) or "All targets are met.\n"


def main() -> int:
    """Rewrite the documents; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.document", description="Put figures into the documents."
    )
    parser.add_argument("figures", type=pathlib.Path, nargs="?", help="a file of `python -m benchmarks --json`")
    parser.add_argument("--before", type=pathlib.Path, metavar="FIGURES", help="one from before some change")
    parser.add_argument(
        "--growth", type=pathlib.Path, metavar="FIGURES", help="of `python -m benchmarks.growth --json`"
    )
    options = parser.parse_args()
    if not options.figures and not options.growth:
        parser.error("name a file of figures, or --growth and one")
    page = PERFORMANCE.read_text(encoding="utf-8")
    if options.figures:
        data = json.loads(options.figures.read_text(encoding="utf-8"))
        series = from_json(data)
        earlier = from_json(json.loads(options.before.read_text(encoding="utf-8"))) if options.before else []
        page = between(page, "machine", describe(data))
        page = between(page, "figures", full_table(series, data["absent"], earlier))
        page = between(page, "missed", missed(series))
        readme = between(README.read_text(encoding="utf-8"), "figures", short_table(series))
        README.write_text(readme, encoding="utf-8")
    if options.growth:
        data = json.loads(options.growth.read_text(encoding="utf-8"))
        page = between(page, "growth machine", describe(data))
        growth.write_charts(CHARTS, data["charts"])
    PERFORMANCE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
