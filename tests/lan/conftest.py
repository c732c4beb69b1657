"""A LAN lab for each test that asks for one: `@pytest.mark.lan(hosts=3)` says how large."""

from collections.abc import Generator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from support.lanlab import Host, Lan, why_not
from support.lanlab.programs import PROGRAM_LIMIT, Start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder, so that `-m "not lan"` leaves them out."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("lan") is None:
            item.add_marker(pytest.mark.lan)


@pytest.fixture
def lan(request: pytest.FixtureRequest) -> Generator[Lan]:
    """A lab of its own: of two hosts, or as the mark says. Skips where none can be built, and says why."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    mark = request.node.get_closest_marker("lan")
    with Lan(**{"seed": 1, **(mark.kwargs if mark else {})}) as lab:
        yield lab
        print("\n".join(map(str, lab.events)))  # noqa: T201  (pytest shows it when the test fails)


@pytest.fixture
def start() -> Generator[Start]:
    """Return `start(host, code, *arguments)`: a Python program there, back when it has printed `ready`."""
    started: list[Popen[str]] = []

    def start(host: Host, code: str, *arguments: object, **options: Any) -> Popen[str]:
        program: Popen[str] = host.python(code, *arguments, stdout=PIPE, stdin=PIPE, text=True, **options)
        started.append(program)
        assert program.stdout is not None
        line = program.stdout.readline().strip()
        assert line == "ready", f"the program on {host.name} said {line!r}"
        return program

    yield start
    for program in started:
        program.kill()
        program.communicate(timeout=PROGRAM_LIMIT)
