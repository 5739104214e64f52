"""What is claimed of placement over sites: workflows on tiers, and models with data versions over regions."""
