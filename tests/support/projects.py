"""Projects as users have them: folders with modules, and copies of the examples."""

import pathlib
import shutil

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"

GREENHOUSE = """
from grav_actors import Actor, on_type

class Thermometer(Actor):
    def __init__(self, site: str = "roof") -> None:
        self.site = site

    @on_type("sensor.poll")
    def poll(self, msg):
        self.publish("sensor.temp", {"site": self.site, "celsius": 21.5})

class Display(Actor):
    def on_start(self) -> None:
        self.last = None

    @on_type("sensor.temp")
    def show(self, msg):
        self.last = msg.data["celsius"]

    @on_type("display.last")
    def report(self, msg):
        return self.last                 # the returned value is the answer to an ask
"""


def copy_example(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Copy an example into a new folder, so that it is a project directory of its own; return that folder."""
    return copy_project(EXAMPLES / name, folder)


def copy_project(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copy a folder of modules, without what Python has made of them."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
