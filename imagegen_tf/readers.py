"""Reading pictures and labels from the files of a data set, or from a folder of one's own."""

import gzip
import zlib

import numpy as np

from imagegen_tf import images

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
        if any(record.size % 3073 for record in records):
            raise ValueError(f"{folder}: a batch is damaged, its size is no multiple of 3073 bytes")
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
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURE_ENDINGS)
    files = [file for file in files if not file.name.startswith(".")]
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
