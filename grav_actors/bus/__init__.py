"""The bus: a process with one ROUTER socket around a pure core."""
