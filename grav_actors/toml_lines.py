"""Where keys stand in a TOML text.

tomllib tells no lines. It has read the text before, so this may take much for granted.
"""

import re
import tomllib
from bisect import bisect_right

_KEY = re.compile(r'[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_GAP = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_VALUE = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|[^,\[\]{}\"'\s#][^,\[\]{}\n#]*",
    re.DOTALL,
)

KeyPath = tuple[str | int, ...]


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of each key and table of a TOML text.

    Elements of arrays, arrays of tables too, have their index in the path.

    Raises:
        ValueError: The text is no TOML.
    """
    return _KeyFinder(text).run()


class _KeyFinder:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._elements: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while True:
            self._match(_BLANK)
            if self._at == len(self._text):
                return self._lines
            table = self._header() if self._text[self._at] == "[" else self._pair(table)

    def _header(self) -> KeyPath:
        """Read `[a.b]` or `[[a.b]]`; return the path of what follows."""
        line = self._line()
        self._expect("[")
        is_array = self._take("[")
        *above, last = self._keys()
        self._expect("]]" if is_array else "]")
        path: KeyPath = ()
        for key in above:
            path = (*path, key)
            self._lines.setdefault(path, line)
            if path in self._elements:  # an array of tables: its latest element is meant
                path = (*path, self._elements[path])
        path = (*path, last)
        if is_array:
            self._lines.setdefault(path, line)
            self._elements[path] = self._elements.get(path, -1) + 1
            path = (*path, self._elements[path])
        self._lines[path] = line
        return path

    def _pair(self, table: KeyPath) -> KeyPath:
        """Read `a.b = value`; return the table it belongs to."""
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._expect("=")
        self._value(path)
        return table

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._match(_GAP)
            raw = self._match(_KEY)
            keys.append(tomllib.loads(f"key = {raw}")["key"] if raw[0] in "\"'" else raw)
            self._match(_GAP)
            if not self._take("."):
                return keys

    def _value(self, path: KeyPath) -> None:
        self._match(_BLANK)
        if self._take("{"):
            self._match(_BLANK)
            while not self._take("}"):
                self._pair(path)
                self._separator()
        elif self._take("["):
            self._match(_BLANK)
            index = 0
            while not self._take("]"):
                self._lines[(*path, index)] = self._line()
                self._value((*path, index))
                self._separator()
                index += 1
        else:
            self._match(_VALUE)

    def _separator(self) -> None:
        self._match(_BLANK)
        self._take(",")
        self._match(_BLANK)

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        if found:
            self._at += len(text)
        return found

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._broken()

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._broken()
        self._at = match.end()
        return match[0]

    def _broken(self) -> ValueError:
        return ValueError(f"no TOML in line {self._line()}")

    def _line(self) -> int:
        return bisect_right(self._newlines, self._at) + 1
