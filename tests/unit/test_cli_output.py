"""The output of several actors in one terminal."""

import io
import logging
import sys

import pytest

from grav_actors.cli.output import LogHandler, Output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_lines_carry_the_name_in_one_column(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(["thermometer", "display"])
    output.write("thermometer", "stdout", "21.5")
    output.write("display", "stdout", "one\ntwo")
    output.write("display", "stderr", "oops")
    output.say("ready")
    out, err = capsys.readouterr()
    assert out == "thermometer | 21.5\ndisplay     | one\ndisplay     | two\n"
    assert err == "display     | oops\ngrav        | ready\n"


def test_longer_name_moves_the_column(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.write("a", "stdout", "1")
    output.write("a-longer-one", "stdout", "2")
    output.write("a", "stdout", "3")
    assert capsys.readouterr().out == "a    | 1\na-longer-one | 2\na            | 3\n"


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    output = Output(["a", "b"])
    output.write("a", "stdout", "1")
    output.write("b", "stdout", "2")
    output.write("a", "stderr", "3")
    first, second = terminal.getvalue().splitlines()
    assert first.startswith("\x1b[36m")
    assert first.endswith(" 1")
    assert second.startswith("\x1b[33m")
    assert plain.getvalue() == "a    | 3\n"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    Output().write("a", "stdout", "1")
    assert "\x1b" not in terminal.getvalue()


def test_broken_stream_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", errors := io.StringIO())
    output = Output()
    output.write("a", "stdout", "1")
    output.write("a", "stdout", "2")
    output.write("a", "stderr", "3")
    assert errors.getvalue() == "a    | 3\n"


@pytest.mark.parametrize(
    ("logger", "line"),
    [
        ("grav_actors.actor.display", "display | WARNING hot\n"),
        ("grav_actors.supervisor.runner", "grav    | WARNING hot\n"),
        ("mine.own", "grav    | WARNING mine.own: hot\n"),
    ],
)
def test_log_records_stand_among_the_output(logger: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogHandler(Output(["display"]))
    handler.handle(logging.LogRecord(logger, logging.WARNING, __file__, 1, "%s", ("hot",), None))
    assert capsys.readouterr().err == line


def test_traceback_of_a_record_is_prefixed_too(capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogHandler(Output())
    try:
        raise ValueError("bad site")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    handler.handle(record)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("grav | ") for line in lines)
    assert lines[-1] == "grav | ValueError: bad site"
