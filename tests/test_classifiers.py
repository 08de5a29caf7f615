"""classifiers: what is shipped still classifies; the rest is trained once, apart, and kept."""

import dataclasses
import random
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from imagegen_tf import classifiers, datasets, weights
from imagegen_tf.datasets import glyphs

RNG = np.random.default_rng(0)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Let trainings be short, and what they give be kept in a folder of the test."""
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    monkeypatch.setattr(classifiers, "STEPS", 4)
    monkeypatch.setattr(classifiers, "BATCH", 16)
    return tmp_path / "features"


@pytest.fixture
def half_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def stripes(count=64, height=12, width=12, channels=1, *, labels=True):
    """Make a set of two classes, lying and standing stripes."""
    kind = np.arange(count) % 2
    rows, columns = np.mgrid[:height, :width]
    pictures = np.where(kind[:, None, None] == 1, rows, columns) % 4 // 2 * 200
    pictures = pictures[..., None] + RNG.integers(0, 50, (count, height, width, channels))
    return datasets.Dataset("stripes", "train", pictures.astype(np.uint8), kind if labels else None)


@pytest.mark.parametrize(("name", "accuracy"), [("digits", 0.99), ("letters", 0.99)])
def test_shipped_classifiers_know_the_test_split(name, accuracy):
    # Not the whole set, which takes long to draw, but new pictures of its first eight classes.
    pictures, labels = glyphs.draw(datasets.GLYPHS[name][:8], 1_000, rng=99)
    network = classifiers.network(datasets.Dataset(name, "train", pictures))
    logits = network(pictures / np.float32(255)).numpy()
    # Measured over the test split when they were trained: see data/weights/README.md.
    assert (logits.argmax(axis=1) == labels).mean() > accuracy


def test_features_of_bytes_and_of_floats_agree_in_any_batch():
    pictures, _ = glyphs.draw("01234567", 1_100, rng=98)
    extract = classifiers.features(datasets.Dataset("digits", "train", pictures))
    found = extract(pictures)
    assert found.shape == (1_100, 64) and found.dtype == np.float32
    assert np.ptp(found, axis=0).min() > 0.1  # every feature lives
    floats = extract((pictures / 255).astype(np.float32))
    np.testing.assert_allclose(floats, found, atol=1e-4)
    np.testing.assert_allclose(extract(pictures[1_050:1_053]), found[1_050:1_053], atol=1e-4)
    assert extract(pictures[:0]).shape == (0, 64)


def test_wrong_images_are_refused():
    for pictures, error, words in [
        (np.zeros((2, 28, 28, 3), np.uint8), ValueError, r"28, 28, 1\), got \(2, 28, 28, 3"),
        (np.zeros((2, 32, 28, 1), np.uint8), ValueError, "32, 28, 1"),
        (np.zeros((28, 28, 1), np.uint8), ValueError, "shape"),
        (np.full((2, 28, 28, 1), 1.01, np.float32), ValueError, "1.01"),
        (np.full((2, 28, 28, 1), -0.01, np.float32), ValueError, "-0.01"),
        (np.full((2, 28, 28, 1), np.nan, np.float32), ValueError, "nan"),
        (np.zeros((2, 28, 28, 1), np.int64), TypeError, "int64"),
    ]:
        digits = datasets.Dataset("digits", "train", np.zeros((20, 28, 28, 1), np.uint8))
        with pytest.raises(error, match=words):
            classifiers.features(digits)(pictures)


def test_sets_that_cannot_be_learnt_are_refused():
    for dataset, words in [
        (dataclasses.replace(stripes(), split="test"), "train split of stripes, got test"),
        (stripes(19), "at least 20 images, got 19"),
        (datasets.load("photos"), "several sizes"),
    ]:
        for call in (classifiers.features, classifiers.network, classifiers.train):
            with pytest.raises(ValueError, match=words):
                call(dataset)


def test_a_network_is_trained_once_and_kept(kept, capsys, monkeypatch):
    dataset = stripes(channels=3)
    first = classifiers.features(dataset)(dataset.images)
    assert "features of stripes, once" in capsys.readouterr().out
    (file,) = kept.iterdir()
    assert file.name.startswith("stripes-12x12x3-") and file.suffix == ".keras"
    again = classifiers.features(dataset)(dataset.images)
    assert capsys.readouterr().out == ""
    np.testing.assert_allclose(again, first, atol=1e-5)
    made = []

    def untrained(dataset, steps):
        made.append(dataset.name)
        with weights.isolated():
            return classifiers._build(*dataset.images.shape[1:], 2, 0.9)

    monkeypatch.setattr(classifiers, "train", untrained)
    changed = dataset.images.copy()
    changed[0, 0, 0, 0] ^= 1
    for other in (
        dataclasses.replace(dataset, images=changed),
        dataclasses.replace(dataset, labels=1 - dataset.labels),
        dataclasses.replace(dataset, name="folder:some pictures/a b"),
    ):
        classifiers.network(other)
        classifiers.network(other)
    assert made == ["stripes", "stripes", "folder:some pictures/a b"]
    names = sorted(one.name for one in kept.iterdir())
    assert len(names) == 4 and names[0].startswith("folder_some_pictures_a_b-12x12x3-")


def test_a_damaged_file_is_made_again(kept, capsys):
    dataset = stripes()
    classifiers.network(dataset)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    other = kept.parent / "other.keras"
    weights.save(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), other)
    for damaged in (b"", b"no network", whole[: len(whole) // 2], other.read_bytes()):
        file.write_bytes(damaged)
        capsys.readouterr()
        assert classifiers.network(dataset).get_layer("features").output.shape[1] == 64
        assert "damaged" in capsys.readouterr().out
        assert [one.name for one in kept.iterdir()] == [file.name]
        classifiers.network(dataset)
        assert capsys.readouterr().out == ""


def test_labels_are_learnt():
    dataset, fresh = stripes(256), stripes(100)
    fresh = dataclasses.replace(fresh, labels=fresh.labels * 5 + 3)  # any whole numbers will do
    network = classifiers.train(dataset, steps=60)
    logits = network(fresh.images / np.float32(255)).numpy()
    assert (logits.argmax(axis=1) == (fresh.labels == 8)).mean() > 0.95
    assert classifiers.train(fresh, steps=1).output.shape == (None, 2)


WORDS = np.arange(600).reshape(200, 3)  # rows of words are no classes


@pytest.mark.parametrize("labels", [None, np.zeros(200, int), WORDS])
def test_without_labels_turns_are_told(labels):
    pictures = np.zeros((200, 16, 20, 3), np.uint8)
    # Brighter to the top, so that a turn can be seen.
    pictures += np.linspace(200, 0, 16).astype(np.uint8)[:, None, None]
    pictures += RNG.integers(0, 50, pictures.shape, np.uint8)
    network = classifiers.train(datasets.Dataset("sky", "train", pictures, labels), steps=60)
    square = pictures[:50, :, 2:18] / np.float32(255)
    for turns in range(4):
        told = network(np.rot90(square, turns, axes=(1, 2))).numpy().argmax(axis=1)
        assert (told == turns).mean() > 0.9
    assert classifiers._extractor(network)(pictures[:3] / np.float32(255)).shape == (3, 64)


def test_every_size_of_image_will_do(kept):
    for size in [(4, 4), (70, 90), (300, 10)]:
        dataset = stripes(20, *size, channels=4)
        assert classifiers.features(dataset)(dataset.images).shape == (20, 64)


def test_policy_and_seeds_make_no_difference(kept, half_precision):
    dataset = stripes()
    keras.utils.set_random_seed(7)
    expected = [random.random(), np.random.rand(), tf.random.uniform(()), keras.random.uniform(())]
    keras.utils.set_random_seed(7)
    network = classifiers.network(dataset)
    extract = classifiers.features(dataset)
    found = extract(dataset.images)
    values = [random.random(), np.random.rand(), tf.random.uniform(()), keras.random.uniform(())]
    assert [float(value) for value in values] == [float(value) for value in expected]
    assert {layer.dtype_policy.name for layer in network.layers} == {"float32"}
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), pytest.raises(RuntimeError):
        classifiers.features(dataset)  # all replicas would train it
    keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(extract(dataset.images), found, atol=1e-5)
    # The same seeds, whatever the chapter's: a network trained once more gives the same features,
    # but for the order in which several threads add.
    (file,) = kept.iterdir()
    file.unlink()
    keras.utils.set_random_seed(8)
    repeated = classifiers.features(dataset)(dataset.images)
    np.testing.assert_allclose(repeated, found, atol=0.02 * np.abs(found).max())


@pytest.mark.skipif(
    not (Path(__file__).parents[2] / "shared" / "data" / "fashion_mnist").is_dir(),
    reason="needs ../shared/data",
)
def test_a_real_set_is_learnt_in_a_few_steps(monkeypatch):
    shared = Path(__file__).parents[2] / "shared" / "data"
    monkeypatch.setenv("IMAGEGEN_DATA", str(shared))
    train, test = (datasets.load("fashion_mnist", split) for split in ("train", "test"))
    network = classifiers.train(train, steps=60)
    logits = network.predict(test.images[:2_000] / np.float32(255), verbose=0)
    assert (logits.argmax(axis=1) == test.labels[:2_000]).mean() > 0.7
