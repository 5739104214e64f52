"""Collage networks: their form, their work, their training on images that a few steps suffice for, and their files."""

import json
from itertools import pairwise

import pytest
import torch
from click.testing import CliRunner

from controller.errors import ConfigError
from experiments.collage.data import Task, arrangement, collage, split
from experiments.collage.model import CollageNet, Design, designs, macs
from experiments.collage.networks import Network, collages, from_json, lines, to_json, train_task
from experiments.collage.training import load, measure, trained
from experiments.collage_commands import collage as verbs


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PROVISOR_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


def bright_rows(trained: int = 320, epochs: int = 4) -> Task:
    """Images of which one row is bright, the class its number (mod 8)."""
    classes = torch.arange(400) % 8
    generator = torch.Generator().manual_seed(5)
    pixels = 0.2 * torch.rand(400, 1, 8, 8, generator=generator)
    pixels[torch.arange(400), 0, classes] += 0.8
    return Task("digits", pixels, classes, trained, 400 - trained, epochs, 32, 2)


def test_collage_puts_images_row_by_row() -> None:
    cells = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 3, 3)
    pasted = collage(cells)
    assert pasted.shape == (1, 1, 6, 6)
    assert pasted[0, 0, ::3, ::3].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert torch.equal(pasted[0, 0, :3, 3:], cells[0, 1])


def test_collage_of_a_number_that_is_no_square_is_refused() -> None:
    with pytest.raises(ValueError, match="cells: expected a square number, got 5"):
        collage(torch.zeros(1, 5, 2, 2))


def test_every_image_is_in_at_most_one_collage() -> None:
    found = arrangement(23, 4, torch.Generator().manual_seed(0))
    assert found.shape == (5, 4)
    assert len(set(found.flatten().tolist())) == 20


def test_held_out_images_are_never_trained_on() -> None:
    task = bright_rows()
    task = Task("digits", torch.arange(400.0).view(400, 1, 1, 1), task.classes, 320, 80, 1, 32, 1)
    parts = split(task, 3)
    trained_on, held = set(parts.train_pixels.flatten().tolist()), set(parts.held_pixels.flatten().tolist())
    assert (len(trained_on), len(held), trained_on & held) == (320, 80, set())


@pytest.mark.parametrize("task", ["digits", "fashion"])
@pytest.mark.parametrize("w", [1, 2, 3, 4, 5])
def test_network_gives_scores_of_every_cell(task, w) -> None:
    for design in designs(task, w).values():
        edge = w * design.side
        classes, confidence = CollageNet(design).eval().classify(torch.rand(2, 1, edge, edge))
        assert classes.shape == confidence.shape == (2, w * w)
        assert ((confidence > 0.0) & (confidence <= 1.0)).all()


def test_a_cell_is_judged_by_its_own_image_and_at_most_its_neighbours() -> None:
    design = designs("digits", 4)["full"]
    torch.manual_seed(0)
    net = CollageNet(design).eval()
    before = torch.rand(1, 1, 32, 32)
    after = before.clone()
    after[..., :8, :8] = 0.0
    with torch.inference_mode():
        changed = (net(before) != net(after)).any(dim=2).view(4, 4)
    assert changed[0, 0]
    assert not changed[2:].any()
    assert not changed[:, 2:].any()


def test_macs_are_those_worked_by_hand() -> None:
    # One cell of 4 x 4 pixels: 9 x 1 x 2 at 2 x 2 positions, then the head's 2 x 2 x 2 x 10.
    assert macs(Design(1, 4, 4, (2,), is_strided=True)) == 9 * 2 * 4 + 4 * 2 * 10
    # Pooled, the convolution stands at all 16 positions; four cells do four times as much.
    assert macs(Design(2, 4, 4, (2,), is_strided=False)) == 4 * (9 * 2 * 16 + 4 * 2 * 10)


@pytest.mark.parametrize("task", ["digits", "fashion"])
@pytest.mark.parametrize("w", [2, 3, 4, 5])
def test_a_pass_does_about_the_work_of_one_image(task, w) -> None:
    single = macs(designs(task, 1)["single"])
    assert all(macs(design) / single < 1.3 for design in designs(task, w).values())


def test_training_learns_what_can_be_learned() -> None:
    task = bright_rows()
    data = split(task, 0)
    found = measure(trained(task, data, designs("digits", 2)["full"], 0), task, data, 0)
    assert found.accuracy > 0.9
    assert found.partly_blank > 0.8
    assert found.confidence > 0.5


def test_same_seed_gives_the_same_weights_and_they_are_kept() -> None:
    task = bright_rows(epochs=1)
    design = designs("digits", 2)["full"]
    nets = [
        trained(task, split(task, 0), design, seed, is_anew=anew) for seed, anew in ((0, True), (0, True), (1, True))
    ]
    kept = trained(task, split(task, 0), design, 0)
    first, again, other = (net.head.weight for net in nets)
    assert torch.equal(first, again)
    assert torch.equal(first, kept.head.weight)
    assert not torch.equal(first, other)


def test_task_is_trained_exported_and_loaded(tmp_path) -> None:
    said: list[str] = []
    task = bright_rows(epochs=1)
    found = train_task("digits", said.append, sides=(2,), seeds=2, out=tmp_path, task=task)
    assert [(one.form, one.w, len(one.measured)) for one in found] == [("single", 1, 2), ("full", 2, 2)]
    assert len(said) == 4
    assert from_json(json.loads(to_json(found))) == found
    assert [line[0] for line in lines(found)] == ["digits single", "digits full 2×2"]
    net = load(tmp_path / "digits-full-w2.json")
    expected = trained(task, split(task, 0), designs("digits", 2)["full"], 0)
    image = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(net(image), expected(image))
    (collage_, single), *rest = collages(found)
    assert (collage_.w, single.w, rest) == (2, 1, [])
    assert collage_.pass_ratio(single) == collage_.macs / single.macs


def test_altered_weights_are_refused(tmp_path) -> None:
    train_task("digits", lambda _: None, sides=(), seeds=1, out=tmp_path, task=bright_rows(epochs=1))
    weights = tmp_path / "digits-single.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ConfigError, match="SHA-256: expected"):
        load(tmp_path / "digits-single.json")


def test_forms_get_narrower_as_collages_get_larger() -> None:
    for task in ("digits", "fashion"):
        per_cell = [macs(designs(task, w)["full"]) / w**2 for w in (2, 3, 4, 5)]
        assert all(more > less for more, less in pairwise(per_cell))


def test_command_refuses_sides_it_has_no_network_for(tmp_path) -> None:
    done = CliRunner().invoke(verbs, ["train", "digits", "--w", "2,6", "--out", str(tmp_path)])
    assert "--w: expected a list of 2, 3, 4, 5, got '2,6'" in str(done.exception)


def test_deviation_of_one_seed_is_zero() -> None:
    found = train_task("digits", lambda _: None, sides=(), seeds=1, task=bright_rows(epochs=1))
    assert isinstance(found[0], Network)
    assert found[0].deviation == 0.0
