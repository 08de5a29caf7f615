"""Images as arrays, and the files that they come from and go to.

An *image* here is a floating-point array (height, width, channels) with values in [0, 1]; channels
are 1 (grey), 3 (RGB) or 4 (RGB and straight alpha). uint8 exists only at the edges: files and data
sets. No function guesses a range from the values it meets.
"""

from imagegen_tf.images.arrays import (  # noqa: F401
    RESIZE_METHODS,
    check,
    check_layout,
    check_mask,
    check_range,
    luma,
    premultiply,
    resize,
    to_float,
    to_uint8,
    unpremultiply,
)
from imagegen_tf.images.files import READ_MODES, WRITE_FORMATS, read, read_depth, write  # noqa: F401
