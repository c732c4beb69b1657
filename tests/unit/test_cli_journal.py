"""The journal of a node: its files, and what is read from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from grav_actors.cli.journal import JOURNAL, OLD_JOURNAL, Entry, Journal, Reader, parse_entry
from grav_actors.cli.logs import belongs
from grav_actors.cli.up import event_text


def texts(reader: Reader) -> list[str]:
    return [entry.text for entry in reader.entries()]


def test_each_line_of_a_text_is_an_entry_with_its_writer(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("temp", "stdout", "one\ttab\ntwo")
    first, second = Reader(tmp_path).entries()
    journal.close()
    assert (first.name, first.stream, first.text) == ("temp", "stdout", "one\ttab")
    assert (second.text, second.time) == ("two", first.time)


def test_the_files_stay_within_their_limit_and_the_oldest_entries_go(tmp_path: Path) -> None:
    journal = Journal(tmp_path, limit=1000)
    for number in range(100):
        journal.write("temp", "stdout", f"line {number}")
    journal.close()
    assert {path.name for path in tmp_path.iterdir()} == {JOURNAL, OLD_JOURNAL}
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    found = texts(Reader(tmp_path))
    assert found == [f"line {number}" for number in range(100 - len(found), 100)]


def test_an_entry_above_the_limit_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path, limit=100)
    journal.write("temp", "stdout", "x" * 1000)
    journal.close()
    assert texts(Reader(tmp_path)) == ["x" * 1000]


def test_the_next_node_goes_on_with_the_journal_of_the_one_before(tmp_path: Path) -> None:
    for text in ("first", "second"):
        journal = Journal(tmp_path)
        journal.write("grav", "log", text)
        journal.close()
        journal.write("grav", "log", "after the end")
    assert texts(Reader(tmp_path)) == ["first", "second"]


def test_a_reader_sees_what_is_added_over_every_change_of_files(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path, limit=300), Reader(tmp_path)
    seen: list[str] = []
    for number in range(50):
        journal.write("temp", "stdout", f"line {number}")
        seen += texts(reader)
    journal.close()
    reader.close()
    assert seen == [f"line {number}" for number in range(50)]


def test_a_reader_takes_half_a_line_when_it_is_whole(tmp_path: Path) -> None:
    path, reader = tmp_path / JOURNAL, Reader(tmp_path)
    path.write_bytes(b"1.5\ttemp\tstdout\tone\n2.5\ttemp\tstd")
    assert texts(reader) == ["one"]
    with path.open("ab") as file:
        file.write(b"err\ttwo\n")
    assert list(reader.entries()) == [Entry(2.5, "temp", "stderr", "two")]
    reader.close()


@pytest.mark.parametrize("line", [b"", b"1.5\ttemp\tstdout", b"soon\ttemp\tstdout\ttext"])
def test_what_is_no_entry_is_left_out(line: bytes) -> None:
    assert parse_entry(line) is None


def test_a_full_disk_is_counted_and_holds_up_nobody(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._fd)
    os.close(full)
    journal.write("temp", "stdout", "lost")
    assert journal.lost == 1
    journal.close()


def test_a_journal_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    assert (tmp_path / JOURNAL).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("writer", "name", "expected"),
    [("temp", "temp", True), ("temp-2", "temp", True), ("temp-x", "temp", False), ("temperature", "temp", False)],
)
def test_a_name_is_that_of_an_actor_or_of_its_pool(writer: str, name: str, expected: bool) -> None:
    assert belongs(writer, name) is expected


def test_events_are_told_in_words() -> None:
    data = {"kind": "process", "pid": 7, "restarts": 2, "reason": "crash", "error": "Crash: a\nb", "next": "restart 2"}
    assert event_text("started", data) == "started: process 7, restart 2"
    assert event_text("restarting", data) == "restarting: crash; Crash: a b; restart 2"
    assert event_text("crashed", {**data, "report": "two\nlines"}) == "two\nlines"
