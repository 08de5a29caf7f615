"""Measuring 20,000 pictures: their features, and what is computed from them."""

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist

from imagegen_tf import datasets, metrics, runtime, weights
from tests.benchmarks.timing import compare

COUNT, POINTS = 20_000, 2_000


def textbook_frechet(a, b):
    """Write the formula as one reads it."""
    means = [one.mean(axis=0) for one in (a, b)]
    covariances = [np.cov(one, rowvar=False) for one in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = means[0] - means[1]
    return gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root)


def textbook_precision_recall(real, generated, neighbours=3):
    """Write the definition with three whole tables of distances."""
    within = [np.sort(cdist(one, one), axis=1)[:, neighbours] for one in (real, generated)]
    between = cdist(generated, real)
    return (between <= within[0]).any(axis=1).mean(), (between.T <= within[1]).any(axis=1).mean()


def measure():
    """Time features and statistics apart."""
    runtime.setup()
    data = datasets.load("digits")
    pictures = data.images[:COUNT]
    features = metrics.features(data)
    import keras

    network = weights.load("features_digits")
    inner = keras.Model(network.input, network.get_layer("features").output)
    floats = pictures.astype(np.float32) / 255
    images = {"unit": "images", "work": (len(pictures),) * 2}
    yield compare(
        f"features of {len(pictures):,} pictures",
        lambda: features(pictures),
        "Keras' own predict",
        lambda: inner.predict(floats, batch_size=500, verbose=0),
        **images,
    )
    found = features(pictures)
    first, second = found, features(pictures[:, :, ::-1])
    yield compare(
        f"Fréchet distance of {len(pictures):,}, statistics",
        lambda: metrics.frechet_distance(first, second),
        "textbook: numpy.cov, scipy.linalg.sqrtm",
        lambda: textbook_frechet(first, second),
        **images,
    )
    yield compare(
        f"Fréchet distance of {len(pictures):,}, statistics",
        lambda: metrics.frechet_distance(first, second),
        "the features of as many",
        lambda: features(pictures),
        **images,
    )
    some = first[:POINTS], second[:POINTS]
    yield compare(
        f"precision and recall of {POINTS:,}",
        lambda: metrics.precision_recall(*some),
        "textbook: scipy's cdist, sorted",
        lambda: textbook_precision_recall(*some),
        unit="images",
        work=(POINTS, POINTS),
    )
