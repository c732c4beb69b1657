"""The greenhouse from a script, with the bus embedded; no `__main__` guard is needed."""

from greenhouse import Display, Thermometer

from grav_actors import Grav

with Grav() as grav:  # starts a bus process of its own
    thermometer = grav.spawn(Thermometer, site="roof", kind="process")
    display = grav.spawn(Display, kind="thread")
    thermometer.ask("sensor.poll")  # back when the handler has run; what it published is ahead of what follows
    print(display.ask("display.last", timeout=2.0))
