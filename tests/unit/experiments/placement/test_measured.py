"""Data versions with real encoders, and the measurement on a handful of digits."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.placement.data_versions import VERSIONS, digits
from experiments.placement.table import read_table
from serving.data_version import PER_SHEET, DataVersion, decode, images_of, sheets_of


@pytest.fixture(scope="module")
def images():
    found = digits()
    return replace(found, pixels=found.pixels[:480], classes=found.classes[:480], train=400)


def test_a_sheet_holds_its_images_row_by_row(images):
    sheets = sheets_of(images.pixels)
    assert sheets.shape == (30, 32, 32)
    np.testing.assert_array_equal(sheets[1, 8:16, 16:24], images.pixels[PER_SHEET + 6])
    np.testing.assert_array_equal(images_of(sheets), images.pixels)


def test_png_at_full_size_loses_nothing(images):
    one = images.pixels[0]
    np.testing.assert_array_equal(decode(DataVersion("full").encode(one), 8), one)


def test_a_smaller_version_is_the_mean_of_the_pixels_that_become_one(images):
    one = np.kron(images.pixels[0, :4, :4], np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(decode(DataVersion("half", share=0.5).encode(one), 4), images.pixels[0, :4, :4])


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_every_version_comes_back_at_full_size(images, version):
    back = decode(version.encode(images.pixels[0]), 8)
    assert back.shape == (8, 8)
    # A share of the range: a quarter of the edge keeps two by two pixels.
    assert np.abs(back.astype(float) - images.pixels[0]).mean() < 0.4 * 255


@pytest.mark.slow
def test_every_model_is_measured_on_every_version(images):
    from experiments.placement.measured import MODELS, measure

    told = []
    table = measure(images, told.append, epochs=8)
    assert len(told) == len(MODELS)
    assert table.right.shape == (80, len(MODELS), len(VERSIONS))
    assert table.sizes.shape == (5, len(VERSIONS))
    assert (table.service_s > 0).all()
    assert (table.encode_s > 0).all()
    assert "scikit-learn digits" in table.source
    # Ten classes: chance is a tenth.
    assert table.right[:, :, 0].mean() > 0.2


def test_the_shipped_table_is_of_real_images_and_trades_accuracy_for_bytes():
    table = read_table()
    accuracy = table.calibration.mean(axis=0)
    assert table.right.shape[1:] == (4, 6)
    assert len(table.right) >= 1000
    assert accuracy[-1, 0] > accuracy[0, 0]
    assert (accuracy[:, 0] > accuracy[:, -1]).all()
    assert table.bytes_mean[0] > 5 * table.bytes_mean[-1]
    np.testing.assert_allclose(table.bytes_confirmed, table.bytes_mean, rtol=0.02)
    assert (np.diff(table.service_s.mean(axis=1)) > 0).all()
