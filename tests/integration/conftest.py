"""For tests of the node and its pods: a node and pods on it. For the tests of examples: programs as a user
starts them.
"""

import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grav_actors import Backoff, Grav, Pod
from support.programs import Program


@pytest.fixture(scope="module")
def shared_grav() -> Iterator[Grav]:
    """A node for all tests of a file that do not disturb each other."""
    with Grav() as node:
        yield node


@pytest.fixture
def connect(shared_grav: Grav) -> Iterator[Callable[..., Pod]]:
    """Return `connect(name=None, **options)`, as of the shared node; these pods leave after the test."""
    pods: list[Pod] = []

    def connect(name: str | None = None, **options: Any) -> Pod:
        pods.append(shared_grav.connect(name, **options))
        return pods[-1]

    yield connect
    for pod in pods:
        pod.disconnect()


@pytest.fixture
def gate(connect: Callable[..., Pod]) -> Iterator[threading.Event]:
    """An event on which handlers wait; it is set before pods leave, whatever a test does."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def start_program() -> Iterator[Callable[..., Program]]:
    """Return `start(folder, *arguments)`, which runs grav-actors there and waits until it is ready.

    What the test did not end is killed.
    """
    started: list[Program] = []

    def start(folder: pathlib.Path, *arguments: str) -> Program:
        started.append(Program(folder, *arguments))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for program in reversed(started):
        program.close()


@pytest.fixture(params=["thread", "process"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both kinds of actors, one after the other."""
    return str(request.param)


@pytest.fixture
def grav() -> Iterator[Grav]:
    """A node that restarts without waiting."""
    with Grav(backoff=Backoff(first=0)) as node:
        yield node
