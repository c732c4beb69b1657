"""Imports point downwards: the table of docs/architecture.md, held against every module.

A new module needs a place in LAYERS; `test_every_module_has_one_layer` fails until it has one.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer and its modules.

    Attributes:
        modules: Patterns of module names, where `*` also covers dots. A module belongs to the layer whose
            pattern covers it; a pattern without `*` goes before one with it.
        below: The layers it may import, besides itself.
    """

    name: str
    modules: tuple[str, ...]
    below: tuple[int, ...]


# The number is the layer. Modules of one layer may import each other, without cycles.
LAYERS = {
    1: Layer(
        "ground",
        (
            "grav_actors.errors",
            "grav_actors.clock",
            "grav_actors.ids",
            "grav_actors.timeouts",
            "grav_actors.tracebacks",
            "grav_actors.pattern",
            "grav_actors.filters",
            "grav_actors.reference",
            "grav_actors.codec",
            "grav_actors.plain_data",
            "grav_actors.unpacking",
            "grav_actors.encoding",
            "grav_actors.decoding",
            "grav_actors.conversion",
            "grav_actors.request",
            "grav_actors.message",
            "grav_actors.buffer",
            "grav_actors.options",
            "grav_actors.target",
            "grav_actors.toml_lines",
            "grav_actors.tables",
            "grav_actors.project",
            "grav_actors.private_file",
            "grav_actors.descriptors",
            "grav_actors.registry",
            # Doors of packages whose modules lie in different layers: a docstring, and no imports.
            "grav_actors.bus",
            "grav_actors.pod",
            "grav_actors.supervisor",
            "grav_actors.mesh",
            "grav_actors.doctor",
        ),
        below=(),
    ),
    2: Layer(
        "wire",
        (
            "grav_actors.protocol",
            "grav_actors.discovery.beacon_frame",
            "grav_actors.mesh.certificate",
            "grav_actors.mesh.frames",
            "grav_actors.mesh.topics",
            "grav_actors.mesh.relay_frames",
        ),
        below=(1,),
    ),
    3: Layer(
        "contracts",
        (
            "grav_actors.transports",  # load(name)
            "grav_actors.transports.base",
            "grav_actors.discovery",  # load(name)
            "grav_actors.discovery.base",
        ),
        below=(1,),
    ),
    4: Layer(
        "deciders",
        (
            "grav_actors.bus.core",
            "grav_actors.bus.membership",
            "grav_actors.bus.notices",
            "grav_actors.bus.watches",
            "grav_actors.bus.postman",
            "grav_actors.bus.mailroom",
            "grav_actors.bus.handling",
            "grav_actors.bus.handover",
            "grav_actors.bus.dead_letters",
            "grav_actors.bus.own_messages",
            "grav_actors.bus.holdups",
            "grav_actors.bus.ledger",
            "grav_actors.bus.counts",
            "grav_actors.bus.dead_letter_log",
            "grav_actors.bus.dead_letter_retry",
            "grav_actors.bus.dead_letter_inquiry",
            "grav_actors.bus.receiver",
            "grav_actors.bus.sender",
            "grav_actors.bus.mailbox",
            "grav_actors.bus.run",
            "grav_actors.bus.replay",
            "grav_actors.bus.shelf",
            "grav_actors.bus.roster",
            "grav_actors.bus.directory",
            "grav_actors.bus.gateway",
            "grav_actors.bus.inquiry",
            "grav_actors.bus.ordered",
            "grav_actors.bus.lookout",
            "grav_actors.pod.core",
            "grav_actors.pod.outbox",
            "grav_actors.pod.ranges",
            "grav_actors.pod.inbound",
            "grav_actors.pod.replies",
            "grav_actors.supervisor.policy",
            "grav_actors.supervisor.effects",
            "grav_actors.supervisor.place",
            "grav_actors.supervisor.siblings",
            "grav_actors.supervisor.rounds",
            "grav_actors.supervisor.lifecycle",
            "grav_actors.supervisor.core",
            "grav_actors.discovery.beacon_core",
            "grav_actors.mesh.core",
            "grav_actors.mesh.state",
            "grav_actors.mesh.actors",
            "grav_actors.mesh.switchboard",
            "grav_actors.mesh.local_news",
            "grav_actors.mesh.membership",
            "grav_actors.mesh.agreement",
            "grav_actors.mesh.delivery",
            "grav_actors.mesh.congestion",
            "grav_actors.mesh.outflow",
            "grav_actors.mesh.inflow",
            "grav_actors.mesh.liveness",
            "grav_actors.mesh.dialling",
            "grav_actors.mesh.peers",
            "grav_actors.mesh.handshake",
            "grav_actors.mesh.tunnels",
            "grav_actors.mesh.effects",
            "grav_actors.mesh.view",
            "grav_actors.doctor.finding",
            "grav_actors.doctor.machine",
            "grav_actors.doctor.network",
            "grav_actors.doctor.trust",
            "grav_actors.doctor.mesh",
        ),
        below=(1, 2, 3),
    ),
    5: Layer(
        "drivers",
        (
            "grav_actors.bus.server",
            "grav_actors.bus.connections",
            "grav_actors.bus.process",
            "grav_actors.bus.guard",
            "grav_actors.pod.link",
            "grav_actors.pod.duty",
            "grav_actors.pod.loop_duty",
            "grav_actors.pod.pod",
            "grav_actors.pod.intake",
            "grav_actors.pod.outcomes",
            "grav_actors.pod.cancellations",
            "grav_actors.pod.callbacks",
            "grav_actors.pod.receipt",
            "grav_actors.pod.waiter",
            "grav_actors.pod.stream",
            "grav_actors.actor",
            "grav_actors.actor.*",
            "grav_actors.transports.loopback",
            "grav_actors.transports.inbox",
            "grav_actors.transports.standing",
            "grav_actors.transports.zeromq_approach",
            "grav_actors.transports.tcp_address",
            "grav_actors.transports.socket_loop",
            "grav_actors.transports.zeromq",
            "grav_actors.transports.zeromq_*",
            "grav_actors.mesh.hub",
            "grav_actors.mesh.turns",
            "grav_actors.mesh.bulletin",
            "grav_actors.mesh.carrier",
            "grav_actors.mesh.relay",
            "grav_actors.supervisor.*",
            "grav_actors.mesh.keys",
            "grav_actors.discovery.static",
            "grav_actors.discovery.beacon",
            "grav_actors.discovery.beacon_port",
            "grav_actors.discovery.beacon_settings",
            "grav_actors.discovery.announcement",
            "grav_actors.discovery.interfaces",
            "grav_actors.doctor.machine_probe",
            "grav_actors.doctor.network_probe",
            "grav_actors.doctor.trust_probe",
        ),
        below=(1, 2, 3, 4),
    ),
    6: Layer(
        "composition",
        (
            "grav_actors.node",
            "grav_actors.meshing",
            "grav_actors.bridging",
            "grav_actors.dead_letters",
            "grav_actors.control",
            "grav_actors.overview",
            "grav_actors.config",
        ),
        below=(1, 2, 3, 4, 5),
    ),
    7: Layer(
        "surface",
        ("grav_actors", "grav_actors.__main__", "grav_actors.cli", "grav_actors.cli.*"),
        below=(1, 2, 3, 4, 5, 6),
    ),
}
GROUND, DECIDERS, SURFACE = 1, 4, 7

MAY_IMPORT_ZMQ = {
    "grav_actors.bus.server",
    "grav_actors.bus.connections",
    "grav_actors.bus.process",  # only to name the error of an address that cannot be bound
    "grav_actors.pod.link",
    "grav_actors.mesh.keys",  # only to make key pairs
    "grav_actors.doctor.machine_probe",  # only for its version and limits
    "grav_actors.transports.socket_loop",
    "grav_actors.transports.zeromq",
    "grav_actors.transports.zeromq_line",
    "grav_actors.transports.zeromq_lines",
    "grav_actors.transports.zeromq_curve",
}

# What a decider would need to touch the world or to read a clock; time comes in as an argument.
NOT_FOR_DECIDERS = {
    "asyncio",
    "logging",
    "multiprocessing",
    "select",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
    "zmq",
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target; `typing_only` when it stands under `if TYPE_CHECKING:`."""

    target: str
    line: int
    typing_only: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its import name, plug-ins under their real folders."""
    found: dict[str, Path] = {}
    for folder, package in (
        ("grav_actors", "grav_actors"),
        ("transports", "grav_actors.transports"),
        ("discovery", "grav_actors.discovery"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "grav_actors" and parts[0] in ("transports", "discovery"):
                continue  # through the links
            name = ".".join((package, *parts))
            found[name.removesuffix(".__init__")] = path
    return found


def layer_of(module: str) -> int | None:
    for number, layer in LAYERS.items():
        if module in layer.modules:
            return number
    covering = [
        number
        for number, layer in LAYERS.items()
        if any("*" in pattern and fnmatchcase(module, pattern) for pattern in layer.modules)
    ]
    assert len(covering) <= 1, f"{module} is covered by patterns of layers {covering}"
    return covering[0] if covering else None


def imports_of(source: str, known: dict[str, Path] | None = None) -> Iterator[Import]:
    """All imports, wherever they stand; names taken from a package count as its modules where they are."""
    known = modules() if known is None else known

    def visit(node: ast.AST, *, typing_only: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno, typing_only)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"line {node.lineno}: a relative import; use absolute ones"
                for alias in names:
                    inner = f"{module}.{alias.name}"
                    yield Import(inner if inner in known else str(module), node.lineno, typing_only)
            case ast.If(
                test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"),
                body=body,
                orelse=orelse,
            ):
                for statement in body:
                    yield from visit(statement, typing_only=True)
                for statement in orelse:
                    yield from visit(statement, typing_only=typing_only)
            case _:
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, typing_only=typing_only)

    yield from visit(ast.parse(source), typing_only=False)


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(imports_of(modules()[module].read_text(encoding="utf-8")))


def is_ours(target: str) -> bool:
    return target.partition(".")[0] == "grav_actors"


def wrong_directions(module: str, layer: int, found: tuple[Import, ...]) -> list[str]:
    """Return a line for each import that the table forbids; of the ground, annotations may name anything."""
    if layer == SURFACE:
        return []
    allowed = {layer, *LAYERS[layer].below}
    return [
        f"{module}:{each.line}: layer {layer} ({LAYERS[layer].name}) imports {each.target}"
        f" of layer {layer_of(each.target)}"
        for each in found
        if is_ours(each.target) and layer_of(each.target) not in allowed and not (layer == GROUND and each.typing_only)
    ]


def placed_modules() -> list[tuple[str, int]]:
    return [(module, layer) for module in modules() if (layer := layer_of(module)) is not None]


def test_every_module_has_one_layer() -> None:
    homeless = [module for module in modules() if layer_of(module) is None]

    assert not homeless, f"give them a place in LAYERS and in docs/architecture.md: {homeless}"


@pytest.mark.parametrize(("module", "layer"), placed_modules())
def test_imports_point_downwards(module: str, layer: int) -> None:
    assert not wrong_directions(module, layer, imports(module))


def test_modules_of_one_layer_have_no_import_cycles() -> None:
    graph = {
        module: {
            each.target
            for each in imports(module)
            if each.target != module and layer_of(each.target) == layer and not each.typing_only
        }
        for module, layer in placed_modules()
        if layer != SURFACE
    }

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(f"they import each other: {' -> '.join(exc.args[1])}")


@pytest.mark.parametrize("module", [module for module, layer in placed_modules() if layer == DECIDERS])
def test_deciders_touch_nothing_and_read_no_clock(module: str) -> None:
    found = {each.target.partition(".")[0] for each in imports(module)}

    assert not found & NOT_FOR_DECIDERS


def test_only_named_files_touch_zmq() -> None:
    users = {module for module in modules() if any(each.target.partition(".")[0] == "zmq" for each in imports(module))}

    assert users <= MAY_IMPORT_ZMQ


@pytest.mark.parametrize("module", ["grav_actors.bus", "grav_actors.pod", "grav_actors.supervisor", "grav_actors.mesh"])
def test_doors_of_mixed_packages_import_nothing(module: str) -> None:
    if module in modules():
        assert not imports(module)


def test_plugins_are_imported_under_their_full_name_only() -> None:
    bare = {
        f"{module}:{each.line}"
        for module in modules()
        for each in imports(module)
        if each.target.partition(".")[0] in ("transports", "discovery")
    }

    assert not bare, "the bare name is a second copy of each class"


# The test itself is tested: on sources of its own.


def test_unknown_module_has_no_layer() -> None:
    assert layer_of("grav_actors.gossip") is None
    assert layer_of("grav_actors.bus.gossip") is None
    assert layer_of("grav_actors.pod.gossip") is None
    assert layer_of("grav_actors.transports.gossip") is None


def test_module_named_outright_goes_before_a_pattern() -> None:
    assert layer_of("grav_actors.supervisor.policy") == DECIDERS
    assert layer_of("grav_actors.supervisor.runner") == 5


@pytest.mark.parametrize(
    "source",
    [
        "import grav_actors.node",
        "from grav_actors.node import Grav",
        "from grav_actors import node",
        "def late():\n    import grav_actors.node",
        "class A:\n    try:\n        import grav_actors.node\n    except ImportError:\n        pass",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from grav_actors.node import Grav",
        "import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    from grav_actors.node import Grav",
        "from grav_actors import Grav",
        "from grav_actors.no_such_module import anything",
    ],
)
def test_upward_import_is_seen_wherever_it_stands(source: str) -> None:
    known = {"grav_actors.node": ROOT}

    assert wrong_directions("grav_actors.bus.core", DECIDERS, tuple(imports_of(source, known)))


def test_only_the_ground_may_name_what_is_above_in_annotations() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from grav_actors.node import Grav"
    found = tuple(imports_of(source))

    assert not wrong_directions("grav_actors.message", GROUND, found)
    assert wrong_directions("grav_actors.protocol", 2, found)


def test_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="relative import"):
        list(imports_of("from .errors import GravError"))
