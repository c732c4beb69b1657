"""The request-reply example, run as its README says; the leak guard sees to it that nothing stays behind."""

import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from support.programs import COMMAND_LIMIT, GRAV_ACTORS, Program
from support.projects import EXAMPLES, copy_example

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the example, so that every test is a project directory of its own."""
    return copy_example("request_reply", tmp_path / "example")


@pytest.fixture
def program(folder: pathlib.Path, start_program: Callable[..., Program]) -> Program:
    """The running example; killed if the test did not end it."""
    return start_program(folder, "up")


def test_client_prints_what_the_readme_shows(program: Program) -> None:
    done = program.run(sys.executable, "client.py")
    assert (done.returncode, done.stderr) == (0, "")
    readme = (EXAMPLES / "request_reply" / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("$ python client.py\n")[2].partition("$ ")[0]
    assert done.stdout == shown


def test_ask_from_the_command_line(program: Program) -> None:
    counted = program.run(*GRAV_ACTORS, "ask", "stock.count", '{"article": "bolt"}')
    assert (counted.returncode, counted.stdout) == (0, "100\n"), counted.stderr
    sold = program.run(*GRAV_ACTORS, "ask", "--to", "till", "till.sell", '{"article": "bolt", "pieces": 30}')
    assert (sold.returncode, sold.stdout) == (0, '{"sold": true, "left": 70}\n'), sold.stderr


def test_many_customers_never_sell_more_than_there_is(program: Program) -> None:
    def sell(sold: list[bool]) -> None:
        done = program.run(*GRAV_ACTORS, "ask", "--to", "till", "till.sell", '{"article": "nut", "pieces": 1}')
        assert done.returncode == 0, done.stderr
        sold.append('"sold": true' in done.stdout)

    answers: list[bool] = []
    customers = [threading.Thread(target=sell, args=(answers,)) for _ in range(5)]
    for customer in customers:
        customer.start()
    for customer in customers:
        customer.join()
    assert sorted(answers) == [False, False, True, True, True]


def test_client_without_the_shop_says_what_to_do(folder: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "client.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert "grav-actors up" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupt_ends_it_and_leaves_nothing(program: Program) -> None:
    assert program.interrupt() == 130, program.output
    assert "Traceback" not in program.output
