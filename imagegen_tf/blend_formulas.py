"""The colour formulas of the sixteen blend modes, for compositing.blend.

Each takes the colours of source and backdrop, (height, width, 3) in [0, 1], and gives the blended
colour. Source: W3C Compositing and Blending Level 1, section 10
(https://www.w3.org/TR/compositing-1/).
"""

import numpy as np


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
