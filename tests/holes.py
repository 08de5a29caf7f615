"""Pictures of random numbers and masks with holes, for the tests of what fills them."""

import numpy as np


def noise(*shape):
    """A picture of even random numbers."""
    return np.random.default_rng(0).random(shape).astype(np.float32)


def some_holes(height, width, number=2, share=0.4):
    """Masks of single pixels; the first pixel is always known."""
    rng = np.random.default_rng(1)
    masks = (rng.random((number, height, width, 1)) < share).astype(np.float32)
    masks[:, 0, 0] = 0
    return masks


def poisoned(batch, masks):
    """The pictures with NaN in the holes."""
    return np.where(masks > 0, np.nan, batch).astype(np.float32)
