"""What the router answers over HTTP: requests, tiers, feedback and metrics, and the Open Inference Protocol."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serving import open_inference_routes
from serving.constraints import InferAnswer
from serving.exposition import exposition, router_families
from serving.given import HeadersGiven, ShellGiven, retry_header
from serving.inference import Refusal, answer
from serving.tier_list import TierEntry, tier_entries
from serving.tier_request import TieredRequest

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

app = FastAPI(title="Provisor", docs_url=None, redoc_url=None)


class Refused(BaseModel):
    """Body of a refusal."""

    detail: Any = Field(description="why: a sentence, or a list of wrong fields")
    outcome: str | None = Field(default=None, description="what became of a request that could have been served")


class Feedback(BaseModel):
    """Body of `POST /v1/feedback`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: str = Field(max_length=64, description="`request_id` of an answer")
    output: Any = Field(description="the right answer, in the form of the answer's `output`")


class FeedbackAnswer(BaseModel):
    """Whether a right answer is of use."""

    is_used: bool = Field(description="the request was audited, and its right answer was not known yet")


class Tiers(BaseModel):
    """Body of `GET /v1/tiers`."""

    tiers: list[TierEntry]


_REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": Refused} for status in (400, 422, 500, 503, 504)}


@app.post("/v1/infer", response_model=InferAnswer, responses=_REFUSALS)
async def infer(asked: TieredRequest, shell: ShellGiven, headers: HeadersGiven) -> Response | InferAnswer:
    """Answers one request within its class's promise."""
    found = await answer(shell, asked, headers)
    if not isinstance(found, Refusal):
        return found
    body = {"detail": found.text} | ({"outcome": found.outcome} if found.outcome else {})
    return JSONResponse(body, found.status, retry_header(found))


@app.get("/v1/tiers")
async def tiers(shell: ShellGiven) -> Tiers:
    """The tiers on offer and their guarantees."""
    return Tiers(tiers=tier_entries(shell))


@app.post("/v1/feedback", responses={400: {"model": Refused}, 422: {"model": Refused}})
async def feedback(told: Feedback, shell: ShellGiven) -> FeedbackAnswer:
    """Takes the right answer of a request of a tier, so that its degradation is tested and not only seen to differ."""
    return FeedbackAnswer(is_used=shell.told(told.request_id, told.output))


@app.get("/metrics", response_class=Response, responses={200: {"content": {METRICS_CONTENT_TYPE: {}}}})
async def metrics(shell: ShellGiven) -> Response:
    """Prometheus text."""
    text = exposition(router_families(shell.reading(), shell.tables))
    return Response(text, media_type=METRICS_CONTENT_TYPE)


@app.get("/healthz")
async def health() -> dict[str, str]:
    """Answers while the router runs."""
    return {"status": "ok"}


@app.exception_handler(HTTPException)
async def wrong_request(request: Request, error: HTTPException) -> Response:
    """What cannot be read or is not there, in the words of the protocol that was spoken."""
    name = "error" if _is_protocol(request) else "detail"
    return JSONResponse({name: error.detail}, error.status_code, error.headers)


@app.exception_handler(RequestValidationError)
async def wrong_body(request: Request, error: RequestValidationError) -> Response:
    """Names every wrong field, in the words of the protocol that was spoken."""
    faults = [{"loc": list(one["loc"]), "msg": one["msg"], "type": one["type"]} for one in error.errors()]
    if not _is_protocol(request):
        return JSONResponse({"detail": faults}, status_code=422)
    text = "; ".join(f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in faults)
    return JSONResponse({"error": text[:1000]}, status_code=400)


def _is_protocol(request: Request) -> bool:
    """Whether the Open Inference Protocol was spoken, under whatever prefix Serve routes to us."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")).startswith(open_inference_routes.PREFIX)


app.include_router(open_inference_routes.router)
