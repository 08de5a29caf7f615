"""Picture files: read upright and in the right range, written whole or not at all."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from imagegen_tf import runtime
from imagegen_tf.images import arrays

PngImagePlugin.MAX_TEXT_CHUNK = 2**26  # a large colour profile is no reason to refuse good pixels
READ_MODES = ("RGB", "L", "RGBA")
DEPTH_MODES = ("L", "I", "F", "I;16", "I;16L", "I;16B")
WRITE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
LONGEST_SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels, of the formats that have such a limit


def _check_file(path):
    """Check that there is a file with something in it."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a picture")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")


def _open(path, most_pixels=None):
    """Open and decode a picture file, upright; every failure names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large sizes, of odd metadata
            with Image.open(path) as picture:
                if most_pixels:  # a JPEG can be decoded at a half, a quarter or an eighth
                    picture.draft(None, _smaller(picture.size, most_pixels))
                picture.load()
                try:
                    return ImageOps.exif_transpose(picture)
                except Exception:  # broken metadata beside good pixels
                    return picture.copy()
    except PermissionError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too many pixels to open safely ({error})") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a picture in a format that Pillow reads") from error
    except Exception as error:  # decoders raise many kinds
        raise ValueError(f"{path}: the picture cannot be decoded ({error})") from error


def _smaller(size, most_pixels):
    """Give the largest size of the same proportions that has at most so many pixels."""
    shrink = min(1, (most_pixels / (size[0] * size[1])) ** 0.5)
    return tuple(max(1, int(side * shrink)) for side in size)


def _deep_tiff(path):
    """Read a TIFF of more than 8 bits, (height, width, channels), by tifffile; None for others.

    Pillow mistakes planes for pixels there, and takes white for black.
    """
    import tifffile

    is_misread = False
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            if page.bitspersample <= 8 or page.photometric not in (0, 1, 2):  # grey, RGB
                return None
            is_inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            is_misread = is_inverted or page.axes == "SYX"
            orientation = page.tags.valueof(274, 1)
            values = page.asarray()
    except Exception as error:  # no TIFF, or damaged, or a compression that needs another package
        if is_misread:
            raise ValueError(f"{path}: the picture cannot be decoded ({error})") from error
        return None
    values = np.moveaxis(values, 0, 2) if page.axes == "SYX" else values
    values = _levels(values.reshape(*values.shape[:2], -1), path)
    values = 1 - values if is_inverted else values
    if values.shape[2] == 2:  # grey and alpha
        values = values[:, :, [0, 0, 0, 1]]
    if values.shape[2] not in (1, 3, 4):
        raise ValueError(f"{path}: {values.shape[2]} values per pixel, expected 1 to 4")
    # Orientations 5 to 8 exchange rows and columns; half of all mirror one of them.
    values = values.swapaxes(0, 1) if orientation > 4 else values
    values = values[:, ::-1] if orientation in (2, 3, 6, 7) else values
    values = values[::-1] if orientation in (3, 4, 7, 8) else values
    is_premultiplied = values.shape[2] == 4 and page.extrasamples == (1,)
    return arrays.unpremultiply(values) if is_premultiplied else values


def _levels(values, path):
    """Turn levels of 16 or more bits, or floating-point ones, into float32 in [0, 1]."""
    is_float = values.dtype.kind == "f"
    levels = values.astype(np.float32)
    levels /= 1 if is_float else 65535
    if not (levels.min() >= 0 and levels.max() <= 1):
        expected = "[0, 1]" if is_float else "0 to 65535"
        raise ValueError(f"{path}: {values.dtype} with values outside {expected}")
    return levels


def _channels(picture, path):
    """Give a decoded picture as float32 (height, width, 1, 3 or 4)."""
    key = picture.info.get("transparency")
    if picture.mode.startswith("I") or picture.mode == "F":
        steps = np.asarray(picture)[:, :, None]
        grey = _levels(steps, path)
        if key is None:
            return grey
        return np.concatenate([grey, grey, grey, steps != key], axis=2)
    if picture.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # Pillow has cut the colours to 8 bits, but not the one that is transparent.
        picture.info["transparency"] = tuple(level >> 8 for level in key)
    try:
        if picture.mode in ("LAB", "HSV", "YCbCr"):
            picture = picture.convert("RGB")
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
    _check_file(path)
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
    _check_file(path)
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
    path = Path(path)
    kind = WRITE_FORMATS.get(path.suffix.lower())
    values = arrays.to_uint8(image)
    if kind is None:
        raise ValueError(f"{path}: expected a name ending in {', '.join(WRITE_FORMATS)}")
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or values.size == 0:
        raise ValueError(f"image: expected shape (height, width, 1, 3 or 4), got {values.shape}")
    if values.shape[2] == 4 and kind in ("JPEG", "BMP"):
        raise ValueError(f"{path}: {kind} has no alpha; use .png or .webp")
    if note is not None and kind != "PNG":
        raise ValueError(f"{path}: a note is kept in PNG files only")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    longest = LONGEST_SIDES.get(kind, np.inf)
    if max(values.shape[:2]) > longest:
        raise ValueError(
            f"{path}: {kind} holds at most {longest} pixels a side, got {values.shape}"
        )
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}.get(kind, {})
    if note is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("Description", note)
    picture = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    with runtime.atomic_write(path) as temporary:
        picture.save(temporary, kind, **options)
