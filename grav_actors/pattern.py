"""Message types and the patterns that match them.

A type is tokens separated by dots (`sensor.temp`). In a pattern the token `*` stands for exactly one
token and `>`, as the last, for one or more. Types that begin with `grav.` belong to the framework; all
of them but `grav.default` are matched only by patterns whose first token is literally `grav`.
"""

from grav_actors.errors import MessageEncodeError

MSG_TYPE_DEFAULT = "grav.default"
"""The type of a message that was given none."""

MAX_TYPE_BYTES = 255
"""Longest type or pattern, in bytes of UTF-8."""

FRAMEWORK_PREFIX = "grav."

CACHE_LIMIT = 4096
# Types found good, so that a repeated one costs a lookup. Dropped as a whole when full: a program that
# makes types without end must not make the cache grow without end.
VALID_TYPES: dict[str, str] = {}
_VALID_FRAMEWORK_TYPES: dict[str, str] = {}


def check_type(type: str, *, framework: bool = False) -> str:
    """Return `type` as a plain string if it may be the type of a message.

    Args:
        type: 1 to 255 bytes of UTF-8; no empty token, no token `*` or `>`, no whitespace or control
            characters.
        framework: Allow the types under `grav.`, which are otherwise refused but for `grav.default`.

    Raises:
        MessageEncodeError: It may not be; the text says why.
    """
    known = _VALID_FRAMEWORK_TYPES if framework else VALID_TYPES
    try:
        return known[type]
    except (KeyError, TypeError):
        pass
    tokens = _tokens("message type", type)
    if "*" in tokens or ">" in tokens:
        raise MessageEncodeError(f"message type {type!r} has a token '*' or '>'; only a pattern may have one")
    if type.startswith(FRAMEWORK_PREFIX) and type != MSG_TYPE_DEFAULT and not framework:
        raise MessageEncodeError(
            f"message type {type!r}: types that begin with 'grav.' belong to the framework; choose another"
        )
    if len(known) >= CACHE_LIMIT:
        known.clear()
    plain = str.__str__(type)
    known[plain] = plain
    return plain


def check_pattern(pattern: str) -> str:
    """Return `pattern` as a plain string if it is a type or a pattern; types under `grav.` are allowed.

    Raises:
        MessageEncodeError: It is neither (a ValueError too); the text says why.
    """
    tokens = _tokens("pattern", pattern)
    if ">" in tokens[:-1]:
        raise MessageEncodeError(f"pattern {pattern!r} has '>' before its end; it may only be the last token")
    return str.__str__(pattern)


def is_pattern(text: str) -> bool:
    """Tell whether `text` has a token `*` or `>`, so that it is more than an exact type."""
    if "*" not in text and ">" not in text:
        return False
    tokens = text.split(".")
    return "*" in tokens or ">" in tokens


def matches(pattern: str, type: str) -> bool:
    """Tell whether messages of `type` are meant by `pattern`; both have been checked before."""
    if pattern == type:
        return True
    if not is_pattern(pattern):
        return False
    wanted = pattern.split(".")
    if type.startswith(FRAMEWORK_PREFIX) and type != MSG_TYPE_DEFAULT and wanted[0] != "grav":
        return False
    given = type.split(".")
    if wanted[-1] == ">":
        del wanted[-1]
        if len(given) <= len(wanted):
            return False
    elif len(given) != len(wanted):
        return False
    return all(want in ("*", have) for want, have in zip(wanted, given, strict=False))


def _tokens(what: str, text: str) -> list[str]:
    """Split a type or pattern into tokens, or raise for what neither may be."""
    if not isinstance(text, str):  # callers without a type checker
        raise MessageEncodeError(f"{what} must be a str, not {text!r:.80}")
    try:
        length = len(text.encode())
    except UnicodeEncodeError as exc:
        raise MessageEncodeError(f"{what} {text!r:.80} is not valid Unicode: {exc.reason}") from exc
    if not 1 <= length <= MAX_TYPE_BYTES:
        raise MessageEncodeError(f"{what} {text!r:.80} has {length} bytes; 1 to {MAX_TYPE_BYTES} are allowed")
    # isspace() takes the separators of Unicode and U+001C to U+001F; the rest are the C0 and C1 controls.
    for char in text:
        if char.isspace() or char < " " or "\x7f" <= char <= "\x9f":
            raise MessageEncodeError(f"{what} {text!r:.80} has whitespace or a control character: {char!r}")
    tokens = text.split(".")
    if "" in tokens:
        raise MessageEncodeError(
            f"{what} {text!r:.80} has an empty token; tokens are separated by single dots, none at the ends"
        )
    return tokens
