"""How actors are started, watched, restarted and ended."""
