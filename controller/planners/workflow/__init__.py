"""Placement of a workflow on tiered workers, after JellyBean (arXiv 2205.04713)."""
