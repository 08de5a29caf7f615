"""Chapter 11: words that count, requests that are refused, a judge on real scenes, replicas."""

import fresh
import keras
import notebook_cells
import numpy as np
import pytest
import replicas
import tensorflow as tf

from imagegen_tf import datasets, images, text, training, weights
from imagegen_tf.datasets import captions, scenes

LENGTH, COUNT = 7, 12

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def chapter():
    """The cells that are taught."""
    return notebook_cells.load("11")


@pytest.fixture(scope="module")
def network(chapter):
    """A small network for 4 x 4 latents, with weights that let time and words matter."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    built = chapter.build_velocity(COUNT, LENGTH, side=4, channels=2, width=8)
    rng = np.random.default_rng(0)
    built.set_weights([one + 0.1 * rng.standard_normal(one.shape) for one in built.get_weights()])
    return built


def row(*numbers):
    """A row of words between start and end."""
    numbers = [text.START, *numbers, text.END]
    return np.array([numbers + [text.PADDING] * (LENGTH - len(numbers))], np.int32)


def noise(*shape, seed=0):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# The code


def test_latents_are_kept_as_bytes_within_half_a_step(chapter):
    latent = np.linspace(-chapter.LIMIT, chapter.LIMIT, 999, dtype=np.float32)
    kept = chapter.to_bytes(latent)
    assert kept.dtype == np.uint8
    assert np.abs(chapter.from_bytes(kept) - latent).max() <= chapter.LIMIT / 255 + 1e-6
    assert chapter.to_bytes(np.array([-99.0, 99.0])).tolist() == [0, 255]


@pytest.mark.parametrize("size", [16, 32])
def test_code_and_picture_have_their_sizes(chapter, size):
    encoder, decoder = (
        build(size, 4, 8) for build in (chapter.build_encoder, chapter.build_decoder)
    )
    assert encoder.output_shape == (None, size // 4, size // 4, 4)
    assert decoder.input_shape == encoder.output_shape
    assert decoder.output_shape == (None, size, size, 3)


def test_the_autoencoder_learns(chapter, tmp_path):
    pictures = np.stack([images.to_uint8(one.image) for one in scenes.draw(16, size=16, rng=0)])
    data = datasets.Dataset("few", "train", pictures)
    model = chapter.build_autoencoder(tf.distribute.get_strategy(), 16, steps=60, seed=1)
    history = training.fit(model, datasets.batches(data, 8), 60, tmp_path)
    losses = history.losses["difference"]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    latent = training.predict(model.encoder, pictures.astype(np.float32) / 127.5 - 1)
    assert 0.5 < latent.std() < 2


def test_features_are_principal_components_of_what_a_captioner_sees(chapter):
    pictures = np.stack([images.to_uint8(one.image) for one in scenes.draw(60, rng=0)])
    seeing = weights.load("09_captioning/captioner").get_layer("encoder")
    features = chapter.build_features(seeing, pictures, 6)
    found = training.predict(features, pictures.astype(np.float32) / 127.5 - 1)
    assert found.shape == (60, 8, 8, 6)
    flat = found.reshape(-1, 6)
    assert np.allclose(flat.mean(axis=0), 0, atol=1e-2)
    assert np.allclose(np.cov(flat, rowvar=False), np.eye(6), atol=1e-2)
    seen = training.predict(seeing, pictures / np.float32(255)).reshape(len(flat), -1)
    centred = seen - seen.mean(axis=0)
    largest = np.linalg.svd(centred, compute_uv=False)[:6] ** 2
    kept = np.linalg.lstsq(flat, centred, rcond=None)[0]
    assert np.allclose(np.sum((flat @ kept) ** 2), largest.sum(), rtol=1e-3)
    assert np.all(features.layers[-2].get_weights()[0].sum(axis=0) > 0)  # on every machine


def test_the_decoder_is_not_given_the_features(chapter):
    decoder, latent = chapter.build_decoder(16, 2, 8), noise(2, 4, 4, 5)
    other = latent.copy()
    other[..., 2:] = 0
    pictures = [chapter.as_pictures(decoder, one) for one in (latent, other)]
    assert np.array_equal(*pictures)


def test_the_third_captioner_is_none_of_the_two_that_judge():
    third, *judges = (
        weights.load(f"09_captioning/{name}").get_layer("encoder").get_weights()
        for name in ("captioner_third", "captioner", "captioner_gru")
    )
    for judge in judges:
        kernels = [(a, b) for a, b in zip(judge, third, strict=True) if a.ndim > 1 and a.std() > 0]
        assert max(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in kernels) < 0.9


# The words


def test_what_is_padding_does_not_matter(chapter):
    tokens = keras.Input((LENGTH,), dtype="int32")
    words, _ = chapter.build_words(tokens, COUNT, 6)
    encode = keras.Model(tokens, words)
    found = np.asarray(encode(row(5, 6)))
    assert np.all(found[:, 4:] == 0) and np.abs(found[:, :4]).min() > 0
    changed = np.asarray(encode(row(5, 7)))
    assert np.abs(changed[:, 1] - found[:, 1]).max() > 1e-3  # a word knows its neighbour


def test_each_word_and_their_order_change_the_velocity(chapter, network):
    x, t = noise(1, 4, 4, 2), np.full((1, 1), 0.3, np.float32)
    rows = [row(5, 6), row(6, 5), row(5, 7), row(5), row()]
    velocities = [np.asarray(network([x, t, one])) for one in rows]
    for number, one in enumerate(velocities):
        assert np.isfinite(one).all()
        for other in velocities[:number]:
            assert np.abs(one - other).max() > 1e-4


def test_the_empty_caption_is_that_of_the_vocabulary(chapter):
    vocabulary = text.Vocabulary(["a red star"])
    rows = vocabulary.encode(["a red star", "red"])
    assert np.array_equal(chapter.empty_rows(tf.constant(rows)), vocabulary.encode(["", ""]))


# From words to a picture


def test_times_go_from_0_to_1_in_growing_steps(chapter):
    times = chapter.times_of(9)
    assert times[0] == 0 and times[-1] == 1 and len(times) == 10
    assert np.all(np.diff(np.diff(times)) > 0)


def test_guidance_1_follows_the_network_and_0_ignores_the_words(chapter, network):
    start = noise(1, 4, 4, 2)

    def end(asked, guidance, between=(0, 1)):
        *_, x = chapter.follow(
            network, asked, steps=3, guidance=guidance, between=between, noise=start
        )
        return np.asarray(x)

    assert np.array_equal(end(row(5), 0), end(row(6), 0))
    assert np.abs(end(row(5), 1) - end(row(6), 1)).max() > 1e-3
    assert np.array_equal(end(row(5), 9, (0.4, 0.4)), end(row(5), 1))
    early, whole = end(row(5), 9, (0, 0.4)), end(row(5), 9)
    assert np.abs(early - end(row(5), 1)).max() > 1e-3 and np.abs(early - whole).max() > 1e-3
    x = start
    times = chapter.times_of(3)
    for begin, after in zip(times[:-1], times[1:], strict=True):
        x = x + (after - begin) * np.asarray(network([x, np.full((1, 1), begin), row(5)]))
    assert np.allclose(end(row(5), 1), x, atol=1e-4)


def test_drawings_depend_on_the_seed_alone(chapter, network):
    decoder = chapter.build_decoder(16, 2, 8)
    rows = np.repeat(row(5), 3, axis=0)
    one, same, other = (chapter.draw(network, decoder, rows, steps=2, seed=s) for s in (1, 1, 2))
    assert one.shape == (3, 16, 16, 3) and one.min() >= 0 and one.max() <= 1
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_wrong_requests_are_refused(chapter, network):
    for request_, message in [
        ({"steps": 0}, "steps: expected a whole number"),
        ({"steps": 2.5}, "steps: expected a whole number"),
        ({"steps": True}, "steps: expected a whole number"),
        ({"guidance": float("nan")}, "guidance: expected a finite number"),
        ({"guidance": "much"}, "guidance: expected a finite number"),
        ({"between": (0.5, 0.1)}, "between: expected two times"),
        ({"between": (0, 2)}, "between: expected two times"),
        ({"rows": np.zeros(LENGTH)}, "rows: expected"),
        ({"rows": np.zeros((2, 3))}, "rows: expected"),
        ({"rows": np.zeros((0, LENGTH))}, "rows: expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            chapter.draw(network, None, **{"rows": row(5)} | request_)


# The judge


def test_alternatives_differ_in_one_thing_and_can_be_read(chapter):
    prompt = "a small red star above an orange ring"
    own, *others = chapter.alternatives(prompt)
    assert own == ("prompt", prompt)
    assert len(others) == len({sentence for _, sentence in others}) == 2 * (7 + 5 + 2) + 1 + 3
    true = captions.read(prompt)
    for kind, sentence in others:
        found = captions.read(sentence)
        if kind == "relation":
            assert found.objects == true.objects and found.relation != true.relation
            continue
        changed = [
            key
            for a, b in zip(found.objects, true.objects, strict=True)
            for key in a
            if a[key] != b[key]
        ]
        assert changed == [kind] and found.relation == true.relation


def test_the_judge_believes_real_scenes_and_no_others(chapter):
    vocabulary = text.Vocabulary.load(weights.FOLDER / "09_captioning" / "words.json")
    captioners = [weights.load(f"09_captioning/{n}") for n in ("captioner", "captioner_gru")]
    drawn = list(scenes.draw(60, pairs="seen", rng=77))
    pictures = np.stack([scene.image for scene in drawn])
    captions = [scene.caption for scene in drawn]
    real = chapter.summary(chapter.judge(captioners, vocabulary, pictures, captions))
    floor = chapter.summary(chapter.judge(captioners, vocabulary, pictures[::-1], captions))
    assert real["colour and shape"] >= 0.9 and real["relation"] >= 0.9
    assert floor["colour and shape"] <= 0.1 and floor["whole prompt"] <= 0.05


def test_of_several_drawings_the_one_like_its_prompt_is_chosen(chapter):
    vocabulary = text.Vocabulary.load(weights.FOLDER / "09_captioning" / "words.json")
    third = weights.load("09_captioning/captioner_third")
    drawn = list(scenes.draw(40, pairs="seen", rng=78))
    real = np.stack([scene.image for scene in drawn])
    captions = [scene.caption for scene in drawn]
    places = np.arange(40) % 3
    tries = np.stack([np.roll(real, 1 + shift, axis=0) for shift in range(3)])
    tries[places, np.arange(40)] = real
    kept = chapter.choose([third], vocabulary, tries, captions)
    right = np.all(kept == real, axis=(1, 2, 3))
    assert kept.shape == real.shape and right.mean() >= 0.95
    only = chapter.choose([third], vocabulary, tries[:1], captions)
    assert np.array_equal(only, tries[0])


# Training


def halves():
    """Latents as bytes: the left half is high for one word, the upper one for another."""
    latents = np.full((16, 4, 4, 2), 96, np.uint8)
    latents[::2, :, :2] = latents[1::2, :2] = 160
    rows = np.concatenate([row(5), row(6)] * 8)[:, None]
    return datasets.Dataset("halves", "train", latents, rows)


def train(chapter, folder, steps=6, **options):
    """A small training on two kinds of latent."""
    words = type("Words", (), {"length": LENGTH, "__len__": lambda self: COUNT})()
    sizes = {"side": 4, "channels": 2, "width": 8, "seed": 3, "steps": steps}
    model = chapter.build_model(tf.distribute.get_strategy(), words, **sizes | options)
    for optimizer in model.optimizers.values():
        if hasattr(optimizer, "dynamic_scale"):
            optimizer.dynamic_scale.assign(1024.0)
    return model, training.fit(model, datasets.batches(halves(), 8, labels=True), steps, folder)


@pytest.fixture(scope="module")
def plain_losses(chapter, tmp_path_factory):
    """The losses in float32."""
    keras.config.set_dtype_policy("float32")
    return train(chapter, tmp_path_factory.mktemp("plain"))[1].losses["velocity"]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_gives_the_same_losses(chapter, plain_losses, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model, history = train(chapter, tmp_path)
    assert np.allclose(history.losses["velocity"], plain_losses, rtol=0.02)
    assert model.velocity.output.dtype == "float32"


def test_it_learns_which_word_means_which_half(chapter, tmp_path):
    model, _ = train(chapter, tmp_path, steps=250, rate=1e-2)
    rows = np.concatenate([row(5), row(6)])
    *_, latent = chapter.follow(model.averages["velocity"], rows, steps=8, guidance=1)
    left = np.mean(latent[:, :, :2], axis=(1, 2, 3)) - np.mean(latent[:, :, 2:], axis=(1, 2, 3))
    upper = np.mean(latent[:, :2], axis=(1, 2, 3)) - np.mean(latent[:, 2:], axis=(1, 2, 3))
    assert left[0] > 0.5 > abs(upper[0]) and upper[1] > 0.5 > abs(left[1])


JOB = """
chapter = notebook_cells.load("11")
rng = np.random.default_rng(0)
latents = rng.integers(0, 256, (16, 4, 4, 2)).astype(np.uint8)
rows = rng.integers(2, 12, (16, 3, 7)).astype(np.int32)
data = datasets.Dataset("noise", "train", latents, rows)
words = type("Words", (), {"length": 7, "__len__": lambda self: 12})()
sizes = {"side": 4, "channels": 2, "width": 8}
model = chapter.build_model(run.strategy, words, steps=8, seed=3, **sizes)
with run.strategy.scope():
    model.compile({"velocity": sgd(0.01)}, average={"velocity": 0.99})
batches = datasets.batches(data, 8, labels=True)
finish(model, training.fit(model, batches, 8, sys.argv[2] + "-run"))
"""

CODE_JOB = """
chapter = notebook_cells.load("11")
pictures = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
data = datasets.Dataset("noise", "train", pictures)
model = chapter.build_autoencoder(run.strategy, 16, steps=8, seed=3)
with run.strategy.scope():
    model.compile({"encoder": sgd(0.01), "decoder": sgd(0.01)})
finish(model, training.fit(model, datasets.batches(data, 8), 8, sys.argv[2] + "-run"))
"""


@pytest.mark.parametrize("job", [JOB, CODE_JOB])
def test_two_replicas_train_the_same_network_as_one(job, tmp_path):
    assert replicas.gap(job, tmp_path) <= 1e-5


def test_the_saved_network_is_read_in_a_fresh_process(network, tmp_path):
    inputs = [noise(2, 4, 4, 2), np.full((2, 1), 0.4, np.float32), np.repeat(row(5), 2, axis=0)]
    found = fresh.output(network, inputs, tmp_path)
    assert np.allclose(found, network(inputs), atol=1e-4)


def test_the_shipped_network_draws_the_colour_that_was_asked_for(chapter):
    vocabulary = text.Vocabulary.load(weights.FOLDER / "09_captioning" / "words.json")
    captioners = [weights.load(f"09_captioning/{n}") for n in ("captioner", "captioner_gru")]
    names = ("velocity", "decoder", "encoder")
    velocity, decoder = (weights.load(f"11_text_to_image/{n}") for n in names[:2])
    prompts = [f"a large {one} circle" for one in captions.COLOURS if one != "purple"] * 5
    made = chapter.draw(velocity, decoder, vocabulary.encode(prompts))
    found = chapter.summary(chapter.judge(captioners, vocabulary, made, prompts))
    assert found["colour"] >= 0.9
    assert sum(weights.path(f"11_text_to_image/{n}").stat().st_size for n in names) <= 15e6
