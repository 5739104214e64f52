"""Collage networks as replicas run them, without torch: the same answers as those that were trained."""

import json

import numpy as np
import pytest
import torch

from controller.errors import ConfigError
from experiments.collage.data import collage
from experiments.collage.model import CollageNet, Design, designs
from experiments.collage.training import export
from serving.bring_your_own import model_specs
from serving.collage_model import CollageModel, read_weights


def exported(tmp_path, design, task="digits"):
    """A network of random weights, and its manifest."""
    torch.manual_seed(3)
    net = CollageNet(design)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(layer.weight, 0.5, 2.0)
            torch.nn.init.uniform_(layer.bias, -0.5, 0.5)
    path = tmp_path / "net.json"
    export(net.eval(), path, {"task": task})
    return net.eval(), path


CASES = [
    ("digits", designs("digits", 2)["full"]),
    ("digits", designs("digits", 3)["full"]),
    ("fashion", designs("fashion", 2)["full"]),
    ("fashion", designs("fashion", 3)["shrunk"]),
]


@pytest.mark.parametrize(("task", "design"), CASES, ids=[f"{task} {design.w}" for task, design in CASES])
def test_pass_gives_what_the_trained_network_gives(tmp_path, task, design):
    net, path = exported(tmp_path, design, task)
    model = model_specs(["many"], {"many": str(path)})[0]["many"].load()
    largest = 16.0 if task == "digits" else 255.0
    pixels = torch.rand(2, design.cells, design.side, design.side, generator=torch.Generator().manual_seed(1))
    pixels[1, design.cells // 2 :] = 0.0  # a group that did not fill up
    classes, confidence = net.classify(collage(pixels))
    images = (pixels * largest).flatten(2).tolist()
    outputs, told = model.with_confidence([images[0], images[1][: design.cells // 2]])
    assert [len(row) for row in outputs] == [design.cells, design.cells // 2]
    assert outputs[0] == classes[0].tolist()
    assert outputs[1] == classes[1, : design.cells // 2].tolist()
    np.testing.assert_allclose(told[0], confidence[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(told[1], confidence[1, : design.cells // 2].numpy(), atol=1e-4)


def test_single_image_network_answers_images_one_by_one(tmp_path):
    net, path = exported(tmp_path, designs("digits", 1)["single"])
    pixels = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    classes, confidence = net.classify(pixels)
    outputs, told = CollageModel(read_weights(path)).with_confidence((pixels * 16.0).flatten(1).tolist())
    assert outputs == classes[:, 0].tolist()
    np.testing.assert_allclose(told, confidence[:, 0].numpy(), atol=1e-4)


def test_networks_say_which_inputs_they_take(tmp_path):
    _, path = exported(tmp_path, Design(2, 28, 28, (4,), is_strided=True), "fashion")
    spec = model_specs(["many"], {"many": str(path)})[0]["many"]
    assert spec.input_width == 784
    assert spec.input_fault([255] * 784) == ""
    assert spec.input_fault([256] * 784) == "[0]: expected a number in 0..255, got '256'"
    assert spec.input_fault([0] * 64) == "expected a list of 784 numbers (28 x 28 pixels, row by row)"


def test_changed_weights_and_a_broken_manifest_are_refused(tmp_path):
    _, path = exported(tmp_path, designs("digits", 2)["full"])
    weights = path.with_suffix(".safetensors")
    kept = weights.read_bytes()
    weights.write_bytes(kept + b"x")
    with pytest.raises(ConfigError, match="SHA-256"):
        read_weights(path)
    weights.write_bytes(kept)
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"task": "cats"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a collage network's manifest"):
        read_weights(path)
