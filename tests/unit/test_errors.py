"""The exceptions: one tree, each made from a string, each able to cross a process boundary."""

import inspect
import pickle

import pytest

from grav_actors import errors
from grav_actors.errors import ActorStartError, AskTimeoutError, GravError, HandlerError, WaitTimeoutError

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]

BUILTINS = {
    "ConnectionClosedError": ConnectionError,
    "WaitTimeoutError": TimeoutError,
    "MessageEncodeError": (TypeError, ValueError),
    "MessageDecodeError": ValueError,
    "MessageTooLargeError": ValueError,
    "BusBusyError": TimeoutError,
    "ReentrantWaitError": RuntimeError,
    "WrongProcessError": RuntimeError,
    "ConfigError": ValueError,
}


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_exception_is_a_grav_error_made_from_one_string(cls: type[Exception]) -> None:
    error = cls("what was seen")
    assert isinstance(error, GravError)
    assert str(error) == "what was seen"


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_exception_survives_pickling(cls: type[Exception]) -> None:
    copy = pickle.loads(pickle.dumps(cls("what was seen")))
    assert type(copy) is cls
    assert copy.args == ("what was seen",)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_the_tree_in_the_docstring_names_every_exception(cls: type[Exception]) -> None:
    assert errors.__doc__ is not None
    assert cls.__name__ in errors.__doc__
    assert cls.__doc__


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_exceptions_are_also_the_builtin_that_fits(
    name: str, builtin: type[Exception] | tuple[type[Exception], ...]
) -> None:
    bases = builtin if isinstance(builtin, tuple) else (builtin,)
    assert all(issubclass(getattr(errors, name), base) for base in bases)


def test_an_ask_timeout_is_a_wait_timeout() -> None:
    assert issubclass(AskTimeoutError, WaitTimeoutError)


def test_handler_error_shows_the_error_and_the_remote_traceback() -> None:
    error = HandlerError("actor 'a' failed", error="ValueError: bad site", remote_traceback="Traceback: there\n")
    assert str(error) == "actor 'a' failed: ValueError: bad site\n\nRemote traceback:\nTraceback: there"


def test_handler_error_made_from_one_string_has_it_as_its_error() -> None:
    error = HandlerError("ValueError: bad site")
    assert (error.error, error.remote_traceback, str(error)) == (
        "ValueError: bad site",
        "",
        "ValueError: bad site",
    )


@pytest.mark.parametrize("cls", [HandlerError, ActorStartError])
def test_the_remote_traceback_survives_pickling(cls: type[HandlerError | ActorStartError]) -> None:
    error = cls("failed", remote_traceback="Traceback: there")
    copy = pickle.loads(pickle.dumps(error))
    assert copy.remote_traceback == "Traceback: there"
    assert str(copy) == str(error)
    assert "Traceback: there" in str(copy)
