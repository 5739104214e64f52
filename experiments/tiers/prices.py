"""What a second of computing costs in the tasks that were measured here."""

USD_PER_CORE_S = 0.085 / 2.0 / 3600.0
"""Of a core of c5.large, us-east-1 on-demand (aws/karpenter-provider-aws 1d92708, generated 2026-07-20)."""
