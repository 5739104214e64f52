"""Tolerance tiers: how much accuracy a caller gives up, for what, and the rule that keeps to it with a guarantee."""
