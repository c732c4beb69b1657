"""What waits for the children of a supervisor that dies and comes back."""

from support.busnet import Net, TestPod


def family(net: Net) -> tuple[TestPod, TestPod, TestPod]:
    """Return the pod of a node, a supervisor under it, and a child of that; the child handles nothing."""
    node = net.pod("node")
    top = net.actor("top", supervisor=node.uuid)
    child = net.actor("child", "x", supervisor=top.uuid)
    child.paused = True
    return node, top, child


def test_next_incarnation_of_a_supervisor_takes_over_the_names_of_its_children() -> None:
    net = Net()
    sender = net.pod()
    node, top, child = family(net)
    sender.tell("child", "x", *range(5))
    net.settle()
    net.kill(top)
    net.kill(child)
    net.advance(60)  # as long as it takes
    again = net.actor("top", supervisor=node.uuid, incarnation=1)
    net.advance(60)
    heir = net.actor("child", "x", supervisor=again.uuid, incarnation=1 << 16)
    net.settle()
    assert heir.data == list(range(5))
    assert net.dead() == []
    net.check_quiet()


def test_children_of_a_supervisor_that_does_not_come_back_are_released() -> None:
    net = Net()
    sender = net.pod()
    node, top, child = family(net)
    sender.tell("child", "x", 1)
    net.settle()
    net.kill(top)
    net.kill(child)
    net.advance(60)
    assert net.dead() == []
    node.leave()
    net.advance(60)
    assert [(reason, data) for reason, _, data in net.dead()] == [("pod_lost", 1)]
