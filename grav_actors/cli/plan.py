"""What is to be run: the classes named on the command line, and those of the project's configuration."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grav_actors.actor.actor import Actor
from grav_actors.config import NodeConfig, find_project, load_config
from grav_actors.errors import ConfigError, GravError
from grav_actors.options import OptionError, did_you_mean
from grav_actors.supervisor.spec import Child
from grav_actors.supervisor.tree import names_below
from grav_actors.tables import ActorTable
from grav_actors.target import load_target

if TYPE_CHECKING:
    from grav_actors.meshing import MeshPlan


@dataclass(frozen=True, slots=True)
class Plan:
    """A project and what is to be run in it.

    Attributes:
        folder: The project's: where its configuration is, else the working directory.
        config: That of a node without a file if there is none.
        targets: Classes from the command line, run after those of the configuration.
    """

    folder: Path
    config: NodeConfig
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """One actor of a plan: ready to be started, or what is wrong with it.

    Attributes:
        name: Its name; "" if the node chooses one.
        child: None when there are mistakes.
    """

    name: str
    target: str
    child: Child | None = None
    mistakes: list[ConfigError] = field(default_factory=list)


def read_plan(targets: tuple[str, ...]) -> Plan:
    """Find the project of the working directory, read its configuration, and make it importable.

    The working directory changes to the project's folder; both are importable, the project first.

    Raises:
        ConfigError: The configuration is wrong, or there is neither one nor a target.
    """
    here = Path.cwd()
    path = find_project(here)
    if path is None and not targets:
        raise ConfigError(
            "nothing to run: no grav.toml here or in a folder above; write one, or name a class: "
            "`grav-actors up module:Class`"
        )
    config = load_config(path) if path is not None else NodeConfig()
    folder = path.parent if path is not None else here
    sys.path.insert(0, str(here))
    os.chdir(folder)
    return Plan(folder, config, targets)


def examine(plan: Plan) -> Iterator[Planned]:
    """Import every class of a plan and hold its arguments against its constructor; start nothing."""
    for table in plan.config.actors:
        yield _from_table(plan.config, table)
    for target in plan.targets:
        yield _from_target(target)


def children_of(plan: Plan) -> list[Child]:
    """Return what is to be started, in order; raise the first mistake."""
    for mistake in mistakes_of_node(plan.config):
        raise mistake
    children: list[Child] = []
    for planned in examine(plan):
        for mistake in planned.mistakes:
            raise mistake
        if planned.child is not None:
            children.append(planned.child)
    names_below(children)  # refuses names that appear twice in the whole tree
    return children


def mistakes_of_node(config: NodeConfig) -> Iterator[ConfigError]:
    """Yield what is wrong beside the actors: in `[mesh]`, as far as that shows without listening."""
    try:
        mesh_of(config)
    except ConfigError as exc:
        yield exc


def mesh_of(config: NodeConfig) -> MeshPlan | None:
    """Return the mesh that a node shall have, to be started once; None without the table `[mesh]`.

    Raises:
        ConfigError: The table is wrong.
    """
    if config.mesh is None:
        return None
    from grav_actors.meshing import plan_table

    return plan_table(config.mesh, config.error)


def _from_table(config: NodeConfig, table: ActorTable) -> Planned:
    path = ("actors", table.name)
    try:
        actor_class = load_target(table.target, base=Actor)
    except ConfigError as exc:
        return Planned(table.name, table.target, None, [config.error((*path, "class"), exc)])
    mistakes = [
        config.error((*path, "args", key) if key in table.args else (*path, "args"), reason)
        for key, reason in wrong_arguments(actor_class, table.args)
    ]
    if mistakes:
        return Planned(table.name, table.target, None, mistakes)
    try:
        child = Child(
            actor_class,
            name=table.name,
            kwargs=dict(table.args),
            kind=table.kind,
            instances=table.instances,
            group=table.group,
            restart=table.restart,
            significant=table.significant,
            start_timeout=table.start_timeout,
            shutdown=table.shutdown,
            handler_timeout=table.handler_timeout,
        )
    except OptionError as exc:
        return Planned(table.name, table.target, None, [config.error((*path, exc.option), exc)])
    except GravError as exc:
        return Planned(table.name, table.target, None, [config.error(path, exc)])
    return Planned(table.name, table.target, child)


def _from_target(target: str) -> Planned:
    try:
        actor_class = load_target(target, base=Actor)
        for _, reason in wrong_arguments(actor_class, {}):
            raise ConfigError(f'"{target}": {reason}; arguments go into grav.toml')
    except ConfigError as exc:
        return Planned("", target, None, [exc])
    return Planned("", target, Child(actor_class))


def wrong_arguments(actor_class: type, args: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with the keyword arguments of a class: the argument's name, and why."""
    try:
        signature = inspect.signature(actor_class)
    except (TypeError, ValueError):  # written in C, say: its constructor will tell
        return []
    parameters = signature.parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {parameter.name for parameter in parameters if parameter.kind in by_name}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    name = actor_class.__qualname__
    found = [
        (key, f"{name} takes no argument {key!r}{did_you_mean(key, named)}")
        for key in args
        if key not in named and not takes_any
    ]
    found += [
        (parameter.name, f"{name} needs the argument {parameter.name!r}")
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in args
    ]
    return found
