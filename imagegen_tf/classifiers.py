"""A small classifier for each data set, in whose features sets of images are compared.

Shipped for digits and letters; for every other set trained once, in float32, and kept.
"""

import hashlib
import re
import time

import numpy as np

from imagegen_tf import images, runtime, weights

SHIPPED = {"digits": (28, 28, 1), "letters": (28, 28, 1)}
FEWEST = 20  # pictures
BATCH = 128  # pictures
STEPS = 1_800
RATE = 3e-3  # of Adam, at the start
DIMENSIONS = 64  # of the features
TURNS = 4  # quarter turns, the classes of a set without labels
RECIPE = 1  # count up when the network or its training changes: kept networks are trained again


def features(dataset):
    """Give the function that turns images into features, for comparing sets of images.

    The features are the last layer but one of a small classifier of the data set. It is shipped
    for digits and letters of 28 x 28. For any other set it is trained here, once, in a minute or
    two, and kept under IMAGEGEN_RUNS/features. Where a set has no labels, or only one, the network
    learns to tell by how many quarter turns a picture was turned. Features of different networks
    cannot be compared: name the data set beside every number.

    Args:
        dataset: datasets.Dataset, the train split, all images of one size.
    Returns:
        A function of images, uint8 or float32 in [0, 1], (number, height, width, channels) as in
        the data set, that gives float32 (number, dimensions).
    Raises:
        ValueError: not the train split, images of several sizes, fewer than 20 images; what the
            function gets has another shape, or values outside [0, 1]. TypeError: another dtype.
    References:
        Gidaris et al., 2018, Unsupervised representation learning by predicting image rotations,
        arXiv:1803.07728
    Taught in: notebooks/04_dcgan.ipynb
    """
    with weights.isolated():
        extract = _extractor(network(dataset))
    shape = dataset.images.shape[1:]
    at_once = max(1, min(1_000, 2**21 // int(np.prod(shape))))

    def function(pictures):
        pictures = np.asarray(pictures)
        if pictures.ndim != 4 or pictures.shape[1:] != shape:
            wanted = ", ".join(str(size) for size in shape)
            raise ValueError(f"images: expected shape (number, {wanted}), got {pictures.shape}")
        # TensorFlow refuses to fold an empty batch on processors with AVX-512: a row too many.
        some = pictures if len(pictures) else np.zeros((1, *shape), pictures.dtype)
        parts = [
            extract(_floats(some[start : start + at_once])).numpy()
            for start in range(0, len(some), at_once)
        ]
        return np.concatenate(parts)[: len(pictures)]

    return function


def network(dataset):
    """Give the classifier itself: shipped, kept from an earlier call, or trained now.

    Args:
        dataset: as for features.
    Returns:
        A Keras network from float32 images in [0, 1] to one logit for each class; the layer named
        "features" gives the features.
    Raises:
        ValueError: as features.
    """
    _check(dataset)
    if SHIPPED.get(dataset.name) == dataset.images.shape[1:]:
        return weights.load(f"features_{dataset.name}")
    file = _kept(dataset)
    if file.is_file():
        try:
            kept = weights.read(file)
            kept.get_layer("features")
            return kept
        except Exception as error:  # Keras raises many kinds for a damaged file
            print(f"{file.name} is damaged ({type(error).__name__}) and is made again.")
    trained = train(dataset, steps=STEPS)
    weights.save(trained, file)
    return trained


def train(dataset, *, steps=STEPS):
    """Train the classifier of a data set, or its teller of turns where there are no labels.

    Args:
        dataset: as for features.
        steps: of 128 pictures each; fewer for small sets, which it would learn by heart.
    Returns:
        A Keras network, as network gives it.
    Raises:
        ValueError: as features.
    """
    _check(dataset)
    with weights.isolated():
        return _train(dataset, steps)


def _check(dataset):
    """Check that a classifier can be trained on a data set."""
    if dataset.split != "train":
        raise ValueError(
            f"features: expected the train split of {dataset.name}, got {dataset.split}"
        )
    if not isinstance(dataset.images, np.ndarray):
        raise ValueError(
            f"features: {dataset.name} has images of several sizes; make "
            "them one with datasets.square"
        )
    if len(dataset.images) < FEWEST:
        count = len(dataset.images)
        raise ValueError(f"features: expected at least {FEWEST} images, got {count}")


def _kept(dataset):
    """Name the file in which a data set's network is kept."""
    recipe = (RECIPE, BATCH, STEPS, RATE, dataset.images.shape, dataset.labels is None)
    content = hashlib.sha256(repr(recipe).encode())
    content.update(np.ascontiguousarray(dataset.images))
    if dataset.labels is not None:
        content.update(np.asarray(dataset.labels, np.int64).tobytes())
    name = re.sub(r"[^\w.-]+", "_", dataset.name)[-60:]
    shape = "x".join(str(size) for size in dataset.images.shape[1:])
    file = f"{name}-{shape}-{content.hexdigest()[:12]}.keras"
    return runtime.runs_folder() / "features" / file


def _extractor(network):
    """Compile what gives the features of a batch."""
    import keras
    import tensorflow as tf

    inner = keras.Model(network.input, network.get_layer("features").output)
    batch = tf.TensorSpec((None, *network.input.shape[1:]), tf.float32)

    @tf.function(input_signature=[batch], autograph=False)
    def extract(pictures):
        return inner(pictures, training=False)

    return extract


def _floats(pictures):
    """Convert a batch of images to float32 in [0, 1], checking type and range."""
    if pictures.dtype == np.uint8:
        return pictures.astype(np.float32) / 255
    if pictures.dtype != np.float32:
        raise TypeError(f"images: expected uint8, or float32 in [0, 1], got {pictures.dtype}")
    return images.check_range(pictures, "images") if pictures.size else pictures


def _build(height, width, channels, classes, momentum):
    """Build the classifier: a first layer that leaves about 16 x 16 cells, then three more."""
    import keras
    from keras import initializers, layers

    # Float32 whatever the policy is, and drawing from no generator of the chapter's.
    def options(seed):
        return {"kernel_initializer": initializers.HeNormal(seed), "dtype": "float32"}

    # h x w => about 16 x 16 => 8 x 8 => 8 x 8 => 64 features => classes
    stride = max(1, round((height * width) ** 0.5 / 16))
    inputs = keras.Input((None, None, channels), dtype="float32")
    x = layers.Rescaling(2.0, -1.0, dtype="float32")(inputs)
    for seed, (filters, kernel, step) in enumerate([(32, 2 * stride + 1, stride), (64, 3, 2)]):
        conv = layers.Conv2D(filters, kernel, step, "same", activation="relu", **options(seed))
        x = conv(x)
    x = layers.Conv2D(96, 3, padding="same", use_bias=False, **options(2))(x)
    x = layers.BatchNormalization(momentum=momentum, dtype="float32")(x)
    x = layers.ReLU(dtype="float32")(x)
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    x = layers.Dense(DIMENSIONS, use_bias=False, **options(3))(x)
    x = layers.BatchNormalization(momentum=momentum, dtype="float32")(x)
    x = layers.ReLU(name="features", dtype="float32")(x)
    return keras.Model(inputs, layers.Dense(classes, **options(4))(x))


def _train(dataset, steps):
    """Train the network of a data set."""
    with runtime.quiet():
        import keras
        import tensorflow as tf

    pictures, rng = dataset.images, np.random.default_rng(0)
    labels, classes = _labels(dataset)
    # A small set is seen at most 60 times.
    steps = min(steps, max(100, 60 * len(pictures) // BATCH))
    # The running means must have forgotten their start when a short training ends.
    network = _build(*pictures.shape[1:], classes, momentum=min(0.98, max(0.5, 1 - 5 / steps)))
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps))
    optimizer.build(network.trainable_variables)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch, truth):
        with tf.GradientTape() as tape:
            logits = network(batch, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            loss = tf.reduce_mean(losses)
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    print(f"Learning the features of {dataset.name}, once", end="", flush=True)
    # Each picture once before any comes again.
    rounds = 1 + steps * BATCH // len(pictures)
    order = np.concatenate([rng.permutation(len(pictures)) for _ in range(rounds)])
    for number in range(steps):
        index = order[number * BATCH : (number + 1) * BATCH]
        batch = pictures[index]
        truth = labels[index] if labels is not None else None
        if labels is None:
            batch, truth = _turned(batch, rng)
        step(_floats(batch), truth)
        if number == 10:
            start = time.perf_counter()
        if number == 50:
            seconds = (time.perf_counter() - start) / 40 * steps
            print(f" (about {seconds:.0f} s)", end="", flush=True)
    print(" ... done")
    return network


def _labels(dataset):
    """Give labels from 0 on and how many there are; None where turns are to be told instead."""
    if np.ndim(dataset.labels) != 1 or len(np.unique(dataset.labels)) < 2:  # none, or words
        return None, TURNS
    kinds, labels = np.unique(dataset.labels, return_inverse=True)
    return labels.astype(np.int32), len(kinds)


def _turned(batch, rng):
    """Turn each picture, or a square out of it, by a random number of quarter turns."""
    side = min(batch.shape[1:3])
    top, left = (rng.integers(size - side + 1) for size in batch.shape[1:3])
    batch = batch[:, top : top + side, left : left + side]
    turns = rng.integers(TURNS, size=len(batch))
    turned = [np.rot90(one, turn) for one, turn in zip(batch, turns, strict=True)]
    return np.stack(turned), turns.astype(np.int32)
