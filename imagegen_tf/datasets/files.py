"""Reading pictures and labels from the files of a data set, or from a folder of one's own."""

import csv
import gzip
import os
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from imagegen_tf import images

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": tuple(
        "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(",")
    ),
    "cifar10": tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
}
# Pictures of one's own are kept whole as long as all of them together take no more; beyond that,
# the larger ones are made smaller, so that a folder of photos from a camera fits into memory.
MOST_BYTES = 2**28
TEST_FOLDERS = ("test", "val", "valid", "validation")
LONGEST_CAPTION = 20  # lines that a quoted caption may span


def original(folder, name, split):
    """Read a set's original files: CIFAR-10's binary version, or IDX as MNIST has it.

    Args:
        folder: pathlib.Path with the files in it.
        name: "cifar10", or any name for IDX.
        split: "train" or "test".
    Returns:
        images, labels: uint8 arrays; IDX images have no axis for channels.
    Raises:
        FileNotFoundError: a file is missing. ValueError: a file is damaged.
    """
    if name == "cifar10":
        parts = [f"data_batch_{part}.bin" for part in range(1, 6)]
        parts = parts if split == "train" else ["test_batch.bin"]
        records = [np.frombuffer(_bytes(folder / part), np.uint8) for part in parts]
        if any(record.size % 3073 or not record.size for record in records):
            raise ValueError(f"{folder}: a batch is damaged: expected a multiple of 3073 bytes")
        records = np.concatenate(records).reshape(-1, 3073)
        return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(), records[:, 0]
    start = {"train": "train", "test": "t10k"}[split]
    pictures = _idx(folder / f"{start}-images-idx3-ubyte.gz", 3)
    labels = _idx(folder / f"{start}-labels-idx1-ubyte.gz", 1)
    return pictures, labels


def _bytes(path):
    """Read a file, unpacked if it is a .gz; errors name the file."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: the file is damaged ({error})") from error


def _idx(path, axes):
    """Read an IDX file of bytes, checking its header against its length."""
    content = _bytes(path)
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(content[at : at + 4]) for at in range(4, start, 4))
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) - start != np.prod(shape):
        raise ValueError(f"{path}: the file is damaged (header and length disagree)")
    if not shape[0]:
        raise ValueError(f"{path}: holds no picture")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def folder(path, split, seed):
    """Read the pictures below a folder; a tenth of them, drawn by the seed, is the test split.

    A folder that holds `train` and `test` (or `val`, `valid`, `validation`) is taken as split
    already. Links are followed. A picture that cannot be read is named and left out.

    Args:
        path: pathlib.Path of the folder.
        split: "train" or "test".
        seed: whole number.
    Returns:
        pictures: list of uint8 (height, width, 3).
        labels: whole numbers, or None where the pictures do not lie in folders of classes.
        classes: names of the folders directly below, or None.
    Raises:
        FileNotFoundError: no such folder. ValueError: no picture could be read.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    files = [file.relative_to(path).parts for file in _pictures_below(path)]
    tops = {parts[0].lower() for parts in files if len(parts) > 1}
    given = [name for name in TEST_FOLDERS if name in tops][:1]
    if "train" in tops and given and all(len(parts) > 1 for parts in files):
        print(f"{path.name} is split already: train, {given[0]}")
        wanted = "train" if split == "train" else given[0]
        chosen = [parts for parts in files if parts[0].lower() == wanted]
        below = [parts[1:] for parts in files if parts[0].lower() in ("train", given[0])]
    else:
        order = np.random.default_rng(seed).permutation(len(files))
        tests = set(order[: max(1, len(files) // 10)].tolist()) if len(files) > 1 else set()
        chosen = [
            parts for number, parts in enumerate(files) if (number in tests) == (split == "test")
        ]
        wanted, below = None, files
    read = _read_all([path.joinpath(*parts) for parts in chosen])
    if not read:
        raise ValueError(f"{path}: no picture of the {split} split could be read")
    classes = sorted({unicodedata.normalize("NFC", parts[0]) for parts in below if len(parts) > 1})
    labels = None
    if len(classes) > 1 and all(len(parts) > 1 for parts in below):
        own = [file.relative_to(path).parts[1 if wanted else 0] for file, _ in read]
        labels = np.array([classes.index(unicodedata.normalize("NFC", name)) for name in own])
    return [pixels for _, pixels in read], labels, tuple(classes) if labels is not None else None


def existing(folder, name):
    """Find a file or folder whose accents may be written in one piece or in two (a Mac's)."""
    spellings = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    paths = [folder / spelling for spelling in spellings]
    return next((path for path in paths if path.exists()), paths[0])


def _pictures_below(path):
    """List the files below a folder that may be pictures, in one order on every system."""
    found, others, seen = [], [], set()
    for place, folders, names in os.walk(path, followlinks=True):
        if os.path.realpath(place) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        # Nothing hidden: previews and checkpoints lie there.
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [Path(place, name) for name in names if not name.startswith(".")]
        found += [file for file in files if _may_be_picture(file)]
        others += [file.name for file in files if not _may_be_picture(file)]
    if others:
        print(f"skipped: {len(others)} files that are no pictures, such as {min(others)}")
    return sorted(found, key=lambda file: file.relative_to(path).as_posix())


def _may_be_picture(file):
    """Tell whether Pillow knows the ending; without one it has to look into the file."""
    if file.suffix:
        return file.suffix.lower() in Image.registered_extensions()
    try:
        with Image.open(file):
            return True
    except Exception:  # Pillow raises many kinds for what is no picture
        return False


def _read_all(files):
    """Read pictures as a list of (file, uint8 (height, width, 3)), within MOST_BYTES."""
    sizes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many pixels
        for file in files:
            try:
                with Image.open(file) as header:
                    sizes.append(header.width * header.height)
            except Exception:  # it will be named below
                sizes.append(0)
    most_pixels = None
    if 3 * sum(sizes) > MOST_BYTES:
        most_pixels = MOST_BYTES // 3 // len(files)
        count = sum(size > most_pixels for size in sizes)
        print(f"{count} of {len(files)} pictures are made smaller, to {most_pixels:,} pixels each")
    read = []
    for file in files:
        try:
            read.append((file, images.to_uint8(images.read(file, most_pixels=most_pixels))))
        except (ValueError, OSError) as error:
            print(f"skipped: {error}")
    return read


def captioned(path, split, seed):
    """Read pictures with captions; a fifth of the pictures, drawn by the seed, is the test split.

    Two layouts are known. Flickr8k's: `images/` and `captions.txt`, with a line "image,caption" for
    each caption, several for a picture. OpenMoji's: `png/` and `captions.csv` with columns file and
    name. Transparency is shown over white. A row that is broken, and one whose picture is missing
    or cannot be read, is named and left out.

    Args:
        path: pathlib.Path of the folder.
        split: "train" or "test".
        seed: whole number.
    Returns:
        pictures: list of uint8 (height, width, 3).
        captions: list of tuples of texts.
    Raises:
        FileNotFoundError: no such folder, or neither of the two files in it.
        ValueError: the file has other columns, or no picture with a caption could be read.
    """
    layouts = {
        "captions.txt": ("images", "image", "caption"),
        "captions.csv": ("png", "file", "name"),
    }
    table = next((name for name in layouts if (path / name).is_file()), None)
    if not table:
        raise FileNotFoundError(f"{path}: expected captions.txt or captions.csv in this folder")
    place, texts = path / layouts[table][0], _rows(path / table, *layouts[table][1:])
    names = sorted(texts)
    order = np.random.default_rng(seed).permutation(len(names))
    share = max(1, len(names) // 5) if len(names) > 1 else 0
    tests = {names[number] for number in order[:share]}
    files = {existing(place, name): name for name in names if (name in tests) == (split == "test")}
    read = _read_all(list(files))
    if not read:
        raise ValueError(f"{path}: no captioned picture of the {split} split could be read")
    return [pixels for _, pixels in read], [tuple(texts[files[file]]) for file, _ in read]


def _rows(file, key, value):
    """Collect the texts of each picture from a table with a header."""
    text = file.read_text("utf-8-sig", errors="replace")
    if "\ufffd" in text:
        print(f"{file.name} is not in UTF-8: some letters are lost")
    lines = text.splitlines(keepends=True)
    heads = _cells(lines[0]) if lines else []
    if key not in heads or value not in heads:
        raise ValueError(f"{file}: expected columns {key} and {value}, got {', '.join(heads)}")

    def parse(first, last):
        """Give the row that these lines hold, by its heads; None if they hold none."""
        cells = _cells("".join(lines[first:last]))
        row = dict(zip(heads, cells, strict=False))
        return row if len(cells) == len(heads) and row[key] and row[value] else None

    texts, number = {}, 1
    while number < len(lines):
        # A caption in quotes may span lines. But a quote that is never closed must not swallow the
        # rows below it: they begin with a picture's name.
        last = number + 1
        while (
            "".join(lines[number:last]).count('"') % 2
            and last < min(len(lines), number + LONGEST_CAPTION)
            and not ((row := parse(last, last + 1)) and Path(row[key]).suffix)
        ):
            last += 1
        row = parse(number, last)
        if not row:
            last = number + 1
            row = parse(number, last)
        if row:
            texts.setdefault(row[key], []).append(row[value])
        elif lines[number].strip(' ,\r\n"'):
            print(f"skipped: {file.name}, line {number + 1}: {lines[number].strip()[:60]!r}")
        number = last
    return texts


def _cells(text):
    """Split a record of a table into its cells; none where it is broken."""
    try:
        return [cell.strip() for cell in next(csv.reader([text]), [])]
    except csv.Error:  # too long
        return []
