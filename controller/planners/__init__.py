"""Planners of placement over sites: workflows on tiers of workers, and models and data versions over regions."""
