"""glyphs: labelled characters from matplotlib's fonts, varied and reproducible."""

import numpy as np
import pytest

from imagegen_tf.datasets import glyphs

PICTURES, LABELS = glyphs.draw(glyphs.DIGITS, 2_000, rng=0)


def test_draw_gives_balanced_labelled_bytes():
    assert PICTURES.shape == (2_000, 28, 28, 1) and PICTURES.dtype == np.uint8
    assert LABELS.dtype == np.int64
    assert (np.bincount(LABELS) == 200).all()
    assert PICTURES.max() == 255 and PICTURES.min() == 0


def test_same_seed_same_bytes_and_no_two_pictures_alike():
    again, labels = glyphs.draw(glyphs.DIGITS, 2_000, rng=0)
    assert np.array_equal(again, PICTURES) and np.array_equal(labels, LABELS)
    other, _ = glyphs.draw(glyphs.DIGITS, 2_000, rng=1)
    assert not np.array_equal(other, PICTURES)
    assert len(np.unique(PICTURES.reshape(2_000, -1), axis=0)) == 2_000


@pytest.mark.parametrize("characters", [glyphs.DIGITS, glyphs.LETTERS])
def test_labels_say_what_the_picture_shows(characters):
    train, train_labels = glyphs.draw(characters, 4_000, rng=0)
    test, test_labels = glyphs.draw(characters, 1_000, rng=1)
    train, test = (a.reshape(len(a), -1).astype(np.float32) for a in (train, test))
    # Nearest neighbour among 4,000: far above chance (10 % and 4 %), so labels and shapes agree.
    distance = (train**2).sum(axis=1) - 2 * test @ train.T
    assert np.mean(train_labels[distance.argmin(axis=1)] == test_labels) > 0.8


def test_pictures_vary_within_a_class_in_place_thickness_and_slant():
    ones = PICTURES[LABELS == 1, :, :, 0] / 255.0
    mass = ones.sum(axis=(1, 2))
    assert mass.max() > 2.5 * mass.min()
    rows, columns = np.indices((28, 28))
    middle = [(ones * a).sum(axis=(1, 2)) / mass for a in (rows, columns)]
    assert min(np.ptp(a) for a in middle) > 3


def test_glyphs_stay_inside_the_picture():
    rim = np.concatenate(
        [PICTURES[:, 0], PICTURES[:, -1], PICTURES[:, :, 0], PICTURES[:, :, -1]], 1
    )
    assert (rim.max(axis=(1, 2)) > 30).mean() < 0.01


def test_larger_pictures_show_the_same_drawing():
    large, labels = glyphs.draw("AB", 6, size=56, rng=4)
    small, small_labels = glyphs.draw("AB", 6, size=28, rng=4)
    assert np.array_equal(labels, small_labels)
    shrunk = large.reshape(6, 28, 2, 28, 2).mean(axis=(2, 4))
    assert np.abs(shrunk - small[:, :, :, 0]).mean() < 3


def test_input_that_makes_no_sense_is_refused_in_words():
    for arguments, words in [
        (("", 10), "characters"),
        (("11", 10), "characters"),
        ((" a", 10), "shows nothing"),
        (("漢", 10), "lacks"),
        (("01", 0), "count"),
        (("01", 10, 4), "size"),
    ]:
        characters, count, *size = arguments
        with pytest.raises(ValueError, match=words):
            glyphs.draw(characters, count, size=size[0] if size else 28)
