"""Chapter 08: what Gram matrices keep and forget, VGG19's input, a network that others can load."""

import fresh
import keras
import notebook_cells
import numpy as np
import pytest
import replicas
import tensorflow as tf

from imagegen_tf import checkpoint, datasets, images, training, weights


@pytest.fixture(scope="module")
def chapter():
    """The cells that are taught."""
    return notebook_cells.load("08")


@pytest.fixture(scope="module")
def features(chapter):
    """Random features, small."""
    return chapter.build_random_features(levels=3, count=12, colours=4)


def noise(*shape, seed=0):
    """A picture of even random numbers."""
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def targets_of(chapter, features, picture):
    """Gram matrices of a picture."""
    return [chapter.gram(one) for one in features(picture[None])]


# VGG19's input


def test_vgg_input_by_value(chapter):
    # Blue, green, red minus the means of ImageNet (Keras' "caffe" mode), computed by hand.
    red = np.array([[[[1.0, 0.0, 0.0]]]], np.float32)
    expected = [-103.939, -116.779, 255 - 123.68]
    assert np.allclose(chapter.vgg_input(red).ravel(), expected, atol=1e-4)


def test_vgg_input_agrees_with_keras(chapter):
    picture = noise(2, 5, 7, 3)
    theirs = keras.applications.vgg19.preprocess_input(255 * picture.copy())
    assert np.allclose(chapter.vgg_input(picture), theirs, atol=1e-3)
    assert np.allclose(chapter.vgg_input(tf.constant(picture)), theirs, atol=1e-3)


@pytest.fixture(params=["float32", "mixed_bfloat16", "mixed_float16"])
def policy(request):
    """Each precision in turn."""
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def test_vgg_features_get_this_input(chapter, policy):
    # With weights that take one channel through, the first map shows what reached the network.
    features = chapter.build_vgg_features(weights=None)
    first = next(
        layer
        for model in features.layers
        if isinstance(model, keras.Model)
        for layer in model.layers
        if layer.name == "block1_conv1"
    )
    kernel, bias = (np.zeros_like(one) for one in first.get_weights())
    kernel[1, 1, :, :3] = np.eye(3)
    first.set_weights([kernel, bias])
    picture = noise(1, 32, 32, 3)
    theirs = keras.applications.vgg19.preprocess_input(255 * picture.copy())
    maps = features(picture)
    assert [one.shape[1] for one in maps] == [32, 16, 8, 4, 2]
    assert np.allclose(maps[0][..., :3], np.maximum(theirs, 0), atol=1e-2)
    assert {chapter.gram(one).dtype for one in maps} == {tf.float32}
    assert keras.config.dtype_policy().name == policy
    assert not features.trainable_weights


def test_an_unknown_kind_of_features_is_refused(chapter):
    with pytest.raises(ValueError, match="vgg19"):
        chapter.build_features("vgg16")


# Random features


def test_random_filters_are_even_blind_and_of_one_strength(chapter):
    filters, thresholds = chapter.random_filters(7, 10, 4, np.random.default_rng(0))
    assert filters.shape == (7, 7, 3, 14) and thresholds.shape == (14,)
    # An even area of any colour gives 0, but for the filters that look at colour.
    assert np.abs(filters[..., :10].sum(axis=(0, 1))).max() < 1e-9
    assert np.abs(filters[..., 10:].sum(axis=(0, 1))).max() > 0.1
    assert not thresholds[:10].any()


def test_random_features_depend_on_the_seed_alone(chapter):
    picture = noise(1, 32, 32, 3)
    one, same, other = (
        chapter.build_random_features(levels=2, seed=seed)(picture)[1] for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_random_features_do_not_train(features):
    assert not features.trainable_weights
    assert all(one.dtype == tf.float32 for one in features(noise(1, 16, 16, 3)))


# Losses


def test_gram_by_hand(chapter):
    # Two places with answers (1, 2) and (3, 0): means of products (5, 1, 1, 2).
    maps = tf.constant([[[[1.0, 2.0], [3.0, 0.0]]]])
    assert np.allclose(chapter.gram(maps)[0], [[5, 1], [1, 2]])


def test_gram_forgets_places_and_the_number_of_them(chapter):
    maps = noise(1, 6, 8, 5)
    flat = np.random.default_rng(1).permutation(maps.reshape(-1, 5)).reshape(maps.shape)
    assert np.allclose(chapter.gram(flat), chapter.gram(maps), atol=1e-6)
    assert np.allclose(chapter.gram(np.tile(maps, (1, 2, 3, 1))), chapter.gram(maps), atol=1e-6)


def test_style_loss_is_zero_for_the_style_and_relative(chapter, features):
    style, other = noise(32, 32, 3), 0.5 * noise(32, 32, 3, seed=1)
    targets = targets_of(chapter, features, style)
    assert float(chapter.style_loss(targets, targets)) == 0
    others = targets_of(chapter, features, other)
    # All features stronger by one factor, so that the floor of the power does not matter: the
    # Gram matrices grow by its square, and the loss stays.
    losses = [
        float(chapter.style_loss([k * one for one in others], [k * one for one in targets]))
        for k in (1e4, 1e5)
    ]
    assert losses[0] > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_feature_that_the_style_lacks_does_not_drown_the_others(chapter):
    # Without a floor, the second feature's term would be a million times the first's.
    target = tf.constant([[[1.0, 0.0], [0.0, 1e-6]]])
    ours = tf.constant([[[1.0, 0.0], [0.0, 1e-2]]])
    assert float(chapter.style_loss([ours], [target])) < 0.05


def test_content_loss_of_an_even_map_is_one(chapter):
    target = 10 * noise(1, 16, 16, 4)  # so that what keeps the division finite does not matter
    even = np.broadcast_to(target.mean(axis=(1, 2), keepdims=True), target.shape)
    assert float(chapter.content_loss(even, target)) == pytest.approx(1, abs=1e-3)
    assert float(chapter.content_loss(target, target)) == 0


def test_content_loss_is_the_mean_over_pictures(chapter):
    maps, wanted = (
        noise(4, 6, 6, 3),
        noise(4, 6, 6, 3, seed=1) * np.arange(1, 5)[:, None, None, None],
    )
    each = [float(chapter.content_loss(maps[[n]], wanted[[n]])) for n in range(4)]
    assert float(chapter.content_loss(maps, wanted)) == pytest.approx(np.mean(each), rel=1e-5)


def test_content_does_not_see_colour(chapter):
    # Pure red of 0.587 and pure green of 0.299 have one brightness (BT.601).
    red, green = np.zeros((2, 1, 4, 4, 3), np.float32)
    red[..., 0], green[..., 1] = 0.587, 0.299
    assert np.allclose(chapter.grey(red), chapter.grey(green), atol=1e-6)


def test_the_gradient_is_the_slope(chapter, features):
    targets = targets_of(chapter, features, noise(16, 16, 3))
    start = noise(16, 16, 3, seed=1)
    loss = chapter.make_loss(
        features, start[None], targets, level=1, content_weight=0.1, smoothness=0.1
    )
    picture = tf.constant(noise(1, 16, 16, 3, seed=2))
    value, gradient = chapter.with_gradient(loss)(picture)
    step = 1e-3 * gradient / tf.norm(gradient)
    slope = (loss(picture + step) - loss(picture - step)) / 2e-3
    assert float(slope) == pytest.approx(float(tf.norm(gradient)), rel=0.02)


# Optimisers


@pytest.mark.parametrize("optimiser", ["by_adam", "by_lbfgs"])
def test_optimisers_lower_the_loss_and_stay_in_range(chapter, features, optimiser):
    targets = targets_of(chapter, features, chapter.mosaic(32))
    loss = chapter.make_style_loss(features, targets)
    start, seen = chapter.start_noise(32), []
    result, record = getattr(chapter, optimiser)(
        loss, start, 20, look=lambda number, picture: seen.append(number)
    )
    images.check(result)
    assert result.shape == start.shape and result.dtype == np.float32
    assert seen == list(range(1, 21))
    assert float(loss(result[None])) < 0.2 * float(loss(start[None]))
    assert (np.diff(record[:, 0]) >= 0).all()


@pytest.mark.parametrize("optimiser", ["by_adam", "by_lbfgs"])
def test_nothing_is_compiled_while_the_clock_runs(chapter, optimiser):
    traced = []

    def loss(picture):
        traced.append(1)
        return tf.reduce_sum(picture**2)

    getattr(chapter, optimiser)(loss, chapter.start_noise(8), 3)
    assert len(traced) == 1


def test_style_falls_twentyfold_and_the_photo_stays(chapter):
    features = chapter.build_random_features()
    photo = chapter.square(datasets.photo("chelsea"), 96)
    targets = targets_of(chapter, features, chapter.strokes(96))
    loss = chapter.make_loss(features, photo[None], targets, content_weight=0.02)
    result, _ = chapter.by_lbfgs(loss, chapter.start_from(photo), 40)
    before, after = (
        float(chapter.style_loss(targets_of(chapter, features, one), targets))
        for one in (photo, result)
    )
    assert before / after >= 20
    assert chapter.metrics.ssim(images.luma(result), images.luma(photo)) >= 0.3


# Style pictures


def test_style_pictures_are_images(chapter):
    for name in ["strokes", "mosaic", "woodcut", "brick"]:
        for size in [48, 65]:
            picture = chapter.style_picture(name, size)
            images.check(picture, channels=(3,))
            assert picture.shape == (size, size, 3) and picture.std() > 0.05
            assert np.array_equal(picture, chapter.style_picture(name, size))


def test_a_folder_of_styles_gives_its_first_picture(chapter, tmp_path):
    for number in range(10):
        images.write(tmp_path / f"{number}.png", np.full((20, 30, 3), 0.6, np.float32))
    picture = chapter.style_picture(f"folder:{tmp_path}", 16)
    assert np.allclose(picture, 0.6)


# The network


def test_stylise_takes_any_size(chapter):
    keras.utils.set_random_seed(0)
    network = chapter.build_stylise(widths=(8, 8), blocks=1)
    for shape in ((1, 1, 3), (30, 41, 3), (32, 40, 1), (3, 70, 3)):
        painted = chapter.stylise(network, noise(*shape))
        images.check(painted, channels=(3,))
        assert painted.shape == (*shape[:2], 3)


def test_stylise_and_square_refuse_what_is_no_picture(chapter):
    network = chapter.build_stylise(widths=(8, 8), blocks=1)
    with pytest.raises(ValueError, match=r"expected shape \(height, width, 1 or 3\)"):
        chapter.stylise(network, noise(32, 32, 4))
    broken = np.full((32, 32, 3), np.nan, np.float32)
    for function in (lambda: chapter.stylise(network, broken), lambda: chapter.square(broken, 16)):
        with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
            function()
    with pytest.raises(TypeError, match="uint8"):
        chapter.square(np.zeros((8, 8, 3), np.uint8), 16)


def test_any_picture_can_be_the_photo_or_the_style(chapter, features):
    for shape in [(1, 1, 3), (1, 1, 1), (20, 31, 1), (31, 20, 4), (17, 17, 3)]:
        picture = chapter.square(noise(*shape), 24)
        images.check(picture, channels=(3,))
        assert picture.shape == (24, 24, 3)
        targets = targets_of(chapter, features, picture)
        loss = chapter.make_loss(features, picture[None], targets, level=1, content_weight=0.1)
        result, record = chapter.by_adam(loss, chapter.start_from(picture), 3)
        assert np.isfinite(result).all() and np.isfinite(record).all()


def test_waves_tell_places_of_an_empty_photo_apart(chapter):
    inputs = keras.Input((None, None, 5))
    waves = keras.Model(inputs, chapter.waves(inputs, 6))
    one, two = (waves(noise(1, 12, 16, 5, seed=seed))[0].numpy() for seed in (0, 1))
    assert one.shape == (12, 16, 6) and np.array_equal(one, two)  # the photo does not matter
    assert np.abs(one).max() <= 1
    assert len(np.unique(one.reshape(-1, 6).round(3), axis=0)) == 12 * 16
    # Larger pictures begin with the same waves.
    assert np.allclose(waves(noise(1, 20, 32, 5))[0, :12, :16], one, atol=1e-4)
    assert not waves.trainable_weights


def test_instance_normalisation_ignores_contrast(chapter):
    # Where the last convolution does not see the photo, half the contrast gives the same picture.
    keras.utils.set_random_seed(0)
    network = chapter.build_stylise(widths=(8, 8), blocks=1)
    last = network.layers[-2]  # before the margin is cut off
    kernel, bias = last.get_weights()
    kernel[:, :, -3:] = 0
    last.set_weights([kernel, bias])
    photo = noise(1, 32, 32, 3)
    strong, weak = network(photo)[0], network(0.5 + 0.5 * (photo - 0.5))[0]
    assert np.abs(strong - weak)[4:-4, 4:-4].max() < 0.05


def test_crops(chapter):
    shapes = [(40, 60, 3), (33, 32, 1), (8, 90, 3), (1, 1, 3), (50, 50, 4)]
    photos = [images.to_uint8(noise(*shape)) for shape in shapes]
    crops = chapter.draw_crops(photos, 32, 9, seed=1)
    assert crops.shape == (9, 32, 32, 3) and crops.dtype == np.uint8
    assert np.array_equal(crops, chapter.draw_crops(photos, 32, 9, seed=1))
    assert not np.array_equal(crops, chapter.draw_crops(photos, 32, 9, seed=2))
    assert (crops[3] == crops[3][0, 0]).all()  # the picture of one pixel, enlarged


@pytest.fixture(scope="module")
def trained(chapter, features, tmp_path_factory):
    """A small training."""
    targets = targets_of(chapter, features, chapter.strokes(32))
    model = chapter.build_model(
        tf.distribute.get_strategy(), features, targets, steps=30, level=1, content_weight=0.02
    )
    pictures = images.to_uint8(noise(8 * 32, 32, 3)).reshape(8, 32, 32, 3)
    crops = datasets.Dataset("noise", "train", pictures)
    folder = tmp_path_factory.mktemp("training")
    history = training.fit(model, datasets.batches(crops, 2), 30, folder)
    return model, history


def test_training_lowers_the_style_loss_and_moves_only_the_network(trained, features, chapter):
    model, history = trained
    first, last = history.losses["style"][0], history.losses["style"][-1]
    assert last < first
    fresh = chapter.build_random_features(levels=3, count=12, colours=4)
    for ours, theirs in zip(features.get_weights(), fresh.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_one_style_is_not_taken_for_another(chapter, features):
    pictures = images.to_uint8(noise(4 * 32, 32, 3)).reshape(4, 32, 32, 3)
    crops = datasets.Dataset("noise", "train", pictures)
    pipeline, prints = datasets.batches(crops, 2), []
    for style in (chapter.strokes(32), chapter.strokes(32), chapter.mosaic(32)):
        targets = targets_of(chapter, features, style)
        options = {"steps": 30, "level": 1, "content_weight": 0.02}
        model = chapter.build_model(tf.distribute.get_strategy(), features, targets, **options)
        prints.append(checkpoint.fingerprint(model, pipeline))
    assert prints[0] == prints[1] != prints[2]


JOB = """
chapter = notebook_cells.load("08")
with run.strategy.scope():
    features = chapter.build_random_features(levels=2, count=6, colours=2)
targets = [chapter.gram(one) for one in features(chapter.strokes(32)[None])]
pictures = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
options = {"level": 1, "content_weight": 0.02, "smoothness": 0.1}
model = chapter.build_model(run.strategy, features, targets, steps=8, seed=3, **options)
with run.strategy.scope():
    model.compile({"stylise": sgd(0.001)})
crops = datasets.batches(datasets.Dataset("noise", "train", pictures), 4)
finish(model, training.fit(model, crops, 8, sys.argv[2] + "-run"))
"""


def test_two_replicas_train_the_same_network_as_one(tmp_path):
    assert replicas.gap(JOB, tmp_path) <= 1e-5


def test_the_saved_network_is_read_in_a_fresh_process(trained, tmp_path):
    model, _ = trained
    photo = noise(1, 32, 40, 3)
    painted = fresh.output(model.stylise, [photo], tmp_path)
    assert painted.shape == photo.shape and painted.dtype == np.float32
    assert painted.min() >= 0 and painted.max() <= 1
    assert np.allclose(painted, model.stylise(photo), atol=1e-4)


def test_the_shipped_network_paints():
    network = weights.load("08_style_transfer/stylise")
    painted = network(noise(1, 32, 48, 3))
    assert painted.shape == (1, 32, 48, 3)
    assert float(tf.reduce_min(painted)) >= 0 and float(tf.reduce_max(painted)) <= 1
