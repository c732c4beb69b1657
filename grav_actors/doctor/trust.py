"""Keys of a node, and the secret of its beacons. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from grav_actors.doctor.finding import Finding, ok, warning, wrong


@dataclass(frozen=True, slots=True)
class Keys:
    """The folder of keys, as it is.

    Attributes:
        folder: Where it is, or would be.
        name, public_key: Of the node's own pair; "" when there is none.
        problem: Why the pair cannot be used; "" when it can, or is not there.
        allowed: Names of the nodes that are accepted.
        refused: Files of keys that are not accepted, and why.
    """

    folder: str
    name: str = ""
    public_key: str = ""
    problem: str = ""
    allowed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def judge_keys(facts: Keys, *, is_needed: bool, is_insecure: bool) -> list[Finding]:
    """Say whether nodes can trust each other.

    Args:
        is_needed: The node's configuration asks for keys.
        is_insecure: It does without them, also beyond this machine.
    """
    if is_insecure:
        text = "insecure = true: whoever reaches this node may read and send everything"
        return [warning("keys", text, 'make keys with "grav-actors keys new" and take `insecure` out of [mesh]')]
    if not is_needed:
        return [ok("keys", "none are used: nothing here listens for other machines")]
    if facts.problem:
        # It says itself what to do, and which file is meant.
        return [wrong("keys", facts.problem, "nodes refuse each other until that is mended")]
    if not facts.public_key:
        return [wrong("keys", f"there is no key pair in {facts.folder}", '"grav-actors keys new" makes one')]
    findings = [ok("keys", f"{facts.name} has the public key {facts.public_key}, in {facts.folder}")]
    findings += [
        wrong("allowed keys", problem, "correct the file, or remove it and allow the key anew")
        for problem in facts.refused
    ]
    if facts.allowed:
        findings.append(ok("allowed keys", f"{len(facts.allowed)}: {', '.join(facts.allowed)}"))
    else:
        remedy = 'have its owner send what "grav-actors keys show" prints there, then "grav-actors keys allow FILE"'
        findings.append(warning("allowed keys", "no other node is accepted", remedy))
    return findings


def judge_secret(problem: str, *, is_used: bool) -> list[Finding]:
    """Say whether beacons can be signed; nothing where they are not.

    Args:
        problem: Why the secret cannot be used; "" when it can.
        is_used: The configuration names one.
    """
    if not is_used:
        return []
    if problem:
        return [wrong("beacon secret", problem, "mend the file, the same text on all nodes, or take secret_file out")]
    return [ok("beacon secret", "beacons are signed, and others are not heard")]
