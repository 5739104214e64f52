import subprocess
import sys

import numpy as np
import pytest

from controller.errors import ConfigError, RunError
from serving import zoo
from serving.bring_your_own import ModelSpec, model_specs
from serving.model_object import answers_of, run_model


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVISOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        first = zoo.load_or_train()
        yield first, zoo.load_or_train()


def test_ladder_gains_accuracy_from_rung_to_rung(ladder):
    accuracies = [one.accuracy for one in ladder[0].values()]
    # Held-out accuracies near 0.87, 0.97 and 0.98; one standard error is 0.01 to 0.02.
    assert accuracies == sorted(accuracies)
    assert accuracies[0] > 0.8
    assert accuracies[2] > 0.95


def test_stored_weights_are_read_back_and_not_trained_again(ladder):
    first, again = ladder
    for name in zoo.LADDER:
        assert first[name].train_s > 0
        assert again[name].train_s == 0
        assert again[name].weights == first[name].weights


def test_damaged_weights_are_trained_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVISOR_CACHE", str(tmp_path))
    stored = zoo.load_or_train(["digits-small"])["digits-small"]
    file = next(tmp_path.rglob("weights.safetensors"))
    file.write_bytes(stored.weights[:-1])
    again = zoo.load_or_train(["digits-small"])["digits-small"]
    assert again.train_s > 0
    assert again.weights == stored.weights


def test_classifier_answers_held_out_images_as_well_as_it_was_measured(ladder):
    trained = ladder[0]["digits-medium"]
    _, _, images, digits = zoo.images()
    answers = zoo.classifier("digits-medium", trained.weights)([row.tolist() for row in images])
    assert np.mean(np.array(answers) == digits) == trained.accuracy


def test_resizing_averages_areas():
    # Each of the four pixels of a 2 x 2 image is the mean of a 4 x 4 block.
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    blocks = image.reshape(2, 4, 2, 4).mean(axis=(1, 3)).reshape(-1)
    assert image.reshape(-1) @ zoo.resize_matrix(2) == pytest.approx(blocks)
    assert np.ones(64, np.float32) @ zoo.resize_matrix(5) == pytest.approx(np.ones(25), abs=1e-5)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([0] * 64, ""),
        ([16.0] * 64, ""),
        ([0] * 63, "expected a list of 64 numbers"),
        ("x", "expected a list of 64 numbers"),
        ([0] * 63 + [17], "[63]: expected a number in 0..16, got '17'"),
        ([True] + [0] * 63, "[0]: expected a number"),
        ([float("nan")] + [0] * 63, "[0]: expected a number"),
    ],
)
def test_input_fault_names_what_is_wrong(value, fault):
    found = zoo.input_fault(value)
    assert found.startswith(fault) if fault else found == ""


def test_unknown_model_is_refused():
    with pytest.raises(RunError, match="expected one of"):
        zoo.load_or_train(["digits-huge"])


def doubled(batch):
    return [2 * x for x in batch]


def test_callable_of_the_user_is_a_model(monkeypatch):
    spec = ModelSpec("mine", reference=f"{__name__}:doubled")
    assert run_model(spec.load(), [1, 2]) == [2, 4]
    assert spec.input_fault({"any": "json"}) == ""


def test_model_with_another_number_of_outputs_is_refused():
    with pytest.raises(ValueError, match="expected 2 outputs, got 1"):
        run_model(lambda batch: batch[:1], [1, 2])


def test_model_that_tells_no_confidence_has_none():
    assert answers_of(doubled, [1, 2]) == [(2, None), (4, None)]


class Sure:
    def __init__(self, *confidences):
        self.confidences = confidences

    def __call__(self, batch):
        raise AssertionError("its answers are asked for with their confidence")

    def with_confidence(self, batch):
        return np.array(batch), np.array(self.confidences)


def test_model_tells_its_confidence():
    assert answers_of(Sure(0.0, 1.0), [7, 8]) == [(7, 0.0), (8, 1.0)]


@pytest.mark.parametrize(
    ("confidences", "fault"),
    [((0.5,), "expected 2 confidences, got 1"), ((0.5, 1.1), "within 0..1, got 1.1"), ((0.5, np.nan), "got nan")],
)
def test_wrong_confidences_are_refused(confidences, fault):
    with pytest.raises(ValueError, match=fault):
        answers_of(Sure(*confidences), [1, 2])


def test_ladder_is_as_sure_as_it_is_right(ladder):
    _, _, images, digits = zoo.images()
    batch = [row.tolist() for row in images]
    model = zoo.classifier("digits-small", ladder[0]["digits-small"].weights)
    answers = answers_of(model, batch)
    assert [answer.output for answer in answers] == model(batch)
    confidence = np.array([answer.confidence for answer in answers])
    assert confidence.min() >= 0.1  # the largest of ten probabilities
    assert confidence.max() <= 1.0
    is_right = np.array([answer.output for answer in answers]) == digits
    # A cascade lives on this: the surer half is right more often.
    half = np.median(confidence)
    assert is_right[confidence >= half].mean() > is_right[confidence < half].mean() + 0.1


@pytest.mark.parametrize("reference", ["nowhere:f", "serving.zoo:DIGITS", "serving.zoo:nothing", "serving.zoo"])
def test_reference_that_names_no_callable_is_refused(reference):
    with pytest.raises(ConfigError, match="models.mine"):
        ModelSpec("mine", reference=reference).load()


def test_variant_without_a_model_is_named():
    with pytest.raises(ConfigError, match="models.resnet"):
        model_specs(["resnet"], {})
    with pytest.raises(ConfigError, match="got 'other'"):
        model_specs(["resnet"], {"other": "a:b"})


def test_replica_of_the_ladder_loads_no_heavy_library(ladder, tmp_path):
    (tmp_path / "weights").write_bytes(ladder[0]["digits-large"].weights)
    code = (
        "import sys\n"
        "from serving.bring_your_own import ModelSpec\n"
        "from serving.replica import loaded\n"
        f"weights = open({str(tmp_path / 'weights')!r}, 'rb').read()\n"
        "assert loaded(ModelSpec('digits-large', zoo_weights=weights))([[0.0] * 64])[0] in range(10)\n"
        "heavy = {'torch', 'numba', 'sklearn', 'gymnasium', 'stable_baselines3'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
