"""The Open Inference Protocol (KServe V2) over REST: its messages, and how they become requests of ours and back.

A model is an operator; which version answers is decided by request, so none can be asked for. The first axis of every
input is the batch, and each of its rows is a request of its own: it waits, escalates and is audited by itself. A model
gets the row of the only input, or an object of rows by name where there are several.

Source:
    https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md and
    open_inference_rest.yaml. Tensor types: kserve, docs/predict-api/v2/required_api.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.errors import mismatch
from serving.constraints import ImpossibleError, InferAnswer
from serving.model_object import plain
from serving.tier_request import TieredRequest, read_tolerance

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
Parameters = dict[str, str | bool | int | float]
OUTPUT, CONFIDENCE = "output", "confidence"
MOST_AXES = 16
ASKED = ("tolerance", "tolerance_is_relative", "objective", "deadline_ms", "request_class")
"""Parameters of a request that are read; others mean nothing here."""

_WIDEST = (1 << 64) - 1


class ProtocolError(Exception):
    """A message that says what cannot be; answered with status 400."""


class RequestInput(BaseModel):
    """One input tensor."""

    model_config = ConfigDict(strict=True)

    name: str
    shape: list[Annotated[int, Field(ge=1, le=_WIDEST)]] = Field(min_length=1, max_length=MOST_AXES)
    datatype: Datatype
    parameters: Parameters | None = None
    data: list[Any] = Field(description="row-major, flat or nested")


class RequestOutput(BaseModel):
    """An output that is asked for."""

    model_config = ConfigDict(strict=True)

    name: str
    parameters: Parameters | None = None


class InferenceRequest(BaseModel):
    """Body of an inference."""

    model_config = ConfigDict(strict=True)

    id: str | None = None
    parameters: Parameters | None = Field(default=None, description=f"read are {', '.join(ASKED)}")
    inputs: list[RequestInput] = Field(min_length=1)
    outputs: list[RequestOutput] | None = None


class ResponseOutput(BaseModel):
    """One output tensor."""

    name: str
    shape: list[int]
    datatype: Datatype
    data: list[Any]


class InferenceResponse(BaseModel):
    """Body of an answer. It names no version: rows of one batch may be answered by several."""

    model_name: str
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[ResponseOutput]


class TensorMetadata(BaseModel):
    """A tensor as the metadata of a model tells it; -1 is an axis of any size."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(BaseModel):
    """Metadata of a model."""

    name: str
    versions: list[str] = Field(description="that answer, in the order of the catalog")
    platform: str
    inputs: list[TensorMetadata] = Field(description="empty where the model takes what its user says")
    outputs: list[TensorMetadata] = Field(description="empty where the model answers what its user says")


class ServerMetadata(BaseModel):
    """Metadata of the server."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Whether the server takes requests."""

    live: bool


class ServerReady(BaseModel):
    """Whether all models are ready. The specification's text names the field `live`, its clients read `ready`."""

    live: bool
    ready: bool


class ModelReady(BaseModel):
    """Whether a model is ready."""

    name: str
    ready: bool


class Failure(BaseModel):
    """Body of every error."""

    error: str


def requests_of(asked: InferenceRequest, model: str) -> list[TieredRequest]:
    """One request of ours for each row of the batch.

    Raises:
        ProtocolError: Tensors that are not what they say, or parameters that cannot be.
    """
    names = [one.name for one in asked.inputs]
    if len(set(names)) != len(names):
        raise ProtocolError(mismatch("inputs", "distinct names", names))
    sizes = {one.name: one.shape[0] for one in asked.inputs}
    if len(set(sizes.values())) > 1:
        raise ProtocolError(mismatch("inputs", "shapes with the same first axis, the batch", sizes))
    columns = [_rows(one) for one in asked.inputs]
    rows = columns[0]
    if len(columns) > 1:
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    stated = _stated(asked.parameters or {})
    try:
        first = TieredRequest(input=None, task=model, **stated)
    except ValidationError as error:
        faults = [f"parameters.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ProtocolError("; ".join(faults)) from error
    return [first.model_copy(update={"input": row}) for row in rows]


def response_of(asked: InferenceRequest, model: str, answers: Sequence[InferAnswer]) -> InferenceResponse:
    """The answers of all rows as one message.

    Its parameters list `variant`, `variants` and `request_ids` by row, with commas between rows and `+` between the
    versions that answered one.

    Raises:
        ProtocolError: An output is asked for that there is not.
    """
    outputs = {OUTPUT: tensor(OUTPUT, [plain(one.output) for one in answers])}
    if all(one.confidence is not None for one in answers):
        outputs[CONFIDENCE] = tensor(CONFIDENCE, [float(one.confidence or 0.0) for one in answers])
    wanted = list(outputs) if not asked.outputs else [one.name for one in asked.outputs]
    for name in wanted:
        if name not in outputs:
            raise ProtocolError(mismatch("outputs", f"some of {list(outputs)}", name))
    first = answers[0]
    parameters: Parameters = {
        "request_class": first.request_class,
        "variant": ",".join(one.variant for one in answers),
        "variants": ",".join("+".join(one.variants) for one in answers),
    }
    if first.tier is not None:
        tier = first.tier.model_dump()
        parameters |= {"tolerance": tier["tolerance"], "tolerance_is_relative": tier["is_relative"]}
        parameters |= {"objective": tier["objective"], "bound": tier["bound"], "bound_confidence": tier["confidence"]}
        parameters |= {"is_demoted": tier["is_demoted"]}
        parameters |= {"request_ids": ",".join(one.request_id or "" for one in answers)}
    return InferenceResponse(
        model_name=model, id=asked.id, parameters=parameters, outputs=[outputs[name] for name in dict.fromkeys(wanted)]
    )


def tensor(name: str, values: Sequence[Any]) -> ResponseOutput:
    """Values of all rows as one tensor: numbers of one shape as they are, text as BYTES, all else as JSON in BYTES."""
    shape = _shape(values)
    flat = _flat(values, len(shape or ()))
    kinds = {type(value) for value in flat}
    if shape is not None and flat and kinds <= {bool, int, float}:
        datatype: Datatype = "BOOL" if kinds == {bool} else "INT64" if kinds == {int} else "FP64"
        is_exact = (bool in kinds) == (kinds == {bool}) and all(abs(v) < 1 << 63 for v in flat if type(v) is int)
        if is_exact:
            return ResponseOutput(name=name, shape=shape, datatype=datatype, data=flat)
    if shape is not None and kinds == {str}:
        return ResponseOutput(name=name, shape=shape, datatype="BYTES", data=flat)
    texts = [value if isinstance(value, str) else json.dumps(value, default=str) for value in values]
    return ResponseOutput(name=name, shape=[len(values)], datatype="BYTES", data=texts)


def _stated(parameters: Parameters) -> dict[str, Any]:
    """Fields of our request that parameters state; a tolerance may be text, as in the header."""
    fields: dict[str, Any] = {name: parameters[name] for name in ASKED if name in parameters}
    tolerance = fields.get("tolerance")
    if isinstance(tolerance, str):
        try:
            fields["tolerance"], is_relative = read_tolerance(tolerance)
        except ImpossibleError as error:
            raise ProtocolError(f"parameters.{error}".replace("X-Tolerance", "tolerance")) from error
        fields.setdefault("tolerance_is_relative", is_relative)
    return fields


def _rows(one: RequestInput) -> list[Any]:
    """Rows of a tensor, nested by the axes after the first."""
    where = f"inputs[{one.name}]"
    data = _unnested(one, where) if any(isinstance(value, list) for value in one.data) else one.data
    if len(data) != math.prod(one.shape):
        raise ProtocolError(mismatch(f"{where}.data", f"{math.prod(one.shape)} elements for {one.shape}", len(data)))
    for value in data:
        if not _is_of(value, one.datatype):
            raise ProtocolError(mismatch(f"{where}.data", f"elements of {one.datatype}", value))
    for size in reversed(one.shape[1:]):
        data = [data[at : at + size] for at in range(0, len(data), size)]
    return data


def _unnested(one: RequestInput, where: str) -> list[Any]:
    data = one.data
    for axis, size in enumerate(one.shape[1:], 1):
        if any(not isinstance(part, list) or len(part) != size for part in data):
            raise ProtocolError(f"{where}.data: expected flat elements, or lists of {size} on axis {axis} of its shape")
        data = [value for part in data for value in part]
    return data


def _is_of(value: Any, datatype: str) -> bool:
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if datatype.startswith("FP"):
        return True
    bits = int(datatype.lstrip("UINT"))
    low, high = (0, 1 << bits) if datatype.startswith("U") else (-(1 << bits - 1), 1 << bits - 1)
    return isinstance(value, int) and low <= value < high


def _shape(values: Any) -> list[int] | None:
    """Shape of nested lists; None where they are ragged."""
    if not isinstance(values, list | tuple):
        return []
    inner = [_shape(value) for value in values]
    if not inner or any(one is None or one != inner[0] for one in inner):
        return None if inner else [0]
    return [len(values), *(inner[0] or [])]


def _flat(values: Any, axes: int) -> list[Any]:
    for _ in range(axes - 1):
        values = [value for part in values for value in part]
    return list(values)
