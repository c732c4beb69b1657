"""The mesh of a node that runs, as it has answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grav_actors.doctor.finding import Finding, ok, warning

REASONS = {
    "unsigned": "this node has a beacon secret, and some node has none; give all the same secret_file",
    "signed": "some node signs its beacons, and this one has no secret; give all the same secret_file",
    "forged": "some node signs its beacons with another secret; give all the same secret_file",
    "version": "some node has another version of grav-actors; bring all to one version",
    "malformed": "something else sends to this group and port; choose another `port` in [mesh.beacon] on all nodes",
}
"""What to do when beacons are refused, by the reason that the beacon counts them under."""


def judge_mesh(mesh: Mapping[str, Any]) -> list[Finding]:
    """Say how a node and its peers get on.

    Args:
        mesh: What the node has answered: `peers`, `unreached`, `discoveries`.
    """
    up = {peer["name"] for peer in mesh["peers"] if peer["state"] == "up"}
    is_alone = not up
    # A node that was started anew is another peer: nobody misses its earlier lives.
    findings = [
        _judge_peer(peer)
        for peer in mesh["peers"]
        if peer["state"] == "up" or (peer["state"] != "withdrawn" and peer["name"] not in up - {""})
    ]
    if is_alone:
        remedy = "if others run: what is not ok in this list may be why; else start them"
        findings.append(warning("peers", "no other node is up", remedy))
    for endpoint, why in mesh["unreached"].items():
        text = (
            "start the node there; or let its ports through its firewall; or, with keys, have each of the two allow the"
            " other's: the log of the other one says whom it turned away"
        )
        findings.append(warning("endpoint", f"no node at {endpoint}: {why}", text))
    for discovery in mesh["discoveries"]:
        if discovery["status"] is not None:
            findings += _judge_beacons(discovery["status"], is_alone=is_alone)
    return findings


def _judge_peer(peer: Mapping[str, Any]) -> Finding:
    name = peer["name"] or peer["uuid"]
    lag = f", {peer['lag_in']} messages behind" if peer["lag_in"] else ""
    if peer["state"] == "up":
        return ok("peer", f"node {name} is up at {peer['endpoint'] or 'an address that it does not tell'}{lag}")
    text = f"node {name} is {peer['state']}, heard {peer['last_seen']:.0f} s ago"
    return warning(
        "peer", text, "if it runs: look at cables and firewalls between the two; it is dialled again and again"
    )


def _judge_beacons(status: Mapping[str, Any], *, is_alone: bool) -> list[Finding]:
    findings = [
        warning("beacons", f"{count} were refused as {reason}", REASONS.get(reason, "the node's log says from where"))
        for reason, count in status["refused"].items()
        if count
    ]
    findings += [
        warning(
            "beacons", f"none can be sent on {name}: {error}", "look at that interface, or leave it out of `interfaces`"
        )
        for name, error in status["errors"].items()
    ]
    used = ", ".join(status["interfaces"]) or "no interface"
    # Not those that it has heard: the doctor's own are among them.
    text = f"the node has sent {status['sent']}, and knows of {status['endpoints']} others by theirs, on {used}"
    if status["endpoints"] or findings or not is_alone:
        findings.append(ok("beacons", text))
    else:
        remedy = "if others run: their firewall, or an access point that keeps its clients apart; list them in `peers`"
        findings.append(warning("beacons", text, remedy))
    return findings
