"""What commands print: JSON of whatever a message may carry, and tables."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from grav_actors.reference import ActorRef

if TYPE_CHECKING:
    from grav_actors.message import Message


def to_json(value: Any) -> str:
    """Return a value as one line of JSON.

    Bytes become base64, datetimes ISO 8601, references names, and the three floats that JSON has no number
    for their names, `"NaN"`, `"Infinity"` and `"-Infinity"`.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    return json.dumps(plain(value), ensure_ascii=encoding != "utf8", allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value as JSON can carry it."""
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, ActorRef):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(plain(key))


def message_row(message: Message, sender: str) -> dict[str, Any]:
    """Return what `sub --json` prints of a message."""
    return {
        "uuid": message.uuid,
        "type": message.type,
        "data": message.data,
        "parent_id": message.parent_id,
        "reply_to": message.reply_to,
        "timestamp": message.timestamp,
        "sender": sender,
        "redelivered": message.redelivered,
    }


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return the lines of a table; numbers stand to the right, nothing is a dash."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    lines = [[column.upper() for column in columns], *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_right = [all(line[at].isdigit() or line[at] == "-" for line in cells) for at in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_right, strict=True)
        ).rstrip()
        for line in lines
    ]


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)
