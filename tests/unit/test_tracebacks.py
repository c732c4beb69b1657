"""Tracebacks show the code of the user, not what of this package stands around it."""

import concurrent.futures
from collections.abc import Callable

import pytest

from grav_actors import GravError, Message, MessageEncodeError
from grav_actors.filters import FilterSet
from grav_actors.tracebacks import shorten, traceback_text


def caught(job: Callable[[], object]) -> BaseException:
    try:
        job()
    except BaseException as exc:
        return exc
    raise AssertionError("it was to raise")


def frames(exc: BaseException) -> list[str]:
    found = []
    frame = exc.__traceback__
    while frame is not None:
        found.append(frame.tb_frame.f_code.co_name)
        frame = frame.tb_next
    return found


def refused() -> None:
    Message("two words")


def broken() -> None:
    raise LookupError("of the user")


def test_what_lies_behind_the_users_code_is_cut_when_this_package_has_refused_something() -> None:
    exc = shorten(caught(refused))
    assert isinstance(exc, MessageEncodeError)
    assert frames(exc)[-1] == "refused"


def test_how_this_package_has_found_it_out_is_not_shown() -> None:
    text = traceback_text(caught(refused))
    assert "During handling" not in text
    assert text.rstrip().endswith("whitespace or a control character: ' '")


def test_other_errors_are_shown_to_their_very_place() -> None:
    exc = caught(lambda: FilterSet.from_wire(1))  # type: ignore[arg-type]
    assert not isinstance(exc, GravError)
    assert frames(shorten(exc))[-1] == "from_wire"


def test_what_leads_to_the_users_code_is_cut() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        exc = pool.submit(broken).exception()
    assert exc is not None
    assert frames(exc) == ["run", "broken"]
    assert frames(shorten(exc)) == ["broken"]


def test_an_error_that_was_in_no_code_of_the_user_is_left_whole_unless_it_is_a_refusal() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        whole = pool.submit(FilterSet.from_wire, 1).exception()  # type: ignore[arg-type]
        refusal = pool.submit(Message, "two words").exception()
    assert whole is not None
    assert refusal is not None
    assert frames(shorten(whole)) == ["run", "from_wire"]
    assert frames(shorten(refusal)) == []


def test_causes_are_cut_likewise_also_when_they_go_round() -> None:
    def chained() -> None:
        try:
            refused()
        except MessageEncodeError as exc:
            raise RuntimeError("worse") from exc

    exc = caught(chained)
    assert exc.__cause__ is not None
    exc.__cause__.__context__ = exc
    shorten(exc)
    assert frames(exc.__cause__)[-1] == "refused"


@pytest.mark.parametrize("job", [refused, broken])
def test_shortening_twice_changes_nothing_more(job: Callable[[], object]) -> None:
    once = traceback_text(exc := caught(job))
    assert traceback_text(exc) == once
