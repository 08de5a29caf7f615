"""The language of the scenes: a small grammar that writes all true captions and reads them back.

caption  = object, or object relation object
object   = "a" or "an", [size], [texture], colour, shape
"""

import itertools
from typing import NamedTuple

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
OPPOSITES = {
    "above": "below",
    "below": "above",
    "left of": "right of",
    "right of": "left of",
    "in front of": "behind",
    "behind": "in front of",
}


class Reading(NamedTuple):
    """What a caption says.

    Fields:
        objects: tuple of one or two dicts with "shape", "colour", "texture", and "size", which is
            None where the caption leaves it open.
        relation: how the first stands to the second, a key of OPPOSITES, or None.
    """

    objects: tuple
    relation: str | None


def write(objects):
    """Give all captions that are true of one or two objects.

    A size may be named or left open; a texture is named unless it is plain.

    Args:
        objects: tuple of scenes.Object.
    Returns:
        tuple of str.
    Taught in: notebooks/09_captioning.ipynb
    """
    if len(objects) == 1:
        return tuple(_phrases(objects[0]))
    captions = []
    for relation in relations(objects):
        # Each pair of phrases reads both ways: what is above the other has the other below.
        for first, second in itertools.product(*map(_phrases, objects)):
            captions += [f"{first} {relation} {second}", f"{second} {OPPOSITES[relation]} {first}"]
    return tuple(captions)


def relations(objects):
    """Give the relations of a scene's first object to its second that are true.

    Above, below, left and right follow the larger distance; in front of and behind are said only of
    objects that overlap.

    Args:
        objects: tuple of two scenes.Object.
    Returns:
        tuple of keys of OPPOSITES; empty for a single object.
    """
    if len(objects) == 1:
        return ()
    a, b = objects
    across, down = a.x - b.x, a.y - b.y
    if abs(across) > abs(down):
        beside = "left of" if across < 0 else "right of"
    else:
        beside = "above" if down < 0 else "below"
    # Most outlines lie within their radius, so objects overlap only when closer than both radii.
    if (across**2 + down**2) ** 0.5 >= 0.85 * (a.radius + b.radius):
        return (beside,)
    return (beside, "in front of" if a.depth < b.depth else "behind")


def read(caption):
    """Read a caption back into objects.

    Args:
        caption: text; capitals, a full stop at the end and further spaces do no harm.
    Returns:
        Reading.
    Raises:
        ValueError: it says which word was not understood, and what was expected there.
    Example:
        >>> read("a red star above a large blue circle").relation
        'above'

    Taught in: notebooks/09_captioning.ipynb
    """
    tokens = clean(caption).split()
    # object [relation object], each read from where the one before ended
    first, place = _read_object(tokens, 0, caption)
    if place == len(tokens):
        return Reading((first,), None)
    for relation in OPPOSITES:
        parts = relation.split()
        if tokens[place : place + len(parts)] == parts:
            second, end = _read_object(tokens, place + len(parts), caption)
            if end < len(tokens):
                raise ValueError(f"caption: did not expect {tokens[end]!r} after {caption!r}'s end")
            return Reading((first, second), relation)
    raise ValueError(f"caption: expected one of {', '.join(OPPOSITES)}, got {tokens[place]!r}")


def write_reading(reading):
    """Write what was read as the grammar writes it: the right article, no word for a plain texture.

    Args:
        reading: Reading.
    Returns:
        str.
    Example:
        >>> write_reading(read("A plain orange ring."))
        'an orange ring'
    """
    return f" {reading.relation} ".join(_phrase(**item) for item in reading.objects)


def clean(caption):
    """Bring a caption into the form that `write` has: lower case, single spaces, no full stop."""
    return " ".join(caption.lower().rstrip(" .\r\n").split())


def _read_object(tokens, place, caption):
    """Read one object; give it and the place after it."""
    if place == len(tokens):
        raise ValueError(f"caption: an object is missing at the end of {caption!r}")
    if tokens[place] not in ("a", "an"):
        raise ValueError(f'caption: expected "a" or "an", got {tokens[place]!r}')
    place += 1
    item = {"size": None, "texture": "plain"}  # both may be left open
    kinds = (("size", SIZES), ("texture", TEXTURES), ("colour", COLOURS), ("shape", SHAPES))
    for kind, allowed in kinds:
        if place < len(tokens) and tokens[place] in allowed:
            item[kind] = tokens[place]
            place += 1
        elif kind not in item:
            got = repr(tokens[place]) if place < len(tokens) else "the end"
            raise ValueError(f"caption: expected a {kind} ({', '.join(allowed)}), got {got}")
    return item, place


def _phrases(item):
    """Name an object with its size and without."""
    return [_phrase(size, item.texture, item.colour, item.shape) for size in (item.size, None)]


def _phrase(size, texture, colour, shape):
    """Name an object; a plain texture has no word."""
    named = (size, None if texture == "plain" else texture, colour, shape)
    text = " ".join(word for word in named if word)
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
