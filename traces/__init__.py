"""What arrives: readers of public formats, the generator, splits in time, and rates for simulator and load generator.

This page is the table of contents; only numpy is loaded with it. Statistics are in `traces.describe`, downloads in
`traces.fetch`, the verb `provisor trace` in `traces.commands`.
"""

from traces.generator import PRESETS, GeneratorSpec, generate, preset
from traces.intensity import ArrivalModel, Intensity, intensity_of, sample_arrivals
from traces.readers import read_trace, write_npz
from traces.spot import SpotAvailability, read_spot
from traces.spot_generator import SpotSpec, ZoneSpec, generate_spot
from traces.trace import Trace

__all__ = [
    "PRESETS",
    "ArrivalModel",
    "GeneratorSpec",
    "Intensity",
    "SpotAvailability",
    "SpotSpec",
    "Trace",
    "ZoneSpec",
    "generate",
    "generate_spot",
    "intensity_of",
    "preset",
    "read_spot",
    "read_trace",
    "sample_arrivals",
    "write_npz",
]
