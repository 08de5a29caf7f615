"""Combine images: mixing, alpha, blend modes, depth, and blends that hide their seam.

Images are float32 (height, width, channels) in [0, 1]; RGBA has straight alpha, RGB counts as
opaque. Where a result's alpha is 0, its colour is 0. Terms and spelling follow W3C Compositing and
Blending Level 1 (https://www.w3.org/TR/compositing-1/): the *source* goes onto the *backdrop*.
Taught in: notebooks/03_compositing.ipynb
"""

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import linalg

from imagegen_tf import images

ROWS = 32  # large images are worked through in bands of rows that fit into the processor's cache
_BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16  # the blur between two levels of a pyramid


def _check_alike(first, second, names=("source", "backdrop"), channels=(1, 3, 4)):
    """Check two images and that they have the same shape."""
    for image, name in zip((first, second), names, strict=True):
        images.check(image, name, channels)
    if first.shape != second.shape:
        raise ValueError(f"{names[0]} has shape {first.shape} but {names[1]} has {second.shape}")


def _check_sizes(source, backdrop):
    """Check the layout of two colour images and that they have the same height and width."""
    images.check_layout(source, "source", (3, 4))
    images.check_layout(backdrop, "backdrop", (3, 4))
    if source.shape[:2] != backdrop.shape[:2]:
        raise ValueError(f"source is {source.shape[:2]} but backdrop is {backdrop.shape[:2]}")


def _bands(source, backdrop):
    """Yield a slice of rows and both images there, their values checked."""
    for top in range(0, source.shape[0], ROWS):
        rows = slice(top, top + ROWS)
        front = images.check_range(source[rows], "source")
        yield rows, front, images.check_range(backdrop[rows], "backdrop")


def _alpha(image):
    """Give the alpha of an image, (height, width); RGB is opaque."""
    return image[:, :, 3] if image.shape[2] == 4 else np.ones(image.shape[:2], image.dtype)


def mix(a, b, weight):
    """Move from one image to another: a * (1 - weight) + b * weight.

    Args:
        a, b: images of the same shape; RGBA is mixed with premultiplied colours.
        weight: number in [0, 1], or (height, width) of such numbers; 0 gives a, 1 gives b.
    Returns:
        Same shape and dtype as a.
    Raises:
        TypeError, ValueError: not images of one shape, or a weight outside [0, 1].
    Example:
        >>> mix(np.zeros((1, 1, 3)), np.ones((1, 1, 3)), 0.25)[0, 0].tolist()
        [0.25, 0.25, 0.25]
    """
    _check_alike(a, b, ("a", "b"))
    weight = np.full(a.shape[:2], weight, a.dtype) if np.ndim(weight) == 0 else weight
    weight = images.check_mask(weight, a.shape, "weight", a.dtype)[:, :, None]
    mixed = images.premultiply(a) * (1 - weight) + images.premultiply(b) * weight
    return images.unpremultiply(mixed).astype(a.dtype, copy=False)


# The shares of source and backdrop that an operator keeps, given both alphas: Fa and Fb of W3C,
# 9.1.1 to 9.1.13. A share of `backdrop` means where the backdrop is, 1 - backdrop where it is not.
_SHARES = {
    "clear": lambda source, backdrop: (0, 0),  # nothing
    "copy": lambda source, backdrop: (1, 0),  # the source alone
    "destination": lambda source, backdrop: (0, 1),  # the backdrop alone
    "source-over": lambda source, backdrop: (1, 1 - source),  # the backdrop beside the source
    "destination-over": lambda source, backdrop: (1 - backdrop, 1),  # the source beside it
    "source-in": lambda source, backdrop: (backdrop, 0),  # the source within the backdrop
    "destination-in": lambda source, backdrop: (0, source),  # the backdrop within the source
    "source-out": lambda source, backdrop: (1 - backdrop, 0),  # the source without the overlap
    "destination-out": lambda source, backdrop: (0, 1 - source),  # a hole in the backdrop
    "source-atop": lambda source, backdrop: (backdrop, 1 - source),  # over, in the backdrop's shape
    "destination-atop": lambda source, backdrop: (1 - backdrop, source),  # in the source's shape
    "xor": lambda source, backdrop: (1 - backdrop, 1 - source),  # both without the overlap
    "plus": lambda source, backdrop: (1, 1),  # the sum; headed "Lighter" by W3C
}
OPERATORS = tuple(_SHARES)


def porter_duff(source, backdrop, operator):
    """Combine two images by one of the twelve Porter-Duff operators, or plus.

    Args:
        source, backdrop: float32 (height, width, 3 or 4), values in [0, 1], straight alpha.
        operator: one of OPERATORS.
    Returns:
        (height, width, 4), dtype of the source, straight alpha.
    Raises:
        TypeError, ValueError: not images of one size, or an unknown operator.
    References:
        Porter and Duff, 1984, Compositing digital images, doi:10.1145/800031.808606
    """
    if operator not in _SHARES:
        raise ValueError(f"operator: expected one of {', '.join(OPERATORS)}, got {operator!r}")
    return _combine(source, backdrop, operator, channels=4)


def over(source, backdrop):
    """Lay a source over a backdrop: behind nearly every composite, in any grouping of the layers.

    Args:
        source, backdrop: float32 (height, width, 3 or 4), values in [0, 1], straight alpha.
    Returns:
        Shape and number of channels of the backdrop, dtype of the source.
    Raises:
        TypeError, ValueError: not images of one size.
    Example:
        >>> half_red, white = np.array([[[1.0, 0, 0, 0.5]]]), np.ones((1, 1, 3))
        >>> over(half_red, white)[0, 0].tolist()
        [1.0, 0.5, 0.5]
    """
    return _combine(source, backdrop, "source-over")


def _combine(source, backdrop, operator, channels=None):
    """Weigh source and backdrop by an operator's shares; the backdrop decides on the channels."""
    _check_sizes(source, backdrop)
    result = np.empty((*source.shape[:2], channels or backdrop.shape[2]), source.dtype)
    for rows, front, back in _bands(source, backdrop):
        # The part of each pixel that is the source's, and the backdrop's: (rows, width)
        front_share, back_share = _SHARES[operator](_alpha(front), _alpha(back))
        front_weight, back_weight = _alpha(front) * front_share, _alpha(back) * back_share
        alpha = np.minimum(front_weight + back_weight, 1)
        visible = np.where(alpha > 0, alpha, 1)
        front_weight /= visible
        back_weight /= visible
        # One channel at a time is faster than weights broadcast over an axis of three.
        for channel in range(3):
            colour = front[:, :, channel] * front_weight
            colour += back[:, :, channel] * back_weight
            np.minimum(colour, 1, out=result[rows, :, channel])
        if result.shape[2] == 4:
            result[rows, :, 3] = alpha
    return result


def _divide(part, whole):
    """Divide part by whole where part is smaller, else give 1: never above 1, never by zero."""
    return np.divide(part, whole, out=np.ones_like(part), where=part < whole)


def _hard_light(source, backdrop):
    """Multiply where the source is dark, screen where it is light."""
    screened = backdrop + (2 * source - 1) - backdrop * (2 * source - 1)
    return np.where(source <= 0.5, backdrop * 2 * source, screened)


def _soft_light(source, backdrop):
    """Darken or lighten gently, as W3C writes it."""
    # The lightest it gets: a root, and a polynomial below 0.25, where the root is too steep
    low = ((16 * backdrop - 12) * backdrop + 4) * backdrop
    lifted = np.where(backdrop <= 0.25, low, np.sqrt(backdrop)) - backdrop
    darker = backdrop - (1 - 2 * source) * backdrop * (1 - backdrop)
    return np.where(source <= 0.5, darker, backdrop + (2 * source - 1) * lifted)


def _luminosity(colour):
    """Give the luminosity of colours, (height, width, 1), with W3C's weights."""
    return (colour @ np.array([0.3, 0.59, 0.11], colour.dtype))[..., None]


def _with_luminosity(colour, other):
    """Shift the channels to another colour's luminosity, then pull them towards it into [0, 1]."""
    luminosity = _luminosity(other)
    shifted = colour - _luminosity(colour)  # around 0
    low, high = shifted.min(axis=2, keepdims=True), shifted.max(axis=2, keepdims=True)
    shrink = np.minimum(_divide(luminosity, -low), _divide(1 - luminosity, high))
    return luminosity + shifted * shrink


def _with_saturation(colour, other):
    """Spread the channels from 0 to another colour's saturation, its largest less its smallest."""
    above = colour - colour.min(axis=2, keepdims=True)
    spread = above.max(axis=2, keepdims=True)
    return above / np.where(spread > 0, spread, 1) * np.ptp(other, axis=2, keepdims=True)


# From the colours of source and backdrop, (height, width, 3), to the blended one: W3C's B(Cb, Cs).
_FORMULAS = {
    # Separable: each channel for itself
    "normal": lambda source, backdrop: source,  # 10.1.1
    "multiply": lambda source, backdrop: source * backdrop,  # 10.1.2
    "screen": lambda source, backdrop: backdrop + source - backdrop * source,  # 10.1.3
    "overlay": lambda source, backdrop: _hard_light(backdrop, source),  # 10.1.4
    "darken": np.minimum,  # 10.1.5
    "lighten": np.maximum,  # 10.1.6
    "color-dodge": lambda source, backdrop: np.where(  # 10.1.7
        backdrop == 0, 0, _divide(backdrop, 1 - source)
    ),
    "color-burn": lambda source, backdrop: np.where(  # 10.1.8
        backdrop == 1, 1, 1 - _divide(1 - backdrop, source)
    ),
    "hard-light": _hard_light,  # 10.1.9
    "soft-light": _soft_light,  # 10.1.10
    "difference": lambda source, backdrop: np.abs(backdrop - source),  # 10.1.11
    "exclusion": lambda source, backdrop: backdrop + source - 2 * backdrop * source,  # 10.1.12
    # Not separable: hue, saturation and luminosity taken from either (10.2.1 to 10.2.4)
    "hue": lambda source, backdrop: _with_luminosity(_with_saturation(source, backdrop), backdrop),
    "saturation": lambda source, backdrop: _with_luminosity(
        _with_saturation(backdrop, source), backdrop
    ),
    "color": lambda source, backdrop: _with_luminosity(source, backdrop),
    "luminosity": lambda source, backdrop: _with_luminosity(backdrop, source),
}
BLEND_MODES = tuple(_FORMULAS)


def blend(source, backdrop, mode, opacity=1.0):
    """Blend colours where both images have any, then lay the result over the backdrop.

    Args:
        source, backdrop: float32 (height, width, 3 or 4), values in [0, 1], straight alpha.
        mode: one of BLEND_MODES.
        opacity: factor on the source's alpha, in [0, 1].
    Returns:
        Shape and number of channels of the backdrop, dtype of the source.
    Raises:
        TypeError, ValueError: not images of one size, unknown mode, opacity outside [0, 1].
    """
    if mode not in _FORMULAS:
        raise ValueError(f"mode: expected one of {', '.join(BLEND_MODES)}, got {mode!r}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected a number in [0, 1], got {opacity}")
    _check_sizes(source, backdrop)
    result = np.empty((*source.shape[:2], backdrop.shape[2]), source.dtype)
    for rows, front, back in _bands(source, backdrop):
        blended = np.clip(_FORMULAS[mode](front[:, :, :3], back[:, :, :3]), 0, 1)
        # The source meets only as much backdrop as there is (W3C, section 10).
        both = _alpha(back)[:, :, None]
        colour = np.clip((1 - both) * front[:, :, :3] + both * blended, 0, 1)
        layer = np.dstack([colour, _alpha(front) * front.dtype.type(opacity)])
        result[rows] = over(layer.astype(source.dtype), back)
    return result


def by_depth(layers, depths):
    """Composite layers pixel by pixel in the order of their depth, the farthest first.

    Args:
        layers: images of one size, float32 (height, width, 3 or 4), values in [0, 1].
        depths: (height, width) each, growing away from the eye; NaN counts as the farthest, and at
            equal depth the layer named first is in front.
    Returns:
        (height, width, 4), or 3 channels if a layer is RGB and so hides all behind it.
    Raises:
        TypeError, ValueError: no layer, not images of one size, or not one depth for each.
    References:
        Duff, 1985, doi:10.1145/325165.325174; here whole pixels are ordered, without his subpixels.
    """
    layers, depths = list(layers), list(depths)
    if not layers or len(layers) != len(depths):
        raise ValueError(f"expected one depth per layer, got {len(layers)} and {len(depths)}")
    size = np.shape(layers[0])[:2]
    for number, (layer, depth) in enumerate(zip(layers, depths, strict=True)):
        images.check(layer, f"layers[{number}]", (3, 4))
        sizes = layer.shape[:2], np.shape(depth)
        if sizes != (size, size):
            raise ValueError(f"layers[{number}] and its depth: expected {size}, got {sizes}")
    stack = np.stack([np.dstack([layer[:, :, :3], _alpha(layer)]) for layer in layers])  # RGBA
    # Sort each pixel's layers; a stable sort keeps the first in front at equal depth.
    depths = np.stack(depths)
    depths = np.where(np.isnan(depths), np.inf, depths)
    front_to_back = np.argsort(depths, axis=0, kind="stable")
    # Painter's algorithm: in each step every pixel, (height, width), takes the next of its layers.
    result = np.zeros_like(stack[0])
    for order in front_to_back[::-1]:
        nearer = np.take_along_axis(stack, order[None, :, :, None], axis=0)[0]
        result = over(nearer, result)
    return result[:, :, : min(layer.shape[2] for layer in layers)].copy()


def feather(mask, radius):
    """Soften the edge of a mask: a straight ramp from 0 to 1 over `radius` pixels either side.

    Args:
        mask: (height, width), bool or values in [0, 1]; above 0.5 counts as inside.
        radius: half the width of the ramp in pixels; >= 0 (0 gives the hard mask).
    Returns:
        float32 (height, width), values in [0, 1]; 0.5 on the edge.
    Raises:
        TypeError, ValueError: not a mask, or radius negative.
    """
    mask = np.asarray(mask)
    inside = images.check_mask(mask, mask.shape) > 0.5
    if not 0 <= radius < np.inf:
        raise ValueError(f"radius: expected a number of at least 0, got {radius}")
    if radius == 0 or inside.all() or not inside.any():
        return inside.astype(np.float32)
    # The edge runs between pixels, half a pixel from the centres on either side.
    to_outside, to_inside = map(ndimage.distance_transform_edt, (inside, ~inside))
    signed = np.where(inside, to_outside - 0.5, 0.5 - to_inside)
    return np.clip(0.5 + signed / (2 * radius), 0, 1).astype(np.float32)


def _smooth(image, kernel):
    """Blur rows and columns with a kernel."""
    for axis in (0, 1):
        image = ndimage.convolve1d(image, kernel, axis=axis, mode="mirror")
    return image


def _expand(image, shape):
    """Double an image to a given shape: zeros between the pixels, then a blur."""
    spread = np.zeros((*shape[:2], image.shape[2]), image.dtype)
    spread[::2, ::2] = image
    return _smooth(spread, 2 * _BINOMIAL)


def pyramid_blend(source, backdrop, mask, levels=None):
    """Join two images along a mask, broad tones over a long distance, fine detail over a short one.

    Args:
        source, backdrop: images of the same shape.
        mask: (height, width), bool or values in [0, 1]; 1 shows the source.
        levels: number of bands, at least 1; by default down to about 4 pixels.
    Returns:
        Same shape and dtype as the source, clipped to [0, 1].
    Raises:
        TypeError, ValueError: not images of one shape, not a mask, levels below 1.
    References:
        Burt and Adelson, 1983, A multiresolution spline, doi:10.1145/245.247
    """
    _check_alike(source, backdrop)
    weight = images.check_mask(mask, source.shape, dtype=source.dtype)[:, :, None]
    most = max(1, int(np.log2(min(source.shape[:2]))) - 1)
    levels = most if levels is None else levels
    if levels != int(levels) or levels < 1:
        raise ValueError(f"levels: expected a whole number of at least 1, got {levels}")
    front, back = images.premultiply(source), images.premultiply(backdrop)
    # Down, (height, width) => (height / 2, width / 2) => ...: what an image loses when it is halved
    # is a band of detail, mixed here by the mask at its size.
    bands = []
    for _ in range(min(int(levels), most) - 1):
        halves = [_smooth(a, _BINOMIAL)[::2, ::2] for a in (front, back, weight)]
        front_detail = front - _expand(halves[0], front.shape)
        back_detail = back - _expand(halves[1], back.shape)
        bands.append(front_detail * weight + back_detail * (1 - weight))
        front, back, weight = halves
    # Mix what is left, and come up again, adding each band.
    blended = front * weight + back * (1 - weight)
    for band in reversed(bands):
        blended = _expand(blended, band.shape) + band
    return images.unpremultiply(blended).astype(source.dtype, copy=False)


def poisson_blend(source, backdrop, mask):
    """Paste the source's gradients, not its colours: inside the mask the tone follows the backdrop.

    Solves for the smoothest correction that makes the source meet the backdrop on the mask's rim.

    Args:
        source, backdrop: images of the same shape, 1 or 3 channels.
        mask: (height, width), bool or values 0 and 1; 1 on the pixels to change.
    Returns:
        Same shape and dtype as the backdrop, clipped to [0, 1]; outside the mask the backdrop.
    Raises:
        TypeError, ValueError: not images of one shape, mask soft or over the whole image.
    References:
        Perez, Gangnet and Blake, 2003, Poisson image editing, doi:10.1145/882262.882269
    """
    _check_alike(source, backdrop, channels=(1, 3))
    inside = images.check_mask(mask, source.shape)
    if not np.isin(inside, (0, 1)).all():
        raise ValueError("mask: expected only 0 and 1")
    inside = inside == 1
    if inside.all():
        raise ValueError("mask: covers the whole image, no backdrop is left to follow")
    result = backdrop.copy()
    if not inside.any():
        return result
    # Unknown are the corrections of the masked pixels, numbered row by row; outside, it is the gap.
    unknowns, number = np.count_nonzero(inside), np.cumsum(inside).reshape(inside.shape) - 1
    gap = np.where(inside[:, :, None], 0, backdrop.astype(np.float64) - source)
    # It is smoothest where each pixel is the mean of its neighbours: their count (diagonal) times
    # the pixel, less the unknown neighbours (links), is the sum of the known ones.
    diagonal, known = np.zeros(inside.shape), np.zeros(source.shape)
    links = []
    upper, lower, left, right = np.s_[:-1], np.s_[1:], np.s_[:, :-1], np.s_[:, 1:]
    for here, there in ((lower, upper), (upper, lower), (right, left), (left, right)):
        diagonal[here] += 1
        known[here] += gap[there]
        both = inside[here] & inside[there]
        links.append([number[here][both], number[there][both]])
    rows, columns = np.concatenate(links, axis=1)
    system = sparse.coo_array((-np.ones(rows.size), (rows, columns)), (unknowns, unknowns)).tocsc()
    system += sparse.diags_array(diagonal[inside], format="csc")
    # Symmetric, at most five numbers a row; one factorisation serves all channels.
    correction = linalg.splu(system, permc_spec="MMD_AT_PLUS_A").solve(known[inside])
    result[inside] = np.clip(source[inside] + correction, 0, 1)
    return result
