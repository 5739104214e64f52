"""Real tasks with versions that were measured here, for tolerance tiers."""
