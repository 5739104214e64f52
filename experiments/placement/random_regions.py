"""Random geo problems: regions, sites and variants whose accuracy rises with model and data, as measured ones do."""

from __future__ import annotations

import numpy as np

from controller.planners.geo.compiled import compile_geo
from controller.planners.geo.problem import GeoProblem, GeoSite, GeoVariant, Region, Route
from controller.planners.geo.program import GeoProgram

REGIONS, SITES, MODELS, DATA = 5, 5, 4, 6
LEAST_INSTANCES = 10
"""At every site that the relaxation uses."""


def random_regions(seed: int) -> GeoProblem:
    """A problem of 5 regions, 5 sites and 24 variants, with ten instances or more at each site that is used.

    Rates are raised together until the relaxation has them.
    """
    rng = np.random.default_rng((5, seed))
    work_s = 0.004 * 3.0 ** np.arange(MODELS) * rng.uniform(0.8, 1.25, MODELS)
    size = 4e3 * 2.2 ** np.arange(DATA) * rng.uniform(0.9, 1.1, DATA)
    skill, detail = np.sort(rng.uniform(0.2, 1.0, MODELS)), np.sort(rng.uniform(0.3, 1.0, DATA))
    variants = tuple(
        GeoVariant(
            model=f"m{m}",
            data=f"d{d}",
            # Errors of a weak model and of poor data count as independent.
            accuracy=float(1.0 - 0.35 * (1.0 - skill[m]) - 0.45 * (1.0 - detail[d]) - 0.02),
            bytes=float(size[d]),
            service_s=float(work_s[m] * (0.7 + 0.3 * (d + 1) / DATA)),
        )
        for m in range(MODELS)
        for d in range(DATA)
    )
    place_r, place_i = rng.uniform(0.0, 1.0, (REGIONS, 2)), rng.uniform(0.0, 1.0, (SITES, 2))
    distance = np.linalg.norm(place_r[:, None] - place_i[None], axis=2)
    egress = rng.uniform(0.01, 0.15)
    best = max(v.accuracy for v in variants)
    problem = GeoProblem(
        name=f"random-{seed}",
        regions=tuple(
            Region(
                name=f"r{r}",
                rate_rps=float(rng.uniform(20.0, 200.0)),
                accuracy=float(rng.uniform(0.6, 0.98) * best),
                latency_s=float(rng.uniform(0.4, 1.2)),
            )
            for r in range(REGIONS)
        ),
        sites=tuple(GeoSite(name=f"s{i}", usd_per_hour=float(rng.uniform(0.08, 0.4))) for i in range(SITES)),
        routes=tuple(
            Route(
                region=f"r{r}",
                site=f"s{i}",
                rtt_s=float(0.01 + 0.15 * distance[r, i]),
                bytes_per_s=float(rng.uniform(1e6, 1e7)),
                usd_per_gb=float(egress * (0.2 + distance[r, i])),
            )
            for r in range(REGIONS)
            for i in range(SITES)
        ),
        variants=variants,
    )
    relaxed = GeoProgram(compile_geo(problem)).solve_relaxed()
    if relaxed is None:
        return problem
    by_site = relaxed[1].sum(axis=1)
    factor = LEAST_INSTANCES / min(1e9, by_site[by_site > 1e-6].min())
    regions = tuple(r.model_copy(update={"rate_rps": r.rate_rps * max(1.0, float(factor))}) for r in problem.regions)
    return problem.model_copy(update={"regions": regions})
