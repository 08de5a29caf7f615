"""distances: closed forms, identities, and cases that are made by hand."""

import numpy as np
import pytest

from imagegen_tf import metrics

RNG = np.random.default_rng(0)
# 64 features of very different spread, as networks give them.
SPREAD = np.geomspace(1e-3, 3, 64)
POINTS = RNG.normal(size=(2_000, 64)) * SPREAD + 1
MEASURES = [
    metrics.frechet_distance,
    metrics.kernel_distance,
    lambda a, b: metrics.precision_recall(a, b, neighbours=1),
]


def exactly(mean, covariance, count=500):
    """Draw points whose sample mean and covariance are exactly these."""
    points = np.random.default_rng(1).normal(size=(count, len(mean)))
    points -= points.mean(axis=0)
    whiten = np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    return points @ whiten @ np.linalg.cholesky(covariance).T + mean


def test_frechet_of_two_gaussians_has_its_closed_form():
    # Diagonal covariances: sum of (mean difference)^2 + (difference of standard deviations)^2.
    a = exactly(np.array([0.0, 1, 2]), np.diag([1.0, 4, 9]))
    b = exactly(np.array([3.0, 1, 2]), np.diag([4.0, 4, 1]))
    assert metrics.frechet_distance(a, b) == pytest.approx(9 + 1 + 0 + 4, rel=1e-9)
    # Covariances that do not commute; for 2 x 2 the trace of the root of a matrix with positive
    # eigenvalues is sqrt(trace + 2 sqrt(determinant)).
    p, q = np.array([[2.0, 0.5], [0.5, 1]]), np.array([[1.0, -0.8], [-0.8, 3]])
    root = np.sqrt(np.trace(p @ q) + 2 * np.sqrt(np.linalg.det(p) * np.linalg.det(q)))
    expected = np.trace(p) + np.trace(q) - 2 * root
    zero = np.zeros(2)
    found = metrics.frechet_distance(exactly(zero, p), exactly(zero, q))
    assert found == pytest.approx(expected, rel=1e-9)


def test_frechet_to_itself_is_zero_even_where_the_covariance_is_singular():
    for count in [2_000, 64, 10, 2]:
        some = POINTS[:count]
        trace = np.var(some, axis=0, ddof=1).sum()
        assert 0 <= metrics.frechet_distance(some, some) < 1e-10 * trace
        order = np.random.default_rng(2).permutation(count)
        assert metrics.frechet_distance(some, some[order]) < 1e-10 * trace
        constant = np.full((count, 64), 0.5)
        assert metrics.frechet_distance(constant, constant) == 0


def test_frechet_is_symmetric_and_finite_for_few_samples():
    for a, b in ((POINTS[:5], POINTS[5:12] * 2), (POINTS[:900], POINTS[900:] + 0.1)):
        there, back = metrics.frechet_distance(a, b), metrics.frechet_distance(b, a)
        assert np.isfinite(there) and there > 0
        assert there == pytest.approx(back, rel=1e-9)
    # A shift alone costs its squared length, whatever the covariance.
    shift = np.full(64, 0.25)
    found = metrics.frechet_distance(POINTS[:5], POINTS[:5] + shift)
    assert found == pytest.approx(shift @ shift, rel=1e-9)


def test_kernel_distance_is_the_mean_over_pairs():
    a, b = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 3)) + 1

    def mean(x, y):
        pairs = [(p, q) for p in x for q in y if p is not q]
        return np.mean([(p @ q / 3 + 1) ** 3 for p, q in pairs])

    # Below subset_size all of the smaller set is taken: with sets of 4 every pair counts once.
    a, b = list(a), list(b[:4])
    expected = mean(a, a) + mean(b, b) - 2 * mean(a, b)
    assert metrics.kernel_distance(a, b, subsets=1) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_one_kind_is_zero_within_its_noise_whatever_the_number():
    rng = np.random.default_rng(3)
    for count in (10, 40):  # a biased estimate would be off by 1 / count
        found = [
            metrics.kernel_distance(*rng.normal(size=(2, count, 8)), subsets=1)
            for _ in range(1_000)
        ]
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found)) < 4 * error
        assert 4 * error < 1 / count
    few = {"subsets": 5, "subset_size": 500}
    half = len(POINTS) // 2
    halves = metrics.kernel_distance(POINTS[:half], POINTS[half:], **few)
    shifted = metrics.kernel_distance(POINTS[:half], POINTS[half:] + 0.2 * SPREAD, **few)
    assert abs(halves) < 0.1 * shifted
    assert metrics.kernel_distance(POINTS[:500], POINTS[:500], subsets=1) < 0  # as documented


def test_kernel_distance_repeats_with_its_seed():
    halves = POINTS[:1_000], POINTS[1_000:]
    call = metrics.kernel_distance
    first = call(*halves, subsets=3, subset_size=50, rng=5)
    assert first == call(*halves, subsets=3, subset_size=50, rng=np.random.default_rng(5))
    assert first != call(*halves, subsets=3, subset_size=50, rng=6)


def test_precision_and_recall_on_points_made_by_hand():
    real = np.array([[0.0], [1], [2], [10], [11]])
    # Nearest neighbours are 1 away: balls cover -1 to 3 and 9 to 12.
    generated = np.array([[3.0], [3.5], [5.0], [9.0]])
    # Balls of the generated points: 3 and 3.5 reach 0.5, 5 reaches 1.5, 9 reaches 4.
    assert metrics.precision_recall(real, generated, neighbours=1) == (0.5, 0.4)
    # Second neighbours: real 0 and 2 reach 2, 1 reaches 1, 10 reaches 8, 11 reaches 9: all inside.
    assert metrics.precision_recall(real, generated, neighbours=2)[0] == 1
    far = generated + 100
    assert metrics.precision_recall(real, far, neighbours=1) == (0, 0)


def test_precision_and_recall_of_a_set_against_itself_are_one():
    some = POINTS[:300]
    for offset in (0, 1e4):  # far from the origin, where squared distances lose digits
        moved = some + offset
        assert metrics.precision_recall(moved, moved) == (1, 1)
    doubled = np.repeat(some[:50], 5, axis=0)  # every radius is 0
    assert metrics.precision_recall(doubled, doubled) == (1, 1)


def test_mode_collapse_lowers_recall_and_not_precision():
    rng = np.random.default_rng(4)
    centres = np.eye(8) * 10
    real, fair = (centres[rng.integers(8, size=800)] + rng.normal(size=(800, 8)) for _ in "ab")
    collapsed = centres[rng.integers(2, size=800)] + rng.normal(size=(800, 8))
    precision, recall = metrics.precision_recall(real, fair)
    assert precision > 0.8 and recall > 0.8
    poor_precision, poor_recall = metrics.precision_recall(real, collapsed)
    assert poor_precision > precision - 0.1  # measured on two kinds of eight, so it varies
    assert 0.15 < poor_recall < 0.3  # two kinds of eight
    swapped = metrics.precision_recall(collapsed, real)
    assert swapped == (poor_recall, poor_precision)


def test_blocks_of_rows_change_nothing(monkeypatch):
    a, b = POINTS[:250], POINTS[250:600] * 1.2
    whole = metrics.precision_recall(a, b)
    monkeypatch.setattr(metrics, "_ROWS_AT_ONCE", 64)
    assert metrics.precision_recall(a, b) == whole
    assert whole != (1, 1)


def test_wrong_features_are_refused():
    for measure in MEASURES:
        for a, b, words in [
            (POINTS[0], POINTS, "at least 2 rows, got \\(64,\\)"),
            (POINTS, POINTS[:1], "at least 2 rows"),
            (POINTS[None], POINTS, "shape"),
            (POINTS[:, :0], POINTS, "shape"),
            (POINTS, POINTS[:, :9], "64 and 9"),
            (POINTS, np.where(POINTS > 5, np.nan, POINTS), "NaN"),
            (np.where(POINTS > 5, np.inf, POINTS), POINTS, "infinity"),
        ]:
            with pytest.raises(ValueError, match=words):
                measure(a, b)


def test_wrong_settings_are_refused():
    for call, words in [
        (lambda: metrics.precision_recall(POINTS, POINTS[:3]), "2000 and 3"),
        (lambda: metrics.precision_recall(POINTS, POINTS, neighbours=0), "got 0"),
        (lambda: metrics.kernel_distance(POINTS, POINTS, subsets=0), "subsets"),
        (lambda: metrics.kernel_distance(POINTS, POINTS, subset_size=1), "subset_size"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_arguments_are_left_as_they_are():
    a, b = POINTS[:100].copy(), POINTS[100:200].copy()
    for measure in MEASURES:
        measure(a, b)
    assert np.array_equal(a, POINTS[:100]) and np.array_equal(b, POINTS[100:200])
