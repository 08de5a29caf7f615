"""Chapter 09: decoders that do not look ahead, searches by brute force, captions scored by hand."""

import itertools

import fresh
import keras
import notebook_cells
import numpy as np
import pytest
import replicas
import tensorflow as tf

from imagegen_tf import datasets, images, text, training, weights
from imagegen_tf.datasets import scenes

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def chapter():
    """The cells that are taught."""
    return notebook_cells.load("09")


@pytest.fixture(scope="module")
def world(chapter):
    """A few small scenes with their rows of words, and the vocabulary."""
    drawn = list(scenes.draw(64, size=16, objects=1, rng=0))
    captions = tuple(scene.captions for scene in drawn)
    vocabulary = text.Vocabulary([one for some in captions for one in some])
    pictures = np.stack([images.to_uint8(scene.image) for scene in drawn])
    rows = chapter.caption_rows(captions, vocabulary, 3, seed=1)
    return datasets.Dataset("few", "train", pictures, rows, captions), vocabulary


def small(chapter, vocabulary, steps=30, **options):
    """A captioner of a few thousand weights."""
    sizes = {"size": 16, "width": 16, "blocks": 1, "rate": 1e-2, "steps": steps}
    return chapter.build_captioner(
        tf.distribute.get_strategy(), vocabulary, **sizes | options, scale=5.0
    )


# Rows of words


def test_rows_are_true_captions_and_depend_on_the_seed(chapter, world):
    data, vocabulary = world
    assert data.labels.shape == (64, 3, vocabulary.length) and data.labels.dtype == np.int32
    for rows, captions in zip(data.labels, data.captions, strict=True):
        assert set(vocabulary.decode(rows)) <= set(captions)
    again, other = (chapter.caption_rows(data.captions, vocabulary, 3, seed=s) for s in (1, 2))
    assert np.array_equal(data.labels, again) and not np.array_equal(data.labels, other)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_photos_with_captions_of_ones_own(chapter, tmp_path, capsys, ends):
    # Other sizes, a missing picture, a broken row, an empty caption, marks instead of words.
    (tmp_path / "images").mkdir()
    for name, shape in (("a", (20, 30, 3)), ("b", (40, 25, 3)), ("c", (33, 33, 1))):
        picture = np.random.default_rng(0).random(shape).astype(np.float32)
        images.write(tmp_path / "images" / f"{name}.png", picture)
    lines = ["image,caption", "a.png,A dog runs .", "a.png,Two dogs!", "b.png,...", "b.png,A cat"]
    lines += ["c.png,A red ball", "d.png,A lost picture", "broken row", "a.png,"]
    (tmp_path / "captions.txt").write_bytes((ends.join(lines) + ends).encode())
    loaded = datasets.load(f"captions:{tmp_path}")
    said = capsys.readouterr().out
    assert "broken row" in said and "line 9" in said
    data = datasets.square(loaded, 16, channels=3)
    vocabulary = text.Vocabulary([one for some in data.captions for one in some])
    rows = chapter.caption_rows(data.captions, vocabulary, 2)
    assert set(rows[:, :, 0].ravel()) == {text.START} and (rows == text.END).any(axis=2).all()
    model = small(chapter, vocabulary, steps=2)
    pipeline = datasets.batches(chapter.replace(data, labels=rows), 2, labels=True)
    losses = training.fit(model, pipeline, 2, tmp_path / "run").losses
    assert np.isfinite(losses["gru"]).all() and np.isfinite(losses["transformer"]).all()


# Networks


def test_the_encoder_gives_64_places_that_differ(chapter):
    for size in [16, 32, 64]:
        found = chapter.build_encoder(size, 8)(np.full((2, size, size, 3), 0.5, np.float32))
        assert found.shape == (2, 64, 8)
        # An even picture: inside, only the learned vectors tell places apart.
        assert np.abs(found[0, 27] - found[0, 28]).max() > 1e-3


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_decoders_do_not_look_ahead_but_at_the_picture(chapter, name):
    keras.utils.set_random_seed(0)
    decoder = (
        chapter.build_gru(9, 8) if name == "gru" else chapter.build_transformer(9, 7, 8, blocks=2)
    )
    features = np.random.default_rng(0).normal(size=(1, 64, 8)).astype(np.float32)
    logits, attention = decoder([features, np.array([[2, 4, 5, 6, 7]])])
    assert logits.shape == (1, 5, 9) and attention.shape == (1, 2, 5, 64)
    assert np.allclose(tf.reduce_sum(attention, axis=-1), 1, atol=1e-5)
    changed, _ = decoder([features, np.array([[2, 4, 5, 8, 4]])])
    gap = np.abs(logits - changed).max(axis=(0, 2))
    assert gap[:3].max() < 1e-5 < gap[3:].min()
    short, _ = decoder([features, np.array([[2, 4, 5]])])
    assert np.allclose(short, logits[:, :3], atol=1e-5)
    other, _ = decoder([features[:, ::-1] * 2, np.array([[2, 4, 5, 6, 7]])])
    assert np.abs(logits - other).max() > 1e-3


def test_the_transformer_knows_the_order_of_words(chapter):
    decoder = chapter.build_transformer(9, 7, 8, blocks=1)
    features = np.zeros((1, 64, 8), np.float32)
    one, other = (decoder([features, np.array([row])])[0] for row in ([2, 4, 5, 6], [2, 5, 4, 6]))
    assert np.abs(one[0, 3] - other[0, 3]).max() > 1e-4


# What the networks are given


def test_without_mixed_colours_nothing_is_changed(chapter, world):
    data, vocabulary = world
    model = small(chapter, vocabulary, recolour=0.0)
    pictures, rows = tf.constant(data.images / np.float32(255)), tf.constant(data.labels[:, 0])
    same, given, asked, counts = model.prepare(pictures, rows)
    assert np.array_equal(same, pictures)
    assert np.array_equal(given, rows[:, :-1]) and np.array_equal(asked, rows[:, 1:])
    assert np.array_equal(counts, rows[:, 1:] > 0)


def test_mixed_pictures_hide_their_colour_words(chapter, world):
    data, vocabulary = world
    model = small(chapter, vocabulary, recolour=1.0)
    pictures, rows = tf.constant(data.images / np.float32(255)), data.labels[:, 0]
    mixed, given, asked, counts = (x.numpy() for x in model.prepare(pictures, tf.constant(rows)))
    assert np.allclose(np.sort(mixed, axis=3), np.sort(pictures, axis=3))
    changed = np.abs(mixed - pictures).max(axis=(1, 2, 3)) > 0
    assert 0.6 < changed.mean() < 1  # one order of six leaves all as it is
    for line, wanted, asks in zip(given, asked, counts, strict=True):
        left = set(vocabulary.decode([line])[0].split())
        assert not left & set(chapter.COLOUR_WORDS)
        named = {vocabulary.words[n] for n in wanted[asks > 0]}
        assert named & set(scenes.SHAPES) and not named & set(chapter.COLOUR_WORDS)


def test_the_loss_is_a_mean_over_captions(chapter, world):
    # Long and short captions: dividing by the words of a share would give another number.
    data, vocabulary = world
    model = small(chapter, vocabulary, recolour=0.0)
    pictures, rows = tf.constant(data.images / np.float32(255)), tf.constant(data.labels[:, 0])
    whole = model.losses(*model.prepare(pictures, rows))
    halves = [
        model.losses(*model.prepare(pictures[part], rows[part]))
        for part in (slice(None, 32), slice(32, None))
    ]
    for name in ("gru", "transformer"):
        assert np.isclose(whole[name], (halves[0][name] + halves[1][name]) / 2, rtol=1e-5)
        # Untrained, every word costs about ln(number of words).
        words = float(tf.reduce_sum(tf.cast(rows[:, 1:] > 0, tf.float32))) / 64
        assert np.isclose(whole[name] * 5 / words, np.log(len(vocabulary)), rtol=0.3)


# Searching


def chain(words=7, seed=0):
    """A decoder whose next word depends on the last one only."""
    log = np.log(np.random.default_rng(seed).dirichlet(np.ones(words), words)).astype(np.float32)
    return log, lambda features, rows: tf.gather(log, rows[:, -1])


def test_a_wide_beam_finds_the_best_sentence_of_all(chapter):
    log, decode = chain()
    sentences = {}
    for length in (1, 2, 3):
        for said in itertools.product(range(4, 7), repeat=length - 1):
            path = [text.START, *said, text.END]
            sentences[tuple(said)] = sum(log[a, b] for a, b in itertools.pairwise(path))
    rows, scores = chapter.search(decode, np.zeros((1, 64, 8), np.float32), 4, width=40)
    finished = (rows[0] == text.END).any(axis=1) & np.isfinite(scores[0])
    found = {
        tuple(int(n) for n in row if n > text.END): score
        for row, score in zip(rows[0][finished], scores[0][finished], strict=True)
    }
    assert found.keys() == sentences.keys()
    assert all(np.isclose(found[said], sentences[said], atol=1e-5) for said in sentences)


def test_greedy_takes_the_most_likely_word_each_time(chapter):
    log, decode = chain(seed=3)
    rows, scores = chapter.search(decode, np.zeros((2, 64, 8), np.float32), 6)
    path, total = [text.START], 0.0
    while len(path) < 6 and path[-1] != text.END:
        allowed = [text.END, 4, 5, 6]
        path.append(max(allowed, key=lambda word: log[path[-1], word]))
        total += log[path[-2], path[-1]]
    assert rows[0, 0, : len(path)].tolist() == path and not rows[0, 0, len(path) :].any()
    assert np.array_equal(rows[0], rows[1]) and np.isclose(scores[0, 0], total, atol=1e-5)


def test_a_wider_beam_is_never_worse_here_and_a_prefix_is_kept(chapter):
    _, decode = chain(seed=5)
    features = np.zeros((1, 64, 8), np.float32)
    best = [chapter.search(decode, features, 5, width)[1][0].max() for width in (1, 3, 100)]
    assert best[0] <= best[2] + 1e-6 and best[1] <= best[2] + 1e-6
    rows, _ = chapter.search(decode, features, 5, 2, prefix=(text.START, 6, 6))
    assert (rows[0, :, :3] == (text.START, 6, 6)).all()
    assert not np.isin(rows[0, :, 1:], (text.UNKNOWN, text.START)).any()


# Attributes


TRUE = (
    "a small red star above a large striped blue ring",
    "a red star above a large striped blue ring",
    "a large striped blue ring below a small red star",
)


def test_attributes_by_hand(chapter):
    for said, wrong in [
        (TRUE[0], {}),
        (TRUE[1], {}),
        ("a striped blue ring below a red star", {}),
        ("a small red star below a large striped blue ring", {"relation": 1}),
        ("a large red heart above a striped blue ring", {"size": 1, "shape": 1}),
        ("a red star above a dotted green ring", {"texture": 1, "colour": 1}),
        ("a red star", {"shape": 2, "colour": 2, "texture": 2, "size": 2, "relation": 1}),
        ("star red a", {"shape": 2, "colour": 2, "texture": 2, "size": 2, "relation": 1}),
        ("", {"shape": 2, "colour": 2, "texture": 2, "size": 2, "relation": 1}),
    ]:
        found = chapter.attributes(said, TRUE)
        assert {
            kind: values.count(False) for kind, values in found.items() if not all(values)
        } == wrong


def test_attributes_of_one_object_have_no_relation_to_be_wrong(chapter):
    found = chapter.attributes("a red star", ("a small red star", "a red star"))
    assert found["shape"] == [True] and found["size"] == [] and found["relation"] == [True]


# Attention drawn


def test_the_spotlight_falls_where_attention_is(chapter):
    attention = np.zeros(64)
    attention[9] = 1  # second row, second column
    lit = chapter.spotlight(np.full((32, 32, 3), 0.8, np.float32), attention, 160)
    assert lit.shape == (160, 160, 3) and 0 <= lit.min() <= lit.max() <= 1
    assert lit[30, 30].mean() > 0.7 and lit[100, 100].mean() < 0.3


# Training


@pytest.fixture(scope="module")
def trained(chapter, world, tmp_path_factory):
    """A small training."""
    data, vocabulary = world
    model = small(chapter, vocabulary, steps=60, recolour=0.2)
    folder = tmp_path_factory.mktemp("training")
    return model, training.fit(model, datasets.batches(data, 16, labels=True), 60, folder)


def test_training_lowers_both_losses(trained, world):
    model, history = trained
    for name in ("gru", "transformer"):
        losses = history.losses[name]
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:2])
    found = training.evaluate(model, datasets.batches(world[0], 16, labels=True, repeat=False))
    assert set(found) == {"gru", "transformer"} and all(np.isfinite(list(found.values())))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_and_keeps_losses_in_float32(chapter, world, tmp_path, policy):
    data, vocabulary = world
    keras.config.set_dtype_policy(policy)
    model = small(chapter, vocabulary, steps=12, recolour=0.2)
    history = training.fit(model, datasets.batches(data, 16, labels=True), 12, tmp_path)
    keras.config.set_dtype_policy("float32")
    plain = small(chapter, vocabulary, steps=12, recolour=0.2)
    exact = training.fit(plain, datasets.batches(data, 16, labels=True), 12, tmp_path / "plain")
    for name in ("gru", "transformer"):
        # The first loss is before any step: bfloat16 keeps 8 bits.
        assert np.isclose(history.losses[name][0], exact.losses[name][0], rtol=0.02)
        assert np.isclose(history.losses[name][-1], exact.losses[name][-1], rtol=0.15)


JOB = """
from imagegen_tf import text
from imagegen_tf.datasets import scenes
chapter = notebook_cells.load("09")
drawn = list(scenes.draw(16, size=16, objects=1, rng=0))
captions = tuple(scene.captions for scene in drawn)
vocabulary = text.Vocabulary([one for some in captions for one in some])
rows = chapter.caption_rows(captions, vocabulary, 3)
pictures = np.stack([images.to_uint8(scene.image) for scene in drawn])
options = {"size": 16, "width": 8, "blocks": 1, "recolour": 0.5, "scale": 5.0}
model = chapter.build_captioner(run.strategy, vocabulary, steps=8, seed=3, **options)
with run.strategy.scope():
    model.compile({name: sgd(0.1) for name in ("encoder", "gru", "transformer")})
data = datasets.Dataset("few", "train", pictures, rows)
pipeline = datasets.batches(data, 8, labels=True)
finish(model, training.fit(model, pipeline, 8, sys.argv[2] + "-run"))
"""


def test_two_replicas_train_the_same_networks_as_one(tmp_path):
    assert replicas.gap(JOB, tmp_path) <= 1e-4


def test_the_saved_network_is_read_in_a_fresh_process(chapter, trained, world, tmp_path):
    model, _ = trained
    data, _ = world
    joined = chapter.join(model.encoder, model.transformer)
    pictures, rows = data.images[:2] / np.float32(255), data.labels[:2, 0]
    found = fresh.output(joined, [pictures, rows], tmp_path)
    expected, _ = model.transformer([model.encoder(pictures), tf.constant(rows)])
    assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["captioner", "captioner_gru"])
def test_the_shipped_networks_say_what_is_true(chapter, name):
    network = weights.load(f"09_captioning/{name}")
    vocabulary = text.Vocabulary.load(weights.FOLDER / "09_captioning" / "words.json")
    drawn = list(scenes.draw(60, pairs="seen", rng=12))
    pictures = np.stack([scene.image for scene in drawn])
    decoder = network.get_layer({"captioner": "transformer", "captioner_gru": "gru"}[name])
    features = network.get_layer("encoder")(pictures)
    rows, _ = chapter.search(chapter.next_words(decoder), features, vocabulary.length)
    said = vocabulary.decode(rows[:, 0])
    assert np.mean([one in s.captions for one, s in zip(said, drawn, strict=True)]) >= 0.8
    again = network([pictures[:4], rows[:4, 0]])
    assert again.shape == (4, vocabulary.length, len(vocabulary))
