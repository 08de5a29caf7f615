"""noise: moments against the formulas, seeds, ranges, NumPy's and scikit-image's own results."""

import numpy as np
import pytest
from scipy import stats
from skimage.util import random_noise

from imagegen_tf import noise

GREY = np.full((1000, 2000, 1), 0.5, np.float32)  # two megapixels, so means are good to 0.1 %
SMALL = np.full((40, 50, 3), 0.5, np.float32)
ADDED = {
    "gaussian": (0.05, 0.5, 0.05**2),  # argument, mean and variance by the formulas, on grey 0.5
    "uniform": (0.2, 0.5, 0.2**2 / 3),
    "salt_and_pepper": (0.1, 0.5, 0.1 * 0.25),
    "poisson": (200, 0.5, 0.5 / 200),
    "speckle": (0.1, 0.5, (0.1 * 0.5) ** 2),
}


@pytest.mark.parametrize("name", ADDED)
def test_moments_are_within_one_percent_of_the_formulas(name):
    argument, mean, variance = ADDED[name]
    noisy = getattr(noise, name)(GREY, argument, rng=0).astype(np.float64)
    assert noisy.mean() == pytest.approx(mean, rel=0.01)
    assert noisy.var() == pytest.approx(variance, rel=0.01)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("gaussian", "gaussian", {"var": 0.05**2}),
        ("speckle", "speckle", {"var": 0.1**2}),
        ("salt_and_pepper", "s&p", {"amount": 0.1}),
    ],
)
def test_moments_are_scikit_images(name, mode, options):
    theirs = random_noise(GREY.astype(np.float64), mode, rng=1, **options)
    ours = getattr(noise, name)(GREY, ADDED[name][0], rng=2).astype(np.float64)
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.01)
    assert ours.var() == pytest.approx(theirs.var(), rel=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_noise_is_normal_and_its_values_are_independent(dtype):
    image = np.full((400, 500, 1), 0.5, dtype)
    draw = ((noise.gaussian(image, 0.05, rng=7) - 0.5) / 0.05).astype(np.float64)[:, :, 0]
    # Kolmogorov and Smirnov: the largest gap of 200,000 normal draws exceeds 1.95 / sqrt(n) in one
    # case of a thousand. NumPy's own draw is held to the same bound.
    limit = 1.95 / np.sqrt(draw.size)
    assert stats.kstest(draw.ravel(), "norm").statistic < limit
    theirs = np.random.default_rng(7).standard_normal(draw.size)
    assert stats.ks_2samp(draw.ravel(), theirs).statistic < limit * np.sqrt(2)
    assert stats.kurtosis(draw.ravel()) == pytest.approx(0, abs=0.05)
    flat = draw.ravel()
    for step in (1, 500, 16 * 500 // 2, 32 * 500 // 2):  # the last: the two halves of a pair
        assert abs(np.corrcoef(flat[:-step], flat[step:])[0, 1]) < 4 / np.sqrt(flat.size)
        squares = np.corrcoef(flat[:-step] ** 2, flat[step:] ** 2)[0, 1]
        assert abs(squares) < 4 / np.sqrt(flat.size)


def test_poisson_is_numpys_own_draw():
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    draw = np.random.default_rng(7).poisson(image * 30.0) / 30
    np.testing.assert_allclose(noise.poisson(image, 30, rng=7), np.clip(draw, 0, 1), atol=1e-6)


def test_same_seed_same_bytes_other_seed_other_bytes():
    for name in ADDED:
        function, argument = getattr(noise, name), ADDED[name][0]
        first, again = function(SMALL, argument, rng=3), function(SMALL, argument, rng=3)
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != function(SMALL, argument, rng=4).tobytes()
        generator = np.random.default_rng(3)
        assert first.tobytes() == function(SMALL, argument, rng=generator).tobytes()
        assert first.tobytes() != function(SMALL, argument, rng=generator).tobytes()
        assert first.tobytes() != function(SMALL, argument).tobytes()


@pytest.mark.parametrize("name", ["white", "perlin", "fractal"])
def test_drawn_noise_follows_its_seed(name):
    arguments = {"white": (), "perlin": (8,), "fractal": (4,)}[name]
    draw = getattr(noise, name)
    first = draw((30, 40, 3), *arguments, rng=1)
    assert first.dtype == np.float32 and first.shape == (30, 40, 3)
    assert first.min() >= 0 and first.max() <= 1
    assert first.tobytes() == draw((30, 40, 3), *arguments, rng=1).tobytes()
    assert first.tobytes() != draw((30, 40, 3), *arguments, rng=2).tobytes()
    assert draw((30, 40), *arguments).shape == (30, 40, 1)


def test_range_dtype_alpha_and_input_are_kept():
    for name in ADDED:
        for dtype in [np.float32, np.float64]:
            image = np.random.default_rng(0).random((70, 9, 4)).astype(dtype)
            before = image.copy()
            noisy = getattr(noise, name)(image, {"poisson": 5}.get(name, 0.9), rng=0)
            assert noisy.dtype == dtype and noisy.shape == image.shape
            assert noisy.min() >= 0 and noisy.max() <= 1
            assert np.array_equal(noisy[:, :, 3], image[:, :, 3])
            assert np.array_equal(image, before)
            assert not np.array_equal(noisy[:, :, :3], image[:, :, :3])


def test_no_noise_changes_nothing():
    for name in ["gaussian", "uniform", "salt_and_pepper", "speckle"]:
        assert np.array_equal(getattr(noise, name)(SMALL, 0, rng=0), SMALL)


def test_salt_and_pepper_hits_whole_pixels_in_equal_shares():
    noisy = noise.salt_and_pepper(np.full((1000, 1000, 3), 0.5, np.float32), 0.2, rng=0)
    white, black = (noisy == 1).all(axis=2), (noisy == 0).all(axis=2)
    assert ((noisy != 0.5).any(axis=2) == (white | black)).all()
    assert white.mean() == pytest.approx(0.1, rel=0.02)
    assert black.mean() == pytest.approx(0.1, rel=0.02)


def test_perlin_is_one_half_on_its_grid_and_smooth_between():
    image = noise.perlin((65, 65), 16, rng=0)[:, :, 0]
    np.testing.assert_allclose(image[::16, ::16], 0.5, atol=1e-6)
    # The steepest the formula allows: slope 1 per period from the gradient, and 1.875 per period
    # from the fade curve times the largest step sqrt(2); divided by sqrt(2) and by the period.
    assert np.abs(np.diff(image, axis=0)).max() < (1 + 1.875 * np.sqrt(2)) / np.sqrt(2) / 16


def test_perlin_is_centred_and_uses_its_range():
    image = noise.perlin((1024, 1024), 8, rng=0)
    assert image.mean() == pytest.approx(0.5, abs=0.01)
    assert image.min() < 0.1 and image.max() > 0.9


def test_fractal_of_one_octave_is_perlin_and_more_octaves_add_detail():
    assert np.allclose(noise.fractal((64, 64), 1, rng=5), noise.perlin((64, 64), 64, rng=5))
    rough = [
        np.abs(np.diff(noise.fractal((256, 256), octaves, rng=0), axis=0)).mean()
        for octaves in (1, 3, 6)
    ]
    assert rough[0] < rough[1] < rough[2]
    assert noise.fractal((4, 4), 30, rng=0).shape == (4, 4, 1)


def test_white_noise_is_flat_in_values_and_in_frequencies():
    image = noise.white((512, 512), rng=0)[:, :, 0].astype(np.float64)
    share = np.histogram(image, 10, (0, 1))[0] / image.size
    np.testing.assert_allclose(share, 0.1, atol=0.004)
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    low, high = power[:128, :128].mean(), power[128:256, 128:256].mean()
    assert low / high == pytest.approx(1, abs=0.05)


def test_levels_that_make_no_sense_are_refused():
    for name, argument in [
        ("gaussian", -0.1),
        ("gaussian", np.nan),
        ("uniform", -1),
        ("salt_and_pepper", 1.5),
        ("salt_and_pepper", -0.1),
        ("poisson", 0),
        ("poisson", -5),
        ("poisson", 1e12),
        ("speckle", np.inf),
    ]:
        with pytest.raises(ValueError, match="expected"):
            getattr(noise, name)(SMALL, argument)


def test_shapes_that_are_no_image_are_refused():
    for shape in [(4,), (0, 4), (4, 4, 2), (4.5, 4), (4, 4, 3, 1)]:
        for draw in (noise.white, lambda s: noise.perlin(s, 4), lambda s: noise.fractal(s, 2)):
            with pytest.raises(ValueError, match="shape"):
                draw(shape)
        with pytest.raises(ValueError, match="period"):
            noise.perlin((4, 4), 0.5)
        with pytest.raises(ValueError, match="octaves"):
            noise.fractal((4, 4), 0)
        with pytest.raises(ValueError, match="persistence"):
            noise.fractal((4, 4), 2, persistence=2)
