"""Noise added to an image, and images made of nothing but noise.

All randomness comes from the keyword `rng`: a seed, a numpy.random.Generator, or None for a fresh
one (Scientific Python's SPEC 7). The same seed gives the same bytes on one machine; another
processor may round the last bit of a normal number differently. Where a function clips to [0, 1],
it says so, for clipping changes the variance. Alpha, where there is one, is left as it was.
"""

import itertools

import numpy as np

from imagegen_tf import images

# Images are worked through in bands of rows: 12 megapixels take 140 MiB instead of 620. The height
# of a band decides the order of the draws: another number gives every seed another noise.
ROWS = 32


def _check_level(level, name):
    """Check that a noise level is a finite number of at least 0."""
    if not 0 <= level < np.inf:
        raise ValueError(f"{name}: expected a number of at least 0, got {level}")


def _by_bands(image, rng, change):
    """Change the colours of an image by change(colours, rng), from top to bottom; keep alpha."""
    images.check_layout(image)
    rng = np.random.default_rng(rng)
    result = np.empty_like(image)
    for top in range(0, image.shape[0], ROWS):
        band, out = image[top : top + ROWS], result[top : top + ROWS]
        images.check_range(band)
        channels = 3 if image.shape[2] == 4 else image.shape[2]
        np.clip(change(band[:, :, :channels], rng), 0, 1, out=out[:, :, :channels])
        out[:, :, channels:] = band[:, :, channels:]
    return result


def _normal_like(colours, rng):
    """Draw normal numbers in the shape and dtype of an array; faster than NumPy's own.

    Box and Muller's method: two uniform numbers give radius and angle of a point, whose coordinates
    are normal and independent (doi:10.1214/aoms/1177706645). In float32 no number exceeds 5.8.
    """
    pairs = (colours.size + 1) // 2
    radius, angle = rng.random((2, pairs), dtype=colours.dtype)
    # Uniform numbers lie in [0, 1), so one minus them has a finite logarithm.
    radius = np.sqrt(-2 * np.log(1 - radius))
    angle *= colours.dtype.type(2 * np.pi)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)])  # (2, pairs)
    return points.reshape(-1)[: colours.size].reshape(colours.shape)


def gaussian(image, sigma, *, rng=None):
    """Add independent normal noise, the model of a sensor's electronics.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        sigma: standard deviation of the noise, in the same unit; >= 0.
        rng: seed, numpy.random.Generator or None.
    Returns:
        Same shape and dtype, clipped to [0, 1].
    Raises:
        TypeError, ValueError: not an image, or sigma negative.
    Example:
        >>> gaussian(np.full((2, 2, 1), 0.5), 0.1, rng=0).shape
        (2, 2, 1)

    Taught in: notebooks/01_noise_images.ipynb
    """
    _check_level(sigma, "sigma")

    def add(colours, rng):
        return colours + colours.dtype.type(sigma) * _normal_like(colours, rng)

    return _by_bands(image, rng, add)


def uniform(image, amplitude, *, rng=None):
    """Add independent noise, equally likely anywhere between -amplitude and +amplitude.

    Its standard deviation is amplitude / sqrt(3). Rounding to a grid of step q makes such noise,
    with amplitude q / 2.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        amplitude: largest change, in the same unit; >= 0.
        rng: seed, numpy.random.Generator or None.
    Returns:
        Same shape and dtype, clipped to [0, 1].
    Raises:
        TypeError, ValueError: not an image, or amplitude negative.
    Taught in: notebooks/01_noise_images.ipynb
    """
    _check_level(amplitude, "amplitude")

    def add(colours, rng):
        noise = rng.random(colours.shape, dtype=colours.dtype)  # in [0, 1)
        to_dtype = colours.dtype.type
        return colours + (to_dtype(2 * amplitude) * noise - to_dtype(amplitude))

    return _by_bands(image, rng, add)


def salt_and_pepper(image, amount, *, rng=None):
    """Replace a share of the pixels by white or black, half each: dead cells, lost bits.

    A pixel is hit in all its colours at once.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        amount: expected share of pixels that are replaced, in [0, 1].
        rng: seed, numpy.random.Generator or None.
    Returns:
        Same shape and dtype.
    Raises:
        TypeError, ValueError: not an image, or amount outside [0, 1].
    Taught in: notebooks/01_noise_images.ipynb
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount: expected a share of pixels in [0, 1], got {amount}")

    def replace(colours, rng):
        # One draw for all colours of a pixel: below amount / 2 it is black, below amount white.
        draw = rng.random(colours.shape[:2])[:, :, None]
        return np.where(draw < amount / 2, 0, np.where(draw < amount, 1, colours))

    return _by_bands(image, rng, replace)


def poisson(image, photons, *, rng=None):
    """Count photons: the noise of light itself, stronger in absolute terms where it is bright.

    A pixel of value v receives a Poisson number of photons of mean v * photons, so its standard
    deviation is sqrt(v / photons).

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        photons: mean number of photons at value 1; > 0, at most 1e9.
        rng: seed, numpy.random.Generator or None.
    Returns:
        Same shape and dtype, clipped to [0, 1].
    Raises:
        TypeError, ValueError: not an image, or photons out of range.
    Taught in: notebooks/01_noise_images.ipynb
    """
    if not 0 < photons <= 1e9:
        raise ValueError(f"photons: expected a number above 0 and at most 1e9, got {photons}")

    def count(colours, rng):
        return rng.poisson(colours * float(photons)) / photons

    return _by_bands(image, rng, count)


def speckle(image, sigma, *, rng=None):
    """Multiply by 1 + noise, the grain of radar and ultrasound: dark pixels hardly change.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        sigma: standard deviation of the noise relative to the pixel's value; >= 0.
        rng: seed, numpy.random.Generator or None.
    Returns:
        Same shape and dtype, clipped to [0, 1].
    Raises:
        TypeError, ValueError: not an image, or sigma negative.
    Taught in: notebooks/01_noise_images.ipynb
    """
    _check_level(sigma, "sigma")

    def multiply(colours, rng):
        return colours * (1 + colours.dtype.type(sigma) * _normal_like(colours, rng))

    return _by_bands(image, rng, multiply)


def _image_shape(shape):
    """Check a shape and return (height, width, channels)."""
    shape = tuple(shape)
    if len(shape) == 2:
        shape = (*shape, 1)
    whole = all(isinstance(size, (int, np.integer)) and size > 0 for size in shape)
    if len(shape) != 3 or not whole or shape[2] not in (1, 3, 4):
        raise ValueError(f"shape: expected (height, width, 1, 3 or 4), got {shape}")
    return shape


def white(shape, *, rng=None):
    """Draw every value on its own, equally likely anywhere in [0, 1]: no structure at any scale.

    Args:
        shape: (height, width, channels); (height, width) means one channel.
        rng: seed, numpy.random.Generator or None.
    Returns:
        float32 (height, width, channels), values in [0, 1].
    Raises:
        ValueError: not an image's shape.
    Taught in: notebooks/01_noise_images.ipynb
    """
    return np.random.default_rng(rng).random(_image_shape(shape), dtype=np.float32)


def perlin(shape, period, *, rng=None):
    """Draw smooth random hills with one typical size: gradient noise.

    A random slope of length 1 stands at every crossing of a coarse grid; each pixel blends the
    heights that the slopes at its four nearest crossings foretell.

    Args:
        shape: (height, width, channels); (height, width) means one channel.
        period: pixels between two crossings of the grid; >= 1.
        rng: seed, numpy.random.Generator or None.
    Returns:
        float32 (height, width, channels), values in [0, 1], mean 0.5; 0.5 on every crossing.
    Raises:
        ValueError: not an image's shape, or a period below 1.
    References:
        Perlin, 2002, Improving noise, doi:10.1145/566654.566636; here the slopes point anywhere,
        not into twelve directions, and are drawn for each crossing rather than hashed.
    Taught in: notebooks/01_noise_images.ipynb
    """
    height, width, channels = _image_shape(shape)
    if not 1 <= period < np.inf:
        raise ValueError(f"period: expected at least 1 pixel, got {period}")
    rng = np.random.default_rng(rng)
    # Each pixel in units of the grid: its cell, and where it lies inside the cell, in [0, 1).
    y, x = np.arange(height) / period, np.arange(width) / period
    top, left = y.astype(int), x.astype(int)
    y, x = (y - top)[:, None, None], (x - left)[None, :, None]
    # A slope of length 1 at every crossing, in any direction: (rows, columns, channels).
    angle = rng.uniform(0, 2 * np.pi, (top[-1] + 2, left[-1] + 2, channels))
    # Each of the four crossings around a pixel foretells a height; nearer ones count more.
    hills = np.zeros((height, width, channels))
    for down, right in itertools.product((0, 1), repeat=2):
        direction = angle[np.ix_(top + down, left + right)]  # (height, width, channels)
        foretold = np.sin(direction) * (y - down) + np.cos(direction) * (x - right)
        weight_y = _fade(y) if down else 1 - _fade(y)
        weight_x = _fade(x) if right else 1 - _fade(x)
        hills += weight_y * weight_x * foretold
    # The heights lie within sqrt(1/2) of 0.
    return np.clip(0.5 + hills / np.sqrt(2), 0, 1).astype(np.float32)


def _fade(t):
    """Go from 0 to 1 with no slope and no curvature at either end (Perlin, 2002)."""
    return t**3 * (t * (t * 6 - 15) + 10)


def fractal(shape, octaves, *, period=None, persistence=0.5, rng=None):
    """Add up Perlin noise of ever smaller hills: clouds, terrain, marble.

    Args:
        shape: (height, width, channels); (height, width) means one channel.
        octaves: number of layers; each has half the period of the one before. Those whose period
            would be below one pixel are left out.
        period: pixels between crossings in the first layer; by default the longer side of the
            image.
        persistence: strength of each layer relative to the one before, in (0, 1].
        rng: seed, numpy.random.Generator or None.
    Returns:
        float32 (height, width, channels), values in [0, 1], mean 0.5.
    Raises:
        ValueError: not an image's shape, octaves below 1, persistence outside (0, 1].
    References:
        Musgrave, Kolb and Mace, 1989, The synthesis and rendering of eroded fractal terrains,
        doi:10.1145/74333.74337
    Taught in: notebooks/01_noise_images.ipynb
    """
    shape = _image_shape(shape)
    if octaves != int(octaves) or octaves < 1:
        raise ValueError(f"octaves: expected a whole number of at least 1, got {octaves}")
    if not 0 < persistence <= 1:
        raise ValueError(f"persistence: expected a number in (0, 1], got {persistence}")
    rng = np.random.default_rng(rng)
    period = max(shape[:2]) if period is None else period
    # Layers of ever finer and weaker hills around 0, divided by all that they could add up to.
    total, strength, sum_of_strengths = np.zeros(shape), 1.0, 0.0
    for octave in range(int(octaves)):
        if octave and period / 2**octave < 1:
            break
        total += strength * (perlin(shape, period / 2**octave, rng=rng) - 0.5)
        sum_of_strengths += strength
        strength *= persistence
    return np.clip(0.5 + total / sum_of_strengths, 0, 1).astype(np.float32)
