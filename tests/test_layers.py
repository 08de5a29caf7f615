"""layers: the numbers of what they stand for, at every size, in every precision, on disk."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from holes import noise, poisoned, some_holes

from imagegen_tf import datasets, editing, images, layers, weights

pytestmark = pytest.mark.usefixtures("float32")


def network(scale, channels=1):
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, layers.Bicubic(scale)(inputs))


def test_it_enlarges_as_resize_does_up_to_the_borders():
    for scale in [2, 3, 4, 8]:
        for channels in [1, 3]:
            photo = datasets.photo("chelsea")[100:131, 200:240, :channels]
            found = layers.Bicubic(scale)(photo[None])[0].numpy()
            expected = images.resize(photo, 31 * scale, 40 * scale)
            # resize is Pillow's, in float32, clipped; 1e-6 is its rounding.
            assert found.shape == expected.shape and found.dtype == np.float32
            assert np.abs(np.clip(found, 0, 1) - expected).max() < 1e-6


def test_pictures_smaller_than_the_kernel():
    for shape in [(1, 1), (1, 7), (2, 3)]:
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


def test_scales_that_make_no_sense_are_refused():
    for scale in [0, 1, -2, 2.5, float("nan"), float("inf"), True]:
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


def test_the_layer_pull_push_is_editing_fill():
    for size in [(64, 64), (8, 8), (40, 72), (13, 21), (16, 8), (1, 5), (1, 1)]:
        for channels in [1, 3]:
            batch, masks = noise(2, *size, channels), some_holes(*size)
            found = layers.PullPush()([poisoned(batch, masks), masks]).numpy()
            expected = [editing.fill(a, b, "pull-push") for a, b in zip(batch, masks, strict=True)]
            assert found.dtype == np.float32
            assert np.abs(found - np.stack(expected)).max() < 1e-5


def laplacian(surface):
    """The sum of differences to four neighbours, with the border repeated."""
    p = np.pad(surface, 1, mode="edge")
    return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * surface


@pytest.mark.parametrize("tension", [0.0, 0.3, 1.0, 20.0])
def test_the_plate_solves_its_equation(tension):
    # The same system, solved densely by NumPy, in float64.
    batch, masks = noise(1, 12, 11, 1), np.zeros((1, 12, 11, 1), np.float32)
    masks[0, 3:9, 4:11] = 1
    found = layers.Plate(tension, 300)([poisoned(batch, masks), masks]).numpy().ravel()
    units = np.eye(132).reshape(-1, 12, 11)
    bending = [laplacian(laplacian(one)) - tension * laplacian(one) for one in units]
    system = np.stack([one.ravel() for one in bending], axis=1)
    hole, values = masks.ravel() > 0, batch.ravel().astype(np.float64)
    right = -system[np.ix_(hole, ~hole)] @ values[~hole]
    expected = np.linalg.solve(system[np.ix_(hole, hole)], right)
    assert np.abs(found[hole] - expected).max() < 1e-3
    assert np.array_equal(found[~hole], batch.ravel()[~hole])


def test_a_plate_continues_slopes_and_a_film_never_overshoots():
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, 24, dtype=np.float32)[:, None], (24, 24))
    batch, masks = ramp[None, :, :, None].copy(), np.zeros((1, 24, 24, 1), np.float32)
    masks[0, 8:16, 8:16] = 1
    found = layers.Plate(0.0, 400)([poisoned(batch, masks), masks])
    assert np.abs(found - batch).max() < 2e-3
    rough = noise(1, 24, 24, 1)
    film = layers.Plate(1e4, 400)([poisoned(rough, masks), masks]).numpy()
    assert film.min() >= rough.min() - 1e-3 and film.max() <= rough.max() + 1e-3


def test_pyramids_that_make_no_sense_are_refused():
    for levels in [0, -1, 1.5, float("nan")]:
        with pytest.raises(ValueError, match="levels: expected a whole number >= 1, got"):
            layers.PullPush(levels)


def test_plates_that_make_no_sense_are_refused():
    for options in [{"tension": one} for one in (-1, float("nan"), float("inf"))] + [
        {"steps": one} for one in (0, 2.5, float("nan"))
    ]:
        with pytest.raises(ValueError, match="expected tension >= 0 and steps >= 1, got"):
            layers.Plate(**options)


@pytest.mark.parametrize("layer", [layers.PullPush(), layers.Plate(0.5, 20)])
def test_no_hole_and_nothing_but_hole(layer):
    batch = noise(2, 16, 24, 3)
    assert np.array_equal(layer([batch, np.zeros((2, 16, 24, 1), np.float32)]), batch)
    empty = layer([batch * np.nan, np.ones((2, 16, 24, 1), np.float32)]).numpy()
    assert np.array_equal(empty, np.zeros_like(batch))


@pytest.mark.parametrize("kind", [layers.PullPush(3), layers.Plate(0.3, 7)])
def test_fills_are_saved_with_their_settings(tmp_path, kind):
    image, mask = keras.Input((None, None, 3)), keras.Input((None, None, 1))
    built = keras.Model([image, mask], kind([image, mask]))
    assert built.output_shape == (None, None, None, 3)
    weights.save(built, tmp_path / "fill.keras")
    loaded = keras.saving.load_model(tmp_path / "fill.keras")
    pair = [noise(2, 16, 24, 3), some_holes(16, 24)]
    assert np.array_equal(built(pair), loaded(pair))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_positions_tell_equal_things_apart_and_are_saved(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((None, 3))
    network = keras.Model(inputs, layers.Positions(5)(inputs))
    (vectors,) = network.get_weights()
    assert vectors.shape == (5, 3) and len({tuple(one) for one in vectors.tolist()}) == 5
    given = np.ones((2, 4, 3), np.float32)
    found = network(given)
    assert found.dtype == keras.config.dtype_policy().compute_dtype
    # A shorter row takes the first vectors; half precision keeps 8 bits.
    assert np.allclose(tf.cast(found, tf.float32).numpy(), given + vectors[:4], atol=1e-2)
    weights.save(network, tmp_path / "positions.keras")
    again = weights.read(tmp_path / "positions.keras")
    assert np.allclose(again(given).numpy(), given + vectors[:4], atol=1e-6)
    for places in (0, 2.5, True):
        with pytest.raises(ValueError, match="places: expected a whole number"):
            layers.Positions(places)


def test_positions_of_a_grid_start_as_slow_waves():
    keras.utils.set_random_seed(0)
    layer = layers.Positions(64, is_grid=True)
    layer(np.zeros((1, 64, 12), np.float32))
    vectors = np.reshape(layer.get_weights()[0], (8, 8, 12))
    spread = np.std(vectors)
    assert 0.3 < spread < 0.8
    for axis in (0, 1):  # neighbours are alike, opposite sides are not
        step = np.std(np.diff(vectors, axis=axis))
        far = np.std(np.take(vectors, 7, axis) - np.take(vectors, 0, axis))
        assert step < spread < far
    assert layer.get_config()["is_grid"] is True
    with pytest.raises(ValueError, match="square number"):
        layers.Positions(60, is_grid=True)
