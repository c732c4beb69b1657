"""Targets: the class that a text like `greenhouse:Thermometer` names.

Whatever is wrong with a target is a `ConfigError` of one line that tells a wrong name from a module that
failed while it was imported.
"""

import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType, TracebackType

from grav_actors.errors import ConfigError
from grav_actors.options import did_you_mean, show

_EXAMPLE = 'write module:Class, as in "greenhouse:Thermometer"'
_REASON_CHARACTERS = 300


def split_target(text: object) -> tuple[str, str]:
    """Split `module:Class` into the module's name and the class's; nothing is imported.

    Raises:
        ConfigError: The text has another form.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{show(text)} is no target; {_EXAMPLE}")
    module, colon, name = text.partition(":")
    if colon and _is_dotted(module) and _is_dotted(name) and not module.endswith(".py"):
        return module, name
    # What people write instead: a path, or a dot for the colon.
    module = module.removesuffix(".py").replace(os.sep, ".").strip(".")
    if not colon:
        module, _, name = module.rpartition(".")
    likely = f"{module}:{name}"
    hint = f'; did you mean "{likely}"?' if _is_dotted(module) and _is_dotted(name) else f"; {_EXAMPLE}"
    raise ConfigError(f"{show(text)} is no target{hint}")


def load_target(text: str, *, base: type | None = None) -> type:
    """Import the class that a target names.

    The working directory becomes importable, ahead of all else, and stays so.

    Args:
        text: `module:Class`, or `module:Outer.Inner` for a nested class.
        base: What the class must be derived from, and not be itself; None: nothing.

    Raises:
        ConfigError: No such module, the module failed while it was imported, no such class, not a class, or
            not derived from `base`.
    """
    module_name, class_name = split_target(text)
    module = _import(module_name)
    found: object = module
    where = f'module "{module_name}"'
    walked = module_name + ":"
    for part in class_name.split("."):
        try:
            found, owner = getattr(found, part), found
        except AttributeError:
            raise ConfigError(f'{where} has no class "{part}"{_hint(module, found, part)}') from None
        except Exception as exc:  # a module's own __getattr__, say
            raise ConfigError(_failure(module_name, exc)) from exc
        walked += part if owner is module else f".{part}"
        where = f'"{walked}"'
    if not isinstance(found, type):
        kind = type(found).__name__
        article = "an" if kind[0] in "aeiouAEIOU" else "a"
        raise ConfigError(f'"{text}" is {article} {kind}, not a class')
    if found is base:
        raise ConfigError(f'"{text}" is the base of all actors; name a class that is derived from it')
    if base is not None and not issubclass(found, base):
        raise ConfigError(
            f'"{text}" is not derived from {base.__name__}; write "class {found.__name__}({base.__name__}):"'
        )
    return found


def _import(name: str) -> ModuleType:
    try:
        directory = str(Path.cwd())
    except OSError as exc:
        raise ConfigError(f"the working directory is gone: {exc.strerror}") from exc
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    importlib.invalidate_caches()  # the file may be younger than the last look into its folder
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        # Cases: 1. the module itself, or a package above it, does not exist;
        # 2. it exists, and something went wrong inside, perhaps an import of its own.
        if isinstance(exc, ModuleNotFoundError) and f"{name}.".startswith(f"{exc.name}."):
            raise ConfigError(_no_module(str(exc.name), directory)) from None
        raise ConfigError(_failure(name, exc)) from exc


def _no_module(missing: str, directory: str) -> str:
    above, _, last = missing.rpartition(".")
    package = sys.modules.get(above)
    places: Iterable[str] = getattr(package, "__path__", ()) if above else [directory]
    siblings = {module.name for module in iter_modules(list(places)) if module.name != last}
    where = f'package "{above}"' if above else directory
    if package is not None and not hasattr(package, "__path__"):
        return f'no module named "{missing}": "{above}" is a module, not a package'
    hint = did_you_mean(last, siblings).replace('mean "', f'mean "{above}.' if above else 'mean "')
    return f'no module named "{missing}" in {where}{hint}'


def _failure(name: str, exc: BaseException) -> str:
    """Tell in one line where and how a module failed."""
    if isinstance(exc, SyntaxError) and exc.filename:
        place, reason = f"{_relative(exc.filename)}:{exc.lineno or 1}", exc.msg
    else:
        place, reason = _last_user_frame(exc.__traceback__), " ".join(str(exc).split())
    if len(reason) > _REASON_CHARACTERS:
        reason = reason[: _REASON_CHARACTERS - 3] + "..."
    kind = type(exc).__name__
    return f'module "{name}" failed while importing: {place}: {kind}' + (f": {reason}" if reason else "")


def _last_user_frame(traceback: TracebackType | None) -> str:
    """Return file:line of the last frame of code below the working directory, else of the last at all."""
    own, last = "", "?"
    here = Path.cwd()
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen ") and file not in {__file__, importlib.__file__}:
            last = f"{_relative(file)}:{traceback.tb_lineno}"
            if Path(file).is_relative_to(here) and "site-packages" not in file:
                own = last
        traceback = traceback.tb_next
    return own or last


def _relative(file: str) -> str:
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file


def _hint(module: ModuleType, owner: object, name: str) -> str:
    names = getattr(owner, "__dict__", {})
    near = did_you_mean(name, [key for key, value in names.items() if isinstance(value, type)])
    if near:
        return near
    # A file here that is called like a module that was imported before it is never seen.
    top = module.__name__.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    mine = next((path for path in (Path(f"{top}.py"), Path(top, "__init__.py")) if path.exists()), None)
    if mine is not None and (file is None or mine.resolve() != Path(file).resolve()):
        return f"; {mine} is hidden by the module of that name ({file or 'built in'}): give it another name"
    return ""


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
