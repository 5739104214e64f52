"""The compiled decision path: array kernels with a leading env axis, the same in training, evaluation and live serving.

Import kernels on use only: numba costs 0.65 s.
"""
