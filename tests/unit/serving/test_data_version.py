"""Which data version a request is sent as, and that nothing else than one comes back."""

import numpy as np
import pytest

from controller.errors import InputError
from serving.data_version import DataVersion, Sent, as_text, decode, drawn, from_text, images_of, sheets_of

MIX = (Sent(DataVersion("png"), "a", 0.25), Sent(DataVersion("jpeg", quality=40), "b", 0.75))


@pytest.mark.parametrize(("draw", "name"), [(0.0, "png"), (0.2499, "png"), (0.25, "jpeg"), (0.9999, "jpeg")])
def test_a_draw_falls_on_versions_by_their_shares(draw, name):
    assert drawn(MIX, draw).version.name == name


def test_there_must_be_a_version_to_send():
    with pytest.raises(InputError, match="at least one data version"):
        drawn((), 0.5)


def test_text_carries_bytes_and_nothing_else_is_taken_for_it():
    assert from_text(as_text(b"\x00\xff")) == b"\x00\xff"
    for wrong in ("not base64!", 3, None, [1]):
        with pytest.raises(InputError, match="base64"):
            from_text(wrong)


def test_a_sheet_comes_back_image_by_image():
    images = np.arange(32 * 4, dtype=np.uint8).reshape(32, 2, 2)
    sheets = sheets_of(images)
    assert sheets.shape == (2, 8, 8)
    np.testing.assert_array_equal(
        images_of(np.stack([decode(DataVersion("png").encode(s), 8) for s in sheets])), images
    )


def test_a_worse_version_is_smaller():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    sizes = [
        len(v.encode(pixels)) for v in (DataVersion("full"), DataVersion("low", quality=20), DataVersion("s", 0.5))
    ]
    assert sizes[0] > sizes[1]
    assert sizes[0] > sizes[2]
