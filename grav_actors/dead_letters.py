"""The dead letters as programs see them: what `Grav` and the command line list, retry and purge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from grav_actors.bus.dead_letter_inquiry import LIST, PURGE, RETRY, SHOW
from grav_actors.bus.shelf import REASONS
from grav_actors.errors import ConfigError, DeadLetterNotFoundError, MessageDecodeError
from grav_actors.message import Message
from grav_actors.options import check_choice
from grav_actors.pattern import check_pattern

Ask = Callable[[str, Any], Any]
"""Asks the bus a question of a type, with data."""

NAMED_CANDIDATES = 3
"""Uuids that an error names of those that a part of a uuid may mean."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that somebody did not handle, and will not unless it is retried.

    Attributes:
        uuid: Of the message. Several receivers may have failed one message: each is a letter of its own.
        type: Of the message.
        reason: `max_deliver`, `crashed`, `rejected`, `overflow`, `pod_lost`, `no_responders`, `expired`,
            `pod_unhealthy` or `stopping`.
        target: Name of the receiver, or the uuid of a pod without one; of a group's full mailbox the group.
        attempts: Failures charged to it.
        error: What its handler raised last, or "".
        group: The group through which it came, or "".
        age: Seconds since it became a dead letter.
        number: Counts the dead letters of a bus.
        message: The message, where it was asked for; None if it cannot be read.
    """

    uuid: str
    type: str
    reason: str
    target: str
    attempts: int
    error: str
    group: str
    age: float
    number: int
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a retry.

    Attributes:
        count: Letters that are on their way to their targets.
        kept: Why others stay on the shelf, each reason with its number of letters.
    """

    count: int
    kept: dict[str, int]


def find(
    ask: Ask, uuid: str | None, *, reason: str | None, type: str | None, with_messages: bool = False
) -> list[DeadLetter]:
    """Return the dead letters that have all of what is given, oldest first; see `Grav.dead_letters`."""
    selection = _selection(reason, type)
    letters = _named(ask, uuid, selection) if uuid is not None else _all(ask, selection)
    return [_with_message(ask, letter) for letter in letters] if with_messages else letters


def retry(ask: Ask, uuid: str | None, *, reason: str | None, type: str | None, all: bool) -> Retried:
    """Deliver dead letters again; see `Grav.retry_dead`."""
    answer = ask(RETRY, _chosen(ask, uuid, reason, type, all=all))
    return Retried(answer["retried"], dict(answer["kept"]))


def purge(ask: Ask, uuid: str | None, *, reason: str | None, type: str | None, all: bool) -> int:
    """Forget dead letters; see `Grav.purge_dead`."""
    count: int = ask(PURGE, _chosen(ask, uuid, reason, type, all=all))
    return count


def _selection(reason: str | None, type: str | None) -> dict[str, Any]:
    selection: dict[str, Any] = {}
    if reason is not None:
        check_choice("reason", reason, REASONS)
        selection["reason"] = reason
    if type is not None:
        selection["type"] = check_pattern(type)
    return selection


def _chosen(ask: Ask, uuid: str | None, reason: str | None, type: str | None, *, all: bool) -> dict[str, Any]:
    """Return the selection of what is to be changed: nothing by mistake."""
    selection = _selection(reason, type)
    if uuid is not None:
        selection["uuid"] = _named(ask, uuid, selection)[0].uuid
    if all and selection:
        raise ConfigError("all dead letters, or those of a uuid, reason or type: not both")
    if not all and not selection:
        raise ConfigError("say which dead letters: a uuid, a reason, a type or pattern, or all of them")
    return selection


def _named(ask: Ask, uuid: str, selection: dict[str, Any]) -> list[DeadLetter]:
    """Return the letters of the one message whose uuid is this, or begins or ends so."""
    if not isinstance(uuid, str) or not uuid:
        raise ConfigError(f"uuid must be the text of a uuid, or its beginning or end, not {uuid!r:.80}")
    letters = _all(ask, {**selection, "uuid": uuid.lower()})
    uuids = list(dict.fromkeys(letter.uuid for letter in letters))
    if not uuids:
        raise DeadLetterNotFoundError(
            f"there is no dead letter {uuid!r:.80} (any more: the last 1,000 are kept); "
            "`grav-actors dead list` lists them"
        )
    if len(uuids) > 1:
        named = ", ".join(uuids[:NAMED_CANDIDATES]) + (", ..." if len(uuids) > NAMED_CANDIDATES else "")
        raise ConfigError(f"{uuid!r:.80} may mean {len(uuids)} dead letters ({named}); give more of the uuid")
    return letters


def _all(ask: Ask, selection: dict[str, Any]) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    while True:
        page = ask(LIST, {**selection, "after": letters[-1].number if letters else 0})
        letters += [DeadLetter(**row) for row in page["letters"]]
        if not page["more"]:
            return letters


def _with_message(ask: Ask, letter: DeadLetter) -> DeadLetter:
    shown = ask(SHOW, letter.number)
    if shown is None or shown["message"] is None:
        return letter
    try:
        return replace(letter, message=Message.unmarshal(shown["message"]))
    except MessageDecodeError:
        return letter
