"""The Open Inference Protocol: tensors to requests and back, and what the endpoints answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.constraints import InferAnswer
from serving.open_inference import InferenceRequest, ProtocolError, requests_of, response_of, tensor
from tests.unit.serving.shells import served, shell_of
from tests.unit.serving.worlds import LARGE_OD


def tensor_of(data, shape, datatype="INT32", name="input"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def request_of(*inputs, **fields):
    return InferenceRequest.model_validate({"inputs": list(inputs), **fields})


def rows(*inputs, **parameters):
    return [one.input for one in requests_of(request_of(*inputs, parameters=parameters), "classify")]


@pytest.mark.parametrize(
    ("data", "shape", "expected"),
    [
        ([1, 2, 3], [3], [1, 2, 3]),
        ([1, 2, 3, 4], [2, 2], [[1, 2], [3, 4]]),
        ([[1, 2], [3, 4]], [2, 2], [[1, 2], [3, 4]]),
        ([1, 2, 3, 4], [1, 2, 2], [[[1, 2], [3, 4]]]),
        ([[[1], [2]], [[3], [4]]], [2, 2, 1], [[[1], [2]], [[3], [4]]]),
    ],
)
def test_rows_are_the_parts_of_the_first_axis_flat_or_nested(data, shape, expected):
    assert rows(tensor_of(data, shape)) == expected


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms())
def test_flat_and_nested_data_say_the_same(shape, random):
    count = 1
    for size in shape:
        count *= size
    flat = [random.randrange(100) for _ in range(count)]
    nested = rows(tensor_of(flat, shape))
    assert rows(tensor_of(nested, shape)) == nested
    assert tensor("input", nested).model_dump() == {"name": "input", "shape": shape, "datatype": "INT64", "data": flat}


def test_several_inputs_make_one_object_for_each_row():
    left, right = tensor_of([1, 2], [2], name="left"), tensor_of([True, False], [2], "BOOL", "right")
    assert rows(left, right) == [{"left": 1, "right": True}, {"left": 2, "right": False}]


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([tensor_of([1, 2, 3], [2])], "inputs[input].data: expected 2 elements for [2], got 3"),
        ([tensor_of([[1, 2], [3]], [2, 2])], "inputs[input].data: expected flat elements, or lists of 2 on axis 1"),
        ([tensor_of([[1], [2], [3]], [2, 1])], "expected 2 elements for [2, 1], got 3"),
        ([tensor_of([[1, [2]]], [1, 2])], "inputs[input].data: expected elements of INT32, got [2]"),
        ([tensor_of([1.5], [1])], "expected elements of INT32, got 1.5"),
        ([tensor_of([True], [1])], "expected elements of INT32, got True"),
        ([tensor_of([256], [1], "UINT8")], "expected elements of UINT8, got 256"),
        ([tensor_of([-1], [1], "UINT64")], "expected elements of UINT64, got -1"),
        ([tensor_of([1], [1], "BYTES")], "expected elements of BYTES, got 1"),
        ([tensor_of([None], [1], "FP32")], "expected elements of FP32, got None"),
        ([tensor_of([1], [1]), tensor_of([1], [1])], "inputs: expected distinct names"),
        ([tensor_of([1], [1]), tensor_of([1, 2], [2], name="b")], "inputs: expected shapes with the same first axis"),
    ],
)
def test_tensor_that_is_not_what_it_says_is_named(inputs, text):
    with pytest.raises(ProtocolError) as caught:
        rows(*inputs)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"inputs": []},
        {"inputs": [tensor_of([], [0])]},
        {"inputs": [tensor_of([1], [])]},
        {"inputs": [tensor_of([1], [1], "int32")]},
        {"inputs": [tensor_of([1], [True])]},
        {"inputs": [{"name": "input", "shape": [1], "datatype": "INT32"}]},
        {"inputs": [tensor_of([1], [1])], "id": 4},
    ],
)
def test_message_of_another_form_is_refused(value):
    with pytest.raises(ValidationError):
        InferenceRequest.model_validate(value)


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        ({"tolerance": 0.05}, {"tolerance": 0.05, "tolerance_is_relative": False}),
        ({"tolerance": "5%", "objective": "cost"}, {"tolerance": 0.05, "tolerance_is_relative": True}),
        ({"deadline_ms": 100, "binary_data_output": False}, {"deadline_ms": 100.0}),
        ({"request_class": "strict"}, {"request_class": "strict"}),
    ],
)
def test_parameters_state_the_tier(parameters, fields):
    (found,) = requests_of(request_of(tensor_of([1], [1]), parameters=parameters), "classify")
    assert {name: getattr(found, name) for name in fields} == fields
    assert found.task == "classify"


@pytest.mark.parametrize("parameters", [{"tolerance": "lots"}, {"tolerance": True}, {"objective": "speed"}])
def test_wrong_parameters_are_named(parameters):
    with pytest.raises(ProtocolError, match=f"parameters.{next(iter(parameters))}: "):
        requests_of(request_of(tensor_of([1], [1]), parameters=parameters), "classify")


@pytest.mark.parametrize(
    ("values", "shape", "datatype", "data"),
    [
        ([1, 2], [2], "INT64", [1, 2]),
        ([1, 2.5], [2], "FP64", [1, 2.5]),
        ([True, False], [2], "BOOL", [True, False]),
        ([[1, 2], [3, 4]], [2, 2], "INT64", [1, 2, 3, 4]),
        (["a", "b"], [2], "BYTES", ["a", "b"]),
        ([{"a": 1}, None], [2], "BYTES", ['{"a": 1}', "null"]),
        ([[1], [2, 3]], [2], "BYTES", ["[1]", "[2, 3]"]),
        ([True, 1], [2], "BYTES", ["true", "1"]),
        ([1 << 70], [1], "BYTES", [str(1 << 70)]),
        ([[], []], [2], "BYTES", ["[]", "[]"]),
    ],
)
def test_outputs_are_numbers_text_or_json(values, shape, datatype, data):
    found = tensor("output", values)
    assert (found.shape, found.datatype, found.data) == (shape, datatype, data)


def answer_of(**fields):
    base = {"output": 3, "request_class": "c", "variant": "v", "pool": "p", "accuracy": 0.9, "latency_ms": 1.0}
    return InferAnswer(**(base | {"attempts": 1, "variants": ["v"]} | fields))


def test_confidence_is_an_output_where_every_row_tells_one():
    asked = request_of(tensor_of([1, 2], [2]), id="7")
    told = response_of(asked, "m", [answer_of(confidence=0.5), answer_of(confidence=0.25)])
    assert [(one.name, one.data) for one in told.outputs] == [("output", [3, 3]), ("confidence", [0.5, 0.25])]
    untold = response_of(asked, "m", [answer_of(confidence=0.5), answer_of()])
    assert [one.name for one in untold.outputs] == ["output"]
    assert (told.id, told.model_name) == ("7", "m")


def test_only_outputs_that_are_asked_for_are_given():
    answers = [answer_of(confidence=0.5)]
    asked = request_of(tensor_of([1], [1]), outputs=[{"name": "confidence"}])
    assert [one.name for one in response_of(asked, "m", answers).outputs] == ["confidence"]
    asked = request_of(tensor_of([1], [1]), outputs=[{"name": "logits"}])
    with pytest.raises(ProtocolError, match="outputs: expected some of"):
        response_of(asked, "m", answers)


@pytest.fixture
def client():
    with served(shell_of(share=0.0)) as client:
        yield client


def infer(client, data, shape, datatype="INT64", path="/v2/models/classify/infer", headers=None, **fields):
    body = {"inputs": [tensor_of(data, shape, datatype)], **fields}
    return client.post(path, json=body, headers=headers)


def test_every_row_is_a_request_of_its_own(client):
    answer = infer(client, [1, 3], [2], parameters={"tolerance": 0.05}, id="42")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["id"], body["model_name"]) == ("42", "classify")
    assert "model_version" not in body
    output, confidence = body["outputs"]
    assert output == {"name": "output", "shape": [2], "datatype": "BYTES", "data": ["even", "odd"]}
    assert (confidence["datatype"], confidence["data"]) == ("FP64", [0.25, 0.75])
    parameters = body["parameters"]
    assert (parameters["request_class"], parameters["variant"]) == ("relaxed", "large,small")
    assert parameters["variants"] == "small+large,small"
    assert (parameters["tolerance"], parameters["bound"], parameters["bound_confidence"]) == (0.05, 0.04, 0.999)
    assert len(parameters["request_ids"].split(",")) == 2


def test_headers_state_the_tier_here_too(client):
    answer = infer(client, [3], [1], headers={"X-Tolerance": "0.05"})
    assert answer.json()["parameters"]["request_class"] == "relaxed"
    assert infer(client, [3], [1]).json()["parameters"]["request_class"] == "strict"


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ({"path": "/v2/models/paint/infer"}, 404, "model: expected one of ['classify'], got 'paint'"),
        ({"path": "/v2/models/classify/versions/small/infer"}, 400, "which versions answer is decided by request"),
        ({"path": "/v2/models/classify/versions/huge/infer"}, 404, "version: expected one of ['small', 'large']"),
        ({"datatype": "INT"}, 400, "inputs.0.datatype: "),
        ({"shape": [3]}, 400, "expected 3 elements"),
        ({"parameters": {"tolerance": 0.01}}, 422, "relaxed: tolerance 0.05"),
        ({"headers": {"X-Tolerance": "lots"}}, 422, "X-Tolerance: expected points"),
        ({"outputs": [{"name": "logits"}]}, 400, "outputs: expected some of"),
    ],
)
def test_errors_have_one_text_and_a_status(client, given, status, text):
    answer = infer(client, **({"data": [1], "shape": [1]} | given))
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert text in answer.json()["error"]


def test_body_that_is_no_json_is_an_error_of_the_protocol(client):
    answer = client.post("/v2/models/classify/infer", content="{", headers={"content-type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_unknown_paths_and_methods_are_errors_of_the_protocol(client):
    for answer in (client.get("/v2/nothing"), client.get("/v2/models/classify/infer")):
        assert answer.status_code in (404, 405)
        assert list(answer.json()) == ["error"]
    assert list(client.get("/v1/nothing").json()) == ["detail"]


def test_metadata_and_health_are_those_of_the_protocol(client):
    server = client.get("/v2").json()
    assert (server["name"], server["extensions"], set(server)) == ("provisor", [], {"name", "version", "extensions"})
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    model = client.get("/v2/models/classify").json()
    assert model == {
        "name": "classify",
        "versions": ["small", "large"],
        "platform": "provisor",
        "inputs": [],
        "outputs": [],
    }
    assert client.get("/v2/models/classify/versions/large").json() == model
    assert client.get("/v2/models/classify/ready").json() == {"name": "classify", "ready": True}
    assert client.get("/v2/models/classify/versions/large/ready").json() == {"name": "classify", "ready": True}
    for path in ("/v2/models/paint", "/v2/models/paint/ready", "/v2/models/classify/versions/huge/ready"):
        answer = client.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_what_does_not_serve_is_not_ready():
    with served(shell_of(), serving={LARGE_OD: 1}) as client:
        assert client.get("/v2/models/classify/ready").status_code == 200
        answer = client.get("/v2/models/classify/versions/small/ready")
        assert (answer.status_code, answer.json()) == (503, {"name": "classify", "ready": False})
    shell = shell_of()
    shell.is_draining = True
    with served(shell) as client:
        answer = client.get("/v2/health/ready")
        assert (answer.status_code, answer.json()) == (503, {"live": False, "ready": False})
