"""Reading pictures and labels from the files of a data set, or from a folder of one's own."""

import csv
import gzip
import zlib

import numpy as np

from imagegen_tf import images

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "cifar10": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
}
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


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
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def folder(path, split, seed):
    """Read the pictures below a folder; a tenth of them, drawn by the seed, is the test split.

    A picture that cannot be read is named and left out.

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
    files = [file for file in path.rglob("*") if file.suffix.lower() in PICTURE_ENDINGS]
    # In one order on every system, and nothing hidden: previews and checkpoints lie there.
    files = sorted(files, key=lambda file: file.relative_to(path).as_posix())
    hidden = [any(p.startswith(".") for p in file.relative_to(path).parts) for file in files]
    files = [file for file, skip in zip(files, hidden, strict=True) if not skip]
    order = np.random.default_rng(seed).permutation(len(files))
    tests = set(order[: max(1, len(files) // 10)].tolist()) if len(files) > 1 else set()
    pictures, kept = [], []
    for number, file in enumerate(files):
        if (number in tests) == (split == "test"):
            try:
                pictures.append(images.to_uint8(images.read(file)))
                kept.append(file.relative_to(path).parts)
            except (ValueError, OSError) as error:
                print(f"skipped: {error}")
    if not pictures:
        raise ValueError(f"{path}: no picture of the {split} split could be read")
    classes = sorted({file.relative_to(path).parts[0] for file in files if file.parent != path})
    labels = None
    if len(classes) > 1 and all(file.parent != path for file in files):
        labels = np.array([classes.index(parts[0]) for parts in kept])
    return pictures, labels, tuple(classes) if labels is not None else None


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
    found = [name for name in layouts if (path / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{path}: expected captions.txt or captions.csv in this folder")
    pictures, texts = layouts[found[0]][0], _rows(path / found[0], *layouts[found[0]][1:])
    names = sorted(texts)
    order = np.random.default_rng(seed).permutation(len(names))
    share = max(1, len(names) // 5) if len(names) > 1 else 0
    tests = {names[place] for place in order[:share]}
    kept = []
    for name in names:
        if (name in tests) == (split == "test"):
            try:
                kept.append(
                    (images.to_uint8(images.read(path / pictures / name)), tuple(texts[name]))
                )
            except (ValueError, OSError) as error:
                print(f"skipped: {error}")
    if not kept:
        raise ValueError(f"{path}: no captioned picture of the {split} split could be read")
    return [picture for picture, _ in kept], [captions for _, captions in kept]


def _rows(file, key, value):
    """Collect the texts of each picture from a table with a header."""
    # Line by line: a quote that is never closed must not swallow the lines below it.
    text = file.read_text("utf-8-sig", errors="replace")
    if "\ufffd" in text:
        print(f"{file.name} is not in UTF-8: some letters are lost")
    lines = text.splitlines()
    rows = [[cell.strip() for cell in next(csv.reader([line]), [])] for line in lines]
    heads = rows[0] if rows else []
    if key not in heads or value not in heads:
        raise ValueError(f"{file}: expected columns {key} and {value}, got {', '.join(heads)}")
    texts = {}
    for number, row in enumerate(rows[1:], 2):
        cells = dict(zip(heads, row, strict=False))
        if len(row) == len(heads) and cells[key] and cells[value]:
            texts.setdefault(cells[key], []).append(cells[value])
        elif any(row):
            print(f"skipped: {file.name}, line {number}: {lines[number - 1][:60]!r}")
    return texts
