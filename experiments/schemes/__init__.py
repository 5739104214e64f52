"""What the founding paper opens with, measured in the simulated world: resources, models and schemes side by side."""
