"""Values that users write, checked: durations, sizes, names, and the options of the parts.

Every refusal is a `ConfigError` of one line that says what was seen and what is allowed. An `OptionError`
also names the option, so that whoever read it from a file can point at its line.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeGuard, get_args

from grav_actors.errors import ConfigError

Overflow = Literal["block", "drop_oldest", "drop_newest", "disconnect"]
"""What happens to what is sent to a pod whose mailbox is full."""

OVERFLOWS: Final[tuple[str, ...]] = get_args(Overflow)

DEFAULT_PREFETCH: Final = 4096
"""Messages in flight to a pod that is in no group."""

GROUP_PREFETCH_PER_WORKER: Final = 4
"""Messages in flight to a member of a group, for each handler that it may run at a time."""

LARGEST_MESSAGE: Final = 2**31
"""The highest `max_message`, in bytes; a MessagePack binary ends at 4 GiB."""

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(ms|s|m|h)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,15}))? ?(B|KiB|MiB|GiB)?")
_BYTES: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHOWN_CHARACTERS: Final = 80


class OptionError(ConfigError):
    """The value of one option was refused.

    Attributes:
        option: Name of the option; the text of the error begins with it.
    """

    def __init__(self, text: str, option: str = "") -> None:
        super().__init__(text)
        self.option = option


def show(value: object) -> str:
    """Write a value as one short line, texts in double quotes."""
    text = f'"{repr(value)[1:-1]}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word that `word` most likely was meant to be, or None.

    Case does not count.
    """
    from difflib import get_close_matches  # noqa: PLC0415  (only mistakes pay for it)

    by_folded = {name.casefold(): name for name in allowed}
    found = get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """Return `; did you mean "..."?` when an allowed word is near, else an empty text."""
    near = nearest(word, allowed) if isinstance(word, str) else None
    return "" if near is None else f'; did you mean "{near}"?'


def parse_duration(value: object) -> float:
    """Read a duration: `"200ms"`, `"5s"`, `"10m"`, `"1h"`, or a number of seconds.

    Returns:
        Seconds, 0 or more, finite.

    Raises:
        ConfigError: Negative, not finite, or no duration at all.
    """
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is not None:
            number, unit = match.groups()
            # Dividing keeps what people write exact: 3 * 0.001 is 0.003, but 200 * 0.001 need not be 0.2.
            return float(number) / 1000 if unit == "ms" else float(number) * _SECONDS[unit or "s"]
    elif _is_number(value) and value >= 0:
        return float(value)
    raise ConfigError(
        f'{show(value)} is no duration; write "200ms", "5s", "10m", "1h" or a number of seconds, 0 or more'
    )


def parse_size(value: object) -> int:
    """Read a size: `"64KiB"`, `"1MiB"`, `"2GiB"`, or a number of bytes.

    Returns:
        Bytes, 0 or more.

    Raises:
        ConfigError: Negative, a fraction of a byte, or no size at all.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is not None:
            whole, fraction, unit = match.groups(default="")
            size, rest = divmod(int(whole + fraction) * _BYTES[unit or "B"], int(10 ** len(fraction)))
            if not rest:
                return size
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigError(f'{show(value)} is no size; write "64KiB", "1MiB", "2GiB" or a whole number of bytes')


def check_int(option: str, value: object, minimum: int, maximum: int | None = None) -> None:
    """Refuse all but a whole number from `minimum` to `maximum`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(f"{option} must be a whole number, not {show(value)}", option)
    if value < minimum:
        raise OptionError(f"{option} must be at least {minimum}, not {show(value)}", option)
    if maximum is not None and value > maximum:
        raise OptionError(f"{option} must be at most {maximum}, not {show(value)}", option)


def check_number(option: str, value: object, minimum: float, maximum: float | None = None) -> None:
    """Refuse all but a finite number from `minimum` to `maximum`."""
    if not _is_number(value):
        raise OptionError(f"{option} must be a number, not {show(value)}", option)
    if value < minimum:
        raise OptionError(f"{option} must be at least {minimum:g}, not {show(value)}", option)
    if maximum is not None and value > maximum:
        raise OptionError(f"{option} must be at most {maximum:g}, not {show(value)}", option)


def check_seconds(option: str, value: object, *, zero: bool = False, optional: bool = False) -> None:
    """Refuse all but a finite number of seconds.

    Args:
        option: Name of the option.
        value: What to check.
        zero: Whether 0 is allowed.
        optional: Whether None is allowed, for no limit.
    """
    if value is None and optional:
        return
    if not _is_number(value):
        raise OptionError(f"{option} must be a number of seconds, not {show(value)}", option)
    if value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise OptionError(f"{option} must be {least} seconds, not {value:g}", option)


def check_choice(option: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse all but one of the allowed words, naming the nearest."""
    words = tuple(allowed)
    if value not in words:
        listed = ", ".join(f'"{word}"' for word in words[:-1]) + f' or "{words[-1]}"'
        raise OptionError(f"{option} must be {listed}, not {show(value)}{did_you_mean(value, words)}", option)


def check_flag(option: str, value: object) -> None:
    """Refuse all but a bool."""
    if not isinstance(value, bool):
        raise OptionError(f"{option} must be true or false, not {show(value)}", option)


def check_callable(what: str, value: object) -> None:
    """Refuse with TypeError what cannot be called with a message; `what` begins the text."""
    if not callable(value):
        raise TypeError(f"{what} a function that takes a message, not {show(value)}")


def check_significant(significant: bool, restart: str) -> None:
    """Refuse a significant child that is permanent: it never ends for good by itself."""
    if significant and restart == "permanent":
        raise OptionError(
            'significant goes with restart = "transient" or "temporary", not "permanent", which never ends by itself',
            "significant",
        )


def check_text(option: str, value: object) -> None:
    """Refuse all but a text that is not empty and holds no control characters."""
    if not isinstance(value, str):
        raise OptionError(f"{option} must be a text, not {show(value)}", option)
    if not value.strip() or not value.isprintable():
        raise OptionError(f"{option} must be a text of printable characters, not {show(value)}", option)


def is_name(value: object) -> bool:
    """Tell whether a value may name a node, an actor or a group."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def check_name(option: str, value: object) -> None:
    """Refuse all but a name: 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`."""
    if not is_name(value):
        allowed = "1 to 64 characters of A-Z a-z 0-9 . _ -"
        raise OptionError(f"{option} must be a name of {allowed}, not {show(value)}", option)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart that is not the first of its window.

    Attributes:
        first: Seconds before the second restart; 0 restarts at once, always.
        max: Longest wait in seconds, before jitter.
        factor: By what each wait is longer than the one before.
        jitter: Fraction of the wait by which it may be shorter or longer, 0 to 1.
    """

    first: float = 0.2
    max: float = 30.0
    factor: float = 2.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what is no backoff."""
        check_seconds("first", self.first, zero=True)
        check_seconds("max", self.max, zero=True)
        check_number("factor", self.factor, 1)
        check_number("jitter", self.jitter, 0, 1)
        if self.max < self.first:
            raise OptionError(f"max must be at least as long as first ({self.first:g} s), not {self.max:g} s", "max")


@dataclass(frozen=True, slots=True)
class BusOptions:
    """What a bus is told when it starts.

    Attributes:
        replay_limit: Messages that are kept for pods that connect with replay; 0 keeps none.
        max_message: Largest message in bytes.
        send_timeout: Seconds a `send` waits for a bus that takes nothing, before `BusBusyError`.
    """

    replay_limit: int = 128
    max_message: int = 1048576
    send_timeout: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what no bus can do."""
        check_int("replay_limit", self.replay_limit, 0)
        check_int("max_message", self.max_message, 1, LARGEST_MESSAGE)
        check_seconds("send_timeout", self.send_timeout)


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """How often a supervisor restarts before it gives up.

    Attributes:
        max_restarts: Restarts allowed `within` seconds; 0 restarts nothing.
        within: Length of the window in seconds.
        backoff: The waits from the second restart of a window on.
    """

    max_restarts: int = 5
    within: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        check_int("max_restarts", self.max_restarts, 0)
        check_seconds("within", self.within)
        if not isinstance(self.backoff, Backoff):
            raise OptionError(f"backoff must be a Backoff(...), not {show(self.backoff)}", "backoff")


@dataclass(frozen=True, slots=True)
class PodOptions:
    """How a pod is served by its bus.

    Attributes:
        prefetch: Messages in flight to the pod; None: what `window` says.
        mailbox_limit: Messages that wait on the bus for the pod.
        overflow: What happens when that many wait: `block`, `drop_oldest`, `drop_newest`, `disconnect`.
        stuck_after: Seconds without a finished message after which senders no longer wait; None: never.
        max_deliver: Attempts at one message, before it goes to the dead letters.
    """

    prefetch: int | None = DEFAULT_PREFETCH
    mailbox_limit: int = 65536
    overflow: Overflow = "block"
    stuck_after: float | None = 5.0
    max_deliver: int = 5

    def __post_init__(self) -> None:
        """Refuse what no bus can do."""
        if self.prefetch is not None:
            check_int("prefetch", self.prefetch, 1)
        check_int("mailbox_limit", self.mailbox_limit, 1)
        check_choice("overflow", self.overflow, OVERFLOWS)
        check_seconds("stuck_after", self.stuck_after, optional=True)
        check_int("max_deliver", self.max_deliver, 1)

    def window(self, concurrency: int = 1, *, grouped: bool = False) -> int:
        """Return the messages in flight to the pod: `prefetch`, or what fits its kind when that is None."""
        if self.prefetch is not None:
            return self.prefetch
        return GROUP_PREFETCH_PER_WORKER * concurrency if grouped else DEFAULT_PREFETCH


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the floats
        return False
