"""Where the class of an actor comes from, so that another process finds it: a module, or a script."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.errors import ActorStartError

SCRIPT_MODULE = "__grav_script__"
"""Name under which a process imports the script that its class is defined in."""

INSTEAD = ', or use kind="thread"'
"""What a user may do whose class or arguments cannot travel to a process."""

_loading = ""


@dataclass(frozen=True, slots=True)
class ClassOrigin:
    """Where a class is found.

    Attributes:
        module: The module to import; "" if it is in a script.
        script: The file of that script, or "".
        is_main: It is what the first process runs as `__main__`.
    """

    module: str
    qualname: str
    script: str
    is_main: bool

    @classmethod
    def of(cls, actor_class: type[Actor], instead: str = INSTEAD) -> ClassOrigin:
        """Return where other processes find a class.

        Args:
            instead: What errors advise besides, or "".

        Raises:
            ActorStartError: They cannot.
        """
        name = qualname = actor_class.__qualname__
        if "<locals>" in qualname:
            raise ActorStartError(
                f"a process cannot import {name}, as it is defined inside a function; define it at the top of a "
                f"module{instead}"
            )
        module, script, is_main = actor_class.__module__, "", False
        if module in ("__main__", SCRIPT_MODULE):
            module, script = _main_origin(name, module, instead)
            is_main = True
        found = sys.modules.get(actor_class.__module__)
        if found is None or _walk(found, qualname) is not actor_class:
            raise ActorStartError(
                f"a process cannot import {name}: {actor_class.__module__} has no such class under that name; give it "
                f"a name of its own at the top of a module{instead}"
            )
        return cls(module, qualname, script, is_main)

    def load(self) -> type[Actor]:
        """Import the class in a new process.

        Raises:
            ActorStartError: There is no such class, or importing it started a node.
            Exception: Whatever the module raised.
        """
        global _loading
        _loading = self.script or self.module
        try:
            module = _load_script(self.script) if self.script else importlib.import_module(self.module)
        finally:
            _loading = ""
        if self.is_main:
            sys.modules["__main__"] = module  # so that what was pickled as of __main__ is found
        return _checked(module, self)

    def find(self) -> type[Actor]:
        """Import the class in the process of the node, for an actor that asks from its own.

        Raises:
            ActorStartError: It is in a script that this process does not run, or there is no such class.
            Exception: Whatever the module raised.
        """
        main = sys.modules["__main__"]
        if not self.script:
            is_main = getattr(main.__spec__, "name", None) == self.module  # python -m: no second copy of it
            return _checked(main if is_main else importlib.import_module(self.module), self)
        if not _is_file(main, self.script):
            raise ActorStartError(
                f"{self.qualname} is defined in the script {self.script}, which the node cannot import; move it to a "
                "module"
            )
        return _checked(main, self)


def refuse_while_loading() -> None:
    """Raise if the class of an actor is just being imported: what starts a node then would start it over and over.

    Raises:
        ActorStartError: It is.
    """
    if _loading:
        raise ActorStartError(
            f"{_loading} makes a node whenever it is imported, and the process of an actor has to import it; put what "
            'makes the node under `if __name__ == "__main__":`, or the actor classes into a module of their own'
        )


def _main_origin(name: str, module: str, instead: str) -> tuple[str, str]:
    """Return module and script of what runs as `__main__`; one of them is empty."""
    main = sys.modules.get(module)
    spec_name = getattr(getattr(main, "__spec__", None), "name", None)
    if spec_name is not None and spec_name not in ("__main__", SCRIPT_MODULE):
        return spec_name, ""  # python -m module
    path = getattr(main, "__file__", None)
    if path is None or not Path(path).is_file():
        raise ActorStartError(
            f"a process cannot import {name}, as it is defined at a prompt; put it into a file{instead}"
        )
    return "", str(Path(path).resolve())


def _is_file(module: ModuleType, path: str) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and str(Path(file).resolve()) == path


def _load_script(path: str) -> ModuleType:
    """Import a script under a name of its own, so that what is under its `__main__` guard does not run."""
    spec = importlib.util.spec_from_file_location(SCRIPT_MODULE, path)
    if spec is None or spec.loader is None:
        raise ActorStartError(f"{path} cannot be imported: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT_MODULE] = module
    spec.loader.exec_module(module)
    return module


def _walk(module: ModuleType, qualname: str) -> Any:
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _checked(module: ModuleType, origin: ClassOrigin) -> type[Actor]:
    found = _walk(module, origin.qualname)
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise ActorStartError(f"{origin.script or origin.module} has no Actor {origin.qualname} in this process")
    return found
