"""Children that do not start: a clear error, and a clean stop of what had started before them."""

from __future__ import annotations

from typing import Any

import pytest

from grav_actors import Actor, ActorStartError, Child, Grav
from support import misfits
from support.collecting import Collector
from support.nodes import hosting_node

MISFITS = [
    (misfits.Exact, {"kwargs": {"sight": 1}}, "TypeError: .*unexpected keyword argument 'sight'"),
    (misfits.Exact, {}, "TypeError: .*missing 1 required positional argument: 'site'"),
    (misfits.Exact, {"args": ("roof", "cellar")}, "TypeError: .*takes 2 positional arguments but 3 were given"),
    (misfits.Leaving, {}, "SystemExit: 3"),
    (misfits.Refusing, {}, "OSError: no sensor"),
]


@pytest.mark.parametrize(("actor_class", "options", "text"), MISFITS)
def test_a_child_that_does_not_start_ends_those_before_it_and_those_behind_never_begin(
    kind: str, actor_class: type[Actor], options: dict[str, Any], text: str
) -> None:
    with Grav() as grav:
        seen = Collector()
        pod = grav.connect()
        pod.on_type("witness", seen)
        with pytest.raises(ActorStartError, match=f"actor 'misfit' did not start: {text}") as caught:
            grav.spawn(misfits.family(actor_class, kind, **options), name="family", kind="thread")
        assert "Traceback" in caught.value.remote_traceback
        assert grav._runner.rows() == []
        grav.spawn(Child(misfits.Witness, name="before", kind="thread")).stop()  # the name is free again
        seen.wait(4)
        assert seen.data == [["start", "before"], ["shutdown", "before"], ["start", "before"], ["stop", "before"]]


@pytest.mark.parametrize(("actor_class", "options", "text"), MISFITS[:1] + MISFITS[-1:])
def test_the_same_in_a_host_of_threads(actor_class: type[Actor], options: dict[str, Any], text: str) -> None:
    with hosting_node() as grav:
        with pytest.raises(ActorStartError, match=f"actor 'misfit' did not start: {text}"):
            grav.spawn(Child(actor_class, name="misfit", kind="thread", **options))
        assert grav._runner.rows() == []
        assert grav.spawn(misfits.Witness, name="misfit", kind="thread").is_alive()


@pytest.mark.parametrize("actor_class", [int, None, misfits])
def test_what_is_no_actor_class_is_refused_before_anything_starts(actor_class: Any) -> None:
    with Grav() as grav:
        with pytest.raises(ActorStartError, match="is no Actor; write `class"):
            grav.spawn(actor_class)
        assert grav._runner.rows() == []
