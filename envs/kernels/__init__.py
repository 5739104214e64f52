"""Compiled kernels of the simulated world. Import on use only: numba costs 0.65 s."""
