"""Functions of a run: made once with the replicas' artefact, kept up to date, found by their tag, deleted."""

import io
import json
import zipfile

import pytest

from controller.errors import ConfigError
from controller.scenario import load_scenario
from serving import zoo
from serving.aws import function_package
from serving.aws.faults import AwsError
from serving.aws.function_package import package
from serving.aws.functions import function_name, wanted_functions
from serving.bring_your_own import ModelSpec

OWN = "tests.cloud.own_models"


def names_in(packed):
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return set(archive.namelist())


def test_package_holds_the_replicas_artefact_and_is_the_same_every_time():
    weights = zoo.load_or_train(["digits-small"])["digits-small"].weights
    spec = ModelSpec("digits-small", zoo_weights=weights)
    packed = package(spec)
    assert packed == package(spec)
    assert names_in(packed) == {"function_handler.py", "model.json", "digit_model.py", "weights.safetensors"}
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read("weights.safetensors") == weights


def test_package_of_a_users_model_holds_its_package():
    found = names_in(package(ModelSpec("own", reference=f"{OWN}:Parity")))
    assert {"function_handler.py", "model_object.py", "tests/cloud/own_models.py"} <= found
    assert not any("__pycache__" in name for name in found)


def test_model_without_a_file_and_package_that_is_too_large_are_told(monkeypatch):
    with pytest.raises(ConfigError, match=r"models\.own: expected a module sys with a file to pack"):
        package(ModelSpec("own", reference="sys:exit"))
    monkeypatch.setattr(function_package, "MOST_BYTES", 10)
    with pytest.raises(ConfigError, match=r"models\.own: expected a package of at most 10 bytes"):
        package(ModelSpec("own", reference=f"{OWN}:Parity"))


def test_functions_are_one_for_each_variant_and_memory():
    catalog = load_scenario("demo").load_catalog()
    wanted = wanted_functions("r", catalog)
    assert {(one.variant, one.memory_mb) for one in wanted} == {
        (variant.name, 3008) for variant in catalog.variants if variant.name != "none"
    }
    assert len({one.name for one in wanted}) == len(wanted)


def test_long_names_are_cut_and_told_apart():
    one, other = (function_name("0123456789ab", "v" * 60 + end, 1769) for end in "ab")
    assert len(one) == len(other) == 64
    assert one != other


@pytest.mark.slow
def test_function_is_made_once_and_changed_only_where_it_differs(account):
    one = account.digits()
    assert [name for name, _ in account.calls] == ["create_function"]
    account.digits()
    assert [name for name, _ in account.calls] == ["create_function", "create_function"]
    spec = ModelSpec("own", reference=f"{OWN}:Parity")
    account.functions().ensure([one], {"digits-small": package(spec)})
    assert account.calls[-1][0] == "update_function_code"
    account.terms = account.terms.model_copy(
        update={"functions": account.terms.functions.model_copy(update={"timeout_s": 7})}
    )
    account.functions().ensure([one], {"digits-small": package(spec)})
    assert account.calls[-1][0] == "update_function_configuration"
    assert account.service.configuration(one.name)["Timeout"] == 7


@pytest.mark.slow
def test_function_of_another_run_is_neither_touched_nor_deleted(account):
    one = account.digits()
    account.service._functions[one.name].tags = {"provisor:run": "another"}
    with pytest.raises(AwsError, match="not tagged as this run's"):
        account.digits()
    assert account.functions().forget() == []
    assert account.service.names() == [one.name]


@pytest.mark.slow
def test_all_functions_of_a_run_are_deleted_however_many(account, monkeypatch):
    monkeypatch.setattr("experiments.cloud.lambda_stand_in._PAGE", 2)
    spec = package(ModelSpec("own", reference=f"{OWN}:Parity"))
    wanted = [account.wanted("own", memory) for memory in (128, 256, 512, 1024, 2048)]
    account.functions().ensure(wanted, {"own": spec})
    assert account.functions().forget() == sorted(one.name for one in wanted)
    assert account.service.names() == []


@pytest.mark.slow
def test_dry_run_tells_the_calls_and_makes_none(account):
    spec = package(ModelSpec("own", reference=f"{OWN}:Parity"))
    account.functions(is_dry=True).ensure([account.wanted("own")], {"own": spec})
    assert [name for name, _ in account.calls] == ["create_function"]
    assert account.service.names() == []


@pytest.mark.slow
def test_function_answers_as_the_replica_does(account):
    one = account.digits("digits-large")
    _, _, images, _ = zoo.images()
    rows = [row.tolist() for row in images[:50]]
    answer = account.client().invoke(FunctionName=one.name, Payload=json.dumps({"inputs": rows}).encode())
    model = zoo.classifier("digits-large", zoo.load_or_train(["digits-large"])["digits-large"].weights)
    assert json.loads(answer["Payload"].read())["outputs"] == model(rows)
