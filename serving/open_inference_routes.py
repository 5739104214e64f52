"""The endpoints of the Open Inference Protocol on the router; their messages are in `serving.open_inference`."""

import asyncio
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from controller.arrays import Bool
from serving.given import HeadersGiven, ShellGiven, retry_header
from serving.inference import Refusal, Shell, answer, class_of
from serving.open_inference import (
    CONFIDENCE,
    OUTPUT,
    Failure,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ProtocolError,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
    requests_of,
    response_of,
)

PREFIX = "/v2"
PLATFORM = "provisor"

router = APIRouter(prefix=PREFIX, tags=["Open Inference Protocol"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Failure}}
_FAILS: dict[int | str, dict[str, Any]] = {s: {"model": Failure} for s in (400, 404, 422, 500, 503, 504)}


@router.get("")
async def server_metadata() -> ServerMetadata:
    """Describes the server."""
    try:
        found = version("provisor")
    except PackageNotFoundError:  # shipped to a cluster as modules, without the package's metadata
        found = "unknown"
    return ServerMetadata(name="provisor", version=found, extensions=[])


@router.get("/health/live")
async def server_live() -> ServerLive:
    """Answers while the router runs."""
    return ServerLive(live=True)


@router.get("/health/ready", response_model=ServerReady, responses={503: {"model": ServerReady}})
async def server_ready(shell: ShellGiven) -> Response:
    """Whether every model has a version that serves."""
    is_ready = all(_is_ready(shell, name) for name in set(shell.tables.operators))
    return JSONResponse({"live": is_ready, "ready": is_ready}, 200 if is_ready else 503)


@router.get("/models/{name}", response_model=ModelMetadata, responses=_UNKNOWN)
async def model_metadata(name: str, shell: ShellGiven) -> Response | ModelMetadata:
    """Describes a model."""
    return _unknown(shell, name) or _metadata(shell, name)


@router.get("/models/{name}/versions/{variant}", response_model=ModelMetadata, responses=_UNKNOWN)
async def version_metadata(name: str, variant: str, shell: ShellGiven) -> Response | ModelMetadata:
    """Describes a model by one of its versions."""
    return _unknown(shell, name, variant) or _metadata(shell, name)


@router.get("/models/{name}/ready", response_model=ModelReady, responses={**_UNKNOWN, 503: {"model": ModelReady}})
async def model_ready(name: str, shell: ShellGiven) -> Response:
    """Whether a version of a model serves."""
    return _unknown(shell, name) or _readiness(shell, name, None)


@router.get(
    "/models/{name}/versions/{variant}/ready",
    response_model=ModelReady,
    responses={**_UNKNOWN, 503: {"model": ModelReady}},
)
async def version_ready(name: str, variant: str, shell: ShellGiven) -> Response:
    """Whether a version of a model serves."""
    return _unknown(shell, name, variant) or _readiness(shell, name, variant)


@router.post(
    "/models/{name}/infer", response_model=InferenceResponse, response_model_exclude_none=True, responses=_FAILS
)
async def infer(
    name: str, asked: InferenceRequest, shell: ShellGiven, headers: HeadersGiven
) -> Response | InferenceResponse:
    """Answers every row of a batch within the promise of the class that its parameters or headers ask for."""
    unknown = _unknown(shell, name)
    if unknown is not None:
        return unknown
    try:
        rows = requests_of(asked, name)
        refusal = class_of(shell, rows[0], headers)
        if isinstance(refusal, Refusal):
            return _failure(refusal)
        for at, row in enumerate(rows):
            if fault := shell.input_fault(row.input):
                raise ProtocolError(f"inputs: row {at}: {fault}")
        found = await asyncio.gather(*[answer(shell, row, headers) for row in rows])
        for at, one in enumerate(found):
            if isinstance(one, Refusal):
                return _failure(one, f"row {at}: ")
        return response_of(asked, name, [one for one in found if not isinstance(one, Refusal)])
    except ProtocolError as error:
        return JSONResponse({"error": str(error)}, 400)


@router.post("/models/{name}/versions/{variant}/infer", status_code=400, response_model=Failure, responses=_UNKNOWN)
async def infer_with_version(name: str, variant: str, shell: ShellGiven) -> Response:
    """Refuses: which versions answer follows from what a request tolerates."""
    text = f"expected {PREFIX}/models/{name}/infer: which versions answer is decided by request, got a version"
    return _unknown(shell, name, variant) or JSONResponse({"error": text}, 400)


def _variants(shell: Shell, name: str) -> list[int]:
    """Rows of the variants that answer a model's requests."""
    tables = shell.tables
    rows = [c for c, operator in enumerate(tables.operators) if operator == name]
    by_option = tables.may_answer[rows].any(axis=0)
    return [int(v) for v in np.flatnonzero(by_option.reshape(-1, tables.num_pools).any(axis=1))]


def _is_ready(shell: Shell, name: str, variant: str | None = None) -> bool:
    tables, rules = shell.tables, shell.rules
    has_call = tables.is_serverless & (rules.shares > 0.0).any(axis=0)
    serves: Bool = np.any((has_call | (rules.serving > 0)).reshape(-1, tables.num_pools), axis=1)
    chosen = _variants(shell, name) if variant is None else [tables.variant_names.index(variant)]
    return not shell.is_draining and bool(serves[chosen].any())


def _readiness(shell: Shell, name: str, variant: str | None) -> Response:
    is_ready = _is_ready(shell, name, variant)
    return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)


def _metadata(shell: Shell, name: str) -> ModelMetadata:
    width = shell.input_width
    inputs, outputs = [], []
    if width is not None:
        inputs = [TensorMetadata(name="input", datatype="FP64", shape=[-1, width])]
        outputs = [
            TensorMetadata(name=OUTPUT, datatype="INT64", shape=[-1]),
            TensorMetadata(name=CONFIDENCE, datatype="FP64", shape=[-1]),
        ]
    versions = [shell.tables.variant_names[v] for v in _variants(shell, name)]
    return ModelMetadata(name=name, versions=versions, platform=PLATFORM, inputs=inputs, outputs=outputs)


def _unknown(shell: Shell, name: str, variant: str | None = None) -> Response | None:
    """The answer for a model or version that there is not; None where there is one."""
    if name not in shell.tables.operators:
        return JSONResponse(
            {"error": f"model: expected one of {sorted(set(shell.tables.operators))}, got {name!r}"}, 404
        )
    known = [shell.tables.variant_names[v] for v in _variants(shell, name)]
    if variant is not None and variant not in known:
        return JSONResponse({"error": f"version: expected one of {known}, got {variant!r}"}, 404)
    return None


def _failure(refusal: Refusal, where: str = "") -> Response:
    return JSONResponse({"error": where + refusal.text}, refusal.status, retry_header(refusal))
