"""The built wheel carries every module of the checkout, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Folder in the checkout -> folder in the wheel.
PLACES = {
    "grav_actors": "grav_actors",
    "transports": "grav_actors/transports",
    "discovery": "grav_actors/discovery",
}


def files_of_checkout() -> list[Path]:
    """What git knows or would add, relative to the root; links are one entry each."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = {Path(name) for name in listing.split("\0") if name}
    return sorted(path for path in files if (ROOT / path).is_symlink() or (ROOT / path).is_file())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without ignored files: what an earlier build has left must not be taken for source."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    copy = tmp_path_factory.mktemp("checkout")
    for path in files_of_checkout():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution, and the wheel that was made from it."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(checkout)]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    return target


def modules_in(checkout: Path) -> set[str]:
    # rglob does not follow the links, so the plug-ins are counted under their real folders only.
    return {
        f"{target}/{path.relative_to(checkout / source).as_posix()}"
        for source, target in PLACES.items()
        for path in (checkout / source).rglob("*.py")
        if not (source == "grav_actors" and path.relative_to(checkout / source).parts[0] in PLACES)
    }


def test_wheel_holds_every_module_and_the_typing_marker(checkout: Path, built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packed = {name for name in names if ".dist-info/" not in name}

    assert packed == modules_in(checkout) | {"grav_actors/py.typed"}
    assert len(names) == len(set(names))


def test_wheel_carries_command_and_licence(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        entry_points = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))

        assert "grav-actors = grav_actors.cli.main:main" in archive.read(entry_points).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_plugin_folders_are_relative_links_in_the_checkout(checkout: Path) -> None:
    for name in ("transports", "discovery"):
        link = checkout / "grav_actors" / name

        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
