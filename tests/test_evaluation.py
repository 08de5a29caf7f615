"""Chapter 12: makers, spoilt photos, classifiers, quizzes, intervals, and who only copies."""

import json

import keras
import notebook_cells
import numpy as np
import pytest

from imagegen_tf import metrics, runtime, weights


@pytest.fixture(scope="module")
def chapter():
    """The cells that are taught."""
    return notebook_cells.load("12")


def bars(count, seed=0):
    """Pictures of 8 x 8 with a bright row (class 0) or a bright column (class 1), and noise."""
    rng = np.random.default_rng(seed)
    labels, place = np.arange(count) % 2, rng.integers(8, size=count)
    pictures = rng.uniform(0, 0.3, (count, 8, 8, 1)).astype(np.float32)
    for picture, label, where in zip(pictures, labels, place, strict=True):
        picture[(where, slice(None)) if label == 0 else (slice(None), where)] = 1
    return pictures, labels


def test_each_way_of_spoiling_meets_the_same_psnr(chapter):
    for kind in ["noise", "brighter", "moved", "blurred", "blocks", "patch"]:
        grid = np.indices((64, 64)).astype(np.float32)
        photo = np.stack(
            [np.sin(grid[0] / 3), np.cos(grid[1] / 4), np.sin(grid.sum(0) / 5)], axis=2
        )
        photo = (photo / 4 + 0.5).astype(np.float32)
        spoilt = chapter.spoil_to(photo, kind, 22.0)
        assert spoilt.dtype == np.float32 and 0 <= spoilt.min() and spoilt.max() <= 1
        assert metrics.psnr(spoilt, photo) == pytest.approx(22, abs=0.5)


def test_the_normal_maker_has_the_mean_and_the_covariance_of_its_pictures(chapter):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4)) * 0.03
    pictures = (0.5 + rng.standard_normal((4_000, 4)) @ mixing).reshape(-1, 2, 2, 1)
    made = chapter.by_normal(pictures, 4_000, seed=1)
    assert made.shape == pictures.shape and made.dtype == np.float32
    flat, other = pictures.reshape(-1, 4), made.reshape(-1, 4)
    np.testing.assert_allclose(other.mean(axis=0), flat.mean(axis=0), atol=0.005)
    np.testing.assert_allclose(np.cov(other.T), np.cov(flat.T), atol=0.1 * np.cov(flat.T).max())


def test_the_flow_is_followed_to_its_end_in_blocks(chapter):
    """A field that points straight at a constant picture reaches it in any number of steps."""
    x_t, t = keras.Input((2, 2, 1)), keras.Input((1,))
    label = keras.Input((1,), dtype="int32")
    aim = keras.ops.reshape(keras.ops.cast(label, "float32"), (-1, 1, 1, 1))
    left = keras.ops.reshape(1 - t, (-1, 1, 1, 1))
    network = keras.Model([x_t, t, label], (aim - x_t) / left)
    labels = np.array([-1, 0, 1] * 100)
    made = chapter.by_flow(network, labels, steps=4)
    np.testing.assert_allclose(made[:, 0, 0, 0], labels / 2 + 0.5, atol=1e-5)


def test_draws_compare_disjoint_halves_or_two_sets(chapter):
    points = np.arange(10.0)[:, None]
    seen = []
    chapter.draws(lambda a, b: seen.append((a, b)) or 0.0, points, 5, repeats=3)
    assert all(sorted([*a[:, 0], *b[:, 0]]) == list(range(10)) for a, b in seen)
    assert not np.array_equal(seen[0][0], seen[1][0])
    seen.clear()
    chapter.draws(lambda a, b: seen.append(b) or 0.0, points, 5, repeats=1, b=points + 100)
    assert (seen[0] >= 100).all()


def test_a_classifier_learns_from_right_labels_and_not_from_shuffled_ones(chapter):
    pictures, labels = bars(600)
    new, truth = bars(200, seed=1)
    right = chapter.train_classifier(pictures, labels, 2, steps=60)
    shuffled = np.random.default_rng(0).permutation(labels)
    wrong = chapter.train_classifier(pictures, shuffled, 2, steps=60)
    scores = [np.mean(one(new).numpy().argmax(axis=1) == truth) for one in (right, wrong)]
    assert scores[0] > 0.95 and scores[1] < 0.75


def test_a_judge_tells_two_kinds_apart(chapter):
    pictures, labels = bars(600)
    judge = chapter.two_sample_judge(pictures[labels == 0], pictures[labels == 1], steps=60)
    new, truth = bars(100, seed=1)
    assert np.mean(judge(new).numpy().argmax(axis=1) == truth) > 0.95


def test_a_quiz_shows_each_maker_as_often_and_knows_the_truth(chapter):
    quiz, truth = chapter.make_quiz(np.zeros((30, 2, 2, 1)), np.ones((40, 2, 2, 1)), 20, seed=3)
    assert quiz.shape == (20, 2, 2, 1) and truth.sum() == 10
    np.testing.assert_array_equal(quiz[:, 0, 0, 0], truth)


def test_the_interval_is_clopper_and_pearsons(chapter):
    """12 of 20: 0.3605 to 0.8088, from the quantiles of the beta distribution."""
    assert chapter.interval(12, 20) == pytest.approx((0.3605, 0.8088), abs=1e-4)
    assert chapter.interval(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert chapter.interval(0, 0) == (0, 1)


def test_the_nearest_are_found_in_blocks(chapter):
    rng = np.random.default_rng(0)
    points, others = rng.uniform(size=(530, 5)), rng.uniform(size=(90, 5))
    place, apart = chapter.nearest(points, others)
    table = np.sqrt(((points[:, None] - others) ** 2).sum(axis=2))
    np.testing.assert_array_equal(place, table.argmin(axis=1))
    np.testing.assert_allclose(apart, table.min(axis=1))


def test_a_copier_is_caught_and_fresh_pictures_are_not(chapter):
    rng = np.random.default_rng(0)
    known, unknown, fresh, more = (rng.uniform(size=(n, 4, 4, 1)) for n in (500, 500, 300, 300))
    usual = chapter.nearness(fresh, known, unknown)[0]
    copies = known[:300] + 1e-4
    assert chapter.share_suspicious(chapter.nearness(copies, known, unknown)[0], usual) == 1
    assert chapter.share_suspicious(chapter.nearness(more, known, unknown)[0], usual) < 0.12


def test_networks_of_ones_own_runs_are_found_or_asked_for(chapter, tmp_path):
    words = "run 04_dcgan with DATASET=mnist first: it was run with"
    with pytest.raises(ValueError, match=f"{words} nothing yet"):
        chapter.network_of("04_dcgan", "generator", "mnist", tmp_path)
    folder = tmp_path / "04_dcgan"
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    weights.save(network, folder / "any.keras")
    left = {"dataset": "digits", "models": {"generator": {"file": "any.keras"}}}
    runtime.write_text(folder / "metrics.json", json.dumps(left))
    with pytest.raises(ValueError, match=f"{words} digits"):
        chapter.network_of("04_dcgan", "generator", "mnist", tmp_path)
    found = chapter.network_of("04_dcgan", "generator", "digits", tmp_path)
    np.testing.assert_array_equal(found.get_weights()[0], network.get_weights()[0])
