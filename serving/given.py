"""What every endpoint of the router is given: the router that this process runs, and the tier that headers state."""

from typing import Annotated, Any

from fastapi import Depends, Header
from ray import serve

from serving.inference import Refusal, Shell, TierHeaders


async def the_shell() -> Shell:
    """The router that this process runs."""
    found: Any = serve.get_replica_context().servable_object
    shell: Shell = found
    return shell


async def tier_headers(
    tolerance: Annotated[
        str | None,
        Header(alias="X-Tolerance", description="0.01: points as a fraction of 1; 5%: of the best version's error"),
    ] = None,
    objective: Annotated[str | None, Header(alias="X-Objective", description="response_time or cost")] = None,
    deadline_ms: Annotated[str | None, Header(alias="X-Deadline-Ms", description="milliseconds > 0")] = None,
) -> TierHeaders:
    """The tier that headers state."""
    return TierHeaders(tolerance, objective, deadline_ms)


ShellGiven = Annotated[Shell, Depends(the_shell)]
HeadersGiven = Annotated[TierHeaders, Depends(tier_headers)]


def retry_header(refusal: Refusal) -> dict[str, str] | None:
    """When to come again, where that helps."""
    return None if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
