"""Quantities as people write them: times, shares, bit rates."""

import re
from collections.abc import Mapping

Quantity = str | float

_FORM = re.compile(r"\s*([0-9.]+)\s*([a-z%]*)\s*")


def seconds(value: Quantity) -> float:
    """Read `"20ms"`; a bare number is seconds."""
    return _parse(value, {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}, "time")


def share(value: Quantity) -> float:
    """Read `"1%"` or 0.01."""
    found = _parse(value, {"": 1.0, "%": 0.01}, "share")
    if found > 1:
        raise ValueError(f"share {value!r} is not between 0 and 100%")
    return found


def bits(value: Quantity) -> float:
    """Read `"10mbit"`; a bare number is bits a second."""
    return _parse(value, {"": 1.0, "bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}, "rate")


def _parse(value: Quantity, units: Mapping[str, float], what: str) -> float:
    match = _FORM.fullmatch(str(value).lower())
    if match is None or match[2] not in units:
        raise ValueError(f"cannot read {what} {value!r} (units: {', '.join(unit for unit in units if unit)})")
    return float(match[1]) * units[match[2]]
