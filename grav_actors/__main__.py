"""`python -m grav_actors` is `grav-actors`."""

from grav_actors.cli.main import main

if __name__ == "__main__":
    main()
