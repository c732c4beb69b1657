"""The counting of the census example: what counts as what, and that the order of adding does not matter."""

import importlib.util
import pathlib
import random
import sys
import types

import pytest

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "codebase_census"


def load_counting() -> types.ModuleType:
    """Load the example's module from its file: examples are no package."""
    spec = importlib.util.spec_from_file_location("census_counting", EXAMPLE / "counting.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


counting = load_counting()

SOURCE = b'''\
"""Docstring with a # that is no comment."""
import os, sys
from a import b  # one comment


# another comment
class Outer:
    def method(self):
        def inner():
            return 1

        return inner

    async def fetch(self):
        import late
\x20\x20\x20\x20
@decorated
def top(): pass
'''


def test_counts_each_kind() -> None:
    count = counting.count_source("a.py", SOURCE)
    assert not count.unparsable
    assert (count.functions, count.async_functions, count.classes) == (3, 1, 1)
    assert count.imports == 3
    assert count.comments == 2
    assert count.lines == 18
    assert count.blank_lines == 5


def test_functions_have_qualified_names_and_length_from_def_to_end() -> None:
    count = counting.count_source("a.py", SOURCE)
    assert [tuple(function) for function in count.longest] == [
        (5, "a.py", "Outer.method"),
        (2, "a.py", "Outer.fetch"),
        (2, "a.py", "Outer.method.inner"),
        (1, "a.py", "top"),
    ]


def test_longest_keeps_ten_and_breaks_ties_by_file_and_name() -> None:
    functions = [counting.LongFunction(1, "b.py", f"f{number:02}") for number in range(20)]
    functions += [counting.LongFunction(1, "a.py", "z"), counting.LongFunction(9, "c.py", "long")]
    random.Random(7).shuffle(functions)
    kept = counting.longest_of(functions)
    assert len(kept) == 10
    assert [function.name for function in kept[:4]] == ["long", "z", "f00", "f01"]


@pytest.mark.parametrize(
    "source",
    [
        b"def broken(:\n",
        b"print 'old'\n",
        b"# coding: no-such-codec\n",
        b"# coding: ascii\nname = '\xe4'\n",
        b"\xff\xfe\x00",
        b"x = 1\x00\n",
        b"if True:\n\tx = 1\n        y = 2\n",
        b"(" * 1000,
        b"x = " + b"-" * 100_000 + b"1\n",
        b"'''never closed\n",
    ],
)
def test_unparsable_is_a_count_and_no_exception(source: bytes) -> None:
    count = counting.count_source("bad.py", source)
    assert count.unparsable
    assert (count.lines, count.comments, count.functions, count.longest) == (0, 0, 0, [])


def test_invalid_escape_is_counted_without_a_warning() -> None:
    assert not counting.count_source("old.py", b'pattern = "\\d"\n').unparsable


def test_declared_encoding_is_read() -> None:
    count = counting.count_source("latin.py", b"# coding: latin-1\nname = '\xe4'\n")
    assert not count.unparsable
    assert count.lines == 2


def test_empty_file_counts_as_a_file() -> None:
    totals = counting.Totals()
    totals.add(counting.count_source("empty.py", b""))
    assert (totals.files, totals.unparsable, totals.lines) == (1, 0, 0)


def test_missing_file_is_unparsable(tmp_path: pathlib.Path) -> None:
    assert counting.count_file(str(tmp_path), "gone.py").unparsable


def test_walk_is_sorted_and_leaves_out_packages_and_caches(tmp_path: pathlib.Path) -> None:
    for name in ("z.py", "b/a.py", "a/b.py", "a/notes.txt", "__pycache__/x.py", "site-packages/p/q.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(counting.python_files(str(tmp_path))) == ["z.py", "a/b.py", "b/a.py"]


def test_walk_of_no_folder_raises(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere"):
        list(counting.python_files(str(tmp_path / "nowhere")))


def test_data_of_a_file_comes_back_equal() -> None:
    count = counting.count_source("a.py", SOURCE)
    assert counting.FileCount.from_data(count.to_data()) == count


def test_order_of_adding_makes_no_difference() -> None:
    root = str(EXAMPLE.parent.parent)
    counts = [counting.count_file(root, path) for path in counting.python_files(str(EXAMPLE))]
    counts += [counting.count_source(f"{number}.py", SOURCE) for number in range(5)]
    totals = []
    for seed in range(5):
        random.Random(seed).shuffle(counts)
        total = counting.Totals()
        for count in counts:
            total.add(count)
        totals.append(total)
    assert all(total == totals[0] for total in totals)


def test_report_names_every_worker_and_its_share() -> None:
    totals = counting.Totals()
    for number in range(4):
        totals.add(counting.count_source(f"{number}.py", SOURCE))
    report = counting.format_report(totals, 2.0, {"parser-2": 3, "parser-1": 1})
    assert "parser-1        1   25.0%" in report
    assert "parser-2        3   75.0%" in report
    assert report.endswith("2.00 s, 2 files/s")


def test_report_of_nothing_has_no_division_by_zero() -> None:
    assert counting.format_report(counting.Totals(), 0.0).endswith("0.00 s, 0 files/s")
