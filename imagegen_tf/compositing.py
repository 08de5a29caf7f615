"""Combine images: mixing, alpha, blend modes, depth, and blends that hide their seam.

Images are float32 (height, width, channels) in [0, 1]; RGBA has straight alpha, RGB counts as
opaque. Where a result's alpha is 0, its colour is 0. Terms and spelling follow W3C Compositing and
Blending Level 1 (https://www.w3.org/TR/compositing-1/): the *source* goes onto the *backdrop*.
"""

import numpy as np
from scipy import ndimage

from imagegen_tf import images

ROWS = 32  # large images are worked through in bands of rows that fit into the processor's cache

# The share of source and of backdrop that an operator keeps, given both alphas (W3C, section 9).
_SHARES = {
    "clear": lambda source, backdrop: (0, 0),
    "copy": lambda source, backdrop: (1, 0),
    "destination": lambda source, backdrop: (0, 1),
    "source-over": lambda source, backdrop: (1, 1 - source),
    "destination-over": lambda source, backdrop: (1 - backdrop, 1),
    "source-in": lambda source, backdrop: (backdrop, 0),
    "destination-in": lambda source, backdrop: (0, source),
    "source-out": lambda source, backdrop: (1 - backdrop, 0),
    "destination-out": lambda source, backdrop: (0, 1 - source),
    "source-atop": lambda source, backdrop: (backdrop, 1 - source),
    "destination-atop": lambda source, backdrop: (1 - backdrop, source),
    "xor": lambda source, backdrop: (1 - backdrop, 1 - source),
    "plus": lambda source, backdrop: (1, 1),
}
OPERATORS = tuple(_SHARES)


# The colour formulas of the blend modes: colours of source and backdrop, (height, width, 3) in
# [0, 1], give the blended colour (W3C, section 10).


def _divide(part, whole):
    """Divide part by whole where part is smaller, else give 1: never above 1, never by zero."""
    return np.divide(part, whole, out=np.ones_like(part), where=part < whole)


def _hard_light(source, backdrop):
    """Multiply where the source is dark, screen where it is light."""
    screened = backdrop + (2 * source - 1) - backdrop * (2 * source - 1)
    return np.where(source <= 0.5, backdrop * 2 * source, screened)


def _soft_light(source, backdrop):
    """Darken or lighten gently, as W3C writes it."""
    low = ((16 * backdrop - 12) * backdrop + 4) * backdrop
    lifted = np.where(backdrop <= 0.25, low, np.sqrt(backdrop)) - backdrop
    darker = backdrop - (1 - 2 * source) * backdrop * (1 - backdrop)
    return np.where(source <= 0.5, darker, backdrop + (2 * source - 1) * lifted)


def _luminosity(colour):
    """Give the luminosity of colours, with W3C's weights."""
    return (colour @ np.array([0.3, 0.59, 0.11], colour.dtype))[..., None]


def _saturation(colour):
    """Give the distance between the largest and the smallest channel."""
    return np.ptp(colour, axis=2, keepdims=True)


def _with_saturation(colour, saturation):
    """Spread the channels until the largest is `saturation` and the smallest is 0."""
    above = colour - colour.min(axis=2, keepdims=True)
    spread = above.max(axis=2, keepdims=True)
    return above / np.where(spread > 0, spread, 1) * saturation


def _with_luminosity(colour, luminosity):
    """Shift the channels to a luminosity, then pull them towards it until they lie in [0, 1]."""
    shifted = colour - _luminosity(colour)
    low, high = shifted.min(axis=2, keepdims=True), shifted.max(axis=2, keepdims=True)
    shrink = np.minimum(_divide(luminosity, -low), _divide(1 - luminosity, high))
    return luminosity + shifted * shrink


FORMULAS = {
    "normal": lambda s, b: s,
    "multiply": lambda s, b: s * b,
    "screen": lambda s, b: b + s - b * s,
    "overlay": lambda s, b: _hard_light(b, s),
    "darken": np.minimum,
    "lighten": np.maximum,
    "color-dodge": lambda s, b: np.where(b == 0, 0, _divide(b, 1 - s)),
    "color-burn": lambda s, b: np.where(b == 1, 1, 1 - _divide(1 - b, s)),
    "hard-light": _hard_light,
    "soft-light": _soft_light,
    "difference": lambda s, b: np.abs(b - s),
    "exclusion": lambda s, b: b + s - 2 * b * s,
    "hue": lambda s, b: _with_luminosity(_with_saturation(s, _saturation(b)), _luminosity(b)),
    "saturation": lambda s, b: _with_luminosity(
        _with_saturation(b, _saturation(s)), _luminosity(b)
    ),
    "color": lambda s, b: _with_luminosity(s, _luminosity(b)),
    "luminosity": lambda s, b: _with_luminosity(b, _luminosity(s)),
}
BLEND_MODES = tuple(FORMULAS)


def _same_size(source, backdrop, channels=(3, 4)):
    """Check two images and that they have the same height and width."""
    images.check_layout(source, "source", channels)
    images.check_layout(backdrop, "backdrop", channels)
    if source.shape[:2] != backdrop.shape[:2]:
        raise ValueError(f"source is {source.shape[:2]} but backdrop is {backdrop.shape[:2]}")


def _alpha(image):
    """Give the alpha of an image, (height, width); RGB is opaque."""
    if image.shape[2] == 4:
        return image[:, :, 3].copy()
    return np.ones(image.shape[:2], image.dtype)


def mix(a, b, weight):
    """Move from one image to another: a * (1 - weight) + b * weight.

    Args:
        a, b: images of the same shape; RGBA is mixed with premultiplied colours.
        weight: number in [0, 1], or (height, width) of such numbers; 0 gives a, 1 gives b.
    Returns:
        Same shape and dtype as a.
    Raises:
        ValueError: shapes differ, or a weight outside [0, 1]. TypeError, ValueError: not an image.
    Example:
        >>> mix(np.zeros((1, 1, 3)), np.ones((1, 1, 3)), 0.25)[0, 0].tolist()
        [0.25, 0.25, 0.25]

    Taught in: notebooks/03_compositing.ipynb
    """
    images.check(a, "a")
    images.check(b, "b")
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape} but b has {b.shape}")
    weight = np.full(a.shape[:2], weight, a.dtype) if np.ndim(weight) == 0 else weight
    weight = images.check_mask(weight, a.shape, "weight", a.dtype)[:, :, None]
    mixed = images.premultiply(a) * (1 - weight) + images.premultiply(b) * weight
    return images.unpremultiply(mixed).astype(a.dtype, copy=False)


def porter_duff(source, backdrop, operator):
    """Combine two images by one of the twelve Porter-Duff operators, or plus.

    Args:
        source, backdrop: float32 (height, width, 3 or 4), values in [0, 1], straight alpha.
        operator: one of OPERATORS.
    Returns:
        (height, width, 4), dtype of the source, straight alpha.
    Raises:
        ValueError: unknown operator, sizes differ. TypeError, ValueError: not an image.
    Example:
        >>> red, nothing = np.array([[[1.0, 0, 0, 1]]]), np.zeros((1, 1, 4))
        >>> porter_duff(red, nothing, "source-out")[0, 0].tolist()
        [1.0, 0.0, 0.0, 1.0]

    References:
        Porter and Duff, 1984, Compositing digital images, doi:10.1145/800031.808606
        W3C Compositing and Blending Level 1, section 9.
    Taught in: notebooks/03_compositing.ipynb
    """
    if operator not in _SHARES:
        raise ValueError(f"operator: expected one of {', '.join(OPERATORS)}, got {operator!r}")
    _same_size(source, backdrop)
    return _combine(source, backdrop, _SHARES[operator], channels=4)


def over(source, backdrop):
    """Lay a source over a backdrop, the operation behind nearly every composite.

    alpha = source alpha + backdrop alpha * (1 - source alpha), and colours likewise, weighted by
    alpha.
    It is associative: of three layers, it does not matter which two are joined first.

    Args:
        source, backdrop: float32 (height, width, 3 or 4), values in [0, 1], straight alpha.
    Returns:
        Shape and number of channels of the backdrop, dtype of the source.
    Raises:
        ValueError: sizes differ. TypeError, ValueError: not an image.
    Example:
        >>> half_red, white = np.array([[[1.0, 0, 0, 0.5]]]), np.ones((1, 1, 3))
        >>> over(half_red, white)[0, 0].tolist()
        [1.0, 0.5, 0.5]

    References:
        Porter and Duff, 1984, Compositing digital images, doi:10.1145/800031.808606
    Taught in: notebooks/03_compositing.ipynb
    """
    _same_size(source, backdrop)
    return _combine(source, backdrop, _SHARES["source-over"], backdrop.shape[2])


def _combine(source, backdrop, shares, channels):
    """Weigh source and backdrop by the shares of an operator, band by band."""
    result = np.empty((*source.shape[:2], channels), source.dtype)
    for top in range(0, source.shape[0], ROWS):
        band = slice(top, top + ROWS)
        front = images.check_range(source[band], "source")
        back = images.check_range(backdrop[band], "backdrop")
        front_weight, back_weight = _alpha(front), _alpha(back)
        front_share, back_share = shares(front_weight, back_weight)
        front_weight, back_weight = front_weight * front_share, back_weight * back_share
        alpha = np.minimum(front_weight + back_weight, 1)
        visible = np.where(alpha > 0, alpha, 1)
        front_weight /= visible
        back_weight /= visible
        for channel in range(3):
            colour = front[:, :, channel] * front_weight
            colour += back[:, :, channel] * back_weight
            np.minimum(colour, 1, out=result[band, :, channel])
        if channels == 4:
            result[band, :, 3] = alpha
    return result


def blend(source, backdrop, mode, opacity=1.0):
    """Blend colours where both images have any, then lay the result over the backdrop.

    Args:
        source, backdrop: float32 (height, width, 3 or 4), values in [0, 1], straight alpha.
        mode: one of BLEND_MODES.
        opacity: factor on the source's alpha, in [0, 1].
    Returns:
        Shape and number of channels of the backdrop, dtype of the source.
    Raises:
        ValueError: unknown mode, opacity outside [0, 1], sizes differ. TypeError, ValueError: not
            an image.
    Example:
        >>> grey = np.full((1, 1, 3), 0.5)
        >>> blend(grey, grey, "multiply")[0, 0].tolist()
        [0.25, 0.25, 0.25]

    References:
        W3C Compositing and Blending Level 1, section 10.
    Taught in: notebooks/03_compositing.ipynb
    """
    if mode not in FORMULAS:
        raise ValueError(f"mode: expected one of {', '.join(BLEND_MODES)}, got {mode!r}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected a number in [0, 1], got {opacity}")
    _same_size(source, backdrop)
    result = np.empty((*source.shape[:2], backdrop.shape[2]), source.dtype)
    for top in range(0, source.shape[0], ROWS):
        band = slice(top, top + ROWS)
        front = images.check_range(source[band], "source")
        back = images.check_range(backdrop[band], "backdrop")
        blended = np.clip(FORMULAS[mode](front[:, :, :3], back[:, :, :3]), 0, 1)
        both = _alpha(back)[:, :, None]
        colour = (1 - both) * front[:, :, :3] + both * blended
        alpha = (_alpha(front) * front.dtype.type(opacity))[:, :, None]
        layer = np.concatenate([np.clip(colour, 0, 1), alpha], axis=2).astype(source.dtype)
        result[band] = over(layer, back)
    return result


def by_depth(layers, depths):
    """Composite layers pixel by pixel in the order of their depth, the farthest first.

    Layers may pass through one another: each pixel has its own order. Soft edges are alpha, as
    always. At equal depth the layer named first is in front.

    Args:
        layers: images of one size, float32 (height, width, 3 or 4), values in [0, 1].
        depths: for each layer (height, width), growing away from the eye; NaN is depth not known,
            which counts as the farthest.
    Returns:
        (height, width, 4), or (height, width, 3) if one of the layers is RGB and so hides all
        behind it.
    Raises:
        ValueError: no layer, another number of depths, sizes differ. TypeError, ValueError: not an
            image.
    References:
        Duff, 1985, Compositing 3-D rendered images, doi:10.1145/325165.325174; here alpha is kept
        and whole pixels are ordered, without his subpixel test.
    Taught in: notebooks/03_compositing.ipynb
    """
    layers, depths = list(layers), list(depths)
    if not layers or len(layers) != len(depths):
        raise ValueError(f"expected one depth per layer, got {len(layers)} and {len(depths)}")
    for number, layer in enumerate(layers):
        images.check(layer, f"layers[{number}]", (3, 4))
        if layer.shape[:2] != layers[0].shape[:2]:
            raise ValueError(f"layers[{number}] is {layer.shape[:2]}, not {layers[0].shape[:2]}")
    for depth in depths:
        if np.shape(depth) != layers[0].shape[:2]:
            raise ValueError(f"depth: expected {layers[0].shape[:2]}, got {np.shape(depth)}")
    channels = min(layer.shape[2] for layer in layers)
    stack = np.stack([_with_alpha(layer) for layer in layers])
    depths = np.stack([np.where(np.isnan(depth), np.inf, depth) for depth in depths])
    front_to_back = np.argsort(depths, axis=0, kind="stable")
    result = np.zeros_like(stack[0])
    for order in front_to_back[::-1]:
        nearer = np.take_along_axis(stack, order[None, :, :, None], axis=0)[0]
        result = over(nearer, result)
    return result[:, :, :channels].copy()


def _with_alpha(image):
    """Give an image four channels."""
    if image.shape[2] == 4:
        return image
    return np.concatenate([image, np.ones((*image.shape[:2], 1), image.dtype)], axis=2)


def feather(mask, radius):
    """Soften the edge of a mask: a straight ramp from 0 to 1 over `radius` pixels either side.

    Args:
        mask: (height, width), bool or values in [0, 1]; above 0.5 counts as inside.
        radius: half the width of the ramp in pixels; >= 0 (0 gives the hard mask).
    Returns:
        float32 (height, width), values in [0, 1]; 0.5 on the edge.
    Raises:
        TypeError, ValueError: not a mask, or radius negative.
    Taught in: notebooks/03_compositing.ipynb
    """
    mask = np.asarray(mask)
    inside = images.check_mask(mask, mask.shape) > 0.5
    if not 0 <= radius < np.inf:
        raise ValueError(f"radius: expected a number of at least 0, got {radius}")
    if radius == 0 or inside.all() or not inside.any():
        return inside.astype(np.float32)
    # The edge runs between pixels, half a pixel from the centres on either side.
    signed = np.where(
        inside,
        ndimage.distance_transform_edt(inside) - 0.5,
        0.5 - ndimage.distance_transform_edt(~inside),
    )
    return np.clip(0.5 + signed / (2 * radius), 0, 1).astype(np.float32)


_BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


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
    """Join two images along a mask, each frequency band over a distance that suits it.

    Broad tones pass slowly from one image into the other, fine detail quickly: no seam, no ghost.

    Args:
        source, backdrop: images of the same shape.
        mask: (height, width), bool or values in [0, 1]; 1 shows the source.
        levels: number of bands, at least 1; by default down to about 4 pixels.
    Returns:
        Same shape and dtype as the source, clipped to [0, 1].
    Raises:
        ValueError: shapes differ, levels below 1. TypeError, ValueError: not an image or mask.
    References:
        Burt and Adelson, 1983, A multiresolution spline, doi:10.1145/245.247
    Taught in: notebooks/03_compositing.ipynb
    """
    images.check(source, "source")
    images.check(backdrop, "backdrop")
    if source.shape != backdrop.shape:
        raise ValueError(f"source has shape {source.shape} but backdrop has {backdrop.shape}")
    weight = images.check_mask(mask, source.shape, dtype=source.dtype)[:, :, None]
    most = max(1, int(np.log2(min(source.shape[:2]))) - 1)
    levels = most if levels is None else levels
    if levels != int(levels) or levels < 1:
        raise ValueError(f"levels: expected a whole number of at least 1, got {levels}")
    front, back = images.premultiply(source), images.premultiply(backdrop)
    bands = []
    for _ in range(min(int(levels), most) - 1):
        smaller = [_smooth(a, _BINOMIAL)[::2, ::2] for a in (front, back, weight)]
        detail = [
            a - _expand(small, a.shape) for a, small in zip((front, back), smaller[:2], strict=True)
        ]
        bands.append(detail[0] * weight + detail[1] * (1 - weight))
        front, back, weight = smaller
    blended = front * weight + back * (1 - weight)
    for band in reversed(bands):
        blended = _expand(blended, band.shape) + band
    return images.unpremultiply(blended).astype(source.dtype, copy=False)


def poisson_blend(source, backdrop, mask):
    """Paste the source's gradients, not its colours: inside the mask the tone follows the backdrop.

    Solves for the smoothest correction that makes the source meet the backdrop on the mask's rim.
    One sparse factorisation; 100,000 masked pixels take less than a second.

    Args:
        source, backdrop: images of the same shape, 1 or 3 channels.
        mask: (height, width), bool or values 0 and 1; 1 on the pixels to change.
    Returns:
        Same shape and dtype as the backdrop, clipped to [0, 1]; outside the mask the backdrop, bit
        for bit.
    Raises:
        ValueError: shapes differ, a soft mask, or one that leaves no backdrop. TypeError,
            ValueError: not an image.
    References:
        Perez, Gangnet and Blake, 2003, Poisson image editing, doi:10.1145/882262.882269
    Taught in: notebooks/03_compositing.ipynb
    """
    from scipy import sparse
    from scipy.sparse import linalg

    images.check(source, "source", channels=(1, 3))
    images.check(backdrop, "backdrop", channels=(1, 3))
    if source.shape != backdrop.shape:
        raise ValueError(f"source has shape {source.shape} but backdrop has {backdrop.shape}")
    soft = images.check_mask(mask, source.shape)
    if not np.isin(soft, (0, 1)).all():
        raise ValueError("mask: expected only 0 and 1")
    inside = soft == 1
    if inside.all():
        raise ValueError("mask: covers the whole image, no backdrop is left to follow")
    if not inside.any():
        return backdrop.copy()
    unknowns = np.count_nonzero(inside)
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(unknowns)
    gap = np.where(inside[:, :, None], 0, backdrop.astype(np.float64) - source)
    diagonal, known = np.zeros(inside.shape), np.zeros(source.shape)
    links = []
    for here, there in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        diagonal[here] += 1
        known[here] += gap[there]
        both = inside[here] & inside[there]
        links.append((number[here][both], number[there][both]))
    rows, columns = (np.concatenate(side) for side in zip(*links, strict=True))
    system = sparse.coo_array((-np.ones(rows.size), (rows, columns)), (unknowns, unknowns)).tocsc()
    system += sparse.diags_array(diagonal[inside], format="csc")
    correction = linalg.splu(system, permc_spec="MMD_AT_PLUS_A").solve(known[inside])
    result = backdrop.copy()
    result[inside] = np.clip(source[inside] + correction, 0, 1)
    return result
