"""Benchmarks: this framework beside a plain ZeroMQ bus and a raw echo, in the same run.

Machines differ and are noisy, so what counts are ratios: both sides run alternately, each in fresh processes,
and the table shows medians and the spread. `python -m benchmarks --help` says how to run it.
"""
