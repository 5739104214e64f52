"""The mini-workflow's models: what each view tells, and that both together tell more."""

import numpy as np
import pytest

from serving import zoo
from serving.two_views import VIEW_PIXELS, ViewModel, as_input, fuse, view_of


def test_views_are_the_halves_of_an_image():
    image = np.arange(64, dtype=np.float32)[None]
    assert view_of(image, "upper")[0].tolist() == list(range(VIEW_PIXELS))
    assert view_of(image, "lower")[0].tolist() == list(range(VIEW_PIXELS, 64))
    assert as_input(image[0].tolist())["camera-lower"] == list(range(VIEW_PIXELS, 64))


def test_fusion_takes_the_digit_that_both_views_together_make_most_probable():
    upper, lower = np.log([0.5, 0.4, 0.1]), np.log([0.1, 0.5, 0.4])
    assert fuse([{"upper": upper, "lower": lower}]) == [1]


def test_both_views_together_tell_more_than_either():
    images, digits = zoo.images()[2:]
    models = [ViewModel(view, "small") for view in ("upper", "lower")]
    told = [model([as_input(image.tolist()) for image in images]) for model in models]
    alone = [float((np.argmax(one, axis=1) == digits).mean()) for one in told]
    fused = fuse([{"upper": a, "lower": b} for a, b in zip(*told, strict=True)])
    assert float((np.array(fused) == digits).mean()) > max(alone) + 0.05
    np.testing.assert_allclose(np.exp(told[0]).sum(axis=1), 1.0, atol=0.02)


def test_an_input_of_another_size_is_refused():
    with pytest.raises(ValueError, match="32 pixels"):
        ViewModel("upper", "small")([{"camera-upper": [0.0] * 5}])
