"""Measures: of one image beside another, of captions, and of two sets of images by their features.

The report that ends every chapter is reachable here, too.
"""

import itertools
import math

import numpy as np

from imagegen_tf import images
from imagegen_tf.classifiers import features  # noqa: F401
from imagegen_tf.reporting import is_met, limit, number, report, row  # noqa: F401

_ROWS_AT_ONCE = 1_000  # of a table of all distances, so that large sets fit into memory


def psnr(image, reference):
    """Measure the peak signal-to-noise ratio over all values of two images.

    Args:
        image, reference: float32 (height, width, channels), values in [0, 1], same shape.
    Returns:
        Decibels, a float; infinity for equal images.
    Raises:
        ValueError: shapes differ. TypeError, ValueError: not an image.
    Example:
        >>> round(psnr(np.zeros((2, 2, 1)), np.full((2, 2, 1), 0.1)), 2)
        20.0

    Taught in: notebooks/01_noise_images.ipynb
    """
    _same_shape(image, reference)
    error = np.mean((image.astype(np.float64) - reference) ** 2)
    return math.inf if error == 0 else float(-10 * np.log10(error))


def ssim(image, reference):
    """Measure the structural similarity of two images, with the weights of the original paper.

    Args:
        image, reference: float32 (height, width, channels), values in [0, 1], same shape, at least
            11 x 11 pixels.
    Returns:
        A float up to 1; the mean over channels.
    Raises:
        ValueError: shapes differ, or an image below 11 x 11. TypeError, ValueError: not an image.
    References:
        Wang et al., 2004, Image quality assessment, doi:10.1109/TIP.2003.819861
    Taught in: notebooks/02_image_editing.ipynb
    """
    from skimage.metrics import structural_similarity

    _same_shape(image, reference)
    if min(image.shape[:2]) < 11:
        raise ValueError(f"image: expected at least 11 x 11 pixels, got {image.shape[:2]}")
    return float(
        structural_similarity(
            image.astype(np.float64),
            reference.astype(np.float64),
            data_range=1.0,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def _same_shape(image, reference):
    """Check two images and that their shapes are equal."""
    images.check(image)
    images.check(reference, "reference")
    if image.shape != reference.shape:
        raise ValueError(f"image has shape {image.shape} but reference has {reference.shape}")


def bleu(hypotheses, references):
    """Measure how many runs of one to four words captions share with their references.

    Counted over all captions together by sacrebleu: words are split at spaces, a count of 0 stays 0
    (no smoothing), and captions shorter than their references are marked down. A caption may be
    good and score low: bleu knows words, not meanings.

    Args:
        hypotheses: texts, one for each picture; an empty one counts as no word.
        references: for each picture a list of texts, at least one.
    Returns:
        tuple of four floats in [0, 1]: BLEU-1, BLEU-2, BLEU-3 and BLEU-4.
    Raises:
        ValueError: no caption, another number of references, or a picture without one.
        TypeError: a text where a list of texts is expected.
    Example:
        >>> bleu(["a red star"], [["a red star", "a star"]])
        (1.0, 1.0, 1.0, 0.0)

    References:
        Papineni et al., 2002, BLEU, doi:10.3115/1073083.1073135
    Taught in: notebooks/09_captioning.ipynb
    """
    from sacrebleu.metrics import BLEU

    if isinstance(hypotheses, str) or any(isinstance(one, str) for one in references):
        raise TypeError("expected a list of texts, and a list of texts for each; got one text")
    if not len(hypotheses) or len(hypotheses) != len(references):
        raise ValueError(
            "expected at least one caption, and references for each; got "
            f"{len(hypotheses)} and {len(references)}"
        )
    if not all(len(one) for one in references):
        raise ValueError("references: a picture has none")
    # One row for each place in the lists; sacrebleu takes None for what a shorter list lacks.
    streams = [list(stream) for stream in itertools.zip_longest(*references)]
    scores = []
    for order in range(1, 5):
        scorer = BLEU(max_ngram_order=order, tokenize="none", smooth_method="none", force=True)
        scores.append(min(1.0, scorer.corpus_score(list(hypotheses), streams).score / 100))
    return tuple(scores)


def frechet_distance(features_a, features_b):
    """Measure the Fréchet distance between two sets of features, each taken as a Gaussian.

    0 for equal sets, and larger the more mean and covariance differ. It falls with the number of
    samples, so compare only equal numbers. Never call it FID: that name stands for the features
    of Inception, ours are those of a small classifier. Name the features and the sample count.

    Args:
        features_a, features_b: (number, dimensions), at least 2 rows each; may be fewer than
            dimensions.
    Returns:
        A float, 0 or above.
    Raises:
        ValueError: not 2-D, different dimensions, fewer than 2 rows, or a value not finite.
    Example:
        >>> frechet_distance(np.array([[-1.0], [1.0]]), np.array([[2.0], [4.0]]))
        9.0

    References:
        Heusel et al., 2017, GANs trained by a two time-scale update rule, eq. 6, arXiv:1706.08500
    Taught in: notebooks/04_dcgan.ipynb
    """
    a, b = _feature_sets(features_a, features_b)
    # Mean and covariance of each set.
    a, mean_a = a - a.mean(axis=0), a.mean(axis=0)
    b, mean_b = b - b.mean(axis=0), b.mean(axis=0)
    cov_a, cov_b = a.T @ a / (len(a) - 1), b.T @ b / (len(b) - 1)
    # trace((A B)^1/2) is the sum of the singular values of A^1/2 B^1/2: real for any sets, and
    # without the square root of rounding errors that eigenvalues of A B would bring.
    cross = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return max(0.0, float(distance))


def _root(covariance):
    """Give the symmetric square root of a covariance that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def kernel_distance(features_a, features_b, *, subsets=50, subset_size=1_000, rng=0):
    """Measure the squared maximum mean discrepancy of two sets of features, cubic kernel.

    Unbiased: its expectation does not depend on the number of samples, and for two sets of one
    kind it is 0, so single values may lie slightly below 0. That needs sets without a picture in
    common: a set against itself gives less than 0; compare its halves. Never call it KID without
    naming the features, ours are not Inception's, and the sample count.

    Args:
        features_a, features_b: (number, dimensions), at least 2 rows each.
        subsets: how many pairs of subsets to average over.
        subset_size: rows in each; no more than the smaller set has.
        rng: int seed, numpy.random.Generator or None; chooses the subsets.
    Returns:
        A float.
    Raises:
        ValueError: as frechet_distance; subsets below 1, subset_size below 2.
    References:
        Binkowski et al., 2018, Demystifying MMD GANs, section 4, arXiv:1801.01401
    Taught in: notebooks/12_evaluation.ipynb
    """
    a, b = _feature_sets(features_a, features_b)
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"expected subsets >= 1, subset_size >= 2, got {subsets}, {subset_size}")
    rng = np.random.default_rng(rng)
    size = min(subset_size, len(a), len(b))
    if size == len(a) == len(b):
        subsets = 1  # all would be the same
    off_diagonal = size * (size - 1)
    total = 0.0
    for _ in range(subsets):
        x = a[rng.choice(len(a), size, replace=False)]
        y = b[rng.choice(len(b), size, replace=False)]
        # Pairs within a set leave out each point with itself, or the estimate would be biased.
        within = _cubic(x, x), _cubic(y, y)
        total += sum((kernel.sum() - np.trace(kernel)) / off_diagonal for kernel in within)
        total -= 2 * _cubic(x, y).mean()
    return float(total / subsets)


def _cubic(x, y):
    """Give the kernel (x.y / dimensions + 1)^3 of all pairs."""
    kernel = x @ y.T / x.shape[1] + 1
    return kernel * kernel * kernel  # ** 3 would be many times slower


def precision_recall(real_features, generated_features, *, neighbours=3):
    """Measure which share of generated images looks real, and which share of real ones is covered.

    A set covers what lies within the balls around its points that reach to their `neighbours`-th
    nearest neighbour in the set. Poor images lower the precision, missing kinds of images the
    recall. Both depend on the features and on the sample count: name them.

    Args:
        real_features, generated_features: (number, dimensions); more rows than neighbours.
        neighbours: which neighbour gives the radius; at least 1.
    Returns:
        precision, recall: floats in [0, 1].
    Raises:
        ValueError: as frechet_distance; neighbours below 1, or not fewer than a set has rows.
    Example:
        >>> points = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> precision_recall(points, points[:2] + 0.5, neighbours=1)
        (1.0, 0.75)

    References:
        Kynkäänniemi et al., 2019, Improved precision and recall metric, eq. 1, arXiv:1904.06991
    Taught in: notebooks/04_dcgan.ipynb
    """
    real, generated = _feature_sets(real_features, generated_features)
    if not 1 <= neighbours < min(len(real), len(generated)):
        raise ValueError(
            f"neighbours: expected 1 or more and fewer than each set has rows "
            f"({len(real)} and {len(generated)}), got {neighbours}"
        )
    # Around their common middle the numbers are small, and so are the rounding errors of squared
    # distances; what lies on a ball counts as inside.
    middle = real.mean(axis=0)
    real, generated = real - middle, generated - middle
    slack = 1e-12 * max(np.square(one).sum(axis=1).max() for one in (real, generated))
    reach_real = _reach(real, neighbours) + slack
    reach_generated = _reach(generated, neighbours) + slack
    recalled = np.zeros(len(real), bool)
    precise = 0
    for start in range(0, len(generated), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        # Does it lie in the ball of any real one; does its own ball hold any real one?
        squared = _squared_distances(generated[rows], real)
        precise += (squared <= reach_real).any(axis=1).sum()
        recalled |= (squared <= reach_generated[rows, None]).any(axis=0)
    return float(precise / len(generated)), float(recalled.mean())


def _reach(points, neighbours):
    """Give each point's squared distance to its n-th nearest neighbour among the others."""
    reach = []
    for start in range(0, len(points), _ROWS_AT_ONCE):
        squared = _squared_distances(points[start : start + _ROWS_AT_ONCE], points)
        # Position 0 holds the point itself.
        reach.append(np.partition(squared, neighbours, axis=1)[:, neighbours])
    return np.concatenate(reach)


def _squared_distances(x, y):
    """Give the squared distances of all pairs, as a table (len(x), len(y))."""
    squared = x @ y.T
    squared *= -2
    squared += np.square(x).sum(axis=1)[:, None]
    squared += np.square(y).sum(axis=1)
    return squared


def _feature_sets(features_a, features_b):
    """Check two sets of features and give them in float64."""
    sets = [np.asarray(one, np.float64) for one in (features_a, features_b)]
    for rows in sets:
        if rows.ndim != 2 or len(rows) < 2 or rows.shape[1] < 1:
            raise ValueError(
                "features: expected shape (number, dimensions) with at least 2 rows, "
                f"got {rows.shape}"
            )
        if not np.isfinite(rows).all():
            raise ValueError("features: expected numbers, got NaN or infinity")
    if sets[0].shape[1] != sets[1].shape[1]:
        dimensions = " and ".join(str(rows.shape[1]) for rows in sets)
        raise ValueError(f"features: expected equal dimensions, got {dimensions}")
    return sets
