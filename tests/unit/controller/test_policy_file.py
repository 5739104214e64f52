"""A policy file comes back as it was written, or not at all."""

import hashlib
import io
import json
import pickle
import stat
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save

from controller.errors import PolicyFileError
from controller.policies import policy_file
from controller.policies.policy_file import (
    MANIFEST,
    WEIGHTS,
    ForecasterReference,
    KnobReference,
    Manifest,
    PolicyContent,
    SpecReference,
    TrainingRecord,
    forecaster_shapes,
    layer_shapes,
    load_policy_file,
    save_policy_file,
)


def make_content(**changes):
    manifest = Manifest(
        observation=SpecReference(name="knobs-v1", size=5, sha256="a" * 64),
        knobs=(KnobReference(name="headroom", scale=0.7), KnobReference(name="spot_share", scale=1.0)),
        hidden=(4, 3),
        settings={"headroom": 1.2, "count": 3, "is_eager": True},
        forecaster=ForecasterReference(
            inputs=SpecReference(name="rates-v1", size=6, sha256="b" * 64), levels=(0.5, 0.95), hidden=(7, 3)
        ),
        dial_default=1.0,
        catalog="any",
        catalog_sha256="c" * 64,
        training=TrainingRecord(
            trace="t", scenario="demo", train_days=(1, 2), validation_days=(3, 3), seeds=(0,), steps=10
        ),
        metrics={"validation": {"value": 0.9, "rule": 1.0}},
        versions={"numpy": "2.0", "torch": None},
    ).model_copy(update=changes)
    rng = np.random.default_rng(0)
    shapes = layer_shapes(manifest) | forecaster_shapes(manifest.forecaster)
    return PolicyContent(manifest, {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "policy.provisor"
    return path, save_policy_file(path, make_content())


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, manifest=None, weights=None, *, honest=True):
    """Writes the file anew with changed parts; `honest` brings all digests in line, as an able forger would."""
    members = members_of(path)
    value = json.loads(members[MANIFEST])
    weights = members[WEIGHTS] if weights is None else weights
    if manifest is not None:
        manifest(value)
    if honest:
        value["weights_sha256"] = hashlib.sha256(weights).hexdigest()
        value["manifest_sha256"] = policy_file._manifest_digest(value)
    path.write_bytes(policy_file._sealed({MANIFEST: json.dumps(value).encode(), WEIGHTS: weights}))


def refused(path, *words):
    with pytest.raises(PolicyFileError) as caught:
        load_policy_file(path)
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message


def test_content_comes_back_as_it_was_written(saved):
    path, written = saved
    read = load_policy_file(path)
    assert read.manifest == written.manifest
    assert read.manifest.model_copy(update=dict.fromkeys(("weights_sha256", "manifest_sha256"), "0" * 64)) == (
        make_content().manifest
    )
    for name, tensor in make_content().tensors.items():
        assert np.array_equal(read.tensors[name], tensor)
    assert read.sha256 == written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_equal_content_gives_equal_bytes(saved, tmp_path):
    save_policy_file(tmp_path / "again.provisor", make_content())
    assert saved[0].read_bytes() == (tmp_path / "again.provisor").read_bytes()


def test_file_is_an_ordinary_stored_zip_that_others_may_read(saved):
    path, _ = saved
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_failed_write_leaves_the_old_file_and_no_part_of_a_new_one(saved, monkeypatch):
    path, _ = saved
    before = path.read_bytes()
    monkeypatch.setattr(
        policy_file.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(PolicyFileError, match="No space left"):
        save_policy_file(path, make_content(dial_default=2.0))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_every_truncation_is_refused(saved):
    path, _ = saved
    data = path.read_bytes()
    for length in (0, 1, 30, len(data) // 2, len(data) - 65, len(data) - 1):
        path.write_bytes(data[:length])
        refused(path)


def test_every_flipped_byte_is_refused(saved):
    path, _ = saved
    data = bytearray(path.read_bytes())
    for position in range(0, len(data), 7):
        altered = data.copy()
        altered[position] ^= 0x20
        path.write_bytes(altered)
        with pytest.raises(PolicyFileError):
            load_policy_file(path)


def test_appended_and_prepended_bytes_are_refused(saved):
    path, _ = saved
    data = path.read_bytes()
    for altered in (data + b"x", b"x" + data):
        path.write_bytes(altered)
        refused(path)


def test_altered_weights_are_named(saved):
    path, _ = saved
    tensors = dict(make_content().tensors)
    tensors["knobs.0.bias"] = tensors["knobs.0.bias"] + 1
    rewrite(path, weights=save(tensors), honest=False)
    refused(path, WEIGHTS, "SHA-256")


def test_altered_manifest_is_named(saved):
    path, _ = saved
    rewrite(path, lambda value: value["settings"].update(headroom=9.0), honest=False)
    refused(path, "manifest_sha256")


def test_unknown_version_is_named_before_its_unknown_fields(saved):
    path, _ = saved
    rewrite(path, lambda value: value.update(format_version=3, novelty=1))
    refused(path, "format_version", "expected 2", "got 3")


def test_file_of_the_version_before_is_refused_with_what_to_do(saved):
    rewrite(saved[0], lambda value: value.update(format_version=1))
    refused(saved[0], "format_version", "expected 2", "got 1", "train it anew")


@pytest.mark.parametrize("field", ["observation", "knobs", "settings", "catalog_sha256", "training"])
def test_missing_manifest_field_is_named(saved, field):
    path, _ = saved
    rewrite(path, lambda value: value.pop(field))
    refused(path, field, "got nothing")


def test_wrong_manifest_values_are_named_with_what_was_expected(saved):
    path, _ = saved
    rewrite(path, lambda value: value.update(catalog="some", dial_default=-1.0, extra=1))
    refused(path, "catalog: expected one of", "dial_default: expected a number > 0.0, got -1.0", "extra: unknown key")


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"low": [0] * 5, "high": [1] * 4, "samples": 9}, "high: expected 5 numbers, as in low, got 4"),
        ({"low": [2] * 5, "high": [1] * 5, "samples": 9}, "low: expected numbers of at most those in high"),
        ({"low": [0] * 4, "high": [1] * 4, "samples": 9}, "expected 5 inputs (observation.size), got 4"),
    ],
)
def test_range_of_other_inputs_is_named(saved, known, words):
    path, _ = saved
    rewrite(path, lambda value: value.update(input_range=known))
    refused(path, words)


def test_file_from_before_ranges_were_noted_is_read(saved):
    path, _ = saved
    rewrite(path, lambda value: value.pop("input_range"))
    assert load_policy_file(path).manifest.input_range is None


def changed_tensors(path, change):
    tensors = dict(make_content().tensors)
    change(tensors)
    rewrite(path, weights=save(tensors))


def test_missing_tensor_is_named(saved):
    changed_tensors(saved[0], lambda tensors: tensors.pop("knobs.2.weight"))
    refused(saved[0], "knobs.2.weight", "(2, 3)", "got nothing")


def test_tensor_left_over_is_named(saved):
    changed_tensors(saved[0], lambda tensors: tensors.update(stranger=np.zeros(1, np.float32)))
    refused(saved[0], "stranger", "expected no such tensor")


def test_tensor_of_another_shape_is_named(saved):
    changed_tensors(saved[0], lambda tensors: tensors.update({"forecaster.w1": np.zeros((7, 6), np.float32)}))
    refused(saved[0], "forecaster.w1", "(6, 7)", "(7, 6)")


def test_tensor_of_another_type_is_named(saved):
    changed_tensors(saved[0], lambda tensors: tensors.update({"knobs.1.bias": np.zeros(3, np.float64)}))
    refused(saved[0], "knobs.1.bias", "float32", "float64")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(saved, value):
    def poison(tensors):
        tensors["knobs.1.weight"] = tensors["knobs.1.weight"].copy()
        tensors["knobs.1.weight"][1, 2] = value

    changed_tensors(saved[0], poison)
    refused(saved[0], "knobs.1.weight", "finite", "1 others")


def test_weights_that_are_no_safetensors_are_refused(saved):
    rewrite(saved[0], weights=b"\x08\x00\x00\x00\x00\x00\x00\x00not json")
    refused(saved[0], "safetensors")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("something was unpickled",))


def test_pickles_are_refused_and_never_run(saved):
    path, _ = saved
    rewrite(path, weights=pickle.dumps(Bomb()))
    refused(path, "safetensors")
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "truncated or damaged")


@pytest.mark.parametrize("names", [(MANIFEST,), (MANIFEST, WEIGHTS, "data.pkl"), ("../manifest.json", WEIGHTS)])
def test_other_members_are_refused(saved, names):
    path, _ = saved
    path.write_bytes(policy_file._sealed(dict.fromkeys(names, b"{}")))
    refused(path, "members")


def test_compressed_members_are_refused_before_they_are_unpacked(saved):
    path, _ = saved
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (MANIFEST, WEIGHTS):
            archive.writestr(name, b"0" * 10_000)
    path.write_bytes(stream.getvalue())
    refused(path, "stored")


def test_missing_file_and_directory_are_refused(tmp_path):
    refused(tmp_path / "none.provisor", "No such file")
    refused(tmp_path, "directory")


def test_content_that_breaks_its_own_manifest_is_not_written(tmp_path):
    content = make_content()
    tensors = {**content.tensors, "knobs.0.bias": np.full(4, np.nan, np.float32)}
    with pytest.raises(PolicyFileError, match=r"knobs\.0\.bias"):
        save_policy_file(tmp_path / "policy.provisor", PolicyContent(content.manifest, tensors))
    assert not list(tmp_path.iterdir())


def test_name_without_the_suffix_is_refused(tmp_path):
    with pytest.raises(PolicyFileError, match=r"\.provisor"):
        save_policy_file(tmp_path / "policy.zip", make_content())
