"""The actor that answers for a node: what reaches it."""

import pytest

from grav_actors.control import DOWN, PS, NodeControl


@pytest.mark.parametrize("event", ["grav.sys.node.up", "grav.sys.node.down", "grav.sys.node.gap", "grav.sys.dead"])
def test_no_event_is_taken_for_a_question(event: str) -> None:
    filters = NodeControl._grav_handlers.filters()
    assert not filters.allows_type(event)
    assert filters.allows_type(PS)
    assert filters.allows_type(DOWN)
