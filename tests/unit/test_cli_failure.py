"""Errors become one line and an exit code."""

import errno

import pytest
from click.testing import CliRunner

from grav_actors import errors
from grav_actors.cli import main
from grav_actors.cli.failure import Failure, as_failure
from grav_actors.project import FolderLockedError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.HandlerError("the asked handler failed", error="ValueError: no"), 1),
        (errors.ActorStartError("actor 'a' did not start"), 1),
        (errors.ActorStoppedError("gone"), 1),
        (errors.ConfigError("bad"), 2),
        (errors.MessageEncodeError("bad type"), 2),
        (errors.MessageTooLargeError("too large"), 2),
        (errors.BusNotFoundError("none"), 4),
        (errors.ConnectionClosedError("the bus was stopped"), 4),
        (errors.AskTimeoutError("no answer"), 5),
        (errors.NoRespondersError("nobody answers"), 5),
        (errors.BusBusyError("takes nothing"), 5),
        (FolderLockedError("held", 17), 6),
    ],
)
def test_each_error_has_its_exit_code(error: errors.GravError, code: int) -> None:
    assert as_failure(error).code == code


def test_text_is_one_line() -> None:
    assert str(as_failure(errors.ConfigError("two\n  lines"))) == "two lines"


def test_handler_error_shows_its_traceback_only_when_wanted() -> None:
    error = errors.HandlerError("the asked handler failed", error="ValueError: no", remote_traceback="Traceback: there")
    assert str(as_failure(error)) == "the asked handler failed: ValueError: no"
    assert as_failure(error).detail == ""
    assert as_failure(error, with_traceback=True).detail == "Traceback: there"


def test_start_error_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.ActorStartError("actor 'a' did not start", remote_traceback="Traceback: there\n")
    as_failure(error).show()
    assert capsys.readouterr().err == "Traceback: there\ngrav-actors: actor 'a' did not start\n"


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (Failure("refused", 6), 6, "grav-actors: refused\n"),
        (errors.ConfigError("bad"), 2, "grav-actors: bad\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            OSError(errno.ENOSPC, "No space left on device", "node.lock"),
            1,
            "grav-actors: node.lock: No space left on device; `grav-actors doctor` looks for what is wrong here\n",
        ),
    ],
)
def test_commands_end_with_them(raised: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("grav_actors.cli.plan.read_plan", fail)
    result = CliRunner().invoke(main.commands, ["check", "a:B"])
    assert (result.exit_code, result.stderr, result.stdout) == (code, text, "")


def test_an_error_of_the_program_itself_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("click.Group.invoke", fail)
    assert isinstance(CliRunner().invoke(main.commands, ["ps"]).exception, OSError)
