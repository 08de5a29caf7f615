"""Layers that Keras lacks and several chapters share. Import it before loading their networks."""

import numpy as np

from imagegen_tf import runtime

with runtime.quiet():
    import keras
    import tensorflow as tf

_registered = keras.saving.register_keras_serializable("imagegen_tf")


@_registered
class PixelShuffle(keras.layers.Layer):
    """Turn channels into pixels: (n, h, w, scale² c) becomes (n, scale h, scale w, c).

    The sub-pixel convolution of super-resolution: all work is done at the small size, and a last
    convolution gives every small pixel the scale² pixels that it becomes.

    Args:
        scale: whole number >= 1.
    Raises:
        ValueError: the scale is no whole number >= 1.
    References:
        Shi et al., 2016, section 3.2, arXiv:1609.05158
    Taught in: notebooks/06_super_resolution.ipynb
    """

    def __init__(self, scale, **options):
        super().__init__(**options)
        self.scale = _whole(scale)

    def call(self, inputs):
        return _shuffled(inputs, self.scale)

    def compute_output_shape(self, shape):
        return _enlarged(shape, self.scale, shape[-1] // self.scale**2)

    def get_config(self):
        return super().get_config() | {"scale": self.scale}


@_registered
class Bicubic(keras.layers.Layer):
    """Enlarge images by a whole factor with the bicubic kernel, a = -0.5.

    A fixed convolution at the small size, then a pixel shuffle, in float32. At the borders the
    image is mirrored.

    Args:
        scale: whole number >= 1; the input has at least 2 pixels on each side.
    Raises:
        ValueError: the scale is no whole number >= 1.
    References:
        Keys, 1981, Cubic convolution interpolation, doi:10.1109/TASSP.1981.1163711
    Taught in: notebooks/06_super_resolution.ipynb
    """

    def __init__(self, scale, **options):
        super().__init__(**options | {"dtype": "float32"})
        self.scale = _whole(scale)
        # Where the centres of the new pixels lie, seen from the centre of the old pixel.
        places = (np.arange(self.scale) + 0.5) / self.scale - 0.5
        taps = _cubic(np.arange(-2, 3)[:, None] - places)  # (5, scale)
        kernel = np.einsum("yi,xj->yxij", taps, taps).reshape(5, 5, 1, self.scale**2)
        self.kernel = kernel.astype(np.float32)

    def call(self, inputs):
        channels = inputs.shape[-1]
        padded = tf.pad(inputs, [(0, 0), (2, 2), (2, 2), (0, 0)], "SYMMETRIC")
        kernel = tf.tile(self.kernel, (1, 1, channels, 1))
        phases = tf.nn.depthwise_conv2d(padded, kernel, (1, 1, 1, 1), "VALID")
        return _shuffled(_channels_last(phases, channels), self.scale)

    def compute_output_shape(self, shape):
        return _enlarged(shape, self.scale, shape[-1])

    def get_config(self):
        return super().get_config() | {"scale": self.scale}


def _shuffled(inputs, scale):
    """Turn channels into pixels; TensorFlow's own refuses a scale of 1."""
    return inputs if scale == 1 else tf.nn.depth_to_space(inputs, scale)


def _channels_last(phases, channels):
    """Reorder (n, h, w, channels · phases) to (n, h, w, phases · channels)."""
    if channels == 1:
        return phases
    shape = tf.shape(phases)
    parts = tf.reshape(phases, [*tf.unstack(shape)[:3], channels, -1])
    return tf.reshape(tf.transpose(parts, (0, 1, 2, 4, 3)), shape)


def _cubic(x):
    """Give the bicubic kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _whole(scale):
    """Check a scale."""
    if isinstance(scale, bool) or scale != int(scale) or scale < 1:
        raise ValueError(f"scale: expected a whole number >= 1, got {scale!r}")
    return int(scale)


def _enlarged(shape, scale, channels):
    """Give the shape of enlarged images."""
    height, width = (None if size is None else size * scale for size in shape[1:3])
    return (shape[0], height, width, channels)
