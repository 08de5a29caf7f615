"""Layers that Keras lacks and several chapters share. Import it before loading their networks."""

import numpy as np

from imagegen_tf import runtime

with runtime.quiet():
    import keras


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
        taps = _cubic(np.arange(-2, 3)[:, None] - places)  # (5, scale)
        self._kernel = np.einsum("yi,xj->yxij", taps, taps).reshape(5, 5, -1)

    def call(self, inputs):
        # (5, 5, channels, scale² channels): every channel is enlarged by itself.
        channels = inputs.shape[-1]
        kernel = np.einsum("yxp,cd->yxcpd", self._kernel, np.eye(channels))
        kernel = kernel.reshape(5, 5, channels, -1).astype(np.float32)
        phases = keras.ops.conv(inputs, kernel, padding="same")
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
