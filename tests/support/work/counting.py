"""Counts the work of every scene, and holds it to a baseline.

$ python -m support.work.counting [--only SCENE]... [--plant NAME] [--table | --write]

Run with the folder tests/ on the path, as `scripts/work` does. Prints JSON, or a table beside the baseline; `--write`
takes what is counted as the baseline of this version of Python.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from support.work.meter import KINDS, Meter
from support.work.plants import PLANTS
from support.work.rig import Rig
from support.work.scenes import Scene, scenes

BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 0.10
"""Part by which work may be more than the baseline says."""
Counts = dict[str, float]
"""What was counted for one unit: `stream, sender: bytecodes a message` and a number."""


def python_version() -> str:
    """Return the version whose compiler and profiler are counted with; others have other bytecodes."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def count(scene: Scene) -> Counts:
    """Run a scene once for each kind of work."""
    counts: Counts = {}
    for kind in KINDS:
        with Meter(kind) as meter:
            rig = Rig(meter)
            rig.run(scene.script(rig))
        for part, (unit, units) in scene.units.items():
            if kind == "bytes":
                counts[f"{scene.name}, {part}: most bytes at a time"] = meter.totals[part]
            else:
                counts[f"{scene.name}, {part}: {kind} a {unit}"] = round(meter.totals[part] / units, 2)
            if kind == "calls":
                counts[f"{scene.name}, {part}: calls of the socket a {unit}"] = round(
                    rig.socket_calls()[part] / units, 4
                )
                if part != "bus":
                    counts[f"{scene.name}, {part}: frames a {unit}"] = round(rig.frames[part] / units, 4)
    return counts


def count_all(only: list[str]) -> Counts:
    """Count the work of the scenes with these names, or of all."""
    counts: Counts = {}
    for scene in scenes():
        if not only or scene.name in only:
            counts |= count(scene)
    return counts


def read_baseline() -> dict[str, Counts]:
    """Return the baselines by version of Python."""
    found: dict[str, Counts] = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    return found


def excesses(counts: Counts, baseline: Counts) -> list[str]:
    """Return what is more than the baseline allows, or not in it, each as a sentence."""
    found: list[str] = []
    for name, seen in counts.items():
        if name not in baseline:
            found.append(f"{name}: {seen:g}, and the baseline does not have it")
        elif seen > (allowed := baseline[name] * (1 + TOLERANCE)):
            found.append(f"{name}: {seen:g}, allowed are {allowed:g} (a tenth over the baseline, {baseline[name]:g})")
    return found


def write_baseline(counts: Counts) -> None:
    """Take the counts as the baseline of this version of Python."""
    found = {**read_baseline(), python_version(): counts}
    BASELINE.write_text(json.dumps(found, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def table(counts: Counts, baseline: Counts) -> str:
    """Return the counts, what the baseline has, and by how much they differ."""
    lines = [f"{'':56} {'counted':>12} {'baseline':>12}"]
    for name, seen in counts.items():
        before = baseline.get(name)
        change = "" if not before or before == seen else f"{(seen / before - 1):+.1%}"
        lines.append(f"{name:56} {seen:>12,g} {'-' if before is None else f'{before:,g}':>12} {change}".rstrip())
    return "\n".join(lines)


def main() -> int:
    """Count, and print or write; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--plant", choices=sorted(PLANTS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.plant:
        PLANTS[options.plant]()
    counts = count_all(options.only)
    if not options.table and not options.write:
        sys.stdout.write(json.dumps(counts))
        return 0
    baseline = read_baseline().get(python_version(), {})
    sys.stdout.write(f"{table(counts, baseline)}\n")
    if options.write:
        write_baseline(counts)
        return 0
    too_much = excesses(counts, baseline)
    for sentence in too_much:
        sys.stdout.write(f"TOO MUCH: {sentence}\n")
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
