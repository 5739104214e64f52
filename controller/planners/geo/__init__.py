"""Placement of model versions at sites and choice of data versions sent to them, after A² (RTSS 2021).

Only the paper's abstract and public descriptions are known to us: the programs, the rounding and its ratio are ours.
"""
