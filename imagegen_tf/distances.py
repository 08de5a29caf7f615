"""How far apart two sets of images are, measured on their features."""

import numpy as np

_ROWS_AT_ONCE = 1_000  # of a table of all distances, so that large sets fit into memory


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
    a, b = _checked(features_a, features_b)
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
    a, b = _checked(features_a, features_b)
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
    real, generated = _checked(real_features, generated_features)
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


def _checked(features_a, features_b):
    """Check two sets of features and give them in float64."""
    sets = [np.asarray(features, np.float64) for features in (features_a, features_b)]
    for features in sets:
        if features.ndim != 2 or len(features) < 2 or features.shape[1] < 1:
            raise ValueError(
                "features: expected shape (number, dimensions) with at least 2 rows, "
                f"got {features.shape}"
            )
        if not np.isfinite(features).all():
            raise ValueError("features: expected numbers, got NaN or infinity")
    if sets[0].shape[1] != sets[1].shape[1]:
        dimensions = " and ".join(str(features.shape[1]) for features in sets)
        raise ValueError(f"features: expected equal dimensions, got {dimensions}")
    return sets
