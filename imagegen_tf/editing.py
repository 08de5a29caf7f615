"""Edit one image: crop, rotate, scale, flip, erase, fill.

Every function returns a new image and leaves its input as it was. RGBA images are averaged with
premultiplied colours, so that invisible pixels do not bleed into visible ones.
"""

import numpy as np
from scipy import ndimage

from imagegen_tf import images

ROTATE_ORDERS = {"nearest": 0, "bilinear": 1, "bicubic": 3}
FILL_METHODS = ("constant", "nearest", "pull-push", "biharmonic", "patch")


def crop(image, top, left, height, width):
    """Cut out a rectangle.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        top, left: first row and column, counted from 0.
        height, width: size of the rectangle in pixels, at least 1.
    Returns:
        (height, width, channels), same dtype, a copy.
    Raises:
        ValueError: the rectangle is empty or leaves the image.
        TypeError: not an image, or a number that is not whole.
    Example:
        >>> crop(np.zeros((5, 8, 3)), 1, 2, 3, 4).shape
        (3, 4, 3)

    Taught in: notebooks/02_image_editing.ipynb
    """
    images.check(image)
    box = (top, left, height, width)
    if not all(isinstance(number, (int, np.integer)) for number in box):
        raise TypeError(f"rectangle: expected whole numbers, got {box}")
    top, left, height, width = map(int, box)
    inside = 0 <= top and 0 <= left and height >= 1 and width >= 1
    if not inside or top + height > image.shape[0] or left + width > image.shape[1]:
        raise ValueError(
            f"rectangle of {height} x {width} at row {top}, column {left} does not lie in an image "
            f"of {image.shape[0]} x {image.shape[1]}"
        )
    return image[top : top + height, left : left + width].copy()


def flip(image, axis):
    """Mirror an image.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        axis: "horizontal" swaps left and right, "vertical" swaps top and bottom.
    Returns:
        Same shape and dtype, a copy.
    Raises:
        ValueError: another axis. TypeError, ValueError: not an image.
    Taught in: notebooks/02_image_editing.ipynb
    """
    images.check(image)
    if axis not in ("horizontal", "vertical"):
        raise ValueError(f'axis: expected "horizontal" or "vertical", got {axis!r}')
    return np.flip(image, 1 if axis == "horizontal" else 0).copy()


def scale(image, factor):
    """Make an image larger or smaller by a factor, with antialiased bicubic resampling.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        factor: new size over old size; > 0. Sizes are rounded, and are at least one pixel.
    Returns:
        (round(height * factor), round(width * factor), channels), same dtype, clipped to [0, 1].
    Raises:
        ValueError: the factor is not positive and finite. TypeError, ValueError: not an image.
    Taught in: notebooks/02_image_editing.ipynb
    """
    images.check(image)
    if not 0 < factor < np.inf:
        raise ValueError(f"factor: expected a number above 0, got {factor}")
    height, width = (max(1, round(size * factor)) for size in image.shape[:2])
    return images.resize(image, height, width)


def rotate(image, degrees, expand=False, *, method="bicubic"):
    """Turn an image counter-clockwise about its centre.

    Quarter turns only move pixels and are exact (with `expand`, or if height and width are both
    even or both odd); all else resamples. What comes from outside the image is black, or
    transparent in an RGBA image.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        degrees: angle, counter-clockwise as seen; any finite number.
        expand: True makes the result large enough to hold the corners, to the nearest pixel; False
            keeps the size.
        method: "nearest", "bilinear" or "bicubic".
    Returns:
        (height, width, channels), same dtype, clipped to [0, 1].
    Raises:
        ValueError: unknown method, an angle that is not finite. TypeError, ValueError: not an
            image.
    Example:
        >>> rotate(np.array([[[0.1], [0.9]]]), 180)[0, :, 0].tolist()
        [0.9, 0.1]

    Taught in: notebooks/02_image_editing.ipynb
    """
    from skimage import transform  # here, because crop and flip should not wait for it

    images.check(image)
    if method not in ROTATE_ORDERS:
        raise ValueError(f"method: expected one of {', '.join(ROTATE_ORDERS)}, got {method!r}")
    if not np.isfinite(degrees):
        raise ValueError(f"degrees: expected a finite angle, got {degrees}")
    # Quarter turns only move pixels, if the centre stays between or on the same pixels.
    turns, rest = divmod(degrees, 90)
    swaps_sides = turns % 2 == 1
    odd_difference = (image.shape[0] - image.shape[1]) % 2
    if rest == 0 and (expand or not swaps_sides or not odd_difference):
        turned = np.rot90(image, int(turns % 4))
        result = np.zeros(turned.shape if expand else image.shape, image.dtype)
        size = np.minimum(turned.shape, result.shape)[:2]
        _middle(result, *size)[:] = _middle(turned, *size)
        return result
    turned = transform.rotate(
        np.require(images.premultiply(image), requirements="W"),  # skimage writes nothing, but asks
        degrees,
        resize=expand,
        order=ROTATE_ORDERS[method],
        mode="constant",
        preserve_range=True,
        clip=False,
    )
    return images.unpremultiply(turned).astype(image.dtype, copy=False)


def _middle(image, height, width):
    """View the middle of an image, at a size that differs from its own by even numbers."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def erase(image, mask, *, value=0.0):
    """Wipe out the pixels under a mask; a soft mask wipes softly.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        mask: (height, width), bool or values in [0, 1]; 1 on pixels to erase.
        value: what stands there afterwards, in [0, 1]; an RGBA image becomes transparent instead.
    Returns:
        Same shape and dtype.
    Raises:
        ValueError: a mask of another size, values outside [0, 1]. TypeError: not an image.
    Taught in: notebooks/02_image_editing.ipynb
    """
    images.check(image)
    if not 0 <= value <= 1:
        raise ValueError(f"value: expected a number in [0, 1], got {value}")
    mask = images.check_mask(mask, image.shape, dtype=image.dtype)[:, :, None]
    if image.shape[2] == 4:
        return np.concatenate([image[:, :, :3], image[:, :, 3:] * (1 - mask)], axis=2)
    return image * (1 - mask) + image.dtype.type(value) * mask


def fill(image, mask, method="pull-push"):
    """Fill a hole from what surrounds it. Known pixels come back untouched, bit for bit.

    "constant" takes the mean of the known pixels; "nearest" the nearest known pixel; "pull-push" a
    pyramid of ever coarser averages, smooth and fast; "biharmonic" the smoothest surface through
    the rim (scikit-image); "patch" copies texture, patch by patch, from elsewhere in the image. It
    takes seconds for a hole of 60 x 60 pixels, a minute for 200 x 200 or for many small holes.

    Args:
        image: float32 (height, width, channels), values in [0, 1]. Those in the hole do not matter.
        mask: (height, width), bool or values 0 and 1; 1 on pixels to fill.
        method: "constant", "nearest", "pull-push", "biharmonic" or "patch".
    Returns:
        Same shape and dtype. A mask without a hole gives a copy.
    Raises:
        ValueError: unknown method, a mask of another size, with values between 0 and 1, or with no
            known pixel left; for "patch", no known 9 x 9 patch. TypeError: not an image.
    References:
        Gortler et al., 1996, The Lumigraph, section 3.4, doi:10.1145/237170.237200 (pull-push).
        Damelin and Hoang, 2018, doi:10.1155/2018/3950312 (biharmonic).
        Criminisi, Perez and Toyama, 2004, doi:10.1109/TIP.2004.833105 (patch).
    Taught in: notebooks/02_image_editing.ipynb
    """
    images.check(image)
    if method not in FILL_METHODS:
        raise ValueError(f"method: expected one of {', '.join(FILL_METHODS)}, got {method!r}")
    hole = images.check_mask(mask, image.shape)
    if not np.isin(hole, (0, 1)).all():
        raise ValueError("mask: expected only 0 and 1 (a soft mask is for erase and mix)")
    hole = hole == 1
    if hole.all():
        raise ValueError("mask: covers the whole image, nothing is left to fill from")
    if not hole.any():
        return image.copy()
    # What stands in the hole must not matter, and invisible colours must not bleed.
    known = np.where(hole[:, :, None], 0, images.premultiply(image))
    methods = (_constant, _nearest, _pull_push, _biharmonic, _patch)
    filled = images.unpremultiply(methods[FILL_METHODS.index(method)](known, hole))
    return np.where(hole[:, :, None], filled, image).astype(image.dtype, copy=False)


def _constant(image, hole):
    """Fill with the mean of the known pixels."""
    return np.broadcast_to(image[~hole].mean(axis=0, dtype=np.float64), image.shape)


def _nearest(image, hole):
    """Fill with the nearest known pixel."""
    rows, columns = ndimage.distance_transform_edt(
        hole, return_distances=False, return_indices=True
    )
    return image[rows, columns]


def _pull_push(image, hole):
    """Average known pixels into ever coarser levels, then fill each level from the coarser one."""
    # Pull: halve values and weights until every pixel is known.
    levels = [(image, (~hole).astype(image.dtype)[:, :, None])]
    while levels[-1][1].min() == 0 and max(levels[-1][1].shape) > 1:
        values, weight = levels[-1]
        odd = [(0, size % 2) for size in values.shape[:2]] + [(0, 0)]
        values, weight = np.pad(values * weight, odd), np.pad(weight, odd)
        total, count = (
            a.reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2, -1).sum(axis=(1, 3))
            for a in (values, weight)
        )
        levels.append((total / np.maximum(count, 1e-9), np.minimum(count, 1)))
    # Push: fill each level from the coarser one, as far as it is not known.
    coarse = levels[-1][0]
    for values, weight in reversed(levels[:-1]):
        height, width = values.shape[:2]
        fine = ndimage.zoom(coarse, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
        coarse = values * weight + fine[:height, :width] * (1 - weight)
    return coarse


def _biharmonic(image, hole):
    """Fill with the solution of the biharmonic equation (scikit-image)."""
    from skimage import restoration

    return restoration.inpaint_biharmonic(image, hole, channel_axis=2)


def _patch(image, hole, radius=4, reach=48):
    """Copy the best matching known patch, most certain rim pixel first (Criminisi et al., 2004).

    The priority is the rim's certainty times the strength of the edges there, not their direction.
    Source patches are looked for up to `reach` pixels away, or as far as the nearest one.
    """
    size = 2 * radius + 1
    usable = ndimage.binary_erosion(~hole, np.ones((size, size)))
    if not usable.any():
        raise ValueError(f"mask: leaves no known patch of {size} x {size} pixels to copy from")
    # In a wide hole the nearest source patch may be farther away.
    farthest = ndimage.distance_transform_cdt(~usable, "chessboard")[hole].max()
    reach = max(reach, int(farthest))
    # Work on the part of the image that can matter, not on all of it.
    rows, columns = (np.nonzero(hole.any(axis=axis))[0] for axis in (1, 0))
    area = tuple(
        slice(max(0, along[0] - reach - radius), along[-1] + reach + radius + 1)
        for along in (rows, columns)
    )
    result = image.copy()
    result[area] = _patch_by_patch(image[area], hole[area], radius, reach)
    return result


def _patch_by_patch(image, hole, radius, reach):
    """Fill a hole patch by patch, the most certain place first."""
    size = 2 * radius + 1
    padding = [(radius, radius)] * 2
    filled = np.pad(image.astype(np.float32), [*padding, (0, 0)])
    todo = np.pad(hole, padding)
    valid = np.pad(np.ones(hole.shape, bool), padding)
    confidence = (valid & ~todo).astype(np.float32)
    # A source patch lies inside the image and holds no hole; its centre is marked.
    usable = ndimage.binary_erosion(valid & ~todo, np.ones((size, size)))
    windows = np.lib.stride_tricks.sliding_window_view(filled, (size, size), axis=(0, 1))
    while todo.any():
        # Which place comes next: on the rim, where much around it is known and edges run.
        known = valid & ~todo
        rim = todo & ndimage.binary_dilation(known)
        certainty = ndimage.uniform_filter(confidence, size, mode="constant")
        grey = filled.mean(axis=2) * known
        slopes = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
        # Slopes that the hole itself makes do not count.
        inner = ndimage.binary_erosion(known, np.ones((3, 3)))
        edge = ndimage.maximum_filter(slopes * inner, 5)
        priority = np.where(rim, certainty * (edge + 0.05), -1)
        y, x = np.unravel_index(priority.argmax(), priority.shape)
        here = (slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1))
        # Compare what is known there with all patches within reach: (patches, channels, known).
        top, left = max(0, y - reach), max(0, x - reach)
        rows, columns = np.nonzero(usable[top : y + reach + 1, left : x + reach + 1])
        sources = windows[rows + top - radius, columns + left - radius]
        seen = known[here]
        gap = sources[:, :, seen] - windows[y - radius, x - radius][:, seen]
        best = sources[np.einsum("nck,nck->n", gap, gap).argmin()].transpose(1, 2, 0)
        # Copy the best one into what is not known yet.
        target = todo[here] & valid[here]
        filled[here][target] = best[target]
        confidence[here][target] = certainty[y, x]
        todo[here] = False
    return filled[radius:-radius, radius:-radius]
