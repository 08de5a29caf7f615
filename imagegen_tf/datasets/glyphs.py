"""Digits and letters drawn on the spot from the fonts inside matplotlib: labelled data, offline.

Each picture varies in font, weight, slant, turn, shift, size and thickness, so that a network has
something to learn.
"""

import functools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FONTS = tuple(
    "DejaVuSans DejaVuSans-Bold DejaVuSans-BoldOblique DejaVuSans-Oblique "
    "DejaVuSansMono DejaVuSansMono-Bold DejaVuSansMono-BoldOblique DejaVuSansMono-Oblique "
    "DejaVuSerif DejaVuSerif-Bold DejaVuSerif-BoldItalic DejaVuSerif-Italic "
    "STIXGeneral STIXGeneralBol STIXGeneralBolIta STIXGeneralItalic "
    "cmb10 cmr10 cmss10 cmti10 cmtt10".split()
)
_SIDE = 36  # of a master, in pixels of a picture of 28 pixels
_FINE, _COARSE = 8, 2  # samples per pixel while a master is drawn, and where it is kept
_HEIGHT = 17.0  # of a capital letter before it is varied, in pixels of 28
_BATCH = 2_000  # pictures that are drawn at once, to bound memory


def draw(characters, count, *, size=28, rng=None):
    """Draw labelled pictures of single characters, white on black.

    The outline is kept as the distance to it, so that moving the threshold changes the thickness of
    the strokes and every edge is antialiased.

    Args:
        characters: text; each character is a class, in this order.
        count: number of pictures; the classes occur equally often, give or take one.
        size: height and width in pixels, at least 8.
        rng: seed, numpy.random.Generator or None.
    Returns:
        images: uint8 (count, size, size, 1).
        labels: int64 (count,), positions in `characters`, in random order.
    Raises:
        ValueError: no character, one twice or one that the fonts lack; count below 1, size below 8.
    Example:
        >>> draw("01", 4, rng=0)[0].shape
        (4, 28, 28, 1)

    Taught in: notebooks/04_dcgan.ipynb
    """
    if not characters or len(set(characters)) != len(characters):
        raise ValueError(f"characters: expected different ones, got {characters!r}")
    if count < 1 or size < 8:
        raise ValueError(f"expected count >= 1 and size >= 8, got {count} and {size}")
    rng = np.random.default_rng(rng)
    # (characters, fonts, side, side)
    masters = np.stack([[_master(letter, font) for font in FONTS] for letter in characters])
    # As many of each class as can be, in random order.
    labels = rng.permutation(np.arange(count) % len(characters))
    images = np.empty((count, size, size, 1), np.uint8)
    for start in range(0, count, _BATCH):
        batch = np.s_[start : start + _BATCH]
        fonts = rng.integers(len(FONTS), size=labels[batch].size)
        images[batch, :, :, 0] = _vary(masters, labels[batch], fonts, size, rng)
    return images, labels


@functools.cache
def _master(character, font):
    """Give the distance to a character's outline, above 0 inside, in pixels of 28: (side, side)."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    if ord(character) not in FT2Font(str(path)).get_charmap():
        raise ValueError(f"characters: the font {font} lacks {character!r}")
    # Fonts differ in how much of their size a letter fills: make all capitals equally high.
    reference = ImageFont.truetype(str(path), 1000)
    _, top, _, bottom = reference.getbbox("H")
    scaled = reference.font_variant(size=1000 * _HEIGHT * _FINE / (bottom - top))
    # Draw it large in the middle of a canvas.
    left, top, right, bottom = scaled.getbbox(character)
    side = _SIDE * _FINE
    canvas = Image.new("L", (side, side))
    corner = ((side - left - right) / 2, (side - top - bottom) / 2)
    ImageDraw.Draw(canvas).text(corner, character, 255, scaled)
    inside = np.asarray(canvas) > 127
    if not inside.any():
        raise ValueError(f"characters: {character!r} shows nothing in the font {font}")
    # A distance is smooth, so few samples of it keep a sharp outline: 288x288 => 72x72.
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    step = _FINE // _COARSE
    blocks = distance.reshape(side // step, step, side // step, step).mean(axis=(1, 3))
    return (blocks / _FINE).astype(np.float32)


def _vary(masters, labels, fonts, size, rng):
    """Draw a picture for each label, (count, size, size), every one varied in its own way."""
    # Arrays (count, 1, 1), which broadcast over the pixels of a picture.
    turn, slant, wide, tall, down, across, thicker = (
        rng.uniform(low, high, (labels.size, 1, 1)).astype(np.float32)
        for low, high in (
            (-0.12, 0.12),  # radians
            (-0.2, 0.2),  # columns per row
            (0.85, 1.15),  # times as wide
            (0.9, 1.1),  # times as tall
            (-2, 2),  # pixels of 28
            (-2, 2),  # likewise
            (-0.25, 0.45),  # pixels of 28, on either side of a stroke
        )
    )
    # Where each pixel lies in the master, as seen from its middle: move, turn, slant, stretch.
    grid = ((np.arange(size, dtype=np.float32) + 0.5) * 28 / size - 14)[None]
    y, x = grid[:, :, None] - down, grid[:, None, :] - across
    y, x = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
    x = (x + slant * y) / wide
    y = y / tall
    # Its place among the master's samples: whole number and rest.
    last = masters.shape[2] - 1.001
    row, column = (np.clip((a + _SIDE / 2) * _COARSE - 0.5, 0, last) for a in (y, x))
    top, left = row.astype(np.int32), column.astype(np.int32)
    row -= top
    column -= left
    # Bilinear interpolation between the four samples around, in one flat array of all masters.
    flat, side = masters.reshape(-1), masters.shape[2]
    start = ((labels * len(FONTS) + fonts) * side * side).astype(np.int32)[:, None, None]
    index = start + top * side + left
    above = flat[index] * (1 - column) + flat[index + 1] * column
    below = flat[index + side] * (1 - column) + flat[index + side + 1] * column
    inside = above * (1 - row) + below * row + thicker
    # How much of a pixel is covered: all from half a pixel inside the outline on.
    covered = np.clip(inside * size / 28 + 0.5, 0, 1)
    return np.rint(255 * covered).astype(np.uint8)
