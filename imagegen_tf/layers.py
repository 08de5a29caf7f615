"""Layers that Keras lacks and several chapters share. Import it before loading their networks."""

import math

import numpy as np

from imagegen_tf import runtime

with runtime.quiet():
    import keras
    import tensorflow as tf


@keras.saving.register_keras_serializable("imagegen_tf")
class Bicubic(keras.layers.Layer):
    """Enlarge images by a whole factor, exactly as images.resize does.

    A fixed convolution at the small size gives each pixel the scale² pixels that it becomes, in
    float32. At the borders the kernel is cut, and what is left of it weighs more. Values are not
    clipped: the kernel overshoots at edges.

    Args:
        scale: whole number >= 2.
    Raises:
        ValueError: another scale.
    References:
        Keys, 1981, Cubic convolution interpolation, doi:10.1109/TASSP.1981.1163711; a = -0.5
    Taught in: notebooks/06_super_resolution.ipynb
    """

    def __init__(self, scale, **options):
        super().__init__(**options | {"dtype": "float32"})
        if isinstance(scale, bool) or not scale >= 2 or scale % 1:
            raise ValueError(f"scale: expected a whole number >= 2, got {scale!r}")
        self.scale = int(scale)
        # Where the centres of the new pixels lie, seen from the centre of the old one.
        places = (np.arange(self.scale) + 0.5) / self.scale - 0.5
        # Weights of the five old pixels around, for each new one.
        taps = _cubic(np.arange(-2, 3)[:, None] - places)  # (5, scale)
        self._kernel = np.einsum("yi,xj->yxij", taps, taps).reshape(5, 5, -1)

    def call(self, inputs):
        # (5, 5, channels, scale² channels): every channel is enlarged by itself.
        channels = inputs.shape[-1]
        kernel = np.einsum("yxp,cd->yxcpd", self._kernel, np.eye(channels))
        kernel = kernel.reshape(5, 5, channels, -1).astype(np.float32)
        # (n, h, w, c) => (n, h, w, c * scale²) => (n, h * scale, w * scale, c)
        phases = keras.ops.conv(inputs, kernel, padding="same")
        # At the border part of the kernel is cut: what is left must still sum to 1.
        weight = keras.ops.conv(keras.ops.ones_like(inputs[:1]), kernel, padding="same")
        return keras.ops.depth_to_space(phases / weight, self.scale)

    def compute_output_shape(self, shape):
        """Give the shape of enlarged images."""
        height, width = (None if size is None else size * self.scale for size in shape[1:3])
        return (shape[0], height, width, shape[3])

    def get_config(self):
        """Give what a saved network needs to build this layer again."""
        return super().get_config() | {"scale": self.scale}


def _cubic(x):
    """Give the bicubic kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@keras.saving.register_keras_serializable("imagegen_tf")
class PullPush(keras.layers.Layer):
    """Fill holes from a pyramid of ever coarser averages, exactly as editing.fill does.

    Called on [image, mask]: (number, height, width, channels) and (number, height, width, 1), where
    the mask is 1 in the hole. What stands in the hole does not matter, not even NaN. All sizes,
    up to 2**levels pixels a side; in float32. A picture without a known pixel becomes 0.

    Args:
        levels: how often sides are halved, at most; whole number >= 1.
    Raises:
        ValueError: another number of levels.
    References:
        Gortler et al., 1996, The Lumigraph, section 3.4, doi:10.1145/237170.237200
    Taught in: notebooks/07_inpainting.ipynb
    """

    def __init__(self, levels=12, **options):
        super().__init__(**options | {"dtype": "float32"})
        if not levels >= 1 or levels % 1:
            raise ValueError(f"levels: expected a whole number >= 1, got {levels!r}")
        self.levels = int(levels)

    def call(self, inputs):
        return _pull_push(*inputs, self.levels)

    def compute_output_shape(self, shapes):
        """Give the shape of the filled images."""
        return tuple(shapes[0])

    def get_config(self):
        """Give what a saved network needs to build this layer again."""
        return super().get_config() | {"levels": self.levels}


def _pull_push(image, mask, levels):
    """Fill holes from a pyramid; levels that are whole already are halved without harm."""
    known = tf.cast(mask < 0.5, tf.float32)
    # Pull: halve values and weights, (n, h, w, c) and (n, h, w, 1), down to one pixel.
    pyramid = [(tf.where(mask < 0.5, image, 0.0), known)]
    for _ in range(levels):
        values, weight = pyramid[-1]
        if values.shape[1:3] == (1, 1):
            break
        total, count = (4 * _halved(one) for one in (values * weight, weight))
        pyramid.append((total / tf.maximum(count, 1e-9), tf.minimum(count, 1.0)))
    # Push: fill each level from the coarser one.
    coarse = pyramid[-1][0]
    for values, weight in reversed(pyramid[:-1]):
        size = tf.shape(values)[1:3]
        fine = tf.image.resize(coarse, 2 * tf.shape(coarse)[1:3])[:, : size[0], : size[1]]
        coarse = values * weight + fine * (1 - weight)
    return coarse


def _halved(batch):
    """Average 2 x 2 pixels; an odd side gets a row of zeros first."""
    odd = tf.shape(batch)[1:3] % 2
    batch = tf.pad(batch, [[0, 0], [0, odd[0]], [0, odd[1]], [0, 0]])
    return tf.nn.avg_pool2d(batch, 2, 2, "VALID")


@keras.saving.register_keras_serializable("imagegen_tf")
class Plate(keras.layers.Layer):
    """Fill holes with a thin plate under tension, the surface that bends and slopes least.

    Among all surfaces with the known pixels as they are, it has the smallest sum of (bending)² +
    tension * (slope)². Tension 0 is the biharmonic equation; with a large one the plate becomes a
    soap film (Laplace's equation), which does not overshoot. The layer starts from PullPush and
    takes steps of the conjugate gradient method, every picture and channel by itself. Called on
    [image, mask] as PullPush is; values are not clipped.

    Args:
        tension: weight of the slope, in 1 / pixels²; >= 0.
        steps: of the solver, whole number >= 1. Wider holes and less tension need more.
    Raises:
        ValueError: a tension below 0 or not finite; another number of steps.
    References:
        Hestenes and Stiefel, 1952, Methods of conjugate gradients, doi:10.6028/jres.049.044
        Smith and Wessel, 1990, Gridding with continuous curvature splines in tension,
        doi:10.1190/1.1442837
    Taught in: notebooks/07_inpainting.ipynb
    """

    def __init__(self, tension=1.0, steps=40, **options):
        super().__init__(**options | {"dtype": "float32"})
        if not 0 <= tension < float("inf") or not steps >= 1 or steps % 1:
            raise ValueError(f"expected tension >= 0 and steps >= 1, got {tension} and {steps}")
        self.tension, self.steps = float(tension), int(steps)

    def call(self, inputs):
        surface = _pull_push(*inputs, levels=12)
        number, height, width, channels = keras.ops.shape(surface)
        # One plane for each channel: the solver's sums and products are faster on planes.
        planes = keras.ops.reshape(keras.ops.transpose(surface, (0, 3, 1, 2)), (-1, height, width))
        mask = tf.repeat(tf.cast(inputs[1][:, :, :, 0] > 0.5, tf.float32), channels, axis=0)
        planes = self._solve(planes, mask)
        planes = keras.ops.reshape(planes, (number, channels, height, width))
        return keras.ops.transpose(planes, (0, 2, 3, 1))

    def _solve(self, surface, mask):
        """Take the steps of the conjugate gradient method: (number, height, width)."""

        def bent(surface):  # half the gradient of what is minimised, in the hole
            curvature = _laplacian(surface)
            return mask * (_laplacian(curvature) - self.tension * curvature)

        def step(number, surface, rest, direction, size):
            change = bent(direction)
            # The step that is best along this direction; then a direction conjugate to all before.
            length = size / (_dot(direction, change) + 1e-20)
            surface, rest = surface + length * direction, rest - length * change
            now = _dot(rest, rest)
            return number + 1, surface, rest, rest + now / (size + 1e-20) * direction, now

        rest = -bent(surface)
        state = (0, surface, rest, rest, _dot(rest, rest))
        return tf.while_loop(lambda number, *_: number < self.steps, step, state)[1]

    def compute_output_shape(self, shapes):
        """Give the shape of the filled images."""
        return tuple(shapes[0])

    def get_config(self):
        """Give what a saved network needs to build this layer again."""
        return super().get_config() | {"tension": self.tension, "steps": self.steps}


def _laplacian(batch):
    """Sum the differences to the four neighbours; beyond the border stands the border's value."""
    batch = tf.concat([batch[:, :1], batch, batch[:, -1:]], axis=1)
    batch = tf.concat([batch[:, :, :1], batch, batch[:, :, -1:]], axis=2)
    rows = batch[:, 2:, 1:-1] + batch[:, :-2, 1:-1]
    columns = batch[:, 1:-1, 2:] + batch[:, 1:-1, :-2]
    return rows + columns - 4 * batch[:, 1:-1, 1:-1]


def _dot(first, second):
    """Give the scalar product of each plane: (number, 1, 1)."""
    return tf.reduce_sum(first * second, axis=[1, 2], keepdims=True)


@keras.saving.register_keras_serializable("imagegen_tf")
class Positions(keras.layers.Layer):
    """Add a learned vector to each place of a row, so that equal things at two places differ.

    Attention by itself sees a set: it knows neither the order of words nor where in a picture a
    feature comes from. Called on (number, places, channels). A shorter row than the one it was
    built for takes the first vectors.

    Args:
        places: how many vectors there are, whole number >= 1.
        is_grid: whether the places are those of a square picture, row by row. The vectors then
            start as slow waves over it, so that neighbours are alike; else they are small and
            independent.
    Raises:
        ValueError: another number of places, or no square number for a grid.
    References:
        Gehring et al., 2017, Convolutional sequence to sequence learning, section 3.1,
        arXiv:1705.03122
    Taught in: notebooks/09_captioning.ipynb
    """

    def __init__(self, places, is_grid=False, **options):
        super().__init__(**options)
        if isinstance(places, bool) or not places >= 1 or places % 1:
            raise ValueError(f"places: expected a whole number >= 1, got {places!r}")
        self.places, self.is_grid = int(places), bool(is_grid)
        if is_grid and math.isqrt(self.places) ** 2 != self.places:
            raise ValueError(f"places: expected a square number for a grid, got {places}")

    def build(self, shape):
        """Make the vectors."""
        start = _waves if self.is_grid else keras.initializers.RandomNormal(stddev=0.1)
        self.vectors = self.add_weight((self.places, shape[-1]), start, name="vectors")

    def call(self, inputs):
        return inputs + self.vectors[: keras.ops.shape(inputs)[1]]

    def compute_output_shape(self, shape):
        """Give the shape of the input."""
        return tuple(shape)

    def get_config(self):
        """Give what a saved network needs to build this layer again."""
        return super().get_config() | {"places": self.places, "is_grid": self.is_grid}


def _waves(shape, dtype=None):
    """Mix slow waves over the rows and the columns of a square at random: (places, channels)."""
    side = math.isqrt(shape[0])
    # (side, 4): half a wave to two waves over the side.
    waves = np.cos(np.pi * np.outer(np.arange(side) + 0.5, np.arange(1, 5)) / side)
    rows, columns = np.repeat(waves, side, axis=0), np.tile(waves, (side, 1))
    mix = keras.initializers.RandomNormal(stddev=0.25)((8, shape[1]))
    return keras.ops.cast(np.hstack([rows, columns]).astype(np.float32) @ mix, dtype or "float32")
