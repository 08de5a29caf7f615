"""Picture files: read upright and in the right range, written whole or not at all."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from imagegen_tf import runtime
from imagegen_tf.images import arrays

READ_MODES = ("RGB", "L", "RGBA")
DEPTH_MODES = ("L", "I", "F", "I;16", "I;16L", "I;16B")
WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
LONGEST_SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels, of the formats that have such a limit
WRITE_OPTIONS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}
REASONS = {
    Image.DecompressionBombError: "too many pixels to open safely",
    Image.UnidentifiedImageError: "not a picture in a format that Pillow reads",
}
TIFF_COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}  # values of a pixel: grey (0 is white; black), RGB, CMYK


def _open(path, most_pixels=None):
    """Open and decode a picture file, upright; every failure names the file."""
    path, lenient = Path(path), ImageFile.LOAD_TRUNCATED_IMAGES
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a picture")
    if path.exists() and not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large sizes, of odd metadata
            # Before the pixels come metadata: be lenient with those, but not with the pixels.
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            with Image.open(path) as picture:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
                if most_pixels:  # a JPEG can be decoded at a half, a quarter or an eighth
                    picture.draft(None, _smaller(picture.size, most_pixels))
                layout = picture.tile[0].args if picture.tile else None
                picture.load()
                _follow_levels(picture.info, layout)
                try:
                    return ImageOps.exif_transpose(picture)
                except Exception:  # broken metadata beside good pixels
                    return picture.copy()
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # decoders raise many kinds
        reason = REASONS.get(type(error), f"the picture cannot be decoded ({error})")
        raise ValueError(f"{path}: {reason}") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _smaller(size, most_pixels):
    """Give the largest size of the same proportions that has at most so many pixels."""
    shrink = min(1, (most_pixels / (size[0] * size[1])) ** 0.5)
    return tuple(max(1, int(side * shrink)) for side in size)


def _follow_levels(info, layout):
    """Bring the transparent level of a PNG to 8 bits, as Pillow brought its pixels."""
    key = info.get("transparency")
    if layout == "RGB;16B" and key is not None:
        info["transparency"] = tuple(level >> 8 for level in key)
    elif layout in ("L;2", "L;4") and key is not None:
        info["transparency"] = key * {"L;2": 85, "L;4": 17}[layout]


def _deep_tiff(path):
    """Read a TIFF of more than 8 bits as float32 (height, width, 1, 3 or 4); None for other files.

    Pillow takes planes for rows of pixels there, and white for black, and cuts colours to 8 bits.
    """
    import tifffile

    is_plain = True
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            if page.bitspersample <= 8:
                return None
            is_planar, is_inverted = page.axes == "SYX", page.photometric == 0
            is_plain = page.photometric in (1, 2) and not is_planar and page.bitspersample % 16 == 0
            count = TIFF_COLOURS[page.photometric]
            orientation, kinds = page.tags.valueof(274, 1), page.extrasamples
            values = page.asarray()
    except Exception as error:  # no TIFF, or damaged, or a compression that needs another package
        if is_plain:  # Pillow reads it, or says what is wrong
            return None
        raise ValueError(f"{path}: the picture cannot be decoded ({error!r})") from error
    values = np.moveaxis(values, 0, 2) if is_planar else values
    values = _levels(values.reshape(*values.shape[:2], -1), path)
    colours = 1 - values[:, :, :count] if is_inverted else values[:, :, :count]
    if count == 4:  # cyan, magenta, yellow and black
        colours = (1 - colours[:, :, :3]) * (1 - colours[:, :, 3:])
    # What stands beside the colours is alpha if the file says so: 1 premultiplied, 2 straight.
    alpha = next((place for place, kind in enumerate(kinds) if kind in (1, 2)), None)
    if alpha is not None:
        opacity = values[:, :, count + alpha, None]
        colours = np.concatenate([colours * np.ones(3, np.float32), opacity], axis=2)
        colours = arrays.unpremultiply(colours) if kinds[alpha] == 1 else colours
    # Orientations 5 to 8 exchange rows and columns; half of all mirror one of them.
    colours = colours.swapaxes(0, 1) if orientation > 4 else colours
    colours = colours[:, ::-1] if orientation in (2, 3, 6, 7) else colours
    return colours[::-1] if orientation in (3, 4, 7, 8) else colours


def _levels(values, path):
    """Turn levels of 16 or more bits, or floating-point ones, into float32 in [0, 1]."""
    most = 1 if values.dtype.kind == "f" else 65535
    levels = values.astype(np.float32)
    levels /= most  # in place: photos are large
    if not (levels.min() >= 0 and levels.max() <= 1):
        raise ValueError(f"{path}: {values.dtype} with values outside 0 to {most}")
    return levels


def _channels(picture, path):
    """Give a decoded picture as float32 (height, width, 1, 3 or 4)."""
    if picture.mode.startswith("I") or picture.mode == "F":
        steps, key = np.asarray(picture)[:, :, None], picture.info.get("transparency")
        grey = _levels(steps, path)
        return grey if key is None else np.concatenate([grey, grey, grey, steps != key], axis=2)
    try:
        kind = "RGBA" if picture.has_transparency_data else "RGB"
        return arrays.to_float(np.asarray(picture.convert(kind)))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: cannot convert mode {picture.mode} to RGB") from error


def read(path, mode="RGB", *, most_pixels=None):
    """Read a picture file as an image, upright and in the channels asked for.

    JPEG, PNG, WebP, BMP, GIF (first frame), TIFF and what else Pillow reads. Grey pictures, and
    TIFF, of 16 bits keep their depth. Colour profiles are not applied.

    Args:
        path: the file.
        mode: "RGB" (transparency is shown over white), "L" (grey, its luma) or "RGBA".
        most_pixels: a larger picture is made smaller, to about so many; a JPEG is not even decoded
            at its full size.
    Returns:
        float32 (height, width, channels), values in [0, 1], channels 3, 1 or 4.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, an empty or damaged file, no picture, too many pixels, unknown mode.
    Taught in: notebooks/00_start_here.ipynb
    """
    if mode not in READ_MODES:
        raise ValueError(f"mode: expected one of {', '.join(READ_MODES)}, got {mode!r}")
    image = _deep_tiff(path)
    image = _channels(_open(path, most_pixels), path) if image is None else image
    height, width, channels = image.shape
    if most_pixels and height * width > most_pixels:
        width, height = _smaller((width, height), most_pixels)
        image = arrays.resize(image, height, width, "area")
    if channels == 1:
        image = np.repeat(image, 3, axis=2)
    if mode == "RGBA":
        opaque = np.ones((height, width, 4 - image.shape[2]), np.float32)
        return np.concatenate([image, opaque], axis=2)
    if channels == 4:
        alpha = image[:, :, 3:]
        image = image[:, :, :3] * alpha + (1 - alpha)
    return arrays.luma(image) if mode == "L" else image


def read_depth(path, unit=0.001):
    """Read a depth picture: one distance per pixel.

    Args:
        path: a grey picture of 8 or 16 bits, or of floating-point values (TIFF, PFM).
        unit: metres per step of the file's values; the default suits millimetres.
    Returns:
        float32 (height, width), metres; NaN where the file has 0, infinity or NaN (not known).
    Raises:
        FileNotFoundError: no such file.
        ValueError: not a grey picture, negative values, a unit that is not positive.
    Taught in: notebooks/03_compositing.ipynb
    """
    if not unit > 0:
        raise ValueError(f"unit: expected metres per step above 0, got {unit}")
    picture = _open(path)
    if picture.mode not in DEPTH_MODES:
        raise ValueError(f"{path}: expected a grey depth picture, got mode {picture.mode}")
    steps = np.asarray(picture).astype(np.float32)
    if (steps < 0).any():
        raise ValueError(f"{path}: a depth picture cannot hold negative values")
    return np.where(np.isfinite(steps) & (steps > 0), steps * np.float32(unit), np.float32(np.nan))


def write(path, image, note=None):
    """Write an image to a file; the name's ending decides the format.

    The file is written beside and renamed, so an interrupted write leaves no half picture.

    Args:
        path: the file: .png, .jpg, .webp or .bmp. Its folder must exist.
        image: float32 (height, width, channels), values in [0, 1], or uint8.
        note: a text kept inside the file, for instance how the picture was made; PNG only.
    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: unknown ending, a note in another format than PNG, alpha in JPEG or BMP.
        TypeError: not an image.
    Taught in: notebooks/00_start_here.ipynb; the note in notebooks/12_evaluation.ipynb
    """
    path, values = Path(path), arrays.to_uint8(image)
    kind = WRITE_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: expected a name ending in {', '.join(WRITE_FORMATS)}")
    channels = (1, 3) if kind in ("JPEG", "BMP") else (1, 3, 4)  # those have no alpha
    if values.ndim != 3 or values.shape[2] not in channels or values.size == 0:
        raise ValueError(f"{path}: {kind} holds channels of {channels}, got shape {values.shape}")
    if note is not None and kind != "PNG":
        raise ValueError(f"{path}: a note is kept in PNG files only")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    longest = LONGEST_SIDES.get(kind, np.inf)
    if max(values.shape[:2]) > longest:
        raise ValueError(f"{path}: {kind} has at most {longest} pixels a side, got {values.shape}")
    options = WRITE_OPTIONS.get(kind, {})
    if note is not None:
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("Description", note)
    picture = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    with runtime.atomic_write(path) as temporary:
        picture.save(temporary, kind, **options)
