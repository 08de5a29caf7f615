"""Data sets, one name each: photos, drawn characters, classic sets, one's own folder.

A picture of one's own, `IMAGEGEN_DATA/photos/NAME.png` (or .jpg), is a photo like the others, and
takes the place of a built-in one of the same name.
"""

import functools
import operator
import unicodedata
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np

from imagegen_tf import compositing, images, runtime
from imagegen_tf.datasets import captions as scene_captions  # noqa: F401
from imagegen_tf.datasets import files, glyphs, scenes
from imagegen_tf.datasets.files import CLASS_NAMES

# The two halves share no scene: the stereo pair stays together, and so do the two eye pictures.
PHOTOS = {
    "train": tuple(
        "astronaut brick camera coffee gravel hubble_deep_field microaneurysms motorcycle_left "
        "motorcycle_right page retina".split()
    ),
    "test": tuple("cell chelsea clock_motion coins grass ihc moon rocket text".split()),
}
GLYPHS = {"digits": glyphs.DIGITS, "letters": glyphs.LETTERS}
OFFLINE = ("photos", *GLYPHS, "scenes")
SCENES = {"train": (20_000, 0), "test": (2_000, 1)}  # number and seed
PHOTOS_CARD = "See data/README.md, section photos: sources and licences of scikit-image's pictures."
CARDS = {
    **{name: f"See data/README.md, section {name}." for name in CLASS_NAMES},
    **dict.fromkeys(GLYPHS, "See data/README.md, section digits, letters."),
    **{"photos": PHOTOS_CARD, "scenes": "Drawn by imagegen_tf.scenes."},
}
# Middlebury 2014 "Motorcycle", at the size that scikit-image ships.
FOCAL_LENGTH, BASELINE, PRINCIPAL_POINT_GAP = 994.978, 0.193001, 31.086  # pixels, metres, pixels


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures of one set and split, as they are stored.

    Args:
        name: the set's name.
        split: "train" or "test".
        images: uint8, one array (number, height, width, channels); a tuple of arrays (height,
            width, channels) where sizes differ.
        labels: whole numbers (number, ...), often one for each picture, or rows of words; or None.
        captions: for each picture a tuple of texts, or None.
        class_names: a text for each label, or None; for photos the name of each picture.
        card: where the data come from and under which licence.
    Raises:
        ValueError: labels or captions of another number than images.
        TypeError: images that are not uint8, labels that are not whole numbers.
    """

    name: str
    split: str
    images: np.ndarray | tuple
    labels: np.ndarray | None = None
    captions: tuple | None = None
    class_names: tuple | None = None
    card: str = ""

    def __post_init__(self):
        for field in ("labels", "captions"):
            values = getattr(self, field)
            if values is not None and len(values) != len(self.images):
                raise ValueError(f"{field}: got {len(values)} for {len(self.images)} images")
        if self.labels is not None:
            labels, count = np.asarray(self.labels), len(self.class_names or ())
            if labels.dtype.kind not in "iu":
                raise TypeError(f"labels: expected whole numbers, got {labels.dtype}")
            outside = labels[(labels < 0) | (labels >= count)] if labels.ndim == 1 and count else ()
            if len(outside):
                raise ValueError(f"labels: got {outside[0]} for classes 0 to {count - 1}")
        if isinstance(self.images, np.ndarray):
            kinds, ranks = {self.images.dtype}, {self.images.ndim - 1}
        else:
            kinds, ranks = ({getattr(p, name) for p in self.images} for name in ("dtype", "ndim"))
        if kinds != {np.dtype(np.uint8)}:
            got = ", ".join(sorted(map(str, kinds))) or "no image"
            raise TypeError(f"images: expected uint8, got {got}")
        if ranks != {3}:
            raise ValueError(f"images: expected (height, width, channels), got {ranks} axes")


def names():
    """List the data sets by name, those first that are always there, offline.

    Returns:
        A tuple of names for load.
    Taught in: notebooks/00_start_here.ipynb
    """
    return (*OFFLINE, *CLASS_NAMES)


def photo_names():
    """List the photos that `photo` knows, in alphabetical order: scikit-image's and one's own.

    Returns:
        A tuple of names.
    Taught in: notebooks/00_start_here.ipynb
    """
    return tuple(sorted({*PHOTOS["train"], *PHOTOS["test"], *_own_photos()}))


def _own_photos():
    """Map the names of the photos in IMAGEGEN_DATA/photos to their files."""
    folder = runtime.data_folder()
    if folder and not folder.is_dir():
        raise FileNotFoundError(f"IMAGEGEN_DATA: there is no folder {folder}")
    paths = sorted((folder / "photos").glob("[!.]*")) if folder else []
    # A name may come with its accents in one piece or in two (from a Mac): NFC has one piece.
    return {
        unicodedata.normalize("NFC", path.stem): path for path in paths if files.is_picture(path)
    }


def _shipped(stem):
    """Find a file inside scikit-image by its name without ending."""
    folder = resources.files("skimage") / "data"
    for ending in (".png", ".jpg", ".npz"):
        if (folder / (stem + ending)).is_file():
            return folder / (stem + ending)
    raise FileNotFoundError(f"scikit-image no longer ships {stem}; install requirements.lock")


def photo(name):
    """Read a photo: one's own from IMAGEGEN_DATA/photos, or one inside scikit-image; no download.

    Args:
        name: one of photo_names().
    Returns:
        float32 (height, width, channels), values in [0, 1]; 3 channels, or 1 if the photo is grey.
    Raises:
        ValueError: unknown name; the message lists the known ones.
        FileNotFoundError: IMAGEGEN_DATA is no folder.
    Example:
        >>> photo("astronaut").shape
        (512, 512, 3)

    Taught in: notebooks/00_start_here.ipynb
    """
    name = unicodedata.normalize("NFC", name)
    if name not in photo_names():
        raise ValueError(f"photo: expected one of {', '.join(photo_names())}, got {name!r}")
    picture = images.read(_own_photos().get(name) or _shipped(name))
    is_grey = np.ptp(picture, axis=2).max() == 0
    return picture[:, :, :1].copy() if is_grey else picture


def stereo():
    """Read the stereo pair of a motorcycle workshop and its measured depth.

    A point that the right camera sees d pixels further left is focal length * baseline / (d + gap)
    away, where the gap is the distance between the two principal points.

    Returns:
        left, right: float32 (500, 741, 3), values in [0, 1].
        depth: float32 (500, 741), metres from the left camera; NaN where it is not known.
    References:
        Scharstein et al., 2014, High-resolution stereo datasets with subpixel-accurate ground
        truth, doi:10.1007/978-3-319-11752-2_3
    Taught in: notebooks/03_compositing.ipynb
    """
    with _shipped("motorcycle_disp").open("rb") as file:
        disparity = np.load(file)["arr_0"]
    known = np.isfinite(disparity)
    depth = np.full(disparity.shape, np.nan, np.float32)
    depth[known] = FOCAL_LENGTH * BASELINE / (disparity[known] + PRINCIPAL_POINT_GAP)
    return photo("motorcycle_left"), photo("motorcycle_right"), depth


def load(name, split="train", *, seed=0):
    """Load a data set by its name.

    Always there, offline: "photos", "digits", "letters" and "scenes" (32 pixels, two objects, no
    pair of scenes.UNSEEN). Downloaded once by Keras: "mnist", "fashion_mnist" and "cifar10", unless
    IMAGEGEN_DATA/NAME holds their original files (IDX, .gz; CIFAR-10's binary version). One's own,
    where PATH may start in IMAGEGEN_DATA: "folder:PATH" is read with all folders below, and those
    directly below it are the classes; "captions:PATH" holds pictures and a table of captions.

    Args:
        name: one of names(), "folder:PATH" or "captions:PATH".
        split: "train" or "test".
        seed: any whole number; decides which tenth of a folder, or fifth of captioned pictures, is
            the test split.
    Returns:
        A Dataset.
    Raises:
        ValueError: unknown name or split, a damaged file, a folder in which no picture can be read.
        FileNotFoundError: no such folder, or one of the files of a set is missing.
        ConnectionError: a download failed; the message names the sets that need none.
    Example:
        >>> len(load("photos", "test").images)
        9

    Taught in: notebooks/04_dcgan.ipynb
    """
    if split not in PHOTOS:
        raise ValueError(f'split: expected "train" or "test", got {split!r}')
    kind, _, path = name.partition(":")
    if path and kind in ("folder", "captions"):
        return _own(name, split, seed)
    labels = captions = classes = None
    if name == "photos":
        pictures = tuple(images.to_uint8(photo(title)) for title in PHOTOS[split])
        classes = PHOTOS[split]
    elif name in GLYPHS:
        pictures, labels = _glyphs(name, split)
        classes = tuple(GLYPHS[name])
    elif name == "scenes":
        pictures, captions = _scenes(split)
    elif name in CLASS_NAMES:
        pictures, labels = _classic(name, split)
        classes = CLASS_NAMES[name]
    else:
        known = ", ".join((*names(), "folder:PATH", "captions:PATH"))
        raise ValueError(f"data set: expected one of {known}, got {name!r}")
    return Dataset(name, split, pictures, labels, captions, classes, CARDS[name])


@functools.cache
def _glyphs(name, split):
    """Draw the digits or letters of a split; the two splits never share a draw."""
    count, seed = {"train": (50_000, 0), "test": (10_000, 1)}[split]
    pictures, labels = glyphs.draw(GLYPHS[name], count, rng=seed)
    for values in (pictures, labels):
        values.flags.writeable = False  # the same arrays serve every later call
    return pictures, labels


def _classic(name, split):
    """Read a set's files in IMAGEGEN_DATA, or let Keras download and cache it, and check hashes."""
    folder = runtime.data_folder()
    if folder is not None and (folder / name).is_dir():
        pictures, labels = files.original(folder / name, name, split)
    else:
        with runtime.quiet():
            import keras
        try:
            train, test = getattr(keras.datasets, name).load_data()
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise ConnectionError(
                f"{name} could not be downloaded ({error}). Without a network use "
                f"{', '.join(OFFLINE)}, or put its files into IMAGEGEN_DATA/{name}"
            ) from error
        pictures, labels = train if split == "train" else test
    return pictures.reshape(*pictures.shape[:3], -1), labels.astype(np.int64).ravel()


@functools.cache
def _scenes(split):
    """Draw the scenes of a split; the first caption of each is the one chosen for it."""
    count, seed = SCENES[split]
    pictures, captions = np.empty((count, 32, 32, 3), np.uint8), []
    for number, scene in enumerate(scenes.draw(count, pairs="seen", rng=seed)):
        pictures[number] = images.to_uint8(scene.image)
        others = [caption for caption in scene.captions if caption != scene.caption]
        captions.append((scene.caption, *others))
    pictures.flags.writeable = False
    return pictures, tuple(captions)


def _own(name, split, seed):
    """Read one's own folder, looked for in IMAGEGEN_DATA and then from the repository's root."""
    kind, _, path = name.partition(":")
    roots = filter(None, (runtime.data_folder(), runtime.repository()))
    places = [files.existing(root, str(Path(path).expanduser())) for root in roots]
    path = next((place for place in places if place.is_dir()), places[-1])
    read = {"folder": files.folder, "captions": files.captioned}[kind]
    pictures, *about = read(path, split, operator.index(seed) % 2**64)  # NumPy takes none below 0
    one_size = len({picture.shape for picture in pictures}) == 1
    pictures = np.stack(pictures) if one_size else tuple(pictures)
    return Dataset(name, split, pictures, *about, "Your own pictures.")


def square(dataset, size, channels=None):
    """Bring all pictures of a set to one square size: cut out the middle, then resize it.

    Args:
        dataset: Dataset with pictures of any sizes.
        size: height and width of the result in pixels, >= 1.
        channels: 1 for grey, 3 for colour; by default as the pictures are.
    Returns:
        Dataset with one uint8 array (number, size, size, channels).
    Raises:
        ValueError: size below 1, other channels than 1 or 3, or pictures that differ in channels
            while none are asked for.
    Taught in: notebooks/04_dcgan.ipynb
    """
    stored = {picture.shape[2] for picture in dataset.images}
    channels = channels or (stored.pop() if len(stored) == 1 else None)
    if size < 1 or channels not in (1, 3):
        raise ValueError(f"expected size >= 1 and 1 or 3 channels, got {size} and {channels}")
    if getattr(dataset.images, "shape", (0,))[1:] == (size, size, channels):
        return dataset
    pictures = np.empty((len(dataset.images), size, size, channels), np.uint8)
    for number, picture in enumerate(dataset.images):
        height, width = picture.shape[:2]
        # Cut out the middle, show transparency over white, take the channels, resize.
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = images.to_float(picture[top : top + side, left : left + side])
        if middle.shape[2] == 4:
            middle = compositing.over(middle, np.ones_like(middle[:, :, :3]))
        if channels == 1 and middle.shape[2] == 3:
            middle = images.luma(middle)
        pictures[number] = images.to_uint8(images.resize(middle, size, size))
    return replace(dataset, images=pictures)


def batches(data, global_batch_size, *, labels=False, seed=0, repeat=True):
    """Make the input pipeline: batches, for ever, each epoch in another order.

    The set stays in memory as it is, pictures in bytes; whole batches are gathered from it, and the
    device turns them into floats. Of several machines each gets its own rows of every global batch.
    What remains at the end of an epoch is less than a batch and is left out.

    Args:
        data: Dataset with one array of images (see `square`); or an array (number, ...) of any
            type, or a tuple or dict of such of one length.
        global_batch_size: rows per step over all replicas of all machines.
        labels: whether a batch of a Dataset is (images, labels) instead of images.
        seed: any whole number; it and the epoch's number decide the order.
        repeat: False gives one epoch in the stored order, for measuring.
    Returns:
        tf.data.Dataset of (rows of this machine, ...) in the structure of the data.
    Raises:
        ValueError: pictures of several sizes, arrays of several lengths, fewer rows than a batch, a
            batch that the machines cannot share evenly, labels asked for where there are none.
    Taught in: notebooks/04_dcgan.ipynb
    """
    with runtime.quiet():
        import tensorflow as tf

    if isinstance(data, Dataset):
        if not isinstance(data.images, np.ndarray):
            raise ValueError("the pictures have several sizes: use datasets.square first")
        if labels and data.labels is None:
            raise ValueError(f"{data.name} has no labels")
        data = (data.images, data.labels) if labels else data.images
    lengths = {len(array) for array in tf.nest.flatten(data)}
    if len(lengths) != 1:
        raise ValueError(f"data: expected arrays of one length, got {sorted(lengths)}")
    index, workers = runtime.worker()
    (count,) = lengths
    if not 1 <= global_batch_size <= count:
        raise ValueError(f"global_batch_size: expected 1 to {count}, got {global_batch_size}")
    if global_batch_size % workers:
        raise ValueError(f"global_batch_size: {workers} machines cannot share {global_batch_size}")
    seed = (operator.index(seed) + 2**63) % 2**64 - 2**63  # TensorFlow takes 64 bits
    with tf.device("CPU"):
        kept = tf.nest.map_structure(tf.constant, data)

    def epoch(number):
        """Give the rows of each batch of an epoch: this machine's share of them."""
        order = tf.range(count, dtype=tf.int64)
        if repeat:
            order = tf.random.experimental.stateless_shuffle(order, seed=[seed, number])
        whole = order[: count - count % global_batch_size]
        shares = tf.reshape(whole, (-1, workers, global_batch_size // workers))
        return tf.data.Dataset.from_tensor_slices(shares[:, index])

    def gather(rows):
        return tf.nest.map_structure(lambda array: tf.gather(array, rows), kept)

    epochs = tf.data.Dataset.counter() if repeat else tf.data.Dataset.range(1)
    return epochs.flat_map(epoch).map(gather).prefetch(4)
