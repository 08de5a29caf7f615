"""Images as arrays: layout, value ranges, alpha, grey, resizing.

An *image* here is a floating-point array (height, width, channels) with values in [0, 1]; channels
are 1 (grey), 3 (RGB) or 4 (RGB and straight alpha). uint8 exists only at the edges: files and data
sets. No function guesses a range from the values it meets.
"""

import numpy as np
from PIL import Image

RESIZE_METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def check_layout(image, name="image", channels=(1, 3, 4)):
    """Check type and shape, not values: float32 or float64, (height, width, channels), not empty.

    Args:
        image: what should be an image.
        name: what to call it in an error.
        channels: the numbers of channels that are allowed.
    Returns:
        The image itself.
    Raises:
        TypeError: not a NumPy array of float32 or float64.
        ValueError: another number of axes or of channels, or no pixel.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(image).__name__}")
    if image.dtype not in (np.float32, np.float64):
        hint = "; images.to_float converts" if image.dtype in (np.uint8, np.uint16, bool) else ""
        raise TypeError(f"{name}: expected float32 in [0, 1], got {image.dtype}{hint}")
    if image.ndim != 3 or image.shape[2] not in channels:
        allowed = " or ".join(str(count) for count in channels)
        raise ValueError(f"{name}: expected shape (height, width, {allowed}), got {image.shape}")
    if image.size == 0:
        raise ValueError(f"{name}: has no pixel, its shape is {image.shape}")
    return image


def check_range(values, name="image"):
    """Check that all values are numbers in [0, 1].

    Args:
        values: floating-point array of any shape, not empty; returned as it is.
        name: what to call it in an error.
    Raises:
        ValueError: a value below 0, above 1, or not a number.
    """
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"{name}: expected values in [0, 1], got {low!s} to {high!s}")
    return values


def check(image, name="image", channels=(1, 3, 4)):
    """Check that an array is an image, type, shape and values, and return it.

    Args:
        image, name, channels: as in check_layout.
    Raises:
        TypeError, ValueError: as check_layout and check_range.
    Example:
        >>> check(np.full((2, 3, 1), 0.5)).shape
        (2, 3, 1)

    Taught in: notebooks/00_start_here.ipynb
    """
    return check_range(check_layout(image, name, channels), name)


def check_mask(values, shape, name="mask", dtype=np.float32):
    """Check a map of one value per pixel (mask, weight, alpha) and return it as (height, width).

    Args:
        values: (height, width) or (height, width, 1), bool or floating-point in [0, 1].
        shape: the (height, width) that it must have.
        name: what to call it in an error.
        dtype: floating-point type of the result.
    Returns:
        dtype (height, width), values in [0, 1].
    Raises:
        TypeError: neither bool nor floating-point.
        ValueError: another size, or values outside [0, 1].
    """
    values = np.asarray(values)
    if values.dtype != bool and values.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected bool or float values in [0, 1], got {values.dtype}")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.shape != tuple(shape[:2]):
        raise ValueError(f"{name}: expected shape {tuple(shape[:2])}, got {values.shape}")
    return check_range(values.astype(dtype, copy=False), name)


def to_float(image):
    """Convert file values to an image; the type alone decides the range.

    Args:
        image: (height, width) or (height, width, channels): uint8 (0 to 255), uint16 (0 to 65535),
            bool, or floating-point in [0, 1].
    Returns:
        float32 (height, width, channels), values in [0, 1]; floating-point input keeps its type.
    Raises:
        TypeError: another type, whose range cannot be known.
        ValueError: not an image's shape, or floating-point values outside [0, 1].
    Example:
        >>> to_float(np.array([[0, 51, 255]], dtype=np.uint8))[0, :, 0].round(2).tolist()
        [0.0, 0.20000000298023224, 1.0]

    Taught in: notebooks/00_start_here.ipynb
    """
    image = np.asarray(image)
    kind = image.dtype.newbyteorder("=")  # of big-endian files, too
    full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(bool): 1}
    if kind in full:
        image = image.astype(np.float32)
        image /= np.float32(full[kind])  # in place: photos are large
    elif kind not in (np.float32, np.float64):
        raise TypeError(f"image: {image.dtype} has no range of its own; use uint8, uint16 or bool")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    return check(image[:, :, None] if image.ndim == 2 else image)


def to_uint8(image):
    """Convert an image to bytes for a file or a data set, rounding to the nearest of 256 levels.

    Args:
        image: float32 (height, width, channels), values in [0, 1]; uint8 passes unchanged.
    Returns:
        uint8, same shape.
    Example:
        >>> to_uint8(np.full((1, 1, 1), 0.5)).item()
        128

    Taught in: notebooks/00_start_here.ipynb
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image
    return np.floor(check(image) * 255 + 0.5).astype(np.uint8)


def premultiply(image):
    """Multiply the colours of an RGBA image by its alpha; other images pass unchanged.

    Whatever averages pixels (resizing, rotating, blurring) must do so on premultiplied colours, or
    the invisible colour of transparent pixels bleeds into the picture.

    Args:
        image: floating-point (height, width, channels).
    Returns:
        Same shape and dtype.
    References:
        Porter and Duff, 1984, Compositing digital images, section 3, doi:10.1145/800031.808606
    Taught in: notebooks/03_compositing.ipynb
    """
    if image.shape[2] != 4:
        return image
    return np.concatenate([image[:, :, :3] * image[:, :, 3:], image[:, :, 3:]], axis=2)


def unpremultiply(image):
    """Divide the colours of a premultiplied RGBA image by its alpha; other images pass unchanged.

    Args:
        image: floating-point (height, width, channels).
    Returns:
        Same shape and dtype, clipped to [0, 1]; where alpha is 0 the colour is 0.
    Taught in: notebooks/03_compositing.ipynb
    """
    if image.shape[2] == 4:  # divide before clipping, or overshoot of alpha changes the colour
        alpha = image[:, :, 3:]
        colour = np.where(alpha > 0, image[:, :, :3], 0) / np.where(alpha > 0, alpha, 1)
        image = np.concatenate([colour, alpha], axis=2)
    return np.clip(image, 0, 1)


def luma(image, limited=False):
    """Weigh red, green and blue into one grey channel as television does (BT.601).

    Args:
        image: float32 (height, width, channels), values in [0, 1]; alpha is left out.
        limited: False: black is 0 and white is 1. True: black is 16/255 and white 235/255, the Y
            on which super-resolution papers measure.
    Returns:
        (height, width, 1), same dtype.
    Raises:
        TypeError, ValueError: not an image.
    Example:
        >>> luma(np.array([[[1.0, 0.0, 0.0]]])).item()
        0.299

    References:
        ITU-R BT.601-7, section 2.5.1 (full range) and 2.5.3 (limited range).
    Taught in: notebooks/00_start_here.ipynb
    """
    image = check(image)
    if image.shape[2] == 1:
        grey = image.copy()
    else:
        red, green, blue = np.moveaxis(image[:, :, :3], 2, 0)[..., None]
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
    if limited:
        grey = (16 + 219 * grey) / 255
    return np.clip(grey, 0, 1).astype(image.dtype)


def resize(image, height, width, method="bicubic"):
    """Resize with antialiasing: shrinking averages over all the pixels that a new pixel covers.

    The bicubic kernel is MATLAB's (a = -0.5), so numbers compare with published super-resolution;
    only at the border does MATLAB mirror the image, where here the kernel is cut.
    RGBA is resized with premultiplied colours.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        height, width: new size in pixels, at least 1.
        method: "nearest" (no antialiasing), "area", "bilinear", "bicubic" or "lanczos".
    Returns:
        (height, width, channels), same dtype, clipped to [0, 1] (bicubic and lanczos overshoot).
    Raises:
        TypeError: not an image, or a size that is not a whole number.
        ValueError: a size below 1, an unknown method, or not an image.
    Example:
        >>> resize(np.zeros((4, 6, 3), np.float32), 2, 3).shape
        (2, 3, 3)

    References:
        Keys, 1981, Cubic convolution interpolation, doi:10.1109/TASSP.1981.1163711
    Taught in: notebooks/02_image_editing.ipynb
    """
    check(image)
    if method not in RESIZE_METHODS:
        raise ValueError(f"method: expected one of {', '.join(RESIZE_METHODS)}, got {method!r}")
    for name, size in (("height", height), ("width", width)):
        if not isinstance(size, (int, np.integer)):
            raise TypeError(f"{name}: expected a whole number of pixels, got {size!r}")
        if size < 1:
            raise ValueError(f"{name}: expected at least 1 pixel, got {size}")
    planes = np.moveaxis(premultiply(image).astype(np.float32, copy=False), 2, 0)
    resized = [
        Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), RESIZE_METHODS[method])
        for plane in planes
    ]
    return unpremultiply(np.stack(resized, axis=2)).astype(image.dtype, copy=False)
