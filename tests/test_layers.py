"""layers: the same numbers as images.resize, at every size, in every precision, on disk."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from imagegen_tf import datasets, images, layers, weights


@pytest.fixture(autouse=True)
def float32():
    """Every test starts and ends in float32."""
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


def network(scale, channels=1):
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, layers.Bicubic(scale)(inputs))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_enlarges_as_resize_does_up_to_the_borders(scale, channels):
    photo = datasets.photo("chelsea")[100:131, 200:240, :channels]
    found = layers.Bicubic(scale)(photo[None])[0].numpy()
    expected = images.resize(photo, 31 * scale, 40 * scale)
    # resize is Pillow's, in float32, clipped; 1e-6 is its rounding.
    assert found.shape == expected.shape and found.dtype == np.float32
    assert np.abs(np.clip(found, 0, 1) - expected).max() < 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3)])
def test_pictures_smaller_than_the_kernel(shape):
    small = np.random.default_rng(0).random((*shape, 1)).astype(np.float32)
    found = layers.Bicubic(3)(small[None])[0].numpy()
    expected = images.resize(small, 3 * shape[0], 3 * shape[1])
    assert np.abs(np.clip(found, 0, 1) - expected).max() < 1e-6


def test_edges_overshoot_and_even_pictures_stay_even():
    step = np.repeat(np.array([0, 1], np.float32), 8)[None, None, :, None]
    # A new pixel 1.25 pixels from the other side of the edge: the kernel there is
    # -0.5 * 1.25³ + 2.5 * 1.25² - 4 * 1.25 + 2 = -0.0703.
    found = layers.Bicubic(2)(step).numpy()
    assert np.isclose(found.max(), 1.0703, atol=1e-4) and np.isclose(
        found.min(), -0.0703, atol=1e-4
    )
    assert np.allclose(layers.Bicubic(3)(np.full((1, 6, 5, 3), 0.25)), 0.25, atol=1e-6)


@pytest.mark.parametrize("scale", [0, 1, -2, 2.5, float("nan"), float("inf"), True])
def test_scales_that_make_no_sense_are_refused(scale):
    with pytest.raises(ValueError, match="scale: expected a whole number >= 2, got"):
        layers.Bicubic(scale)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_it_computes_in_float32_and_is_saved(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    built = network(3, channels=3)
    small = np.random.default_rng(0).random((2, 5, 4, 3)).astype(np.float32)
    weights.save(built, tmp_path / "bicubic.keras")
    loaded = keras.saving.load_model(tmp_path / "bicubic.keras")
    assert built(small).dtype == tf.float32
    assert np.array_equal(built(small), loaded(small))
    assert built.compute_output_shape((2, 5, 4, 3)) == loaded(small).shape == (2, 15, 12, 3)
    assert built.output_shape == (None, None, None, 3)


def test_a_clone_is_the_same():
    small = np.random.default_rng(0).random((1, 5, 4, 1)).astype(np.float32)
    built = network(2)
    assert np.array_equal(built(small), keras.models.clone_model(built)(small))
