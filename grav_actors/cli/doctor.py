"""`doctor`: what keeps a node of this directory, or its mesh, from working."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from grav_actors.cli.failure import DEGRADED, FAILED
from grav_actors.cli.params import duration_option, json_option

if TYPE_CHECKING:
    from grav_actors.config import NodeConfig
    from grav_actors.doctor.finding import Finding

ANSWER_LIMIT = 3.0
"""Seconds that the node that runs here may take to say how it is."""
WIDTH = 110
HIGHEST_PORT = 65535


@click.command("doctor")
@duration_option("--listen", "How long to hear the beacons of other nodes; each sends one at least every 6 s.", "1s")
@json_option
@click.pass_context
def command(ctx: click.Context, listen: float, as_json: bool) -> None:
    """Look for what keeps a node of this directory, or its mesh, from working, and say what to do.

    It looks at versions, limits, folders, the clock, network interfaces, whether multicast is heard, ports, firewalls,
    keys and peers; and asks the node that runs here, if one does. Sends one small beacon on each interface that nobody
    acts upon; changes nothing else.

    Ends with 0 when all is ok, with 3 when there are warnings, with 1 when something is wrong.
    """
    from grav_actors.cli.render import to_json
    from grav_actors.doctor.finding import State, worst

    findings: list[Finding] = []
    for finding in examine(Path.cwd(), listen):
        findings.append(finding)
        if as_json:
            click.echo(to_json({**dataclasses.asdict(finding), "state": finding.state.value}))
        else:
            for line in lines(finding):
                click.echo(line)
    state = worst(findings)
    if not as_json:
        click.echo(f"grav-actors: {summary(findings)}", err=True)
    ctx.exit({State.OK: 0, State.WARNING: DEGRADED, State.WRONG: FAILED}[state])


def examine(directory: Path, listen: float) -> Iterator[Finding]:
    """Look at everything, and yield what is found as it is found."""
    from grav_actors.config import NodeConfig, find_project, load_config
    from grav_actors.doctor.finding import ok, wrong
    from grav_actors.doctor.machine import Clock, judge_clock, judge_folders, judge_limits, judge_versions
    from grav_actors.doctor.machine_probe import (
        is_clock_synchronised,
        look_at_folders,
        look_at_limits,
        look_at_versions,
    )
    from grav_actors.errors import ConfigError

    path = find_project(directory)
    config = NodeConfig()
    problem = ""
    if path is not None:
        try:
            config = load_config(path)
        except ConfigError as exc:
            problem = str(exc)
    mesh = config.mesh
    needs_keys = mesh is not None and not mesh.insecure and (mesh.is_exposed or mesh.keys is not None)
    yield from judge_versions(look_at_versions(), needs_curve=needs_keys)
    yield from judge_limits(look_at_limits())
    folder = path.parent if path is not None else directory
    yield from judge_folders(look_at_folders(folder))
    if problem:
        yield wrong("configuration", problem, "correct the file; `grav-actors check` looks at all of it")
    elif path is None:
        yield ok("configuration", "no grav.toml here or in a folder above")
    else:
        yield ok("configuration", f"{path}{'' if mesh is not None else ', without a [mesh]'}")
    if mesh is not None:
        yield from _examine_names(config)
    node_findings, running = _ask_node(directory, wants_mesh=mesh is not None)
    yield from node_findings
    state = running["mesh"] if running is not None else None
    peers: list[dict[str, Any]] = state["peers"] if state is not None else []
    drifts = {
        peer["name"] or peer["uuid"]: peer["drift"]
        for peer in peers
        if peer["state"] == "up" and peer["drift"] is not None
    }
    yield from judge_clock(Clock(is_clock_synchronised(), drifts))
    yield from _examine_network(config, running, listen)
    if mesh is not None:
        yield from _examine_trust(config)
    if state is not None:
        from grav_actors.doctor.mesh import judge_mesh

        yield from judge_mesh(state)


def _examine_names(config: NodeConfig) -> Iterator[Finding]:
    """Yield what is wrong with the names in [mesh]."""
    from grav_actors.discovery import load as load_discovery
    from grav_actors.doctor.finding import wrong
    from grav_actors.errors import ConfigError
    from grav_actors.transports import load as load_transport

    mesh = config.mesh
    assert mesh is not None
    try:
        load_transport(mesh.transport)
        for name in mesh.discovery:
            load_discovery(name)
    except ConfigError as exc:
        yield wrong("configuration", str(exc), "correct [mesh] in the file")


def _ask_node(directory: Path, *, wants_mesh: bool) -> tuple[list[Finding], dict[str, Any] | None]:
    """Return what is to be said of the node that runs here, and what it has answered about its mesh."""
    from grav_actors.cli.client import joined
    from grav_actors.control import NODES
    from grav_actors.doctor.finding import ok, warning, wrong
    from grav_actors.errors import GravError, NoRespondersError
    from grav_actors.project import find_running
    from grav_actors.protocol import NODE_NAME

    try:
        found = find_running(directory)
        if found is None:
            return [ok("node", "none runs for this directory")], None
        with joined(found.endpoint) as client:
            answer: dict[str, Any] = client.ask(NODES, to=NODE_NAME, timeout=ANSWER_LIMIT)
    except NoRespondersError:
        return [ok("node", "a bus runs here without a node")], None
    except GravError as exc:
        text = f"one runs here and does not answer: {exc.args[0] if exc.args else exc}"
        return [wrong("node", text, "`grav-actors down` ends it; what it has printed last may say why")], None
    node, mesh = answer["node"], answer["mesh"]
    if mesh is None:
        seen = f"{node['name']} runs here, process {node['pid']}, without a mesh"
        remedy = "a table [mesh] in grav.toml gives it one, from the next `up` on"
        return [warning("node", seen, remedy) if wants_mesh else ok("node", seen)], answer
    return [ok("node", f"{node['name']} runs here, process {node['pid']}, and answers")], answer


def _examine_network(config: NodeConfig, running: dict[str, Any] | None, listen: float) -> Iterator[Finding]:
    from grav_actors.discovery.beacon_settings import BeaconSettings
    from grav_actors.doctor.network import (
        judge_firewall,
        judge_interfaces,
        judge_listener,
        judge_multicast,
        judge_reach,
        judge_stream,
    )
    from grav_actors.doctor.network_probe import dial, hear_own_beacons, look_for_firewall, port_of, try_to_listen
    from grav_actors.doctor.trust_probe import read_secret
    from grav_actors.ids import id_bytes
    from grav_actors.transports.zeromq import STREAM_PORT_OFFSET

    mesh = config.mesh
    settings = mesh.beacon if mesh is not None and mesh.beacon is not None else BeaconSettings()
    has_beacon = mesh is None or "beacon" in mesh.discovery
    own = id_bytes(running["node"]["uuid"]) if running is not None else b""
    echoes = hear_own_beacons(settings, read_secret(settings)[0], listen, own)
    yield from judge_interfaces(echoes, settings.interfaces)
    if has_beacon:
        yield from judge_multicast(echoes, settings.port)
    if mesh is None:
        return
    state = running["mesh"] if running is not None else None
    listens = state["listens"] if state is not None else ""
    wanted = mesh.listen or listens
    ports = [port for port in (port_of(listens) or port_of(wanted),) if port is not None]
    if wanted:
        yield judge_listener(try_to_listen(wanted, listens))
    if mesh.transport == "zmq" and ports and ports[0] + STREAM_PORT_OFFSET < HIGHEST_PORT:
        ports.append(ports[0] + STREAM_PORT_OFFSET)
        if not listens:
            yield from judge_stream(try_to_listen(f"{wanted.rpartition(':')[0]}:{ports[1]}"))
    if mesh.is_exposed:
        yield judge_firewall(look_for_firewall(), ports, settings.port if has_beacon else None)
    yield from map(judge_reach, dial(mesh.peers))


def _examine_trust(config: NodeConfig) -> Iterator[Finding]:
    from grav_actors.discovery.beacon_settings import BeaconSettings
    from grav_actors.doctor.trust import judge_keys, judge_secret
    from grav_actors.doctor.trust_probe import look_at_keys, read_secret
    from grav_actors.mesh.keys import default_folder

    mesh = config.mesh
    assert mesh is not None
    is_needed = mesh.is_exposed or mesh.keys is not None
    keys = look_at_keys(mesh.keys or default_folder())
    yield from judge_keys(keys, is_needed=is_needed, is_insecure=mesh.insecure and mesh.is_exposed)
    settings = mesh.beacon if mesh.beacon is not None else BeaconSettings()
    yield from judge_secret(read_secret(settings)[1], is_used=settings.secret_file is not None)


def lines(finding: Finding) -> list[str]:
    """Return a finding as people read it: state, check, what was seen; below it what to do."""
    head = f"{finding.state.value:<8} {finding.check:<16} "
    indent = " " * len(head)
    shown = textwrap.wrap(finding.seen, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
    if finding.remedy:
        shown += textwrap.wrap(
            finding.remedy,
            WIDTH,
            initial_indent=f"{indent}-> ",
            subsequent_indent=f"{indent}   ",
            break_on_hyphens=False,
        )
    return shown


def summary(findings: Iterable[Finding]) -> str:
    """Return how many findings are not ok, in one line."""
    from grav_actors.doctor.finding import State

    states = [finding.state for finding in findings]
    counts = [
        f"{count} {word if count == 1 else words}"
        for count, word, words in (
            (states.count(State.WRONG), "thing is wrong", "things are wrong"),
            (states.count(State.WARNING), "warning", "warnings"),
        )
        if count
    ]
    return ", ".join(counts) or "all is well"
