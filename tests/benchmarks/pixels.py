"""Pixel operations on a 12-megapixel photo.

Each line alternates the course's function and its baseline. Peak memory is what a call allocates at
its worst, relative to its output.
"""

import tracemalloc

import numpy as np
from PIL import Image, ImageChops
from skimage import util

from imagegen_tf import compositing, datasets, images, noise
from tests.benchmarks.timing import compare, row


def peak_memory(name, function):
    """Report the peak of what a call allocates, relative to its output."""
    tracemalloc.start()
    result = function()
    peak = tracemalloc.get_traced_memory()[1] / result.nbytes
    tracemalloc.stop()
    return row(f"{name}: peak memory", "its output", peak, bound=3.0, better="lower")


def plain_noise(image, sigma):
    """Add normal noise as one would with NumPy alone, in float32."""
    draw = np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + np.float32(sigma) * draw, 0, 1)


def plain_over(source, backdrop):
    """Write the formula of `over` as one would at a first try."""
    source_alpha, backdrop_alpha = source[..., 3:], backdrop[..., 3:]
    alpha = source_alpha + backdrop_alpha * (1 - source_alpha)
    colour = source[..., :3] * source_alpha
    colour = colour + backdrop[..., :3] * backdrop_alpha * (1 - source_alpha)
    return np.concatenate([colour / np.where(alpha == 0, 1, alpha), alpha], axis=-1)


def measure():
    """Run all benchmarks."""
    photo = images.resize(datasets.photo("astronaut"), 3000, 4000)
    alpha = noise.fractal((3000, 4000), 4, rng=0)
    source = np.concatenate([photo, alpha], axis=2)
    backdrop = np.concatenate([photo[:, ::-1], alpha[::-1]], axis=2)
    source_bytes, backdrop_bytes = (
        Image.fromarray(images.to_uint8(one)) for one in (source, backdrop)
    )
    photo_bytes, other_bytes = (
        Image.fromarray(images.to_uint8(one[:, :, :3])) for one in (source, backdrop)
    )
    other = backdrop[:, :, :3].copy()

    def pillow_over():
        return Image.alpha_composite(backdrop_bytes, source_bytes)

    yield compare(
        "gaussian noise",
        lambda: noise.gaussian(photo, 0.1, rng=0),
        "skimage.util.random_noise",
        lambda: util.random_noise(photo, "gaussian", var=0.01, rng=0),
        bound=3,
    )
    yield compare(
        "gaussian noise",
        lambda: noise.gaussian(photo, 0.1, rng=0),
        "NumPy's own normal draw, float32",
        lambda: plain_noise(photo, 0.1),
    )
    yield compare(
        "over, float32 RGBA",
        lambda: compositing.over(source, backdrop),
        "plain NumPy formula",
        lambda: plain_over(source, backdrop),
        bound=2,
    )
    yield compare(
        "over, float32 RGBA",
        lambda: compositing.over(source, backdrop),
        "Pillow alpha_composite, uint8",
        pillow_over,
    )
    yield compare(
        "multiply, float32 RGB",
        lambda: compositing.blend(photo, other, "multiply"),
        "Pillow ImageChops.multiply, uint8",
        lambda: ImageChops.multiply(photo_bytes, other_bytes),
    )
    yield compare(
        "resize to a quarter, bicubic",
        lambda: images.resize(photo, 750, 1000),
        "Pillow resize, uint8",
        lambda: photo_bytes.resize((1000, 750), Image.Resampling.BICUBIC),
    )
    yield peak_memory("gaussian noise", lambda: noise.gaussian(photo, 0.1, rng=0))
    yield peak_memory("over", lambda: compositing.over(source, backdrop))
    yield peak_memory("multiply", lambda: compositing.blend(photo, other, "multiply"))
