"""A node's key as text: a ZeroMQ certificate, as pyzmq and czmq write and read them too.

    metadata
        name = "greenhouse"
    curve
        public-key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
        secret-key = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"

A key is 40 characters of Z85. Nothing here shows a secret: neither an error nor a `repr`.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from grav_actors.errors import ConfigError
from grav_actors.options import check_name, is_name, show

KEY_CHARACTERS: Final = 40

_Z85: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_VALUES: Final = {character: value for value, character in enumerate(_Z85)}
_SECTION = re.compile(r"([A-Za-z0-9-]+)")
_PROPERTY = re.compile(r"\s+([A-Za-z0-9-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|(\S+))")
_PUBLIC_COMMENT: Final = """\
# The public key of a node. Let other nodes accept it with `grav-actors keys allow FILE`; take care that they get
# this file and no other.
"""
_PAIR_COMMENT: Final = """\
# The secret key of a node. It never leaves this machine; whoever has it is this node.
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A public key with the name of its node, and perhaps the secret key.

    Attributes:
        public_key: 40 characters of Z85.
        name: What the node is called; "" when the text does not say. Anybody can write anything there.
        secret_key: 40 characters of Z85; "" in what is given to others.

    Raises:
        ConfigError: A key is none, or the name is none.
    """

    public_key: str
    name: str = ""
    secret_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no key."""
        if not is_key(self.public_key):
            raise ConfigError(
                f"{show(self.public_key)} is no key: a public key has {KEY_CHARACTERS} characters of Z85, as"
                " `grav-actors keys show` prints it"
            )
        if self.secret_key and not is_key(self.secret_key):
            raise ConfigError(f"the secret key is no key of {KEY_CHARACTERS} characters of Z85")
        if self.name:
            check_name("name", self.name)

    def public(self) -> "Certificate":
        """Return what may be given to others."""
        return Certificate(self.public_key, self.name)

    def text(self) -> str:
        """Return it as the text of a file."""
        lines = [_PAIR_COMMENT if self.secret_key else _PUBLIC_COMMENT, "metadata"]
        lines += [f'    name = "{self.name}"'] if self.name else []
        lines += ["curve", f'    public-key = "{self.public_key}"']
        lines += [f'    secret-key = "{self.secret_key}"'] if self.secret_key else []
        return "\n".join(lines) + "\n"


def is_key(value: object) -> bool:
    """Tell whether a value is a key: 40 characters of Z85 that stand for 32 bytes."""
    if not isinstance(value, str) or len(value) != KEY_CHARACTERS or not all(map(_VALUES.__contains__, value)):
        return False
    groups = (value[at : at + 5] for at in range(0, KEY_CHARACTERS, 5))
    return all(_number(group) < 2**32 for group in groups)


def parse_certificate(text: str) -> Certificate:
    """Read a certificate. What it says besides keys and name is left aside.

    Raises:
        ConfigError: It is none; the text begins with the line, as in `3: ...`.
    """
    found: dict[tuple[str, str], str] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.rstrip()
        if not stripped or stripped.lstrip().startswith("#"):
            continue
        is_section = _SECTION.fullmatch(stripped)
        is_property = _PROPERTY.fullmatch(stripped)
        if is_section is not None:
            section = is_section[1]
        elif is_property is not None and section:
            name, *values = is_property.groups()
            found[section, name] = next((value for value in values if value is not None), "")
        else:
            # Not shown: it may be a secret that was put in the wrong place.
            raise ConfigError(f'{number}: neither a section nor `    key = "value"`')
    public = found.get(("curve", "public-key"))
    if public is None:
        raise ConfigError("1: no `public-key` in a section `curve`, so this is no certificate")
    name = found.get(("metadata", "name"), "")
    try:
        return Certificate(public, name if is_name(name) else "", found.get(("curve", "secret-key"), ""))
    except ConfigError as exc:
        raise ConfigError(f"1: {exc}") from exc


def _number(group: str) -> int:
    number = 0
    for character in group:
        number = number * 85 + _VALUES[character]
    return number
