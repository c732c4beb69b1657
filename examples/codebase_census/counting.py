"""Count what is in Python source: pure functions, shared by the actors and by the plain program.

Nothing here knows about actors. `count_source` turns the bytes of one file into a `FileCount`, `Totals` adds
those up in any order to the same result, and `format_report` writes the table that both programs print.
"""

import ast
import collections.abc
import dataclasses
import io
import os
import pathlib
import tokenize
import typing
import warnings

LONGEST = 10
"""How many of the longest functions are kept, in each file and in all."""

SKIPPED_FOLDERS = frozenset({"site-packages", "__pycache__"})


class LongFunction(typing.NamedTuple):
    """One function and its length, from its `def` to its last line."""

    lines: int
    file: str
    name: str


@dataclasses.dataclass(slots=True)
class FileCount:
    """What one file holds; all zero when `unparsable`."""

    path: str
    unparsable: bool = False
    lines: int = 0
    blank_lines: int = 0
    comments: int = 0
    imports: int = 0
    classes: int = 0
    functions: int = 0
    async_functions: int = 0
    longest: list[LongFunction] = dataclasses.field(default_factory=list)

    def to_data(self) -> dict[str, typing.Any]:
        """Return the count as plain data, fit for a message."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["longest"] = [list(function) for function in self.longest]
        return data

    @classmethod
    def from_data(cls, data: collections.abc.Mapping[str, typing.Any]) -> "FileCount":
        """Make a count from what `to_data` returned."""
        fields: dict[str, typing.Any] = dict(data)
        fields["longest"] = [LongFunction(*function) for function in data["longest"]]
        return cls(**fields)


SUMMED = ("lines", "blank_lines", "comments", "imports", "classes", "functions", "async_functions")
"""The fields of `FileCount` that add up."""


@dataclasses.dataclass(slots=True)
class Totals:
    """The sum of many files. The order in which they are added makes no difference."""

    files: int = 0
    unparsable: int = 0
    lines: int = 0
    blank_lines: int = 0
    comments: int = 0
    imports: int = 0
    classes: int = 0
    functions: int = 0
    async_functions: int = 0
    longest: list[LongFunction] = dataclasses.field(default_factory=list)

    def add(self, count: FileCount) -> None:
        """Add one file."""
        self.files += 1
        self.unparsable += count.unparsable
        for field in SUMMED:
            setattr(self, field, getattr(self, field) + getattr(count, field))
        self.longest = longest_of([*self.longest, *count.longest])

    def to_data(self) -> dict[str, typing.Any]:
        """Return the totals as plain data, fit for a message and for JSON."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["longest"] = [list(function) for function in self.longest]
        return data


def longest_of(functions: collections.abc.Iterable[LongFunction]) -> list[LongFunction]:
    """Return the longest ten; of equal ones those whose file and name come first."""
    return sorted(functions, key=lambda function: (-function.lines, function.file, function.name))[:LONGEST]


def python_files(root: str) -> collections.abc.Iterator[str]:
    """Yield each `.py` file below `root` in a fixed order, relative to it and with `/` between folders.

    Installed packages and caches are left out, and links to folders are not followed.

    Raises:
        NotADirectoryError: `root` is no folder.
    """
    if not pathlib.Path(root).is_dir():
        raise NotADirectoryError(f"{root!r} is no folder; give the folder whose Python files are to be counted")
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - SKIPPED_FOLDERS)
        for name in sorted(names):
            if name.endswith(".py"):
                yield pathlib.Path(folder, name).relative_to(root).as_posix()


def count_file(root: str, path: str) -> FileCount:
    """Count the file `path` below `root`; one that cannot be read is unparsable."""
    try:
        source = pathlib.Path(root, path).read_bytes()
    except OSError:
        return FileCount(path, unparsable=True)
    return count_source(path, source)


def count_source(path: str, source: bytes) -> FileCount:
    """Count one file's bytes; whatever Python cannot parse is unparsable, and never an exception."""
    try:
        with warnings.catch_warnings():
            # Old code may hold escapes such as "\d": a matter for its author, not for who counts it.
            warnings.simplefilter("ignore")
            tree = ast.parse(source, filename=path)
        comments = _count_comments(source)
    # ValueError: null bytes and unknown encodings. RecursionError, MemoryError: nested too deep to parse.
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return FileCount(path, unparsable=True)
    lines = source.splitlines()
    count = FileCount(path, lines=len(lines), blank_lines=sum(not line.strip() for line in lines), comments=comments)
    _count_tree(tree, count)
    return count


def _count_comments(source: bytes) -> int:
    """Count comment tokens: a `#` inside a string is none."""
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def _count_tree(tree: ast.Module, count: FileCount) -> None:
    """Add definitions and imports of a whole file to `count`, methods and nested functions included."""
    found: list[LongFunction] = []
    # A list instead of recursion: generated code may be nested deeper than Python's stack.
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, scope = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if isinstance(node, ast.FunctionDef):
                    count.functions += 1
                else:
                    count.async_functions += 1
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                found.append(LongFunction(length, count.path, scope + node.name))
                scope = f"{scope}{node.name}."
            case ast.ClassDef():
                count.classes += 1
                scope = f"{scope}{node.name}."
            case ast.Import() | ast.ImportFrom():
                count.imports += 1
            case _:
                pass
        pending.extend((child, scope) for child in ast.iter_child_nodes(node))
    count.longest = longest_of(found)


def format_report(totals: Totals, elapsed: float, workers: collections.abc.Mapping[str, int] | None = None) -> str:
    """Return the closing table: totals, longest functions, files of each worker, time."""
    numbers = [
        ("files", totals.files),
        ("unparsable", totals.unparsable),
        ("lines", totals.lines),
        ("blank lines", totals.blank_lines),
        ("comments", totals.comments),
        ("imports", totals.imports),
        ("classes", totals.classes),
        ("functions", totals.functions),
        ("async functions", totals.async_functions),
    ]
    out = [f"{name:<16} {number:>10,}" for name, number in numbers]
    if totals.longest:
        out += ["", "longest functions"]
        out += [f"{lines:>8,} lines  {file}  {name}" for lines, file, name in totals.longest]
    if workers:
        width = max(map(len, workers))
        out += ["", "files per worker"]
        out += [
            f"  {name:<{width}} {files:>8,}  {files / max(totals.files, 1):>6.1%}"
            for name, files in sorted(workers.items())
        ]
    rate = totals.files / elapsed if elapsed > 0 else 0.0
    out += ["", f"{elapsed:.2f} s, {rate:,.0f} files/s"]
    return "\n".join(out)
