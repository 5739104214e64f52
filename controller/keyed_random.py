"""Uniform draws keyed by (seed, stream, request id, attempt), the same in both worlds.

No generator state: a draw depends on its key alone, so two policies under one seed meet the same requests and the
same service draws, whatever each of them did before. This is the plain form, used by the live router;
`controller.kernels.random` is the compiled one, and a test holds them equal.

Source: SplitMix64 finaliser; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

from typing import Final

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB

GAP, CLASS, OPTION, OVERFLOW, SERVICE, COLD_START, LAUNCH, HEDGE, CORRECT, CAPACITY, ANSWER, ROUTER = range(12)
"""Streams; each kind of draw has its own, so adding a draw to one never shifts another."""


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def stream_key(seed: int, stream: int) -> int:
    """Key of one stream of one seed, 64 bits."""
    return _mix((seed * _GOLDEN + stream + 1) & _MASK)


def uniform(key: int, identity: int, attempt: int) -> float:
    """Draw in [0, 1) for a request id and attempt; 53 bits.

    Ids walk the generator's own sequence from the key on; an attempt walks it from a point far away.
    """
    return (_mix((key + (identity + 1) * _GOLDEN + attempt * _MIX_2) & _MASK) >> 11) * 2.0**-53
