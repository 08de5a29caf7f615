"""Captioned scenes of shapes: an offline world of pictures with words, in which truth is known.

One or two shapes float before a coloured wall and throw a shadow on it. Their outlines are signed
distances, sampled four times per pixel.
"""

import itertools
from typing import NamedTuple

import numpy as np

from imagegen_tf.datasets import captions as words

SHAPES = words.SHAPES
COLOURS = {
    "red": (0.84, 0.13, 0.15),
    "orange": (0.97, 0.52, 0.08),
    "yellow": (0.98, 0.86, 0.20),
    "green": (0.16, 0.62, 0.24),
    "turquoise": (0.14, 0.76, 0.74),
    "blue": (0.13, 0.30, 0.84),
    "purple": (0.50, 0.18, 0.66),
    "pink": (0.97, 0.56, 0.74),
}
RADII = {"small": (0.125, 0.15), "large": (0.23, 0.27)}  # in shares of the picture's side
WALLS = {  # the colours of the wall at its top and at its bottom
    "paper": ((0.97, 0.95, 0.90), (0.88, 0.85, 0.79)),
    "dawn": ((0.80, 0.84, 0.92), (0.97, 0.90, 0.84)),
    "fog": ((0.72, 0.76, 0.78), (0.60, 0.64, 0.68)),
    "night": ((0.10, 0.11, 0.18), (0.20, 0.19, 0.30)),
}
WALL_DEPTH = 10.0  # objects float at depths from 3 to 9
UNSEEN = frozenset(  # kept out of training, to see whether a model can put known words together
    [
        ("red", "heart"),
        ("orange", "ring"),
        ("yellow", "square"),
        ("green", "star"),
        ("blue", "triangle"),
        ("purple", "circle"),
    ]
)
_FINE = 2  # samples per pixel and direction
_BATCH = 128  # scenes that are drawn at once, to bound memory


class Object(NamedTuple):
    """One shape: four words, and where it is.

    Fields:
        shape, colour, size, texture: words of SHAPES, COLOURS, SIZES and TEXTURES.
        x, y: its middle, in shares of the picture's side, from the left and from the top.
        radius: in shares of the side.
        angle: counter-clockwise, in radians.
        depth: distance from the eye; the wall is at WALL_DEPTH.
    """

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    radius: float
    angle: float
    depth: float


class Scene(NamedTuple):
    """A picture of which everything is known.

    Fields:
        image: float32 (size, size, 3) in [0, 1].
        alphas: float32 (objects, size, size, 1): how much of each pixel the object would cover if
            nothing stood before it.
        depth: float32 (size, size, 1); grows away from the eye.
        caption: one of the true captions.
        objects: tuple of Object, in the order of the caption.
        captions: all true captions.
    """

    image: np.ndarray
    alphas: np.ndarray
    depth: np.ndarray
    caption: str
    objects: tuple
    captions: tuple


def draw(count, *, size=32, objects=2, textures=words.TEXTURES, pairs="any", rng=None):
    """Draw scenes.

    Args:
        count: number of scenes.
        size: height and width in pixels, at least 16.
        objects: shapes in each scene, 1 or 2.
        textures: some of TEXTURES.
        pairs: "any"; "seen" leaves out the pairs of colour and shape in UNSEEN; "unseen" has one of
            them in every scene.
        rng: seed, numpy.random.Generator or None.
    Returns:
        Iterator of Scene, `count` times.
    Raises:
        ValueError: an argument out of its range.
    Example:
        >>> next(draw(1, rng=0)).image.shape
        (32, 32, 3)

    Taught in: notebooks/09_captioning.ipynb
    """
    if count < 1 or size < 16 or objects not in (1, 2):
        raise ValueError(
            f"expected count >= 1, size >= 16, 1 or 2 objects; got {count}, {size}, {objects}"
        )
    if pairs not in ("any", "seen", "unseen"):
        raise ValueError(f'pairs: expected "any", "seen" or "unseen", got {pairs!r}')
    if not textures or set(textures) - set(words.TEXTURES):
        raise ValueError(f"textures: expected some of {words.TEXTURES}, got {textures!r}")
    return _draw(count, size, objects, textures, pairs, np.random.default_rng(rng))


def _draw(count, size, objects, textures, pairs, rng):
    """Yield the scenes; `draw` has checked the arguments."""
    for start in range(0, count, _BATCH):
        arranged = [
            _arrange(_invent(objects, textures, pairs, rng), rng)
            for _ in range(min(_BATCH, count - start))
        ]
        walls = rng.integers(len(WALLS), size=len(arranged))
        for placed, *drawn in zip(arranged, *_render(arranged, walls, size), strict=True):
            captions = words.write(placed)
            yield _scene(captions[rng.integers(len(captions))], placed, *drawn)


def illustrate(caption, *, size=32, rng=None):
    """Draw a scene of which a caption is true: what a text-to-image model should draw.

    Args:
        caption: text in the grammar of `scene_captions`.
        size: height and width in pixels, at least 16.
        rng: seed, numpy.random.Generator or None; chooses what the caption leaves open.
    Returns:
        Scene; its caption is this one as the grammar writes it.
    Raises:
        ValueError: the caption is not in the grammar, or nothing can be as it says.
    Example:
        >>> illustrate("a small red star above a large blue circle", rng=0).objects[1].shape
        'circle'

    Taught in: notebooks/11_text_to_image.ipynb
    """
    if size < 16:
        raise ValueError(f"size: expected 16 or more, got {size}")
    rng = np.random.default_rng(rng)
    reading = words.read(caption)
    # Place the objects at random until they stand as the caption says.
    for _ in range(1_000):
        invented = [
            item | {"size": item["size"] or str(rng.choice(words.SIZES))}
            for item in reading.objects
        ]
        placed = _arrange(invented, rng)
        if reading.relation in (None, *words.relations(placed)):
            drawn = _render([placed], rng.integers(len(WALLS), size=1), size)
            return _scene(words.write_reading(reading), placed, *(part[0] for part in drawn))
    raise ValueError(f"caption: no scene was found of which {caption!r} is true")


def _invent(count, textures, pairs, rng):
    """Choose the words of a scene's objects; no two share both colour and shape."""
    everything = itertools.product(COLOURS, SHAPES)
    allowed = [pair for pair in everything if pairs == "any" or pair not in UNSEEN]
    chosen = [allowed[place] for place in rng.choice(len(allowed), count, replace=False)]
    if pairs == "unseen":  # put such a pair in the place of one
        chosen[rng.integers(count)] = sorted(UNSEEN)[rng.integers(len(UNSEEN))]
    return [
        {
            "shape": shape,
            "colour": colour,
            "size": str(rng.choice(words.SIZES)),
            "texture": str(rng.choice(textures)),
        }
        for colour, shape in chosen
    ]


def _arrange(invented, rng):
    """Place objects so that they are inside, seen, and stand in a clear direction to each other."""
    while True:
        placed = []
        nearness = rng.permutation(len(invented))
        for item, order in zip(invented, nearness, strict=True):
            radius = rng.uniform(*RADII[item["size"]])
            x, y = rng.uniform(1.1 * radius, 1 - 1.1 * radius, 2)
            # Depths 3 to 5 or 6 to 8: which is nearer is never in doubt.
            angle, depth = rng.uniform(-0.25, 0.25), 3 + 3 * order + rng.uniform(0, 2)
            placed.append(Object(**item, x=x, y=y, radius=radius, angle=angle, depth=depth))
        if len(placed) == 1:
            return tuple(placed)
        # Not diagonal, the farther not hidden, and clearly overlapping or clearly apart.
        a, b = placed
        across, down = abs(a.x - b.x), abs(a.y - b.y)
        apart = np.hypot(across, down) / (a.radius + b.radius)
        clear = max(across, down) > 1.6 * min(across, down)
        if clear and apart > 0.72 and not 0.85 < apart < 1.1:
            return tuple(placed)


def _scene(caption, objects, image, alphas, depth):
    """Make a scene; its objects come in the order of the caption."""
    captions = words.write(objects)
    if words.read(caption).relation not in (words.relations(objects) or (None,)):
        objects, alphas = objects[::-1], alphas[::-1]
    return Scene(image, alphas, depth, caption, objects, captions)


def _render(arranged, walls, size):
    """Give images, alphas and depths of many scenes at once."""
    count, fine = len(arranged), _FINE * size
    place = (np.arange(fine, dtype=np.float32) + 0.5) / fine
    x, y = place[None, None, :], place[None, :, None]
    # The wall, from its colour at the top to that at the bottom: (count, fine, fine, 3)
    ends = np.array(list(WALLS.values()), np.float32)[walls]  # (count, 2, 3)
    image = ends[:, 0, None, None] + (ends[:, 1] - ends[:, 0])[:, None, None] * y[..., None]
    image = np.broadcast_to(image, (count, fine, fine, 3)).copy()
    depth = np.full((count, fine, fine, 1), WALL_DEPTH, np.float32)
    alphas = np.empty((count, len(arranged[0]), fine, fine, 1), np.float32)
    # Of every scene the farthest object first and the nearest last, as painters do.
    orders = np.array([np.argsort([-item.depth for item in objects]) for objects in arranged])
    for order in orders.T:
        layer = [objects[place] for objects, place in zip(arranged, order, strict=True)]
        u, v = _own_places(layer, x, y)
        distance = _distances(layer, u, v)
        alpha = _coverage(layer, distance, 1.0 / fine)
        # The shadow: the farther from the wall, the farther off and the softer.
        off = [(WALL_DEPTH - item.depth) * 0.006 for item in layer]
        off = np.array(off, np.float32)[:, None, None]
        shadow = _distances(layer, *_own_places(layer, x, y, off))
        image *= 1 - 0.42 * _coverage(layer, shadow, 2.2 * off) * (1 - alpha)
        # Only the pixels inside are painted; most are not.
        inside = alpha[..., 0] > 0
        paint = _painted(layer, np.nonzero(inside)[0], u[inside], v[inside], distance[inside])
        image[inside] += alpha[inside] * (paint - image[inside])
        depth = np.where(alpha > 0.5, _numbers(layer, "depth")[..., None], depth)
        alphas[np.arange(count), order] = alpha
    # Four samples become a pixel: the mean of colours, the nearest of depths.
    return _shrunk(image).clip(0, 1), _shrunk(alphas), _shrunk(depth, np.min)


def _numbers(objects, field):
    """Gather one field of all objects: float32 (objects, 1, 1)."""
    return np.array([getattr(item, field) for item in objects], np.float32)[:, None, None]


def _own_places(objects, x, y, shift=0.0):
    """Give each pixel's place as its object sees it: turned back, in units of its radius."""
    radius, angle = _numbers(objects, "radius"), _numbers(objects, "angle")
    across = (x - _numbers(objects, "x") - shift) / radius
    down = (y - _numbers(objects, "y") - shift) / radius
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * across - sine * down, sine * across + cosine * down


def _distances(objects, u, v):
    """Give the signed distance to each object's outline, in units of its radius."""
    shapes = np.array([item.shape for item in objects])
    distance = np.empty(u.shape, np.float32)
    for shape in np.unique(shapes):
        same = shapes == shape
        distance[same] = _OUTLINES[shape](u[same], v[same])
    return distance


def _coverage(objects, distance, softness):
    """Give how much of each fine pixel is inside, from 0 to 1 over `softness` across the edge."""
    return np.clip(0.5 - distance * _numbers(objects, "radius") / softness, 0, 1)[..., None]


def _painted(objects, rows, u, v, distance):
    """Give the colours of pixels inside: texture, light from the upper left, a darker rim."""
    colour = np.array([COLOURS[item.colour] for item in objects], np.float32)[rows]
    textures = np.array([words.TEXTURES.index(item.texture) for item in objects])[rows]
    stripes = (v / 0.5) % 1 < 0.42
    dots = np.hypot((u / 0.62) % 1 - 0.5, (v / 0.62) % 1 - 0.5) < 0.27
    # Marks are lighter; the order is that of TEXTURES.
    marked = np.choose(textures, [np.zeros_like(dots), stripes, dots])
    colour = np.where(marked[:, None], 0.35 * colour + 0.65, colour)
    light = 1 - 0.13 * (u + v)
    rim = np.clip(1 + distance / 0.22, 0, 1) * 0.16
    return colour * (light - rim)[:, None]


def _shrunk(fine, by=np.mean):
    """Join fine pixels to pixels."""
    parts = [fine[..., y::_FINE, x::_FINE, :] for y in range(_FINE) for x in range(_FINE)]
    return by(parts, axis=0).astype(np.float32)


def _star(u, v):
    """Measure to a star of five tips: fold the angle, and one edge stands for all ten."""
    angle = np.arctan2(u, -v)
    fold = 2 * np.pi / 5
    angle = np.abs((angle + fold / 2) % fold - fold / 2)
    radius = np.hypot(u, v)
    # The line from a tip at radius 1.15 to an inner corner at radius 0.5, half a fold away.
    inner = 0.5 * np.array([np.cos(fold / 2), np.sin(fold / 2)])
    normal = np.array([inner[1], 1.15 - inner[0]]) / np.hypot(inner[1], 1.15 - inner[0])
    across, along = radius * np.cos(angle), radius * np.sin(angle)
    return normal[0] * (across - 1.15) + normal[1] * along


def _heart(u, v):
    """Measure to a heart: a square on its corner with a disc on each upper side."""
    v = v - 0.08
    side, middle = 0.64, 0.64 / np.sqrt(2)
    rounds = np.hypot(np.abs(u) - middle, v + middle) - side
    body = np.maximum(np.abs(u + v), np.abs(u - v)) / np.sqrt(2) - side
    return np.minimum(rounds, body)


# Signed distance to each outline, below 0 inside; u to the right, v down, in units of the radius.
_OUTLINES = {
    "circle": lambda u, v: np.hypot(u, v) - 0.95,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.84,
    "triangle": lambda u, v: np.maximum(v - 0.15, 0.866 * np.abs(u) - 0.5 * (v - 0.15)) - 0.62,
    "star": _star,
    "heart": _heart,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.72) - 0.28,
}
