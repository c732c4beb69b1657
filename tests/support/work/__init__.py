"""Counted work: how much the paths of a message do, in units that no busy machine changes."""
