"""The mesh: nodes that know each other, and what travels between them; see `docs/mesh.md`."""
