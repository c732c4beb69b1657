"""Benchmarks: this framework beside a plain ZeroMQ bus and a raw echo, in the same run.

Machines differ and are noisy, so what counts are ratios: both sides run alternately, each in fresh processes,
and the table shows medians and the spread. `python -m benchmarks --help` says how to run it.
"""

import sys

COMMANDS = ("document", "growth", "memory", "mesh", "profiling", "recovery", "spawn")
"""The modules that are programs: `python -m benchmarks.NAME`."""


def _refuse_parts() -> None:
    """Say so when a module is run that is no program: it would do nothing, without a word."""
    begin = sys.orig_argv.index("-m") + 1
    name, arguments = sys.orig_argv[begin], sys.orig_argv[begin + 1 :]
    part = name.partition(".")[2]
    is_worker = len(arguments) == 2  # as worker.py starts it: a role and its settings
    if part and part not in ("__main__", *COMMANDS) and not is_worker:
        sys.exit(
            f"{name} is a part of the benchmarks and no program; run python -m benchmarks, or python -m benchmarks.NAME"
            f" with NAME one of {', '.join(COMMANDS)}"
        )


if sys.argv[0] == "-m":  # so it is while Python looks for the module that it is to run
    _refuse_parts()
