"""The same census in one process and without the framework, to compare numbers and time.

$ python plain.py [ROOT] [--json FILE]
"""

import argparse
import json
import pathlib
import sysconfig
import time

from counting import Totals, count_file, format_report, python_files


def count_tree(root: str) -> Totals:
    """Count every Python file below `root`, one after the other."""
    totals = Totals()
    for path in python_files(root):
        totals.add(count_file(root, path))
    return totals


def main() -> None:
    """Count, print the table, and write the totals if asked to."""
    parser = argparse.ArgumentParser(description="Count a tree of Python files in one process.")
    parser.add_argument("root", nargs="?", default=sysconfig.get_paths()["stdlib"])
    parser.add_argument("--json", metavar="FILE", help="write the totals to FILE too")
    options = parser.parse_args()
    started = time.monotonic()
    totals = count_tree(options.root)
    elapsed = time.monotonic() - started
    print(format_report(totals, elapsed))
    if options.json:
        summary = {"complete": True, "elapsed": elapsed, "totals": totals.to_data()}
        pathlib.Path(options.json).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
