"""Reading pictures and labels from the files of a data set, or from a folder of one's own."""

import csv
import gzip
import os
import unicodedata
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from imagegen_tf import images

csv.field_size_limit(2**31 - 1)  # a caption may be longer than csv's 131,072 letters
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
FEWEST_PIXELS = 2**14  # but never below 128 x 128 for that reason
PICTURE_ENDINGS = ".png .jpg .jpeg .webp .bmp .gif .tif .tiff".split()  # named if they are broken
TEST_FOLDERS = ("test", "val", "valid", "validation")
MOST_NAMED = 10  # of what is skipped
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

    Folders named `train` and `test` (or `val`, `valid`, `validation`), at the top or one level
    below, are the splits, however. Links are followed. What cannot be read is named and left out.

    Args:
        path: pathlib.Path of the folder.
        split: "train" or "test".
        seed: whole number, 0 or more.
    Returns:
        pictures: list of uint8 (height, width, 3).
        labels: whole numbers, or None where the pictures do not lie in folders of classes.
        captions: None.
        classes: names of the folders directly below, but for those of splits; or None.
    Raises:
        FileNotFoundError: no such folder. ValueError: no picture could be read.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    files = _pictures_below(path)
    places = [unicodedata.normalize("NFC", file.relative_to(path).as_posix()) for file in files]
    places = [place.split("/") for place in places]
    halves = _given_halves(places) or _drawn_halves(len(files), seed, 10)
    chosen = [file for file, half in zip(files, halves, strict=True) if half == split]
    read = _read_all(path, split, chosen)
    # The classes are those of both splits, so that labels mean the same in each.
    used = {file: place for file, place, half in zip(files, places, halves, strict=True) if half}
    classes = sorted({place[0] for place in used.values() if len(place) > 1})
    beside = [place[0] for place in used.values() if len(place) == 1]
    if len(classes) < 2 or beside:
        if classes and beside:
            print(f"{path.name} has no classes: {beside[0]} lies beside its folders")
        return list(read.values()), None, None, None
    labels = np.array([classes.index(used[file][0]) for file in read])
    return list(read.values()), labels, None, tuple(classes)


def _given_halves(places):
    """Tell the split of each place where folders name it, and take their names out of the places.

    "train", "test" or, of what belongs to neither, None; no list at all without such folders.
    """
    for level in (0, 1):
        names = [place[level].lower() if len(place) > level + 1 else "" for place in places]
        test = next((name for name in TEST_FOLDERS if name in names), None)
        if test and "train" in names:
            halves = [{"train": "train", test: "test"}.get(name) for name in names]
            print(f"split by folders: train and {test}; {halves.count(None)} pictures in neither")
            for place in places:
                del place[level : level + 1]  # cats/train/1.png => cats/1.png
            return halves
    return None


def _drawn_halves(count, seed, share):
    """Draw the split of each of so many pictures: one of `share` is for the test."""
    order = np.random.default_rng(seed).permutation(count)
    tests = set(order[: max(1, count // share)].tolist()) if count > 1 else set()
    return ["test" if number in tests else "train" for number in range(count)]


def existing(folder, name):
    """Find a file or folder whose accents may be written in one piece or in several."""
    spellings = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    paths = [folder / spelling for spelling in spellings]
    return next((path for path in paths if path.exists()), paths[0])


def _pictures_below(path):
    """List the pictures below a folder, in one order on every system; what is skipped is named."""
    pictures, others = [], []
    for place, folders, names in os.walk(path, followlinks=True, onerror=others.append):
        if os.path.realpath(place) in map(os.path.realpath, Path(place).parents):
            folders.clear()  # a link that leads back
            continue
        # Nothing hidden: previews and checkpoints lie there.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            (pictures if is_picture(file) else others).append(file)
    _name_skipped([f"{other} is no picture" for other in sorted(map(str, others))])
    return sorted(pictures, key=lambda file: file.relative_to(path).as_posix())


def is_picture(file):
    """Tell whether Pillow knows the file, or its name says that it should be a picture."""
    return file.suffix.lower() in PICTURE_ENDINGS or _pixels(file) > 0


def _pixels(file):
    """Count a picture's pixels by its header; 0 where Pillow does not know it."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")  # of many pixels
        with Image.open(file) as header:
            return header.width * header.height
    return 0


def _name_skipped(reasons):
    """Print why something is left out, but not ten thousand lines."""
    for reason in reasons[:MOST_NAMED]:
        print(f"skipped: {reason}")
    if len(reasons) > MOST_NAMED:
        print(f"skipped: {len(reasons) - MOST_NAMED} more")


def _read_all(path, split, files):
    """Read pictures, uint8 (height, width, 3) for each file, within MOST_BYTES."""
    most_pixels = None
    if 3 * sum(map(_pixels, files)) > MOST_BYTES:
        most_pixels = max(MOST_BYTES // 3 // len(files), FEWEST_PIXELS)
        print(f"{path.name}: larger pictures are made smaller, to {most_pixels:,} pixels each")
    read, skipped = {}, []
    for file in files:
        try:
            read[file] = images.to_uint8(images.read(file, most_pixels=most_pixels))
        except (ValueError, OSError) as error:
            skipped.append(error)
    _name_skipped(skipped)
    if not read:
        raise ValueError(f"{path}: no picture of the {split} split could be read")
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
        seed: whole number, 0 or more.
    Returns:
        pictures, labels, captions, classes: as of `folder`, but with a tuple of texts for each
            picture, and neither labels nor classes.
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
    halves = _drawn_halves(len(names), seed, 5)
    chosen = [name for name, half in zip(names, halves, strict=True) if half == split]
    files = {existing(place, name): name for name in chosen}
    read = _read_all(path, split, files)
    return list(read.values()), None, tuple(tuple(texts[files[file]]) for file in read), None


def _rows(file, key, value):
    """Collect the texts of each picture from a table with a header."""
    with open(file, encoding="utf-8-sig", errors="replace") as table:
        lines = table.readlines()
    if any("\ufffd" in line for line in lines):
        print(f"{file.name} is not in UTF-8: some letters are lost")
    heads, start = _record(lines[:1])
    if key not in heads or value not in heads:
        raise ValueError(f"{file}: expected columns {key} and {value}, got {', '.join(heads)}")
    texts, skipped = {}, []
    while start < len(lines):
        cells, count = _record(lines[start : start + LONGEST_CAPTION])
        row = dict(zip(heads, cells, strict=False))
        if len(cells) == len(heads) and row[key] and row[value]:
            texts.setdefault(row[key], []).append(row[value])
        elif any(cells):
            skipped.append(f"{file.name}, line {start + 1}: {lines[start].strip()[:60]!r}")
        start += count
    _name_skipped(skipped)
    return texts


def _record(lines):
    """Give the cells of the record that these lines begin with, and how many lines it takes.

    A text in quotes may span lines. But a quote that is never closed must not swallow the rows
    below it, which begin with a picture's name: then the first line stands alone.
    """
    reader = csv.reader(lines, strict=True)
    cells, endings = [], Image.registered_extensions()
    with suppress(csv.Error):
        cells = next(reader, [])
    below = lines[1 : reader.line_num]
    if not cells or any(Path(line.partition(",")[0]).suffix.lower() in endings for line in below):
        reader = csv.reader(lines[:1])
        cells = next(reader, [])
    return [cell.strip() for cell in cells], reader.line_num
