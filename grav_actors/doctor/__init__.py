"""What keeps a node from working on this machine: facts, and what they mean."""
