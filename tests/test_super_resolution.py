"""Chapter 06: the papers' protocol, tiles without seams, a network that others can load."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import notebook_cells
import numpy as np
import pytest
import replicas
import tensorflow as tf

from imagegen_tf import datasets, images, runtime, training, weights

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
PUBLISHED = {2: 33.64, 3: 30.39, 4: 28.42}  # bicubic on Set5, in every paper since VDSR's


@pytest.fixture(scope="module")
def chapter():
    """The cells that are taught."""
    return notebook_cells.load("06")


@pytest.fixture(scope="module")
def lively(chapter):
    """A small network whose weights are large enough to matter."""
    keras.utils.set_random_seed(0)
    network = chapter.build_network(3, width=8, blocks=2)
    network.set_weights([3 * one for one in network.get_weights()])
    return network


def noise(*shape):
    """A picture of even random numbers."""
    return np.random.default_rng(0).random(shape).astype(np.float32)


def strategy():
    """One replica."""
    return tf.distribute.get_strategy()


def trained(chapter, folder, steps=1, scale=2, **options):
    """A small model, its patches, and a few steps of training."""
    photo = images.to_uint8(datasets.photo("coins"))
    patches = chapter.draw_patches([photo], scale, 12, 64)
    options = {"steps": max(steps, 60), "width": 16, "blocks": 2, **options}
    model = chapter.build_model(strategy(), scale, **options)
    data = datasets.batches(datasets.Dataset("coins", "train", patches), 8)
    training.fit(model, data, steps, folder)
    return model, patches


@needs_shared
@pytest.mark.parametrize("scale", PUBLISHED)
@pytest.mark.parametrize("shrunk_by", ["MATLAB", "the chapter"])
def test_bicubic_on_set5_has_the_published_psnr(chapter, scale, shrunk_by):
    found = []
    for number in range(1, 6):
        picture = images.read(SHARED / "superres" / "Set5" / f"img_{number:03}.png")
        small, truth = chapter.make_pair(picture, scale)
        if shrunk_by == "MATLAB":
            name = f"img_{number:03}_SRF_{scale}_LR.png"
            small = images.read(SHARED / "superres/LR_bicubic/Set5" / f"x{scale}" / name)
        enlarged = images.resize(images.luma(small), *truth.shape[:2])
        found.append(chapter.psnr(enlarged, truth, scale))
    assert abs(np.mean(found) - PUBLISHED[scale]) < 0.02


def test_the_protocol_by_hand(chapter):
    # 16 and 235 of 255 are black and white of the limited range; BT.601.
    black, white = np.zeros((9, 12, 3), np.float32), np.ones((9, 12, 3), np.float32)
    assert np.allclose(chapter.judged(black, 3), 16 / 255)
    assert np.allclose(chapter.judged(white, 3), 235 / 255)
    assert chapter.judged(white, 3).shape == (3, 6, 1)
    assert chapter.psnr(black, white, 2) == pytest.approx(-20 * np.log10(219 / 255), abs=1e-4)
    # Only what lies `scale` pixels from the border counts.
    spoiled = black.copy()
    spoiled[:3], spoiled[-3:], spoiled[:, :3], spoiled[:, -3:] = 1, 1, 1, 1
    assert chapter.psnr(spoiled, black, 3) == np.inf
    assert chapter.psnr(spoiled, black, 2) < 20
    small, truth = chapter.make_pair(noise(20, 31, 3), 3)
    assert small.shape == (6, 10, 3) and truth.shape == (18, 30, 3)
    assert np.array_equal(small, images.to_uint8(small) / np.float32(255))


def test_a_scale_that_makes_no_sense_is_refused(chapter):
    for scale in [0, 1, -3, 2.5, float("nan"), "3", True]:
        with pytest.raises(ValueError, match="scale: expected a whole number >= 2, got"):
            chapter.make_pair(noise(12, 12, 1), scale)
        if scale != "3":
            with pytest.raises(ValueError, match="scale: expected a whole number >= 2, got"):
                chapter.build_network(scale)


def test_a_picture_smaller_than_the_scale_is_refused(chapter):
    with pytest.raises(ValueError, match="has no pixel"):
        chapter.make_pair(noise(2, 9, 1), 3)


def test_the_network_sees_as_far_as_reach_says(chapter, lively):
    reach = chapter.reach(lively)
    assert reach == 1 + 2 * 2 + 1  # a convolution of 3 x 3 each
    small = noise(1, 31, 31, 1)
    other = small.copy()
    other[0, 15, 15] = 1 - other[0, 15, 15]
    rows = np.nonzero(np.abs(lively(other) - lively(small)).max(axis=(0, 2, 3)))[0]
    assert (rows.min(), rows.max()) == (3 * (15 - reach), 3 * (15 + reach) + 2)


def test_tiled_equals_untiled(chapter, lively):
    for size in [(40, 53), (5, 90), (16, 32), (1, 1), (17, 16)]:
        for tile in [16, 100]:
            small = noise(*size, 1)
            whole = lively(small[None])[0].numpy()
            tiled = chapter.in_tiles(lively, small, tile, chapter.reach(lively))
            assert tiled.shape == whole.shape == (3 * size[0], 3 * size[1], 1)
            assert tiled.dtype == np.float32
            assert np.abs(tiled - whole).max() < 1e-6 * np.abs(whole).max()


def test_too_small_a_margin_leaves_a_seam(chapter, lively):
    small = noise(40, 53, 1)
    whole = lively(small[None])[0].numpy()
    tiled = chapter.in_tiles(lively, small, 16, chapter.reach(lively) - 1)
    assert np.abs(tiled - whole).max() > 1e-5


def test_colour_keeps_bicubics_colour_differences(chapter):
    keras.utils.set_random_seed(0)
    network = chapter.build_network(3, width=8, blocks=1)
    small = 0.4 + 0.2 * noise(9, 8, 3)
    enlarged, colour = chapter.enlarge(network, small), images.resize(small, 27, 24)
    inside = ((enlarged > 0) & (enlarged < 1)).all(axis=2)
    assert inside.mean() > 0.9
    for first, second in ((0, 1), (2, 1)):
        ours = enlarged[:, :, first] - enlarged[:, :, second]
        theirs = colour[:, :, first] - colour[:, :, second]
        assert np.allclose(ours[inside], theirs[inside], atol=1e-6)
    brightness = chapter.enlarge(network, images.luma(small))
    assert np.abs(brightness - images.luma(colour)).max() > 0.01
    assert np.allclose(images.luma(enlarged)[inside], brightness[inside], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_one_pixel(chapter, lively, channels):
    pixel = np.full((1, 1, channels), 0.25, np.float32)
    enlarged = chapter.enlarge(lively, pixel)
    assert enlarged.shape == (3, 3, channels)
    assert np.isfinite(enlarged).all() and enlarged.min() >= 0 and enlarged.max() <= 1


def test_pictures_that_are_refused(chapter, lively):
    for picture, error, words in [
        (np.full((4, 5, 4), 0.5, np.float32), ValueError, r"\(height, width, 1 or 3\), got"),
        (np.full((4, 5, 3), np.nan, np.float32), ValueError, r"expected values in \[0, 1\]"),
        (np.full((4, 5, 3), 128, np.uint8), TypeError, "images.to_float converts"),
        (np.zeros((0, 5, 3), np.float32), ValueError, "has no pixel"),
    ]:
        with pytest.raises(error, match=words):
            chapter.enlarge(lively, picture)


def test_packing_and_turning_keep_a_pair_together(chapter):
    for scale in [2, 3, 4]:
        truth = np.random.default_rng(0).integers(0, 256, (8 * scale, 8 * scale, 1), np.uint8)
        small = truth[::scale, ::scale]
        packed = chapter.pack(small, truth, scale)
        assert packed.shape == (8, 8, scale**2 + 1)
        found = chapter.unpack(np.stack([packed] * 8), scale)
        for one, expected in zip(found, (small, truth), strict=True):
            assert np.array_equal(np.rint(one[3] * 255), expected)
        # All eight ways, and in each the two patches are turned alike: block means show it.
        coins = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], np.float32)
        blocks = tf.nn.avg_pool2d(found[1], scale, scale, "VALID")
        turned = chapter.turned(blocks, coins).numpy()
        large = chapter.turned(found[1], coins)
        assert np.allclose(turned, tf.nn.avg_pool2d(large, scale, scale, "VALID"), atol=1e-6)
        assert len({one.tobytes() for one in turned}) == 8


def test_patches_are_drawn_where_bicubic_misses_most(chapter):
    photo = np.full((120, 240, 1), 128, np.uint8)
    photo[:, 120:] = np.random.default_rng(0).integers(0, 256, (120, 120, 1), np.uint8)
    drawn = chapter.draw_patches([photo], 3, 10, 200)
    alike = chapter.draw_patches([photo], 3, 10, 200, exponent=0)
    assert drawn.shape == (200, 10, 10, 10) and drawn.dtype == np.uint8
    lively, even = (one.std(axis=(1, 2, 3)) > 2 for one in (drawn, alike))
    assert lively.mean() > 0.95 and even.mean() < 0.8
    assert np.array_equal(drawn, chapter.draw_patches([photo], 3, 10, 200))
    assert not np.array_equal(drawn, chapter.draw_patches([photo], 3, 10, 200, seed=1))


def test_patches_lie_in_the_photos(chapter):
    photos = [images.to_uint8(datasets.photo(name)) for name in ("coins", "text")]
    for patch in chapter.draw_patches(photos, 3, 16, 20, factors=(1,)):
        found = False
        for photo in photos:
            small, truth = chapter.make_pair(images.to_float(photo), 3)
            whole = chapter.pack(images.to_uint8(small), images.to_uint8(truth), 3)
            windows = np.lib.stride_tricks.sliding_window_view(whole[:, :, 0], (16, 16))
            for top, left in np.argwhere((windows == patch[:, :, 0]).all(axis=(2, 3))):
                found |= np.array_equal(whole[top : top + 16, left : left + 16], patch)
        assert found


def test_photos_too_small_for_a_patch_are_refused(chapter):
    with pytest.raises(ValueError, match="none has 48 x 48 pixels"):
        chapter.draw_patches([np.zeros((23, 90, 3), np.uint8)], 3, 16, 5)


def test_the_untrained_network_is_nearly_the_bicubic(chapter):
    keras.utils.set_random_seed(0)
    photo = datasets.photo("chelsea")[:60, :60, :1]
    found = chapter.build_network(3)(photo[None])[0].numpy()
    assert np.abs(found - images.resize(photo, 180, 180)).mean() < 0.1


def test_a_short_training_beats_bicubic(chapter, tmp_path):
    model, patches = trained(chapter, tmp_path, steps=150)
    small, truth = chapter.unpack(patches, 2)
    before = tf.reduce_mean((chapter.own_layers.Bicubic(2)(small) - truth) ** 2)
    after = tf.reduce_mean((model.network(small) - truth) ** 2)
    assert after < 0.9 * before


@pytest.mark.parametrize("kind", ["SquaredError", "FeatureLoss"])
def test_other_losses_fall_and_random_features_stay(chapter, tmp_path, kind):
    model, _ = trained(chapter, tmp_path, steps=1, kind=getattr(chapter, kind))
    fixed = [one for one in model.variables if not one.trainable and "conv" in one.path]
    before = [one.numpy() for one in fixed]
    photo = images.to_uint8(datasets.photo("coins"))
    patches = datasets.Dataset("coins", "train", chapter.draw_patches([photo], 2, 12, 64))
    losses = training.fit(model, datasets.batches(patches, 8), 40, tmp_path).losses["loss"]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert bool(fixed) == (kind == "FeatureLoss")
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, fixed, strict=True))


LOAD = """
import sys
import imagegen_tf.layers, keras, numpy as np
network = keras.saving.load_model(sys.argv[1])
pixels = np.load(sys.argv[2])
np.save(sys.argv[3], network(pixels))
print(network(np.full((1, 1, 1, 1), 0.5, np.float32)).shape)
"""


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_saved_network_loads_elsewhere(chapter, tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        network = chapter.build_network(3, width=8, blocks=1)
        weights.save(network, tmp_path / "super_resolution_x3.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    small = noise(2, 5, 7, 1)
    np.save(tmp_path / "small.npy", small)
    paths = [tmp_path / name for name in ("super_resolution_x3.keras", "small.npy", "large.npy")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, paths)],
        env=os.environ | {"PYTHONPATH": str(runtime.repository())},
        capture_output=True,
        text=True,
        check=True,
    )
    large = np.load(tmp_path / "large.npy")
    assert large.shape == (2, 15, 21, 1) and large.dtype == np.float32
    assert np.allclose(large, weights.read(paths[0])(small), atol=1e-6)
    assert np.allclose(large, network(small), atol=0.02)  # bfloat16 keeps 8 bits
    assert done.stdout.strip() == "(1, 3, 3, 1)"


def test_the_shipped_network_beats_bicubic_on_the_test_photos(chapter):
    network = weights.load("06_super_resolution/super_resolution_x3")
    gains = []
    for name in ("chelsea", "coins", "rocket", "text"):
        small, truth = chapter.make_pair(datasets.photo(name), 3)
        enlarged = chapter.enlarge(network, small)
        assert enlarged.shape == truth.shape
        bicubic = images.resize(small, *truth.shape[:2])
        gains.append(chapter.psnr(enlarged, truth, 3) - chapter.psnr(bicubic, truth, 3))
    assert min(gains) > 0.3 and np.mean(gains) > 1
    large = network(noise(2, 5, 7, 1)).numpy()
    assert large.shape == (2, 15, 21, 1) and large.min() >= 0 and large.max() <= 1


JOB = """
chapter = notebook_cells.load("06")
photo = images.to_uint8(datasets.photo("coins"))
patches = datasets.Dataset("coins", "train", chapter.draw_patches([photo], 2, 10, 32))
model = chapter.build_model(run.strategy, 2, steps=12, width=8, blocks=1, seed=3)
with run.strategy.scope():
    model.compile({"network": sgd(0.02)}, average={"network": 0.9})
finish(model, training.fit(model, datasets.batches(patches, 8), 12, sys.argv[2] + "-run"))
"""


def test_two_replicas_train_the_same_network_as_one(tmp_path):
    assert replicas.gap(JOB, tmp_path) <= 1e-5
