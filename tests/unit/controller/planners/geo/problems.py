"""Geo problems small enough to be worked by hand."""

from controller.planners.geo.problem import GeoProblem, GeoSite, GeoVariant, Region, Route

GB_PER_HOUR_BYTES = 1e9 / 3600.0
"""Size of a request of which one a second is one GB an hour."""


def two_sites(usd_per_gb: float = 0.01, **changes) -> GeoProblem:
    """A region of 100 requests/s, a site nearby at $1 and one far away at $0.5, all links at one price.

    Small on full data and large on little data both reach 0.9, small on little 0.8, large on full 0.95. An instance
    serves 10 requests/s of small and 5 of large in its planned time.
    """
    fields = {
        "name": "two-sites",
        "utilisation": 0.5,
        "regions": (Region(name="home", rate_rps=100.0, accuracy=0.9, latency_s=1.0),),
        "sites": (GeoSite(name="near", usd_per_hour=1.0), GeoSite(name="far", usd_per_hour=0.5)),
        "routes": (
            Route(region="home", site="near", rtt_s=0.01, bytes_per_s=1e7, usd_per_gb=usd_per_gb),
            Route(region="home", site="far", rtt_s=0.2, bytes_per_s=1e7, usd_per_gb=usd_per_gb),
        ),
        "variants": tuple(
            GeoVariant(model=model, data=data, accuracy=accuracy, bytes=size * GB_PER_HOUR_BYTES, service_s=service_s)
            for model, data, accuracy, size, service_s in (
                ("small", "full", 0.9, 1.0, 0.05),
                ("small", "little", 0.8, 0.25, 0.05),
                ("large", "full", 0.95, 1.0, 0.1),
                ("large", "little", 0.9, 0.25, 0.1),
            )
        ),
    }
    return GeoProblem(**{**fields, **changes})
